"""What the doctor asks MongoDB. It reads, and changes nothing. Loaded only for applications that use it."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from pymongo.errors import OperationFailure, PyMongoError

from tornado_wsauth.backplane.mongo import MongoBackplane
from tornado_wsauth.doctor.findings import Finding
from tornado_wsauth.doctor.subject import Policy
from tornado_wsauth.drivers.mongo import Calls, describe
from tornado_wsauth.stores.mongo import MongoTokenStore

T = TypeVar("T")

_NAMESPACE_NOT_FOUND = 26


class UnreachableError(Exception):
    """The server does not answer. The message says how it does not, and nothing of the URI."""


async def store_findings(policy: Policy, store: MongoTokenStore, patience: float) -> list[Finding]:
    """Look at the server and the indexes of a token store; ``patience``: seconds for each answer."""
    where = policy.at("tokens=MongoTokenStore(…)")
    collection = store.collection
    server = _Server(collection.database, patience)
    findings = []
    if await server.is_standalone():
        findings.append(
            Finding(
                "standalone-mongodb",
                "warning",
                where,
                "the server is no replica set: a dropped connection is not retried, and while the one server restarts, "
                "nobody can connect",
                "make it a replica set (one member is enough for the retries, three for the restarts): mongod "
                "--replSet rs0, then rs.initiate()",
            )
        )
    ttl_index = _ttl_finding(where, collection.full_name, await server.indexes(collection))
    return findings + ([] if ttl_index is None else [ttl_index])


async def backplane_findings(policy: Policy, backplane: MongoBackplane, patience: float) -> list[Finding]:
    """Look at the server of a backplane; ``patience``: seconds for each answer."""
    if not await _Server(backplane.database, patience).is_standalone():
        return []
    return [
        Finding(
            "standalone-mongodb",
            "error",
            policy.at("backplane=MongoBackplane(…)"),
            "the server is no replica set, and change streams, which the backplane reads, need one: start() will fail",
            "make it a replica set, of one member at least: mongod --replSet rs0, then rs.initiate()",
        )
    ]


def _ttl_finding(where: str, namespace: str, indexes: Mapping[str, Any] | None) -> Finding | None:
    """Say what is wrong with the index that sweeps tokens; ``indexes`` is None where there is no collection."""
    advice = "await auth.start() once, as a user that may createIndex and collMod: it creates the index, or repairs it"
    if indexes is None:
        problem = f"there is no collection {namespace} yet, and so no index that sweeps expired tokens"
        return Finding("ttl-index-missing", "note", where, problem, advice)
    found = [index for index in indexes.values() if list(index["key"]) in ([("expires_at", 1)], [("expires_at", -1)])]
    if not found:
        problem = f"{namespace} has no TTL index on expires_at: expired tokens are never swept, and it grows for ever"
        return Finding("ttl-index-missing", "warning", where, problem, advice)
    for index in found:
        obstacles = [name for name in ("unique", "partialFilterExpression") if index.get(name)]
        if obstacles:
            problem = f"the index on expires_at of {namespace} has {' and '.join(obstacles)}: start() will fail"
            return Finding("ttl-index-wrong", "error", where, problem, "drop that index; start() creates the right one")
        seconds = index.get("expireAfterSeconds")
        if seconds != 0:
            problem = f"the index on expires_at of {namespace} has expireAfterSeconds {seconds}, and must have 0"
            return Finding("ttl-index-wrong", "warning", where, problem, advice)
    return None


class _Server:
    """A MongoDB, asked within ``patience`` seconds for each answer; raises `UnreachableError`."""

    def __init__(self, database: Any, patience: float) -> None:
        self._database = database
        self._calls = Calls(database, patience)

    async def is_standalone(self) -> bool:
        """Say whether it is neither a member of a replica set nor the router of a sharded cluster."""
        try:
            hello = await self._answer(self._command("hello"))
        except OperationFailure as error:
            raise UnreachableError(f"MongoDB refuses us: {describe(error)}") from None
        return "setName" not in hello and hello.get("msg") != "isdbgrid"

    async def indexes(self, collection: Any) -> Mapping[str, Any] | None:
        """Return the indexes of ``collection`` by name; None if it does not exist."""
        try:
            found: Mapping[str, Any] = await self._answer(_indexes(collection))
        except OperationFailure as error:
            if error.code == _NAMESPACE_NOT_FOUND:
                return None
            raise UnreachableError(f"MongoDB refuses to list the indexes: {describe(error)}") from None
        return found or None  # some servers, and drivers, answer with none at all

    async def _command(self, name: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = await self._database.client.admin.command(name)
        return answer

    async def _answer(self, operation: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._calls.answer(operation)
        except TimeoutError:
            raise UnreachableError(f"MongoDB did not answer within {self._calls.timeout:g} s") from None
        except OperationFailure:
            raise
        except PyMongoError as error:
            raise UnreachableError(self._calls.explain(error)) from None


async def _indexes(collection: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = await collection.index_information()
    return found
