"""Fixtures: Bokeh's server with the recipe's application, and people who use it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tests.integrations.bokeh.client import Peer, session_token, stop
from tornado_wsauth import WSAuth
from tornado_wsauth.testing import Credentials, ManualClock, manual_clock

RECIPE = Path(__file__).parent / "recipe"


@pytest.fixture(scope="session")
def serve_module() -> Any:
    """The recipe's ``serve.py``. It replaces Bokeh's handler as it is imported, so it is imported once."""
    sys.path.insert(0, str(RECIPE))
    try:
        import serve
    finally:
        sys.path.remove(str(RECIPE))
    return serve


@pytest.fixture
def bokeh(io_loop: IOLoop, serve_module: Any) -> Iterator[Any]:
    """A running Bokeh server with the recipe's application."""

    async def start() -> Any:
        server = serve_module.make_server(port=0, io_loop=IOLoop.current())
        server.start()
        return server

    server = io_loop.run_sync(start)
    yield server
    io_loop.run_sync(lambda: stop(server))


@pytest.fixture
def auth(bokeh: Any) -> WSAuth:
    found: WSAuth = bokeh._tornado.settings["wsauth"]
    return found


@pytest.fixture
def credentials(auth: WSAuth) -> Iterator[Credentials]:
    with Credentials(auth) as credentials:
        yield credentials


@pytest.fixture
def clock(auth: WSAuth) -> Iterator[ManualClock]:
    with manual_clock(auth) as clock:
        yield clock


@pytest.fixture
def enter(
    bokeh: Any, auth: WSAuth, credentials: Credentials, io_loop: IOLoop
) -> Iterator[Callable[..., Awaitable[Any]]]:
    """Go through both steps and wait for Bokeh's ACK: ``peer = await enter("alice", session=None, **claims)``."""
    peers: list[Peer] = []

    async def open_one(user: str = "alice", *, session: str | None = None, **claims: Any) -> Peer:
        jwt = credentials.jwt(user, **claims)
        session = session or session_token(bokeh, user)
        peer = await Peer.open(bokeh, token=await auth.issue_token(user), jwt=jwt, session=session)
        peers.append(peer)
        ack = await peer.receive()
        assert ack.msgtype == "ACK", ack
        return peer

    yield open_one

    async def close() -> None:
        for peer in peers:
            await peer.connection.close()

    io_loop.run_sync(close)
