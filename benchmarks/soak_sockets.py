"""The soak's connections: a WebSocket client as one asyncio protocol, and the token route over kept-alive HTTP.

Streams would cost a task and several futures for each message, and a thousand clients share one core with the
servers. Everything that comes is shown to the connection's `Record` before anybody else sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jwt

from benchmarks.clients import CLOSE, TEXT, frame, upgrade_request
from benchmarks.soak_ledger import Ledger, Record

HOST = "127.0.0.1"
PING, PONG = 0x9, 0xA
TIMEOUT = 15.0  # seconds for an answer; the token store gives up after 5


class Server(NamedTuple):
    """Where a server listens."""

    name: str
    port: int


class End(NamedTuple):
    """How a connection ended. ``code`` is that of the close frame, 1006 without one."""

    code: int
    reason: str = ""


class Socket(asyncio.Protocol):
    """One connection, from the handshake to its end.

    ``heard`` is called with each word that `Record.data` returns, but not with broadcasts.
    """

    def __init__(self, request: bytes, record: Record) -> None:
        self.record = record
        self.answer: asyncio.Future[tuple[int, float]] = asyncio.get_running_loop().create_future()
        """The status of the handshake's answer, 0 for none, and the seconds of its Retry-After."""
        self.end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.heard: Callable[[str], None] = lambda word: None
        self.transport: asyncio.Transport | None = None
        self._request = request
        self._received = b""
        self._upgraded = False
        self._close = End(1006)

    # What happens to it -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        if self._upgraded or self._read_head():
            self._read_frames()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.record.over()
        if not self.answer.done():
            self.answer.set_result((0, 0))
        if not self.end.done():
            self.end.set_result(self._close)

    def _read_head(self) -> bool:
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return False
        status = int(head.split(b" ", 2)[1])
        self.record.answered(status, time.time())
        if not self.answer.done():
            self.answer.set_result((status, _retry_after(head)))
        self._upgraded = status == 101
        # After a refusal, whatever looks like a further answer would be read as one.
        self._received = rest if self._upgraded else rest[rest.find(b"HTTP/1.1 ") :] if b"HTTP/1.1 " in rest else b""
        return self._upgraded

    def _read_frames(self) -> None:
        received, position, now = self._received, 0, time.time()
        while len(received) >= position + 2:
            size, start = received[position + 1], position + 2
            if size == 126:
                size, start = int.from_bytes(received[start : start + 2], "big"), start + 2
            elif size == 127:
                size, start = int.from_bytes(received[start : start + 8], "big"), start + 8
            if len(received) < start + size:
                break
            opcode, position = received[position], start + size
            self._frame(opcode & 0xF, received[start:position], now)
        self._received = received[position:]

    def _frame(self, opcode: int, payload: bytes, now: float) -> None:
        if opcode == TEXT:
            word = self.record.data(payload, now)
            if word not in ("b", "g"):
                self.heard(word)
        elif opcode == PING:
            self.send(payload, PONG)
        elif opcode == CLOSE:
            code, reason = int.from_bytes(payload[:2], "big") or 1005, payload[2:].decode()
            self.record.closed(code, reason, now)
            self._close = End(code, reason)
            self.send(payload[:2], CLOSE)
            if not self.end.done():
                self.end.set_result(self._close)

    # What is done with it -----------------------------------------------------------------------------------------

    def send(self, payload: bytes, opcode: int = TEXT) -> None:
        """Send one frame, if there is still somebody to send it to."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(frame(payload, opcode))

    def send_jwt(self, token: str) -> None:
        """Send a JWT, the first or a further one."""
        self.send(json.dumps({"type": "jwt", "token": token}).encode())

    def send_echo(self) -> None:
        """Send a numbered message."""
        self.send(b"e %d" % self.record.sent_echo(time.time()))

    async def close(self) -> None:
        """Say goodbye, and wait for the answer or not for long."""
        self.record.over()
        self.send(struct.pack("!H", 1000), CLOSE)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.end), 5)
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Leave without a word: the other side sees a reset."""
        self.record.over()
        if self.transport is not None:
            kernel_socket: socket.socket = self.transport.get_extra_info("socket")
            kernel_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()


async def connect(server: Server, token: str, record: Record, *, receive_buffer: int = 0) -> Socket:
    """Ask for an upgrade; the answer is the socket's ``answer``. Raises `OSError` when nobody listens."""
    loop = asyncio.get_running_loop()
    kernel_socket = socket.socket()
    kernel_socket.setblocking(False)
    kernel_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer:
        kernel_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await asyncio.wait_for(loop.sock_connect(kernel_socket, (HOST, server.port)), TIMEOUT)
        request = upgrade_request(f"/ws?token={token}")
        _, connected = await loop.create_connection(lambda: Socket(request, record), sock=kernel_socket)
    except BaseException:
        kernel_socket.close()
        raise
    return connected


class Refused(Exception):
    """No token: ``status`` of the answer, and the seconds of its Retry-After."""

    def __init__(self, status: int, retry_after: float) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after = retry_after


class Login:
    """Who can log in: makes the JWTs and asks for connection tokens."""

    def __init__(self, key: str, ledger: Ledger) -> None:
        self.ledger = ledger
        self._key = key
        self._idle: dict[Server, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = {}

    def jwt(self, user: str, seconds: float) -> str:
        """Return a JWT of ``user`` that expires in ``seconds``, to the next full one."""
        return jwt.encode({"sub": user, "exp": int(time.time() + seconds) + 1}, self._key, algorithm="HS256")

    async def token(self, server: Server, user: str, user_jwt: str) -> str:
        """Return a connection token. Raises `Refused`, `OSError` and `TimeoutError`."""
        asked_at = time.time()
        headers = f"Authorization: Bearer {user_jwt}\r\n"
        status, retry_after, answer = await asyncio.wait_for(self.post(server, "/ws/token", headers), TIMEOUT)
        if status != 200:
            raise Refused(status, retry_after)
        token: str = answer["token"]
        self.ledger.issued(token, user, asked_at, time.time())
        return token

    async def post(self, server: Server, path: str, headers: str = "") -> tuple[int, float, dict[str, Any]]:
        """Return the status, Retry-After and JSON of an answer. Raises `OSError` when there is none."""
        idle = self._idle.setdefault(server, [])
        reader, writer = idle.pop() if idle else await asyncio.open_connection(HOST, server.port)
        try:
            writer.write(f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n{headers}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(_header(head, b"content-length") or 0))
        except BaseException as error:
            writer.close()
            if isinstance(error, asyncio.IncompleteReadError):
                raise ConnectionResetError(f"{server.name} ended the connection") from error
            raise
        idle.append((reader, writer))
        return int(head.split(b" ", 2)[1]), _retry_after(head), json.loads(body or b"{}")

    def close(self) -> None:
        """Close the connections that are kept."""
        for idle in self._idle.values():
            while idle:
                idle.pop()[1].close()


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip()
    return b""


def _retry_after(head: bytes) -> float:
    return float(_header(head, b"retry-after") or 0)
