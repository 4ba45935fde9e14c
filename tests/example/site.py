"""The running example, and what a visitor of it does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.websocket import WebSocketClientConnection, websocket_connect

from example_app.accounts import USERS
from example_app.app import make_app
from example_app.engine import Engine, MemoryEngine

SECRET = "the secret of the example's tests, which is long enough"
FAST = 10  # milliseconds between ticks, or between broadcasts, of a test that waits for some
NEVER = 3_600_000


class Visitor:
    """Somebody who visits the example that listens on ``port``. Each request goes over a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._http = AsyncHTTPClient(force_instance=True)
        self._sockets: list[WebSocketClientConnection] = []
        self.process_of: dict[WebSocketClientConnection, int] = {}
        """Which process each socket that entered is connected to."""

    async def fetch(self, path: str, **options: Any) -> HTTPResponse:
        return await self._http.fetch(f"http://127.0.0.1:{self.port}{path}", raise_error=False, **options)

    async def post(self, path: str, bearer: str | None = None) -> HTTPResponse:
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        return await self.fetch(path, method="POST", body="", headers=headers)

    async def log_in(self, username: str = "alice") -> str:
        """Return the secret of a new login."""
        response = await self.fetch("/login", method="POST", body=login_body(username))
        return str(json.loads(response.body)["session"])

    async def jwt(self, session: str, path: str = "/jwt") -> str:
        response = await self.post(path, session)
        assert response.code == 200, response.body
        return str(json.loads(response.body)["jwt"])

    async def jwt_of(self, username: str = "alice") -> str:
        """Return a JWT of a new login."""
        return await self.jwt(await self.log_in(username))

    async def token(self, jwt: str, path: str = "/ws/token") -> str:
        response = await self.post(path, jwt)
        assert response.code == 200, response.body
        return str(json.loads(response.body)["token"])

    async def connect(self, token: str | None) -> WebSocketClientConnection:
        query = "" if token is None else f"?token={token}"
        ws = await websocket_connect(f"ws://127.0.0.1:{self.port}/demo{query}")
        self._sockets.append(ws)
        return ws

    async def enter(self, username: str = "alice", session: str | None = None) -> WebSocketClientConnection:
        """Go through the whole handshake, with a login of its own or with this one."""
        jwt = await self.jwt(session or await self.log_in(username))
        ws = await self.connect(await self.token(jwt))
        await present(ws, jwt)
        assert (await read(ws))["type"] == "auth_ok"
        opened = await read(ws)
        assert opened["event"] == "opened"
        self.process_of[ws] = opened["process"]
        return ws

    async def close(self) -> None:
        for ws in self._sockets:
            ws.close()
        self._http.close()


class Site(Visitor):
    """The running example in this process, and a visitor of it."""

    def __init__(self, engine: Engine | None = None, **options: Any) -> None:
        bound, port = bind_unused_port()
        super().__init__(port)
        self.engine = engine or MemoryEngine()
        self.app = make_app(self.engine, **{"tick_interval_ms": NEVER, "broadcast_interval_ms": NEVER, **options})
        self._server = HTTPServer(self.app)
        self._server.add_socket(bound)
        self.app.settings["broadcaster"].start()
        self._starting = asyncio.ensure_future(self.engine.ledger.start(SECRET))  # before anything comes in

    async def key_id(self) -> str:
        return (await self.engine.ledger.keys()).newest_id

    async def close(self) -> None:
        await self._starting
        await super().close()
        self._server.stop()
        self.app.settings["broadcaster"].stop()
        await self.app.settings["wsauth"].close()
        await self._server.close_all_connections()


def login_body(username: str) -> str:
    """Return what is posted to log in; the further users of `tests.browser.server` have their names for passwords."""
    return json.dumps({"username": username, "password": USERS.get(username, username)})


async def present(ws: WebSocketClientConnection, jwt: str) -> None:
    await ws.write_message(json.dumps({"type": "jwt", "token": jwt}))


async def read(ws: WebSocketClientConnection) -> Any:
    message = await ws.read_message()
    assert message is not None, (ws.close_code, ws.close_reason)
    return json.loads(message)


async def say(ws: WebSocketClientConnection, **message: Any) -> None:
    await ws.write_message(json.dumps(message))


async def read_kinds(ws: WebSocketClientConnection, kinds: set[str]) -> list[Any]:
    """Read until one message of each of ``kinds`` has come."""
    messages = []
    while kinds:
        messages.append(await read(ws))
        kinds = kinds - {messages[-1]["type"]}
    return messages


async def how_it_ends(ws: WebSocketClientConnection) -> tuple[int | None, str | None]:
    """Return the close code and reason; any message before them is a failure."""
    assert await ws.read_message() is None
    return ws.close_code, ws.close_reason


async def refused_with(connecting: Awaitable[WebSocketClientConnection]) -> int:
    with pytest.raises(HTTPClientError) as refusal:
        await connecting
    return refusal.value.code
