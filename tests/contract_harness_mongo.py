"""The harnesses of the contracts for MongoDB: each process has a way to the server of its own, that can be cut."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pymongo

from tests.mongod import close_client, make_client
from tests.proxy import Proxy
from tornado_wsauth import MongoBackplane, MongoLease
from tornado_wsauth.backplane.base import Backplane
from tornado_wsauth.leases.base import Lease


class MongoHarness:
    """Backplanes in ``database`` of the set at ``uri``, of which one member is enough, with clients of ``flavour``."""

    history = True

    def __init__(self, uri: str, database: str, prefix: str, flavour: str = "pymongo") -> None:
        self._port = pymongo.uri_parser.parse_uri(uri)["nodelist"][0][1]
        self._database = database
        self._prefix = prefix
        self._flavour = flavour
        self._direct = make_client(flavour, uri)
        self._clients = [self._direct]
        self._proxies: dict[Backplane, Proxy] = {}

    async def make(self, **options: Any) -> Backplane:
        proxy = Proxy(self._port)
        await proxy.open()
        uri = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true&heartbeatFrequencyMS=500"
        self._clients.append(make_client(self._flavour, uri))
        backplane = MongoBackplane(self._clients[-1][self._database], prefix=self._prefix, **options)
        self._proxies[backplane] = proxy
        return backplane

    async def die(self, backplane: Backplane) -> None:
        assert isinstance(backplane, MongoBackplane)
        await backplane._stop()
        await self._proxies[backplane].cut()

    async def pass_time(self, seconds: float) -> None:
        processes = self._direct[self._database][f"{self._prefix}processes"]
        earlier = {"$dateSubtract": {"startDate": "$seen_at", "unit": "millisecond", "amount": round(seconds * 1000)}}
        await processes.update_many({}, [{"$set": {"seen_at": earlier}}])

    async def cut(self, backplane: Backplane) -> None:
        await self._proxies[backplane].cut()

    async def mend(self, backplane: Backplane) -> None:
        await self._proxies[backplane].open()

    async def close(self) -> None:
        for proxy in self._proxies.values():
            await proxy.open()
        await asyncio.gather(*(backplane.close() for backplane in self._proxies))
        await asyncio.gather(*map(close_client, self._clients))
        for proxy in self._proxies.values():
            await proxy.cut()


class MongoLeaseHarness:
    """Leases in ``database``, with clients of PyMongo's."""

    def __init__(self, database: Any, prefix: str) -> None:
        self._database = database
        self._prefix = prefix
        self._nowhere = make_client("pymongo", "mongodb://127.0.0.1:1", serverSelectionTimeoutMS=300)

    async def make(self, name: str = "ticker") -> Lease:
        lease = MongoLease(self._database, name, prefix=self._prefix)
        await lease.start()
        return lease

    async def make_unreachable(self) -> Lease:
        return MongoLease(self._nowhere[self._database.name], "ticker", prefix=self._prefix, timeout=0.5)

    async def pass_time(self, seconds: float) -> None:
        leases = self._database[f"{self._prefix}leases"]
        async for lease in leases.find():
            earlier = {
                field: lease[field] - timedelta(seconds=seconds) for field in ("until", "last") if field in lease
            }
            await leases.update_one({"_id": lease["_id"]}, {"$set": earlier})

    async def close(self) -> None:
        await close_client(self._nowhere)
