"""What `attacks` and `conformance` share: the target of an attack, the connections it is made on, and its failure.

Of ours it imports `testing.client` alone: an attacker has no more than the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self
from urllib.parse import urlencode, urlsplit

from tornado_wsauth.testing.client import CLOSE, PING, PONG, TEXT, RawClient, frame, jwt_message, upgrade_request

DATA = (0x0, 0x1, 0x2)
"""The opcodes that carry messages (RFC 6455 §5.2)."""


class GateBreach(AssertionError):
    """An attack had an effect that the gate promises it cannot have. The message says which and what."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A handler behind `WebSocketAuthMixin`, and what an attacker of it may know or have.

    :param url: where it listens, such as ``"ws://127.0.0.1:8888/ws/chat"``; ``wss`` and a query of its own will do.
    :param new_token: returns a fresh connection token of one user, always the same.
    :param make_jwt: returns a JWT that is valid for this user.
    :param other_jwt: returns a JWT that is valid for another user.
    :param expired_jwt: returns a JWT of this user that was valid once.
    :param exchange: a text message that the handler answers, and the one text message that is its answer.
    :param token_param: `WSAuth`'s option of that name.
    :param max_preauth_bytes: `WSAuth`'s option of that name, in bytes.
    :param single_use: `WSAuth`'s option of that name.
    :param foreign_origin: an ``Origin`` that is refused; None if the handler welcomes any.
    :param headers: what every upgrade request carries beside its own, such as an ``Origin`` that is allowed.
    :param patience: how long the server may take for what is expected of it, in seconds.
    """

    url: str
    new_token: Callable[[], Awaitable[str]]
    make_jwt: Callable[[], str]
    other_jwt: Callable[[], str] | None = None
    expired_jwt: Callable[[], str] | None = None
    exchange: tuple[str, str] | None = None
    token_param: str = "token"
    max_preauth_bytes: int = 16384
    single_use: bool = True
    foreign_origin: str | None = "https://foreign.example"
    headers: Mapping[str, str] = field(default_factory=dict)
    patience: float = 10.0

    def path(self, *tokens: str, raw: str | None = None) -> str:
        """Return the request target with these connection tokens, or with ``raw`` in their place as it is."""
        parts = urlsplit(self.url)
        query = urlencode([(self.token_param, token) for token in tokens]) if raw is None else raw
        query = "&".join(part for part in (parts.query, query) if part)
        return (parts.path or "/") + (f"?{query}" if query else "")

    def request(self, path: str, *, method: str = "GET", **headers: str | None) -> bytes:
        """Return an opening handshake. A header given as None is left out."""
        mine = {name.replace("-", "_"): value for name, value in self.headers.items()}
        return upgrade_request(path, method=method, **{"Host": urlsplit(self.url).netloc, **mine, **headers})

    def first_message(self) -> bytes:
        """Return the frame of a good first message."""
        return frame(jwt_message(self.make_jwt()).encode())

    def message(self) -> bytes:
        """Return the frame of a message for the application."""
        return frame((self.exchange[0] if self.exchange else "hello").encode())


class Intruder:
    """One attacker. It opens connections, and raises `GateBreach` for an answer it should not have had.

    An asynchronous context manager: at its end, whatever is still open is left without a word.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._lines: list[Line] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for line in self._lines:
            line.client.abort()
        for line in self._lines:
            with contextlib.suppress(OSError):
                await line.client.writer.wait_closed()

    async def line(self) -> Line:
        """Connect; nothing is sent yet."""
        parts = urlsplit(self.target.url)
        secure = parts.scheme == "wss"
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port or (443 if secure else 80), ssl=secure or None
        )
        line = Line(self.target, RawClient(reader, writer))
        self._lines.append(line)
        return line

    async def upgraded(self, glued: bytes = b"", **headers: str | None) -> Line:
        """Connect with a fresh token, ``glued`` right behind the request; the answer must be a 101."""
        line = await self.line()
        line.send(self.target.request(self.target.path(await self.target.new_token()), method="GET", **headers) + glued)
        await line.answered(101)
        return line

    async def refused(self, *statuses: int, request: bytes) -> None:
        """Send ``request``, and a good first message behind it; the answer must be one of ``statuses``."""
        line = await self.line()
        line.send(request + self.target.first_message() + self.target.message())
        await line.answered(*statuses)
        line.client.abort()


class Line:
    """One connection of an attacker."""

    def __init__(self, target: Target, client: RawClient) -> None:
        self.target = target
        self.client = client
        self.head: bytes = b""

    def send(self, data: bytes) -> None:
        """Send ``data`` as it is."""
        self.client.send(data)

    async def answered(self, *statuses: int) -> int:
        """Read the head of the answer to the handshake, which must have one of ``statuses``; return it."""
        try:
            self.head = await self.client.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise GateBreach(f"the handshake was not answered: {error!r}") from error
        status = int(self.head.split(None, 2)[1])
        if status not in statuses:
            raise GateBreach(f"the handshake was answered with {status} instead of {_either(statuses)}")
        return status

    async def frames_until(self, *opcodes: int) -> tuple[int, bytes] | None:
        """Read on to a frame of ``opcodes`` and return it; None at the end. Another data frame is a breach."""
        while True:
            try:
                opcode, payload = await self.client.read_frame()
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            if opcode in opcodes:
                return opcode, payload
            if opcode in DATA:
                _received(opcode, payload)

    async def closed(self, *codes: int) -> None:
        """The server must close with one of ``codes``, and be deaf to whatever comes after that."""
        last = await self.frames_until(CLOSE)
        if last is None:
            raise GateBreach(f"the connection ended without a close frame instead of with {_either(codes)}")
        self._check_code(last[1], codes)
        await self._deaf()

    async def ended(self, *codes: int) -> None:
        """The server must end the connection, without a close frame or with one of ``codes``; any, if none is given."""
        last = await self.frames_until(CLOSE)
        if last is not None:
            if codes:
                self._check_code(last[1], codes)
            await self._deaf()

    async def let_in(self) -> None:
        """The server's first data frame must be its ``auth_ok``."""
        got = await self.frames_until(TEXT, CLOSE)
        if got is None or got[0] == CLOSE:
            raise GateBreach(f"a client with good credentials was turned away: {got and got[1]!r}")
        if not _is_auth_ok(got[1]):
            _received(*got)

    async def answers_ping(self, payload: bytes = b"there?") -> None:
        """The server must answer a ping, and send no data frame before its pong."""
        self.send(frame(payload, PING))
        got = await self.frames_until(PONG)
        if got is None or got[1] != payload:
            raise GateBreach("a ping was not answered")

    async def handled(self, times: int) -> None:
        """The one message sent so far must have been answered this often, if the handler's answer is known."""
        if self.target.exchange is None:
            return
        answer, marker, seen = self.target.exchange[1].encode(), os.urandom(8), 0
        while seen < times:
            seen += await self._is_next(answer)
        self.send(frame(marker, PING))
        while True:
            got = await self._any_frame()
            if got == (PONG, marker):
                break
            seen += got == (TEXT, answer)
        if seen != times:
            raise GateBreach(f"a message was handled {seen} times instead of {times}")

    async def nothing_more(self) -> None:
        """Say that nothing more is coming; the server must end the connection, and send no data frame before."""
        await self.half_closed()
        await self.frames_until()

    async def half_closed(self) -> None:
        """Say that nothing more is coming: by the end of the stream, or, where TLS has none, by a close frame."""
        with contextlib.suppress(OSError):
            if self.client.writer.can_write_eof():
                self.client.writer.write_eof()
            else:
                self.send(frame(b"", CLOSE))
                await self.client.writer.drain()

    def reset(self) -> None:
        """Leave with a TCP reset, not with the end of the stream."""
        raw: Any = self.client.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.abort()

    async def _is_next(self, answer: bytes) -> bool:
        return await self._any_frame() == (TEXT, answer)

    async def _any_frame(self) -> tuple[int, bytes]:
        try:
            return await self.client.read_frame()
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise GateBreach("a client with good credentials was cut off") from error

    async def _deaf(self) -> None:
        """Ignore the close frame, and try once more."""
        self.send(self.target.first_message() + self.target.message())
        await self.nothing_more()

    @staticmethod
    def _check_code(payload: bytes, codes: tuple[int, ...]) -> None:
        code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else None
        if code not in codes:
            raise GateBreach(f"the connection was closed with {code} instead of {_either(codes)}")


def _is_auth_ok(payload: bytes) -> bool:
    try:
        message = json.loads(payload)
    except ValueError:
        return False
    return isinstance(message, dict) and message.get("type") == "auth_ok"


def _received(opcode: int, payload: bytes) -> NoReturn:
    raise GateBreach(f"the attacker received a data frame (opcode {opcode}): {payload[:100]!r}")


def _either(numbers: tuple[int, ...]) -> str:
    return " or ".join(map(str, numbers))
