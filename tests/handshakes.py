"""What the tests of the handshake share: a store that tells what it was asked, and requests without a socket."""

from __future__ import annotations

import asyncio
from typing import Any

from tornado.websocket import WebSocketHandler

from tests.support import (
    Echo,
    RawClient,
    Response,
    Server,
    upgrade_request,
)
from tornado_wsauth import MemoryTokenStore, TokenRecord

ORIGIN = "https://app.example"


class SpyStore(MemoryTokenStore):
    """A memory store that counts what is redeemed, holds it up while ``block()`` says so, or fails with ``error``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.redeemed: list[str] = []
        self.error: BaseException | None = None
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()

    def block(self) -> None:
        self.release.clear()

    async def redeem(self, token: str, *, consume: bool = True) -> TokenRecord:
        self.redeemed.append(token)
        self.entered.set()
        await self.release.wait()
        if self.error is not None:
            raise self.error
        return await super().redeem(token, consume=consume)


async def ask(server: Server, path: str, **request: str | None) -> Response:
    """Send one opening handshake on a connection of its own, leave, and return the answer."""
    client = await RawClient.connect(server.port)
    try:
        if request.get("method") == "HEAD":  # it has the length of a body, and none
            client.send(upgrade_request(path, **request))
            head = await client.reader.readuntil(b"\r\n\r\n")
            return Response(int(head.split()[1]), head)
        return await client.upgrade(path, **request)
    finally:
        await client.close()


async def status_of(server: Server, path: str) -> int | None:
    """Return the status of a handshake's answer; None if the connection ended, or nothing came, without one."""
    client = await RawClient.connect(server.port)
    client.send(upgrade_request(path))
    try:
        async with asyncio.timeout(0.2):
            return (await client.read_response()).status
    except (asyncio.IncompleteReadError, TimeoutError):
        return None
    finally:
        await client.close()


class Leaving(Echo):
    """Says when it learned that its client has left."""

    left: asyncio.Event

    def on_connection_close(self):
        super().on_connection_close()
        self.left.set()


class SlowBeforeCheck(Leaving):
    async def prepare(self):
        self.waits.set()
        await self.release.wait()
        await super().prepare()


class SlowAfterCheck(Leaving):
    async def prepare(self):
        await super().prepare()
        self.waits.set()
        await self.release.wait()


class SlowWithoutCheck(Leaving):
    async def prepare(self):
        self.waits.set()
        await self.release.wait()


class SlowGet(Leaving):
    async def get(self, *args, **kwargs):
        self.waits.set()
        await self.release.wait()
        await super().get(*args, **kwargs)


class SlowBareGet(Leaving):
    async def get(self, *args, **kwargs):
        self.waits.set()
        await self.release.wait()
        await WebSocketHandler.get(self, *args, **kwargs)
