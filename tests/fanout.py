"""What the tests of the fan-out share: readers that stall, what waits for them, and clients of another make."""

from __future__ import annotations

import contextlib
import datetime
import functools
import ipaddress
import logging
import os
import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import tornado.httpserver
import tornado.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tornado.websocket import WebSocketHandler
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect

from tests.support import CLOSE, Echo, RawClient, Server, frame, jwt_message, make_jwt, settle
from tornado_wsauth import WSAuth
from tornado_wsauth import fanout as fanout_module
from tornado_wsauth.connections import Connections

BLOCK = 16_000
"""The size of what clogs a reader, in bytes."""


class Prompt(Echo):
    """A handler whose messages leave at once: Nagle's algorithm would hold each small one back for 40 ms."""

    def open(self, *args: str, **kwargs: str) -> None:
        super().open(*args, **kwargs)
        self.set_nodelay(True)


class Narrow(Prompt):
    """A handler whose socket takes a few kilobytes: a reader that stalls is cheap, and large messages go in parts."""

    def open(self, *args: str, **kwargs: str) -> None:
        super().open(*args, **kwargs)
        self.ws_connection.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # type: ignore[union-attr]


def stall(client: RawClient) -> None:
    """Let the client read no more."""
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]


def resume(client: RawClient) -> None:
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]


def reset(client: RawClient) -> None:
    """Leave with a reset, so that the server's next write to it fails. It happens in the next turn of the loop."""
    peer = client.writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.abort()


def queued(handler: WebSocketHandler) -> int:
    """Return how many bytes Tornado holds for a reader that does not take them."""
    return len(handler.ws_connection.stream._write_buffer)  # type: ignore[union-attr]


def handler_of(server: Server, user: str) -> Any:
    (handler,) = connections_of(server).for_user(user)
    return handler


def connections_of(server: Server) -> Connections:
    return auth_of(server).connections


def auth_of(server: Server) -> WSAuth:
    assert server.auth is not None
    return server.auth


async def clog(server: Server, user: str = "slow") -> int:
    """Send numbered blocks to a stalled reader until it has more than the limit queued; return how many it will get."""
    sent = 0
    while connections_of(server).send_to_user(user, block(sent), binary=True, slow="drop").sent:
        sent += 1
        assert sent < 1000, "nothing was ever dropped"
        await settle()
    handler = handler_of(server, user)
    for number in range(sent, sent + 16):  # what the kernels between us take later leaves it above the limit
        handler.write_message(block(number), binary=True)
    return sent + 16


def block(number: int) -> bytes:
    """Return a numbered message of ``BLOCK`` bytes that no compression makes smaller."""
    return b"%d " % number + os.urandom(BLOCK - len(b"%d " % number))


async def read_blocks(client: RawClient, number: int) -> None:
    """Read what `clog` sent."""
    for index in range(number):
        _, payload = await client.read_frame()
        assert len(payload) == BLOCK
        assert payload.startswith(b"%d " % index)


async def texts_until(client: RawClient, last: str) -> list[str]:
    """Read messages up to and with ``last``."""
    texts: list[str] = []
    while texts[-1:] != [last]:
        texts.append((await client.read_frame())[1].decode())
    return texts


async def answer_close(client: RawClient) -> tuple[int, str]:
    """Read the server's close frame, nothing before it, and say goodbye in turn."""
    code, reason = await client.read_close()
    client.send(frame(struct.pack("!H", code), CLOSE))
    return code, reason


def readable(clients: list[RawClient], wait: float = 0) -> list[RawClient]:
    """Return the clients for whom something has arrived at the socket; the loop does not turn meanwhile."""
    by_fd = {client.writer.get_extra_info("socket").fileno(): client for client in clients}
    return [by_fd[fd] for fd in select.select(list(by_fd), [], [], wait)[0]]


def slice_by(monkeypatch: pytest.MonkeyPatch, stride: int = 1) -> None:
    """Make every slice of a broadcast ``stride`` connections long."""
    monkeypatch.setattr(fanout_module, "SLICE_SECONDS", -1)
    monkeypatch.setattr(fanout_module, "STRIDE", stride)


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged that nobody wants to read: exceptions, and futures whose exception nobody retrieved."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info]


# --- another make of client ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def websockets_client(
    server: Server, user: str, *, compression: str | None = None, tls: tuple[int, ssl.SSLContext] | None = None
) -> AsyncIterator[ClientConnection]:
    """Log in with the ``websockets`` library. ``tls`` is what `tls_port` returned."""
    token = await auth_of(server).issue_token(user)
    scheme, port, context = ("ws", server.port, None) if tls is None else ("wss", *tls)
    uri = f"{scheme}://127.0.0.1:{port}/ws?token={token}"
    async with websockets_connect(
        uri, compression=compression, ssl=context, proxy=None, ping_interval=None, max_size=None, close_timeout=5
    ) as client:
        assert ("permessage-deflate" in client.response.headers.get("Sec-WebSocket-Extensions", "")) == bool(  # type: ignore[union-attr]
            compression
        )
        await client.send(jwt_message(make_jwt(user)))
        assert '"auth_ok"' in await client.recv(decode=True)
        try:
            yield client
        finally:
            client.transport.abort()  # a client that was told to read nothing would wait for the server's goodbye


@contextlib.asynccontextmanager
async def tls_port(server: Server, directory: Path) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """Let the application of ``server`` also listen with TLS; return the port and a client's context."""
    certificate = directory / "certificate.pem"
    certificate.write_bytes(self_signed())
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(certificate)
    bound, port = tornado.testing.bind_unused_port()
    http_server = tornado.httpserver.HTTPServer(server.app, ssl_options=ours)
    http_server.add_socket(bound)
    yield port, ssl.create_default_context(cafile=str(certificate))
    http_server.stop()
    await http_server.close_all_connections()


@functools.cache
def self_signed() -> bytes:
    """Return a private key and a certificate for 127.0.0.1, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem + certificate.public_bytes(serialization.Encoding.PEM)
