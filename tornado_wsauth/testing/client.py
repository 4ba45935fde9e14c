"""A WebSocket client that sends exactly what it is told, right or wrong. `testing` gives it to users.

Nothing in here knows the server's side; of ours, it imports nothing.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import struct
from dataclasses import dataclass, field
from typing import Any

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def jwt_message(token: str) -> str:
    """Return the first message of the protocol."""
    return json.dumps({"type": "jwt", "token": token})


@dataclass
class Response:
    """An HTTP response as it came over the wire."""

    status: int
    head: bytes
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


class RawClient:
    """A WebSocket client that sends the bytes it is told to, whatever the protocol thinks of them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> RawClient:
        """Connect to ``port`` of this machine; nothing is sent yet."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, data: bytes) -> None:
        """Send ``data`` as it is."""
        self.writer.write(data)

    def send_text(self, text: str) -> None:
        """Send one text message."""
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
        """Read one text message; raises `AssertionError` for any other frame."""
        opcode, payload = await self.read_frame()
        if opcode != TEXT:
            raise AssertionError(f"a text message was expected, not opcode {opcode} with {payload!r}")
        return json.loads(payload)

    async def read_close(self) -> tuple[int, str]:
        """Read on until the server's close frame; return its code and reason.

        Raises `AssertionError` for a data frame on the way.
        """
        while True:
            opcode, payload = await self.read_frame()
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0], payload[2:].decode()
            if opcode not in (PING, PONG):
                raise AssertionError(f"a close frame was expected, not opcode {opcode} with {payload!r}")

    async def at_eof(self) -> bool:
        """Wait for the next byte, or for the end of the connection; say whether it was the end."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        """End the TCP connection, without a close frame."""
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
