"""Fixtures every test may use: a real server, clients, and the real MongoDB of ``tests.mongod``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tests.support import Echo, RawClient, Response, Server, jwt_message, make_auth, make_jwt
from tornado_wsauth import TokenHandler, WSAuth

pytest_plugins = ["tests.logs", "tests.mongod", "tests.redis_server"]


@pytest.fixture
def io_loop() -> Iterator[IOLoop]:
    """The event loop of one test. pytest-tornado's own is made in a way that Python 3.12 and Tornado warn about."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    io_loop = IOLoop(asyncio_loop=loop, make_current=False)
    yield io_loop
    io_loop.close(all_fds=True)
    asyncio.set_event_loop(None)


@pytest.fixture
def serve(io_loop: IOLoop) -> Iterator[Callable[..., Server]]:
    """Start a server: ``serve(handler_class, auth=None, **settings)``.

    The handler is routed at ``/ws``, `TokenHandler` at ``/ws/token``; further routes go into ``routes``.
    """
    servers: list[Server] = []

    def start(handler: type = Echo, auth: WSAuth | None = None, routes: Any = (), **settings: Any) -> Server:
        auth = auth or make_auth()
        settings.setdefault("websocket_ping_interval", 30)
        server = Server([(r"/ws", handler), (r"/ws/token", TokenHandler), *routes], auth, settings)
        servers.append(server)
        return server

    yield start

    async def stop() -> None:
        for server in servers:
            await server.close()

    io_loop.run_sync(stop)


@pytest.fixture
def connect(io_loop: IOLoop) -> Iterator[Callable[..., Awaitable[tuple[RawClient, Response]]]]:
    """Open a connection up to the 101: ``client, response = await connect(server, user="alice", **headers)``.

    A connection token is issued for ``user``; ``path`` replaces the whole path, token and all.
    """
    clients: list[RawClient] = []

    async def open_one(
        server: Server, user: str = "alice", *, path: str | None = None, **headers: str | None
    ) -> tuple[RawClient, Response]:
        if path is None:
            assert server.auth is not None
            path = f"/ws?token={await server.auth.issue_token(user)}"
        client = await RawClient.connect(server.port)
        clients.append(client)
        return client, await client.upgrade(path, **headers)

    yield open_one

    async def close() -> None:
        for client in clients:
            await client.close()

    io_loop.run_sync(close)


@pytest.fixture
def login(connect: Callable[..., Awaitable[tuple[RawClient, Response]]]) -> Callable[..., Awaitable[RawClient]]:
    """Open a connection and authenticate it: ``client = await login(server, user="alice")``."""

    async def log_in(server: Server, user: str = "alice", **headers: str | None) -> RawClient:
        client, response = await connect(server, user, **headers)
        assert response.status == 101, response
        client.send_text(jwt_message(make_jwt(user)))
        auth_ok = await client.read_json()
        assert auth_ok["type"] == "auth_ok", auth_ok
        return client

    return log_in
