"""The application on MongoDB. Loaded only where ``--mongodb-uri`` is given."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, TypeVar

import pymongo
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from example_app.engine import Engine
from example_app.ledger import ANSWER_WITHIN, LOGIN_LIFETIME, Keys, Ledger, LedgerError, Login
from example_app.terminal import StartError
from tornado_wsauth import MongoBackplane, MongoLease, MongoTokenStore

T = TypeVar("T")
Document = dict[str, Any]

_THE_KEYS = {"_id": "jwt"}


class MongoEngine(Engine):
    where = "in MongoDB"
    advice = "start MongoDB as a replica set, mend --mongodb-uri, or leave it out: one process can keep all in memory"

    def __init__(self, uri: str) -> None:
        try:
            self._client: AsyncMongoClient[Document] = AsyncMongoClient(uri)
            self._database = self._client.get_default_database("wsauth_example")
        except (PyMongoError, ValueError) as error:
            raise StartError(f"--mongodb-uri: {error}; it looks like mongodb://localhost/example", status=2) from error
        self.ledger = MongoLedger(self._database)

    def tokens(self) -> MongoTokenStore:
        return MongoTokenStore(self._database.ws_tokens)

    def backplane(self) -> MongoBackplane:
        return MongoBackplane(self._database)

    def lease(self, name: str) -> MongoLease:
        return MongoLease(self._database, name)

    async def close(self) -> None:
        await self._client.close()


class MongoLedger(Ledger):
    """A login is one document, which MongoDB removes at its end. The JWT keys are one document."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        # Whatever the URI says: a login that has ended has ended in every process, and after a failover.
        safe = database.with_options(read_preference=ReadPreference.PRIMARY, write_concern=WriteConcern("majority"))
        self._logins, self._keys = safe.logins, safe.keys

    async def start(self, first_key: str) -> None:
        await _answer(self._logins.create_index("since", expireAfterSeconds=LOGIN_LIFETIME))
        await _answer(self._logins.create_index("user_id"))
        first = {"newest": first_key, "before": None, "rotations": 0}
        await _answer(self._keys.update_one(_THE_KEYS, {"$setOnInsert": first}, upsert=True))

    async def add(self, login: Login) -> None:
        document = {"_id": login.session_id, "user_id": login.user_id, "since": datetime.now(UTC)}
        await _answer(self._logins.insert_one(document))

    async def user_of(self, session_id: str) -> str | None:
        found = await _answer(self._logins.find_one(session_id))
        return None if found is None else found["user_id"]

    async def end(self, login: Login) -> None:
        await _answer(self._logins.delete_one({"_id": login.session_id}))

    async def end_all(self, user_id: str) -> None:
        await _answer(self._logins.delete_many({"user_id": user_id}))

    async def keys(self) -> Keys:
        found = await _answer(self._keys.find_one(_THE_KEYS))
        if found is None:
            raise LedgerError("the keys are gone from MongoDB; restart the application")
        return Keys(found["newest"], found["before"], found["rotations"])

    async def rotate(self, new_key: str) -> None:
        change = {"before": "$newest", "newest": {"$literal": new_key}, "rotations": {"$add": ["$rotations", 1]}}
        await _answer(self._keys.update_one(_THE_KEYS, [{"$set": change}]))


async def _answer(call: Awaitable[T]) -> T:
    try:
        with pymongo.timeout(ANSWER_WITHIN):
            return await call
    except PyMongoError as error:
        raise LedgerError(f"MongoDB does not answer: {error}") from error
