"""The two echo servers under test, and the shim that logs a client in which cannot do so itself.

`tests.autobahn.__main__` imports it. Both servers stand behind a shim of the same make, so that what is compared
differs in the mixin alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import zlib
from types import TracebackType

from tornado.websocket import WebSocketHandler

from tests.support import TEXT, RawClient, Server, frame, jwt_message, make_auth, make_jwt
from tornado_wsauth import WebSocketAuthMixin

MAX_MESSAGE = 64 * 1024 * 1024  # bytes; section 9 goes up to 16 MiB
DAY = 24 * 3600  # seconds; no JWT shall expire on the way


class Bare(WebSocketHandler):
    """An echo, as Tornado's own documentation writes it."""

    def check_origin(self, origin: str) -> bool:
        return True

    def get_compression_options(self) -> dict[str, object] | None:
        return {} if self.settings["compression"] else None

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, binary=isinstance(message, bytes))


class Authenticated(WebSocketAuthMixin, Bare):
    """The same echo with the mixin in front."""


class Subject:
    """One echo server with a shim in front; an asynchronous context manager. ``errors`` has what the shim met."""

    def __init__(self, name: str, handler: type[Bare], *, compression: bool) -> None:
        self.name = name
        self.errors: list[str] = []
        self.logins = 0
        self.url = ""
        auth = make_auth() if issubclass(handler, WebSocketAuthMixin) else None
        settings = {"websocket_max_message_size": MAX_MESSAGE, "compression": compression}
        self._server = Server([(r"/", handler)], auth, settings)
        self._auth = auth
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Subject:
        self._shim = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._shim.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._shim.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        server = await RawClient.connect(self._server.port)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await self._log_in(server, head))
            await asyncio.gather(_pipe(reader, server.writer), _pipe(server.reader, writer))
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        finally:
            for end in (server.writer, writer):
                end.close()

    async def _log_in(self, server: RawClient, head: bytes) -> bytes:
        """Send the client's opening handshake on; return the answer when the client may go on as if it were alone."""
        head = _ask_for_no_takeover(head)
        if self._auth is None:
            server.send(head)
            return _tell_of_no_takeover((await server.read_response()).head)
        token = await self._auth.issue_token("alice")
        server.send(head.replace(b"GET / ", f"GET /?token={token} ".encode(), 1))
        answer = await server.read_response()
        if answer.status != 101:
            raise RuntimeError(f"the handshake was answered with {answer.head!r} {answer.body!r}")
        server.send(frame(jwt_message(make_jwt("alice", expires_in=DAY)).encode()))
        opcode, payload = await server.read_frame()
        if opcode != TEXT or json.loads(_inflated(payload))["type"] != "auth_ok":
            raise RuntimeError(f"auth_ok was expected, not opcode {opcode} with {payload!r}")
        self.logins += 1
        return _tell_of_no_takeover(answer.head)


# A server that compresses by what it has sent before would puzzle a client that never saw ``auth_ok``, so both servers
# are asked not to (RFC 7692 §7.1.1.1). Tornado overlooks the parameter unless it has a value, and gives that back.


def _ask_for_no_takeover(head: bytes) -> bytes:
    head = re.sub(rb"(?i);\s*server_no_context_takeover", b"", head)  # may be given only once
    return re.sub(rb"(?i)(permessage-deflate)", rb"\1; server_no_context_takeover=1", head)


def _tell_of_no_takeover(answer: bytes) -> bytes:
    return answer.replace(b"server_no_context_takeover=1", b"server_no_context_takeover")


def _inflated(payload: bytes) -> bytes:
    if payload.startswith(b"{"):
        return payload
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + b"\x00\x00\xff\xff")


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on unchanged; an end is passed on as an end, a reset as a reset."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        writer.transport.abort()
    else:
        with contextlib.suppress(OSError):
            writer.write_eof()
