"""What the tests share: a server, JWTs, and the client and the clock of `tornado_wsauth.testing`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jwt
import pytest
import tornado.httpserver
import tornado.testing
import tornado.web
from tornado.ioloop import PeriodicCallback
from tornado.websocket import WebSocketHandler

from tornado_wsauth import JWTVerifier, WebSocketAuthMixin, WSAuth
from tornado_wsauth.testing.client import BINARY as BINARY
from tornado_wsauth.testing.client import CLOSE as CLOSE
from tornado_wsauth.testing.client import PING as PING
from tornado_wsauth.testing.client import PONG as PONG
from tornado_wsauth.testing.client import TEXT as TEXT
from tornado_wsauth.testing.client import RawClient as RawClient
from tornado_wsauth.testing.client import Response as Response
from tornado_wsauth.testing.client import frame as frame
from tornado_wsauth.testing.client import jwt_message as jwt_message
from tornado_wsauth.testing.client import upgrade_request as upgrade_request
from tornado_wsauth.testing.clock import ManualClock as ManualClock

SECRET = "a secret of the tests, long enough for HS256"


def make_jwt(user: str | None = "alice", *, expires_in: float = 600, secret: str = SECRET, **claims: Any) -> str:
    """Return an HS256 JWT for ``user``; ``claims`` are added, and a claim of None is left out."""
    payload = {"sub": user, "exp": int(time.time() + expires_in), **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, secret, algorithm="HS256")


def make_auth(**options: Any) -> WSAuth:
    """Return a `WSAuth` that accepts `make_jwt`'s tokens."""
    return WSAuth(JWTVerifier(SECRET, algorithms=["HS256"]), **options)


class Echo(WebSocketAuthMixin, WebSocketHandler):
    """A handler that remembers on its class what reached the application."""

    events: ClassVar[list[Any]] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.events = []

    def open(self, *args: str, **kwargs: str) -> None:
        self.events.append("open")

    def on_message(self, message: str | bytes) -> None:
        self.events.append(message)
        self.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        self.events.append("close")


class Server:
    """A real Tornado server on a free port of the loopback interface."""

    def __init__(self, handlers: list[Any], auth: WSAuth | None, settings: Mapping[str, Any]) -> None:
        socket, self.port = tornado.testing.bind_unused_port()
        self.auth = auth
        self.url = f"http://127.0.0.1:{self.port}"
        self.app = tornado.web.Application(handlers, **({} if auth is None else {"wsauth": auth}), **settings)
        self._server = tornado.httpserver.HTTPServer(self.app)
        self._server.add_socket(socket)

    async def close(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop run until ``condition`` holds; the test's own timeout ends a wait in vain."""
    while not condition():
        await asyncio.sleep(0.001)


async def http(
    server: Server, path: str = "/ws/token", *, method: str = "POST", body: bytes = b"", **headers: str | None
) -> Response:
    """Send one HTTP request and read everything up to the end of the connection, as a HEAD's answer needs."""
    fields: dict[str, str | None] = {
        "Host": f"127.0.0.1:{server.port}",
        "Content-Length": str(len(body)) if body or method in ("POST", "PUT", "PATCH") else None,
        "Connection": "close",
    }
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin1") + body)
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    answered: dict[str, str] = {}
    for line in head.decode("latin1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name = name.lower()
        answered[name] = f"{answered[name]}, {value.strip()}" if name in answered else value.strip()
    return Response(int(head.split()[1]), head, content, answered)


async def settle() -> None:
    """Let everything run that waits for nothing but its turn."""
    for _ in range(20):
        await asyncio.sleep(0)


async def nothing_is_left(server: Server) -> None:
    """Wait until the server knows of no connection; one that nobody frees is a timeout here."""
    await until(lambda: len(server.auth.pending) == len(server.auth.connections) == 0)


class AppError(Exception):
    pass


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


INTERVAL_MS = 2
"""The interval of what the tests let tick."""


async def ticks(number: int) -> None:
    """Wait until an independent timer of the same interval has fired that often."""
    fired = 0

    def count() -> None:
        nonlocal fired
        fired += 1

    timer = PeriodicCallback(count, INTERVAL_MS)
    timer.start()
    await until(lambda: fired >= number)
    timer.stop()
