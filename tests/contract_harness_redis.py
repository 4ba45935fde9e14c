"""The harnesses of the contracts for Redis: each process has a way to the server of its own, that can be cut."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio

from tests.proxy import Proxy
from tornado_wsauth import RedisBackplane, RedisLease
from tornado_wsauth.backplane.base import Backplane
from tornado_wsauth.leases.base import Lease


class RedisHarness:
    """Backplanes on the server at ``url`` whose keys begin with ``prefix``."""

    history = False

    def __init__(self, url: str, prefix: str) -> None:
        self._prefix = prefix
        self._url = urlsplit(url)
        self._direct = redis.asyncio.Redis.from_url(url)
        self._clients = [self._direct]
        self._proxies: dict[Backplane, Proxy] = {}

    async def make(self, **options: Any) -> Backplane:
        assert self._url.port is not None
        proxy = Proxy(self._url.port)
        await proxy.open()
        self._clients.append(
            redis.asyncio.Redis.from_url(self._url._replace(netloc=f"127.0.0.1:{proxy.port}").geturl())
        )
        backplane = RedisBackplane(self._clients[-1], prefix=self._prefix, **options)
        self._proxies[backplane] = proxy
        return backplane

    async def die(self, backplane: Backplane) -> None:
        assert isinstance(backplane, RedisBackplane)
        await backplane._stop()
        await self._proxies[backplane].cut()

    async def pass_time(self, seconds: float) -> None:
        processes = f"{self._prefix}processes"
        for process_id in await self._direct.zrange(processes, 0, -1):
            await self._direct.zincrby(processes, -seconds * 1000, process_id)

    async def cut(self, backplane: Backplane) -> None:
        await self._proxies[backplane].cut()

    async def mend(self, backplane: Backplane) -> None:
        await self._proxies[backplane].open()

    async def close(self) -> None:
        for proxy in self._proxies.values():
            await proxy.open()
        await asyncio.gather(*(backplane.close() for backplane in self._proxies))
        await asyncio.gather(*(client.aclose() for client in self._clients))
        for proxy in self._proxies.values():
            await proxy.cut()


class RedisLeaseHarness:
    """Leases on the server of ``client`` whose keys begin with ``prefix``."""

    def __init__(self, client: redis.asyncio.Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    async def make(self, name: str = "ticker") -> Lease:
        lease = RedisLease(self._client, name, prefix=self._prefix)
        await lease.start()
        return lease

    async def make_unreachable(self) -> Lease:
        nowhere = redis.asyncio.Redis.from_url("redis://127.0.0.1:1")
        return RedisLease(nowhere, "ticker", prefix=self._prefix, timeout=0.5)

    async def pass_time(self, seconds: float) -> None:
        past = round(seconds * 1000)
        async for key in self._client.scan_iter():
            if key.startswith(f"{self._prefix}lease:".encode()):
                for field in ("until", "last"):
                    if await self._client.hexists(key, field):
                        await self._client.hincrby(key, field, -past)
                await self._client.pexpire(key, await self._client.pttl(key) - past)
