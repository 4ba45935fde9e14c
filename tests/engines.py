"""What an application in several processes runs on, real: a Redis, or a MongoDB, of the test's own or the session's."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from tornado_wsauth import Backplane, Lease, TokenStore

ENGINES = ("redis", "mongo")


class Engine:
    """One engine, seen from one process: ``Engine("redis", url, prefix)``. Close it in the loop that it was used in."""

    def __init__(self, kind: str, url: str, prefix: str) -> None:
        self.kind = kind
        self.url = url
        self.prefix = prefix
        self._client: Any = None

    def backplane(self, **options: Any) -> Backplane:
        from tornado_wsauth import MongoBackplane, RedisBackplane

        if self.kind == "redis":
            return RedisBackplane(self.client, prefix=f"{self.prefix}:", **options)
        return MongoBackplane(self.client[self.prefix], **options)

    def tokens(self, **options: Any) -> TokenStore:
        from tornado_wsauth import MongoTokenStore, RedisTokenStore

        if self.kind == "redis":
            return RedisTokenStore(self.client, prefix=f"{{{self.prefix}}}:", **options)
        return MongoTokenStore(self.client[self.prefix].tokens, **options)

    def lease(self, name: str, **options: Any) -> Lease:
        from tornado_wsauth import MongoLease, RedisLease

        if self.kind == "redis":
            return RedisLease(self.client, name, prefix=f"{self.prefix}:", **options)
        return MongoLease(self.client[self.prefix], name, **options)

    @property
    def client(self) -> Any:
        """The driver's client; the first call makes it."""
        if self._client is None:
            if self.kind == "redis":
                import redis.asyncio

                self._client = redis.asyncio.Redis.from_url(self.url)
            else:
                from pymongo import AsyncMongoClient

                self._client = AsyncMongoClient(self.url, serverSelectionTimeoutMS=2000)
        return self._client

    async def forget_everything(self) -> None:
        """Delete what the prefix has on the engine."""
        if self.kind == "mongo":
            await self.client.drop_database(self.prefix)
            return
        for pattern in (f"{self.prefix}:*", rf"\{{{self.prefix}\}}:*"):
            async for key in self.client.scan_iter(match=pattern):
                await self.client.delete(key)

    async def close(self) -> None:
        if self._client is not None:
            close: Callable[[], Any] = self._client.aclose if self.kind == "redis" else self._client.close
            await close()


def new_prefix() -> str:
    """Return a name for what a test leaves on an engine."""
    return f"wsauth-test-{secrets.token_hex(4)}"
