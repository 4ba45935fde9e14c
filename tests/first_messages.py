"""What the tests of the first message share: verifiers that hang or fail, and frames made by hand."""

from __future__ import annotations

import asyncio
import struct
import zlib
from typing import Any

from tests.support import (
    SECRET,
    Echo,
    RawClient,
    Server,
    make_jwt,
)
from tornado_wsauth import JWTVerifier

CONTINUATION = 0x0
DEFLATE = {"Sec_WebSocket_Extensions": "permessage-deflate"}


class HangingVerifier(JWTVerifier):
    """Verifies only what it is told to; ``held`` JWTs wait for ``release``."""

    def __init__(self) -> None:
        super().__init__(SECRET, algorithms=["HS256"])
        self.held: set[str] = set()
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = False

    async def verify(self, token: str) -> dict[str, Any]:
        if token in self.held:
            self.entered.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        return await super().verify(token)


class FailingVerifier(JWTVerifier):
    """Raises ``error`` instead of an answer, until it is None."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__(SECRET, algorithms=["HS256"])
        self.error = error

    async def verify(self, token: str) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        return await super().verify(token)


def held_jwt(verifier: HangingVerifier, user: str = "alice") -> str:
    token = make_jwt(user, jti="held")
    verifier.held.add(token)
    return token


def deflate(payload: bytes) -> bytes:
    """Compress one message as permessage-deflate does (RFC 7692 §7.2.1)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def ending(client: RawClient) -> int | None:
    """Wait for the end of the connection; return the close code, or None if it ended without. Data is a failure."""
    try:
        code, _ = await client.read_close()
    except (asyncio.IncompleteReadError, ConnectionError, struct.error):
        return None
    return code


async def an_honest_client_is_served(server: Server, login: Any, handler: type[Echo]) -> None:
    handler.events.clear()
    client = await login(server, "bob")
    client.send_text("hello")
    assert (await client.read_frame())[1] == b"hello"
    assert handler.events == ["open", "hello"]
