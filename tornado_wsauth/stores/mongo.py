"""Connection tokens in MongoDB, for any number of processes. The only store module that imports a MongoDB driver.

Applications name `MongoTokenStore`, and only then is this module loaded. It needs PyMongo; Motor collections are
served as they are, and Motor itself is never imported.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sys
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

import pymongo
from bson.codec_options import CodecOptions
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError, ServerSelectionTimeoutError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from tornado_wsauth.errors import ConfigurationError, TokenLimitReached, TokenRejected, TokenStoreError, WSAuthError
from tornado_wsauth.stores.base import TokenStore
from tornado_wsauth.tokens import TokenRecord, hash_token, new_token

logger = logging.getLogger("tornado_wsauth")

T = TypeVar("T")

_MOTOR_COLLECTIONS = {("motor.motor_tornado", "MotorCollection"), ("motor.motor_asyncio", "AsyncIOMotorCollection")}

# Matches tokens that can be redeemed. $$NOW is the server's clock: one clock for every process, and the TTL sweep,
# which is up to a minute late, decides nothing.
_LIVE: Mapping[str, Any] = {"token_type": "ws", "spent_at": None, "$expr": {"$gt": ["$expires_at", "$$NOW"]}}


class MongoCollection(Protocol):
    """What `MongoTokenStore` asks of a collection. The asynchronous ones of PyMongo and of Motor have it."""

    def find_one_and_update(self, *args: Any, **kwargs: Any) -> Awaitable[Any]: ...
    def with_options(self, *args: Any, **kwargs: Any) -> Any: ...


class MongoTokenStore(TokenStore):
    """Keeps tokens in a MongoDB collection.

    ``collection``: of `pymongo.AsyncMongoClient`, ``motor.motor_tornado`` or ``motor.motor_asyncio``. Writes are
    acknowledged by a majority and reads go to the primary, whatever the client's URI says. ``timeout``: seconds
    within which each call answers or raises `TokenStoreError`; the URI's own timeouts do not count. Within it, a
    dropped connection or an election is ridden out by the driver's retryable writes, which need a replica set and
    ``retryWrites`` not switched off.

    One document is one token: ``_id`` (its SHA-256), ``token_type`` (``"ws"``), ``user_id``, ``created_at``,
    ``expires_at`` (dates on the server's clock), ``context`` (JSON text) if given, and, once it was used,
    ``spent_at`` and ``spent_by``. MongoDB's TTL monitor removes them after their expiry. MongoDB 4.4 or later.

    Raises `ConfigurationError` for a collection it cannot await and for a timeout that is not positive.
    """

    def __init__(self, collection: MongoCollection, *, timeout: float = 5.0) -> None:
        _check_collection(collection)
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
            raise ConfigurationError(f"MongoTokenStore(timeout={timeout!r}): must be seconds; 5.0 is the default")
        if not 0 < timeout < math.inf:
            raise ConfigurationError(
                f"MongoTokenStore(timeout={timeout}): must be positive and finite; 5.0 is the default"
            )
        self._timeout = timeout
        # PyMongo's coroutines are not cancelled on Python 3.11, but left to come to their end: wait_for() can lose a
        # cancellation there, and with it one of the driver's locks, for ever.
        self._cancels = sys.version_info >= (3, 12) or not isinstance(collection, AsyncCollection)
        self._tokens = collection.with_options(
            codec_options=CodecOptions(tz_aware=True),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern("majority"),
            # The newest data of the primary: issue() counts what racing calls inserted a moment ago.
            read_concern=ReadConcern("local"),
        )

    async def start(self) -> None:
        """Create the indexes, or repair a TTL index that does not sweep at ``expires_at``.

        Safe to call more than once and from several processes at a time. Raises `TokenStoreError` when MongoDB
        does not answer, and for an index in the way that only a person can decide about.
        """
        await self._answer(self._prepare_indexes_again())

    async def issue(
        self,
        user_id: str,
        ttl: float,
        *,
        context: Mapping[str, Any] | None = None,
        max_live: int | None = None,
    ) -> str:
        """Create a token; see `TokenStore.issue`."""
        token = new_token()
        key = hash_token(token)
        document: dict[str, Any] = {
            "token_type": "ws",
            "user_id": {"$literal": user_id},  # "$admin" would be read as a field path
            "created_at": "$$NOW",
            "expires_at": {"$add": ["$$NOW", round(ttl * 1000)]},
        }
        if context is not None:
            # As text: BSON has limits that JSON has not (64-bit numbers, depth, "$" and "." in names).
            document["context"] = {"$literal": json.dumps(context)}
        await self._answer(self._insert(key, document, user_id, max_live), key)
        return token

    async def _insert(self, key: str, document: Mapping[str, Any], user_id: str, max_live: int | None) -> None:
        # An upsert, because an insert has no $$NOW.
        await self._tokens.update_one({"_id": key}, [{"$set": document}], upsert=True)
        # Counting after inserting: of racing calls, the last to insert counts the tokens of all others. In the
        # opposite order each could count before any has inserted.
        if max_live is not None and await self._count_live(user_id, max_live + 1) > max_live:
            await self._tokens.delete_one({"_id": key})
            raise TokenLimitReached(f"the user already holds {max_live} live tokens")

    async def redeem(self, token: str, *, consume: bool = True, spender: str | None = None) -> TokenRecord:
        """Spend ``token`` and return its record; see `TokenStore.redeem`."""
        key = hash_token(token)
        spend: dict[str, Any] = {"$currentDate": {"spent_at": True}}
        if spender is not None:
            spend["$set"] = {"spent_by": spender}
        found = await self._answer(self._find_live(key, spend if consume else None), key)
        context = found.get("context")
        return TokenRecord(
            user_id=found["user_id"],
            created_at=found["created_at"].timestamp(),
            expires_at=found["expires_at"].timestamp(),
            context=None if context is None else json.loads(context),
        )

    async def _find_live(self, key: str, spend: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return the document of a live token, having spent it if told how. Raises `TokenRejected`."""
        live = {"_id": key, **_LIVE}
        if spend is None:
            found = await self._tokens.find_one(live)
        else:
            found = await self._tokens.find_one_and_update(live, spend)
        if found is None:
            raise await self._rejection(key)
        document: Mapping[str, Any] = found
        return document

    async def revoke_user(self, user_id: str) -> int:
        """Delete the user's live tokens and return their number; see `TokenStore.revoke_user`."""
        return await self._answer(self._delete_live(user_id))

    async def _delete_live(self, user_id: str) -> int:
        keys = [found["_id"] async for found in self._tokens.find({"user_id": user_id, **_LIVE}, {"_id": 1})]
        if not keys:
            return 0
        # One by one, because the driver does not retry delete_many() after an election. The filter again, because a
        # token redeemed in between stays, to be told apart as a replay.
        deletes = [pymongo.DeleteOne({"_id": key, **_LIVE}) for key in keys]
        result = await self._tokens.bulk_write(deletes, ordered=False)
        return int(result.deleted_count)

    async def _count_live(self, user_id: str, limit: int) -> int:
        return int(await self._tokens.count_documents({"user_id": user_id, **_LIVE}, limit=limit))

    async def _rejection(self, key: str) -> TokenRejected:
        """Find out why no live token has this hash, asking the server's clock once more."""
        expired = {"$lte": ["$expires_at", "$$NOW"]}
        found = await self._tokens.find_one(
            {"_id": key, "token_type": "ws"}, {"user_id": 1, "spent_at": 1, "spent_by": 1, "expired": expired}
        )
        if found is None:
            return TokenRejected("unknown")
        # Neither expired nor spent: the server's clock was set back between the two looks. Still rejected.
        if "spent_at" in found and not found["expired"]:
            return TokenRejected("replayed", found["user_id"], found.get("spent_by"))
        return TokenRejected("expired", found["user_id"])

    async def _answer(self, operation: Coroutine[Any, Any, T], key: str = "") -> T:
        """Bound ``operation`` by the timeout and turn every way of not answering into `TokenStoreError`."""
        # The driver gives up first, with an error that says what it waited for. What it does not bound (DNS, Motor's
        # queue for a thread) the outer timeout does.
        task = asyncio.ensure_future(self._within_timeout(operation))
        task.add_done_callback(_retrieve)
        done, _ = await asyncio.wait({task}, timeout=self._timeout)
        if not done:
            if self._cancels:
                task.cancel()
                await asyncio.wait({task}, timeout=self._timeout * 0.1)
            raise TokenStoreError(f"MongoDB did not answer within {self._timeout} seconds")
        try:
            return task.result()
        except WSAuthError:
            raise
        except PyMongoError as error:
            if error.timeout:
                message = f"MongoDB did not answer within {self._timeout} seconds ({type(error).__name__})"
            else:
                message = f"MongoDB failed: {_describe(error)}"
            if key and key in str(error):
                # A server names the _id of a document it refuses. The hash opens nothing, yet it stays out of logs.
                raise TokenStoreError(message) from None
            raise TokenStoreError(message) from error

    async def _within_timeout(self, operation: Coroutine[Any, Any, T]) -> T:
        with pymongo.timeout(self._timeout * 0.9):
            return await operation

    async def _prepare_indexes_again(self) -> None:
        try:
            await self._prepare_indexes()
        except ServerSelectionTimeoutError:
            raise
        except AutoReconnect:  # the driver does not retry createIndexes and collMod, and both may be repeated
            await self._prepare_indexes()

    async def _prepare_indexes(self) -> None:
        indexes = await self._tokens.index_information()
        by_expiry = [name for name, index in indexes.items() if _is_on(index, "expires_at")]
        for name in by_expiry:
            await self._repair_ttl_index(name, indexes[name])
        if not by_expiry:
            await self._create_index("expires_at", expireAfterSeconds=0)
        if not any(_is_on(index, "user_id") for index in indexes.values()):
            await self._create_index("user_id")

    async def _create_index(self, field: str, **options: Any) -> None:
        try:
            await self._tokens.create_index(field, **options)
        except OperationFailure as error:
            raise TokenStoreError(
                f"cannot create the index on {field} of {self._tokens.full_name}, {_describe(error)}:"
                " drop the index in its way, or grant createIndex"
            ) from error

    async def _repair_ttl_index(self, name: str, index: Mapping[str, Any]) -> None:
        namespace = self._tokens.full_name
        advice = f"drop the index {name!r} of {namespace} (start() creates the right one), or use another collection"
        for obstacle in ("unique", "partialFilterExpression"):
            if index.get(obstacle):
                raise TokenStoreError(f"an index on expires_at must not have {obstacle}: {advice}")
        seconds = index.get("expireAfterSeconds")
        if seconds == 0:
            return
        change = {"name": name, "expireAfterSeconds": 0}
        try:
            await self._tokens.database.command(
                "collMod", self._tokens.name, index=change, writeConcern={"w": "majority"}
            )
        except OperationFailure as error:
            raise TokenStoreError(f"cannot set expireAfterSeconds to 0, {_describe(error)}: {advice}") from error
        logger.warning(
            "the index %r of %s had expireAfterSeconds=%s; changed to 0, so that tokens are swept when they expire",
            name,
            namespace,
            seconds,
        )


def _retrieve(task: asyncio.Future[Any]) -> None:
    """Look at the outcome of what nobody waits for any more, so that asyncio does not complain that nobody did."""
    if not task.cancelled():
        task.exception()


def _is_on(index: Mapping[str, Any], field: str) -> bool:
    """Say whether ``index``, as ``index_information()`` describes it, is an ordinary one on ``field`` alone."""
    return index["key"] in ([(field, 1)], [(field, -1)])


def _describe(error: PyMongoError) -> str:
    """Name the error without its text, in which a server may quote a document."""
    details = getattr(error, "details", None) or {}
    code = details.get("codeName") or getattr(error, "code", None)
    return f"{type(error).__name__} ({code})" if code else type(error).__name__


def _check_collection(collection: object) -> None:
    classes = {(cls.__module__, cls.__name__) for cls in type(collection).__mro__}
    if isinstance(collection, AsyncCollection) or classes & _MOTOR_COLLECTIONS:
        return
    given = f"{type(collection).__module__}.{type(collection).__qualname__}"
    wanted = "must be a collection of pymongo.AsyncMongoClient, such as AsyncMongoClient(uri).mydb.ws_tokens"
    why = ", because a synchronous one blocks the event loop" if isinstance(collection, Collection) else ""
    raise ConfigurationError(f"MongoTokenStore(collection=<{given}>): {wanted}{why}; Motor's are served too")
