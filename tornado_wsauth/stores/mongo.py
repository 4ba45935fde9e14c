"""Connection tokens in MongoDB, for any number of processes. The only store module that imports a MongoDB driver.

Applications name `MongoTokenStore`, and only then is this module loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

import pymongo
from bson.codec_options import CodecOptions
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from tornado_wsauth.drivers.mongo import Calls, Indexes, check_collection, twice
from tornado_wsauth.errors import ConfigurationError, TokenLimitReached, TokenRejected, TokenStoreError
from tornado_wsauth.stores.base import TokenStore
from tornado_wsauth.tokens import TokenRecord, hash_token, new_token

T = TypeVar("T")

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
        check_collection(collection, "MongoTokenStore")
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
            raise ConfigurationError(f"MongoTokenStore(timeout={timeout!r}): must be seconds; 5.0 is the default")
        if not 0 < timeout < math.inf:
            raise ConfigurationError(
                f"MongoTokenStore(timeout={timeout}): must be positive and finite; 5.0 is the default"
            )
        self._calls = Calls(collection, timeout)
        self._tokens = collection.with_options(
            codec_options=CodecOptions(tz_aware=True),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern("majority"),
            # The newest data of the primary: issue() counts what racing calls inserted a moment ago.
            read_concern=ReadConcern("local"),
        )

    @property
    def collection(self) -> Any:
        """The collection, with the options that it is read and written with."""
        return self._tokens

    async def start(self) -> None:
        """Create the indexes, or repair a TTL index that does not sweep at ``expires_at``.

        Safe to call more than once and from several processes at a time. Raises `TokenStoreError` when MongoDB
        does not answer, and for an index in the way that only a person can decide about.
        """
        await self._answer(twice(self._prepare_indexes))

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
        try:
            return await self._calls.answer(operation)
        except TimeoutError:
            raise TokenStoreError(f"MongoDB did not answer within {self._calls.timeout} seconds") from None
        except PyMongoError as error:
            message = self._calls.explain(error)
            if key and key in str(error):
                # A server names the _id of a document it refuses. The hash opens nothing, yet it stays out of logs.
                raise TokenStoreError(message) from None
            raise TokenStoreError(message) from error

    async def _prepare_indexes(self) -> None:
        indexes = Indexes(self._tokens, TokenStoreError, "another collection")
        await indexes.ensure_ttl("expires_at", 0, "tokens are swept when they expire")
        await indexes.ensure("user_id")
