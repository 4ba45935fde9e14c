"""A lease in MongoDB. The only lease module that imports a MongoDB driver.

Applications name `MongoLease`, and only then is this module loaded.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Coroutine
from typing import Any, TypeVar

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from tornado_wsauth.drivers.mongo import Calls, MongoDatabase, check_database, check_prefix, safe_collection
from tornado_wsauth.errors import BackplaneError, ConfigurationError
from tornado_wsauth.leases.base import Lease

T = TypeVar("T")


class MongoLease(Lease):
    """The lease ``name`` of all processes that use the same database and ``prefix``.

    ``database``: of `pymongo.AsyncMongoClient`, ``motor.motor_tornado`` or ``motor.motor_asyncio``. ``timeout``:
    seconds within which each call answers or raises `BackplaneError`. Writes are acknowledged by a majority,
    whatever the client's URI says. MongoDB 4.4 or later; a replica set, if its elections are to be ridden out.

    It is one document of the collection ``{prefix}leases``: ``_id`` (the name), ``holder``, ``until`` and ``last``
    (dates on the server's clock; ``last`` is when it was granted last), ``granted`` (the last answer).

    Raises `ConfigurationError` for a database it cannot await and for a wrong option.
    """

    def __init__(self, database: MongoDatabase, name: str, *, prefix: str = "wsauth_", timeout: float = 5.0) -> None:
        check_database(database, "MongoLease")
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"MongoLease(name={name!r}): must be text, such as 'ticker', and not empty")
        check_prefix(prefix, "MongoLease")
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not 0 < timeout < math.inf:
            raise ConfigurationError(
                f"MongoLease(timeout={timeout!r}): must be positive, in seconds; 5.0 is the default"
            )
        self._name = name
        self._holder = secrets.token_hex(8)
        self._calls = Calls(database, timeout)
        self._leases = safe_collection(database, f"{prefix}leases")

    async def claim(self, interval: float) -> bool:
        return await self._answer(self._claim(round(interval * 1000)))

    async def release(self) -> None:
        await self._answer(self._release())

    async def _claim(self, milliseconds: int) -> bool:
        is_free = {"$or": [{"$eq": ["$holder", self._holder]}, {"$not": [{"$gt": ["$until", "$$NOW"]}]}]}
        # On the server's clock, so that whoever was paused for however long is told that another has acted.
        is_due = {"$not": [{"$gt": ["$last", {"$subtract": ["$$NOW", -(-milliseconds // 2)]}]}]}
        grant = {"holder": self._holder, "until": {"$add": ["$$NOW", milliseconds]}, "last": "$$NOW"}
        update: list[dict[str, Any]] = [
            {"$set": {"granted": {"$and": [is_free, is_due]}}},
            {"$set": {field: {"$cond": ["$granted", value, f"${field}"]} for field, value in grant.items()}},
        ]
        while True:
            try:
                # Never sent again after its answer was lost, other than by the driver, to whom the server repeats the
                # answer: the second one would say that the lease is not due, and nobody would act.
                found = await self._leases.find_one_and_update(
                    {"_id": self._name}, update, upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:  # another one was the first to insert the document; ours has done nothing
                continue
            return bool(found["granted"])

    async def _release(self) -> None:
        # What was granted last stays, so that the next holder does not act for the same instant.
        await self._leases.update_one(
            {"_id": self._name, "holder": self._holder}, {"$unset": {"holder": True, "until": True}}
        )

    async def _answer(self, operation: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._calls.answer(operation)
        except TimeoutError:
            raise BackplaneError(f"MongoDB did not answer within {self._calls.timeout} seconds") from None
        except PyMongoError as error:
            # As no cause: a server quotes what it was sent.
            raise BackplaneError(self._calls.explain(error)) from None
