"""A backplane on MongoDB, by a change stream. The only backplane module that imports a MongoDB driver.

Applications name `MongoBackplane`, and only then is this module loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from bson.objectid import ObjectId
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from tornado_wsauth.backoff import Seams
from tornado_wsauth.backplane.base import DEAD_AFTER, Claim, OnGap, Place
from tornado_wsauth.backplane.engine import EngineBackplane
from tornado_wsauth.backplane.envelope import Parcel, seal
from tornado_wsauth.drivers.mongo import (
    Calls,
    ChangeStream,
    Indexes,
    MongoDatabase,
    StreamEndedError,
    check_database,
    check_prefix,
    safe_collection,
    twice,
)
from tornado_wsauth.errors import BackplaneError

logger: logging.Logger = logging.getLogger("tornado_wsauth")

T = TypeVar("T")

_KEPT = 3600
"""Seconds after which MongoDB may remove a message."""

_MONGODB_4_4 = 9
"""Its wire version."""

# The codes of errors after which no stream goes on from a token: InvalidResumeToken, ChangeStreamFatalError,
# ChangeStreamHistoryLost; and BSONObjectTooLarge, an event that does not fit into an answer and never will.
_HISTORY_LOST = {260, 280, 286, 10334}

# On the server's clock: one clock for every process.
_ALIVE: Mapping[str, Any] = {"$gt": ["$seen_at", {"$subtract": ["$$NOW", round(DEAD_AFTER * 1000)]}]}


def _text(field: str) -> Mapping[str, Any]:
    """Return ``field`` of a new document where it is text: nothing else of what anyone may have put there is sent."""
    return {"$cond": [{"$eq": [{"$type": f"$fullDocument.{field}"}, "string"]}, f"$fullDocument.{field}", None]}


_MESSAGES: list[dict[str, Any]] = [
    {"$match": {"operationType": "insert"}},
    {"$project": {"envelope": _text("envelope"), "announced": _text("announced")}},
]


class MongoBackplane(EngineBackplane):
    """Reaches every process that uses the same collections of the same MongoDB, which must be a replica set.

    ``database``: of `pymongo.AsyncMongoClient`, ``motor.motor_tornado`` or ``motor.motor_asyncio``. Writes are
    acknowledged by a majority and reads go to the primary, whatever the client's URI says. ``prefix`` begins the
    names of the collections. ``timeout``: seconds within which each call answers or raises `BackplaneError`. Within
    it, a dropped connection or an election is ridden out by the driver. ``on_gap``: see `Backplane`; since change
    streams go on where they were cut, it is called only where the server's oplog no longer reaches back to there.

    Every process reads everything that is published, and passes on what it listens to. The collections:

    * ``{prefix}messages``: one document is what one process had to say at a time. ``at`` (date), ``envelope`` (JSON
      text), ``announced`` (text) with what was announced. MongoDB's TTL monitor removes them after an hour.
    * ``{prefix}processes``: one document a living process. ``_id``, ``seen_at`` (date), ``life`` (another one after
      it was taken for dead).
    * ``{prefix}places``: one document a user. ``_id``, ``places`` in order of claiming, each with ``process``,
      ``life`` and ``name``, and ``evicted``, those that the last claim gave away.

    MongoDB 4.4 or later. Raises `ConfigurationError` for a database it cannot await and for a wrong option.
    """

    def __init__(
        self,
        database: MongoDatabase,
        *,
        prefix: str = "wsauth_",
        timeout: float = 5.0,
        on_gap: OnGap | None = None,
        seams: Seams | None = None,
    ) -> None:
        check_database(database, "MongoBackplane")
        check_prefix(prefix, "MongoBackplane")
        super().__init__(timeout=timeout, on_gap=on_gap, seams=seams)
        self._calls = Calls(database, timeout)
        self._database = database
        self._messages = safe_collection(database, f"{prefix}messages", level="majority")
        self._processes = safe_collection(database, f"{prefix}processes")
        self._places = safe_collection(database, f"{prefix}places")
        self._token: Mapping[str, Any] | None = None  # where the change stream goes on
        self._seq = 0
        self._life: str | None = None
        self._was_forgotten = False

    @property
    def database(self) -> MongoDatabase:
        """The database it was given."""
        return self._database

    # Answers ------------------------------------------------------------------------------------------------------

    async def _answer(self, operation: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._calls.answer(operation)
        except Exception as error:
            failure = self._translate(error)
            if failure is None:
                raise
            # As no cause: a server quotes what it was sent.
            raise failure from None

    def _translate(self, error: Exception) -> BackplaneError | None:
        match error:
            case BackplaneError():
                return error
            case TimeoutError():
                return BackplaneError(f"MongoDB did not answer within {self._timeout} seconds")
            case PyMongoError():
                return BackplaneError(self._calls.explain(error))
            case StreamEndedError():
                return BackplaneError(f"the collection {self._messages.full_name} was dropped or renamed")
        return None

    async def _wait_until_connected(self) -> None:
        # It must end by itself: _answer() cancels nothing on Python 3.11.
        async with asyncio.timeout(self._timeout * 0.9):
            await self._connected.wait()

    async def _wait_until_listening(self) -> None:
        await self._wait_until_connected()

    async def _stop(self) -> None:
        await super()._stop()
        await self._calls.settle()

    async def close(self) -> None:
        await super().close()
        await self._calls.settle()  # of leaving, where that took too long

    # The server ---------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._token = None
        hello = await self._database.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise BackplaneError(
                "MongoBackplane needs change streams, which a standalone MongoDB has not: start mongod with --replSet"
                " and call rs.initiate() once; a replica set of one member is enough"
            )
        if hello.get("maxWireVersion", 0) < _MONGODB_4_4:
            raise BackplaneError("MongoBackplane needs MongoDB 4.4 or later: this one is older, upgrade it")
        await twice(self._prepare_indexes)

    async def _prepare_indexes(self) -> None:
        messages = Indexes(self._messages, BackplaneError, "another prefix")
        await messages.ensure_ttl("at", _KEPT, "messages are swept after an hour")
        await messages.ensure("announced", sparse=True)
        await Indexes(self._places, BackplaneError, "another prefix").ensure("places.process")

    # Messages -----------------------------------------------------------------------------------------------------

    async def _receive(self) -> NoReturn:
        lost = self._token is None
        stream = ChangeStream(self._calls, self._messages, _MESSAGES, self._token)
        try:
            await stream.open()
            if lost and self._was_connected:
                await self._calls.answer(self._catch_up())
            self._token = stream.token  # not before: another attempt would not know of the gap
            self._arrived(lost=lost)
            while True:
                change = await stream.read()
                if change is not None:
                    self._take(change)
                self._token = stream.token
        except Exception as error:
            if _has_lost_history(error):
                self._token = None
            raise
        finally:
            await stream.close()

    async def _catch_up(self) -> None:
        """Take what was announced, of which copies are known, and have the messages swept if they were dropped."""
        await twice(self._prepare_indexes)
        async for document in self._messages.find({"announced": {"$type": "string"}}).sort("at", 1):
            self._take(document)

    def _take(self, found: Mapping[str, Any]) -> None:
        assert self._inbox is not None
        envelope, announced = found.get("envelope"), found.get("announced")
        if not isinstance(envelope, str):
            logger.warning("ignored a document in %s that is not ours: it has no envelope", self._messages.full_name)
            return
        # Each announcement is on a way of its own: several may be under way at a time, and overtake one another.
        self._inbox.take(envelope, way="published" if announced is None else f"announced {announced}")

    async def _deliver(self, parcels: Sequence[Parcel], *, keep: bool) -> None:
        self._seq += 1
        document = {"at": "$$NOW", "envelope": {"$literal": seal(self._process_id, self._seq, parcels)}}
        if keep:
            document["announced"] = f"{self._process_id} {self._seq}"
        # An upsert, because an insert has no $$NOW.
        await self._messages.update_one({"_id": ObjectId()}, [{"$set": document}], upsert=True)

    # Processes ----------------------------------------------------------------------------------------------------

    async def _beat(self) -> bool:
        is_known = {"$and": [_ALIVE, {"$eq": [{"$type": "$life"}, "string"]}]}
        found = await self._processes.find_one_and_update(
            {"_id": self._process_id},
            [{"$set": {"life": {"$cond": [is_known, "$life", secrets.token_hex(8)]}, "seen_at": "$$NOW"}}],
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        # Compared with what we know, and not by what this beat has found: the answer to one before may have been lost.
        self._was_forgotten |= self._life not in (None, found["life"])
        self._life = found["life"]
        with contextlib.suppress(PyMongoError):  # the next beat tries again, here or elsewhere
            await self._bury()
        forgotten, self._was_forgotten = self._was_forgotten, False
        return not forgotten

    async def _bury(self) -> None:
        """Free the places of processes that have died, and forget these."""
        await self._free({"process": self._process_id, "life": {"$ne": self._life}})
        dead = {"$expr": {"$not": [_ALIVE]}}
        async for process in self._processes.find(dead, {"life": 1}):
            one = {"_id": {"$eq": process["_id"]}, "life": {"$eq": process.get("life")}}
            # Their places first, or nobody would know any more whose they were.
            await self._free({"process": one["_id"], "life": one["life"]})
            await self._processes.delete_one({**one, **dead})

    async def _find_peers(self) -> frozenset[str]:
        found = self._processes.find({"$expr": _ALIVE}, {"_id": 1})
        return frozenset([process["_id"] async for process in found if isinstance(process["_id"], str)])

    async def _leave(self) -> None:
        await self._free({"process": self._process_id})
        await self._processes.delete_one({"_id": self._process_id})

    # Places -------------------------------------------------------------------------------------------------------

    async def _claim(self, user_id: str, name: str, most: int, evict: bool) -> Claim:
        evicted: list[Place] = []
        while True:
            life = self._life
            ours = {"process": self._process_id, "life": life, "name": name}
            found = await self._try_to_claim(user_id, ours, most)
            if ours not in found["places"]:
                # Now it is worth a look whether somebody's places are those of a dead process, before one is evicted.
                dead = await self._dead_among(found["places"])
                found = await self._try_to_claim(user_id, ours, most, dead, evict)
            evicted += [Place(place["process"], place["name"]) for place in found["evicted"]]
            if self._life == life:  # else we were taken for dead meanwhile, and the place is that of a dead process
                return Claim(ours in found["places"], tuple(evicted))

    async def _try_to_claim(
        self, user_id: str, ours: Mapping[str, Any], most: int, dead: Sequence[object] = (), evict: bool = False
    ) -> Mapping[str, Any]:
        pipeline = _claiming(ours, most, dead, evict)
        while True:
            try:
                found: Mapping[str, Any] = await self._places.find_one_and_update(
                    {"_id": _key(user_id)}, pipeline, upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:  # another one was the first to insert the user's document
                continue
            return found

    async def _dead_among(self, places: Sequence[Mapping[str, Any]]) -> list[object]:
        """Return the lives that are over. A place was seen first and its process then, which so cannot be too new."""
        theirs = {"_id": {"$in": [place["process"] for place in places]}, "$expr": _ALIVE}
        alive = {process.get("life") async for process in self._processes.find(theirs, {"life": 1})} | {self._life}
        return [place["life"] for place in places if place["life"] not in alive]

    async def _release(self, user_id: str, name: str) -> None:
        user, ours = {"_id": _key(user_id)}, {"process": self._process_id, "name": name}
        await self._places.update_one(user, {"$pull": {"places": ours}})
        await self._places.delete_one({**user, "places": []})

    async def _free(self, owner: Mapping[str, Any]) -> None:
        """Give back all places that match ``owner``."""
        found = self._places.find({"places": {"$elemMatch": owner}}, {"_id": 1})
        users = {"_id": {"$in": [user["_id"] async for user in found]}}
        if users["_id"]["$in"]:
            await self._places.update_many(users, {"$pull": {"places": owner}})
            await self._places.delete_many({**users, "places": []})


def _key(user_id: str) -> str | bytes:
    """Return the ``_id`` of a user's document: the user id, or its bytes where it is text that BSON cannot hold."""
    try:
        user_id.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as JSON may carry
        return user_id.encode("utf-8", "surrogatepass")
    return user_id


def _has_lost_history(error: Exception) -> bool:
    """Say whether there is no going on from where the stream was cut."""
    if isinstance(error, OperationFailure):
        return error.code in _HISTORY_LOST or error.has_error_label("NonResumableChangeStreamError")
    return isinstance(error, StreamEndedError)


def _claiming(ours: Mapping[str, Any], most: int, dead: Sequence[object], evict: bool) -> list[dict[str, Any]]:
    """Return the update of a user's document that claims the place ``ours``, by the rules of `Backplane.claim`."""
    is_none = [{"$ne": [{"$type": f"$$place.{field}"}, "string"]} for field in ours]  # others may write here, too
    is_dead = {"$or": [*is_none, {"$in": ["$$place.life", {"$literal": [*dead]}]}]}
    places = {"$cond": [{"$isArray": "$places"}, "$places", []]}
    count, one = {"$size": "$places"}, {"$literal": [ours]}  # as literals: "$admin" would be read as a field path
    surplus = {"$subtract": [{"$add": [count, 1]}, most]}
    is_held, has_room = {"$in": [{"$literal": ours}, "$places"]}, {"$lte": [surplus, 0]}
    grant = {"$concatArrays": [{"$slice": ["$places", surplus, most]}, one]} if evict else "$places"
    return [
        {"$set": {"places": {"$filter": {"input": places, "as": "place", "cond": {"$not": [is_dead]}}}}},
        {
            "$set": {
                "evicted": {
                    "$cond": [{"$or": [not evict, is_held, has_room]}, [], {"$slice": ["$places", surplus]}],
                },
                "places": {
                    "$switch": {
                        "branches": [
                            {"case": is_held, "then": "$places"},
                            {"case": has_room, "then": {"$concatArrays": ["$places", one]}},
                        ],
                        "default": grant,
                    }
                },
            }
        },
    ]
