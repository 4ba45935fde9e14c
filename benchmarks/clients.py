"""WebSocket clients that cost next to nothing: blocking sockets and frames that are made beforehand.

Many clients take each step together, so that the server always has a batch to work through and the client, which
runs ahead of it on another core, is not what is waited for.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

TEXT, CLOSE = 0x1, 0x8


def upgrade_request(path: str) -> bytes:
    """Return an opening handshake (RFC 6455 §4.1)."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return one client frame (RFC 6455 §5.2). Its mask is zero, which a server takes off like any other."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


CLOSE_FRAME = frame(struct.pack("!H", 1000), CLOSE)


class Client:
    """One connection, its socket blocking."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(60)
        self._received = b""

    def read_head(self) -> None:
        """Read the answer to the handshake, which must be a 101."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise RuntimeError(f"the server refused the handshake: {head!r}")

    def read_message(self) -> bytes:
        """Read one text message. Anything else is an error."""
        received = self._need(2)
        if received[0] != 0x80 | TEXT:
            raise RuntimeError(f"not a text message: {received!r}")
        size, start = received[1], 2
        if size == 126:
            size, start = int.from_bytes(self._need(4)[2:4], "big"), 4
        end = start + size
        received = self._need(end)
        self._received = received[end:]
        return received[start:end]

    def read_end(self) -> None:
        """Read until the server has closed the connection, and close it here."""
        while self._receive(allow_end=True):
            pass
        if not self._received.startswith(bytes([0x80 | CLOSE, 2, 0x03, 0xE8])):
            raise RuntimeError(f"not the answer to a close of 1000: {self._received!r}")
        self.socket.close()

    def _need(self, size: int) -> bytes:
        while len(self._received) < size:
            self._receive()
        return self._received

    def _receive(self, allow_end: bool = False) -> bytes:
        data = self.socket.recv(65536)
        if not data and not allow_end:
            raise RuntimeError(f"the server ended the connection after {self._received!r}")
        self._received += data
        return data


class Visit(NamedTuple):
    """What one client says on its way in."""

    request: bytes
    first_message: bytes | None
    """The JWT message, already framed; None where the server wants none."""
    message: bytes | None
    """A message to be echoed, already framed, or None."""


def connect(port: int, visits: Sequence[Visit]) -> list[Client]:
    """Open a connection for each of ``visits``: handshake, then each of the two messages that there is.

    They take each step together, and the next when all have been answered.
    """
    clients = [Client(port) for _ in visits]
    for client, visit in zip(clients, visits, strict=True):
        client.socket.sendall(visit.request)
    for client in clients:
        client.read_head()
    for answer in _ask(clients, [visit.first_message for visit in visits]):
        if b'"auth_ok"' not in answer:
            raise RuntimeError(f"not auth_ok: {answer!r}")
    _ask(clients, [visit.message for visit in visits])
    return clients


def _ask(clients: Sequence[Client], messages: Sequence[bytes | None]) -> list[bytes]:
    """Send each client's message, if it has one, and return the answers."""
    asking = [(client, message) for client, message in zip(clients, messages, strict=True) if message is not None]
    for client, message in asking:
        client.socket.sendall(message)
    return [client.read_message() for client, _ in asking]


def exchange(clients: Sequence[Client], message: bytes, times: int, burst: int) -> None:
    """Have messages echoed: ``times`` times, each client sends ``burst`` of them and reads as many."""
    for _ in range(times):
        for client in clients:
            client.socket.sendall(message * burst)
        for client in clients:
            for _ in range(burst):
                client.read_message()


def close(clients: Sequence[Client]) -> None:
    """Close every connection with 1000 and wait until the server has closed its side."""
    for client in clients:
        client.socket.sendall(CLOSE_FRAME)
    for client in clients:
        client.read_end()
