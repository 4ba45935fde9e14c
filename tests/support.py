"""What the tests share: a server, a client that says exactly what it is told, a clock turned by hand, JWTs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jwt
import pytest
import tornado.httpserver
import tornado.testing
import tornado.web
from tornado.ioloop import PeriodicCallback
from tornado.websocket import WebSocketHandler

from tornado_wsauth import Clock, JWTVerifier, WebSocketAuthMixin, WSAuth

SECRET = "a secret of the tests, long enough for HS256"

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def make_jwt(user: str | None = "alice", *, expires_in: float = 600, secret: str = SECRET, **claims: Any) -> str:
    """Return an HS256 JWT for ``user``; ``claims`` are added, and a claim of None is left out."""
    payload = {"sub": user, "exp": int(time.time() + expires_in), **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, secret, algorithm="HS256")


def make_auth(**options: Any) -> WSAuth:
    """Return a `WSAuth` that accepts `make_jwt`'s tokens."""
    return WSAuth(JWTVerifier(SECRET, algorithms=["HS256"]), **options)


def jwt_message(token: str) -> str:
    """Return the first message of the protocol."""
    return json.dumps({"type": "jwt", "token": token})


class ManualClock(Clock):
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.now = time.time()
        self.timers: list[_ManualTimer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _ManualTimer:
        timer = _ManualTimer(self, self.now + seconds, callback)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Turn the clock on and make every call that has come due."""
        self.now += seconds
        for timer in sorted(self.timers, key=lambda timer: timer.due):
            if timer.due <= self.now and timer in self.timers:
                self.timers.remove(timer)
                timer.callback()


@dataclass(eq=False)
class _ManualTimer:
    clock: ManualClock
    due: float
    callback: Callable[[], None]

    def cancel(self) -> None:
        if self in self.clock.timers:
            self.clock.timers.remove(self)


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


@dataclass
class Response:
    """An HTTP response as it came over the wire."""

    status: int
    head: bytes
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    """A WebSocket client that sends the bytes it is told to, whatever the protocol thinks of them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> RawClient:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def send_text(self, text: str) -> None:
        self.send(frame(text.encode()))

    async def read_response(self) -> Response:
        """Read one HTTP response with its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        status = int(lines[0].split()[1])
        body = b"" if status == 101 else await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Response(status, head, body, headers)

    async def upgrade(self, path: str, *, method: str = "GET", **headers: str | None) -> Response:
        """Send an opening handshake and read the answer. A header given as None is left out."""
        self.send(upgrade_request(path, method=method, **headers))
        return await self.read_response()

    async def read_frame(self) -> tuple[int, bytes]:
        """Read one frame; raises `asyncio.IncompleteReadError` when the connection ends instead."""
        first, second = await self.reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(length)

    async def read_json(self) -> Any:
        """Read one text message."""
        opcode, payload = await self.read_frame()
        assert opcode == TEXT, (opcode, payload)
        return json.loads(payload)

    async def read_close(self) -> tuple[int, str]:
        """Read on until the server's close frame; return its code and reason. Data frames on the way are a failure."""
        while True:
            opcode, payload = await self.read_frame()
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0], payload[2:].decode()
            assert opcode in (PING, PONG), (opcode, payload)

    async def at_eof(self) -> bool:
        """Wait for the next byte, or for the end of the connection; say whether it was the end."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def abort(self) -> None:
        """Leave without a word: the connection is reset."""
        self.writer.transport.abort()


def upgrade_request(path: str, *, method: str = "GET", **headers: str | None) -> bytes:
    """Return an opening handshake (RFC 6455 §4.1). ``Sec_WebSocket_Key=None`` leaves that header out."""
    fields: dict[str, str | None] = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin1")


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """Return one masked client frame (RFC 6455 §5.2)."""
    head = bytes([(0x80 if fin else 0) | (0x40 if rsv1 else 0) | opcode])
    if len(payload) < 126:
        head += bytes([0x80 | len(payload)])
    elif len(payload) <= 0xFFFF:
        head += struct.pack("!BH", 0x80 | 126, len(payload))
    else:
        head += struct.pack("!BQ", 0x80 | 127, len(payload))
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


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
