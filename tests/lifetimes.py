"""What the tests of sessions that end share: a clock that is turned by hand, and clients to match."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.fanout import Prompt
from tests.support import (
    CLOSE,
    SECRET,
    TEXT,
    ManualClock,
    RawClient,
    Response,
    Server,
    jwt_message,
    make_jwt,
    nothing_is_left,
    settle,
)
from tornado_wsauth import JWTVerifier, WSAuth

Connect = Callable[..., Awaitable[tuple[RawClient, Response]]]


class HeldVerifier(JWTVerifier):
    """Waits before it answers for a JWT that is in ``held``, until ``release`` is set."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(SECRET, algorithms=["HS256"], clock=lambda: clock.now)
        self.held: set[str] = set()
        self.entered = asyncio.Event()
        self.release = asyncio.Event()

    async def verify(self, token: str) -> dict[str, Any]:
        if token in self.held:
            self.entered.set()
            await self.release.wait()
        return await super().verify(token)

    def hold(self, token: str) -> str:
        self.held.add(token)
        return token


class Timed:
    """A server, and the one clock by which both its sessions and its verifier go. It shows a whole second."""

    def __init__(self, serve: Callable[..., Server], connect: Connect, handler: type = Prompt, **options: Any) -> None:
        self.clock = ManualClock()
        self.clock.now = float(int(self.clock.now))
        leeway = options.pop("leeway", 0)
        make_verifier = options.pop("verifier", None)
        self.verifier = (
            make_verifier(self.clock)
            if make_verifier
            else JWTVerifier(SECRET, algorithms=["HS256"], leeway=leeway, clock=lambda: self.clock.now)
        )
        self.auth = WSAuth(self.verifier, clock=self.clock, **options)
        self.server = serve(handler, auth=self.auth)
        self._connect = connect

    def jwt(self, expires_in: float | None = 600, user: str = "alice", **claims: Any) -> str:
        """Return a JWT that is good for ``expires_in`` seconds of the clock."""
        if expires_in is not None:
            claims["exp"] = self.clock.now + expires_in
        return make_jwt(user, **claims)

    async def enter(self, expires_in: float = 600, user: str = "alice", **claims: Any) -> RawClient:
        """Authenticate a client with a JWT of that life; its ``open()`` has run when this returns."""
        client, response = await self._connect(self.server, user)
        assert response.status == 101, response
        client.send_text(jwt_message(self.jwt(expires_in, user, **claims)))
        assert (await client.read_json())["type"] == "auth_ok"
        await settle()
        return client

    def session(self, user: str = "alice") -> Any:
        """Return the session of the user's only connection."""
        (handler,) = self.auth.connections.for_user(user)
        return handler.auth_session

    async def refresh(self, client: RawClient, expires_in: float = 600, user: str = "alice", **claims: Any) -> Any:
        """Send another JWT; return the next message, which should be the answer."""
        client.send_text(jwt_message(self.jwt(expires_in, user, **claims)))
        return await client.read_json()

    async def gone(self) -> None:
        """Wait until no connection is left of any kind."""
        await nothing_is_left(self.server)


async def is_served(client: RawClient) -> bool:
    """Say whether the next thing the client gets is the echo of what it sends now."""
    client.send_text("still there?")
    return await client.read_frame() == (TEXT, b"still there?")


async def frames_until_close(client: RawClient) -> list[tuple[int, bytes]]:
    """Return all frames up to and with the close frame."""
    frames: list[tuple[int, bytes]] = []
    while not frames or frames[-1][0] != CLOSE:
        frames.append(await client.read_frame())
    return frames
