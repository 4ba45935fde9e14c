"""Clients of another make read what a broadcast sends: plain, compressed, over TLS, and all of them at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tornado.iostream import SSLIOStream
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.fanout import BLOCK, Narrow, clog, connections_of, queued, slice_by, tls_port, websockets_client
from tests.support import ManualClock, Server, make_auth, until
from tornado_wsauth import FanOut

KINDS = {
    "plain": (None, False),
    "deflate": ("deflate", False),
    "tls": (None, True),
    "tls and deflate": ("deflate", True),
}
SIZES = [0, 1, 125, 126, 65_535, 65_536, 200_000]


class Compressing(Narrow):
    def get_compression_options(self) -> dict[str, Any] | None:
        return {}


@contextlib.asynccontextmanager
async def one_of_each_kind(server: Server, directory: Path) -> AsyncIterator[dict[str, ClientConnection]]:
    """Log in a user for each of `KINDS`, named like it."""
    async with contextlib.AsyncExitStack() as stack:
        tls = await stack.enter_async_context(tls_port(server, directory))
        clients = {}
        for kind, (compression, encrypted) in KINDS.items():
            client = websockets_client(server, kind, compression=compression, tls=tls if encrypted else None)
            clients[kind] = await stack.enter_async_context(client)
        await until(lambda: len(connections_of(server)) == len(KINDS))
        streams = [type(handler.ws_connection.stream) for handler in connections_of(server)]
        assert streams.count(SSLIOStream) == 2
        yield clients


@pytest.mark.gen_test
async def test_every_size_and_type_of_message_arrives_as_it_was_sent(serve, tmp_path):
    server = serve(Compressing)
    connections = connections_of(server)
    expected: list[str | bytes] = []
    async with one_of_each_kind(server, tmp_path) as clients:
        for size in SIZES:
            ascii_text = (f"{size} " * (size // 2 + 1))[:size]
            # The size is in bytes: what is not ASCII takes two of them.
            non_ascii = "ż" * (size // 2) + "x" * (size % 2)
            binary = os.urandom(size)
            dictionary = {"size": size, "text": "żółw 🐢", "padding": ascii_text}
            assert len(non_ascii.encode()) == len(ascii_text) == size
            for message, is_binary in ((ascii_text, False), (non_ascii.encode(), False), (binary, True)):
                assert connections.broadcast(message, binary=is_binary) == FanOut(4, 0, 0)
            assert connections.broadcast(dictionary) == FanOut(4, 0, 0)
            assert connections.broadcast(non_ascii, binary=True) == FanOut(4, 0, 0)
            expected = [ascii_text, non_ascii, binary, json.dumps(dictionary), non_ascii.encode()]
            for kind, client in clients.items():
                received = [await client.recv() for _ in expected]
                received[3] = json.dumps(json.loads(received[3]))
                assert received == expected, (kind, size)


@pytest.mark.gen_test
@pytest.mark.parametrize("sliced", [False, True])
async def test_large_messages_to_readers_who_start_late_are_whole_and_in_order(serve, tmp_path, monkeypatch, sliced):
    # A33
    if sliced:
        slice_by(monkeypatch)
    server = serve(Compressing, auth=make_auth(max_buffer_bytes=20_000_000))
    connections = connections_of(server)
    noise = os.urandom(300_000)  # does not compress

    def payload(number: int) -> bytes:
        return b"%d " % number + (noise if number % 3 == 0 else b"small")

    async with one_of_each_kind(server, tmp_path) as clients:
        handlers = list(connections)
        for client in clients.values():
            client.transport.pause_reading()
        for number in range(0, 12, 2):
            connections.broadcast(payload(number), binary=True)
            for handler in handlers:
                handler.write_message(payload(number + 1), binary=True)
            await asyncio.sleep(0)
        assert all(queued(handler) > 0 for handler in handlers)
        for client in clients.values():
            client.transport.resume_reading()
        for number in range(12, 18, 2):  # while they catch up
            for handler in handlers:
                handler.write_message(payload(number), binary=True)
            connections.broadcast(payload(number + 1), binary=True)
            await asyncio.sleep(0)
        for kind, client in clients.items():
            for number in range(18):
                assert await client.recv() == payload(number), (kind, number)


@pytest.mark.gen_test
async def test_nothing_overtakes_a_slice_whatever_the_kind_of_connection(serve, tmp_path, monkeypatch):
    # A33
    slice_by(monkeypatch)
    server = serve(Compressing)
    async with one_of_each_kind(server, tmp_path) as clients:
        connections = connections_of(server)
        for turn in range(3):
            assert connections.broadcast(f"{turn} broadcast") == FanOut(4, 0, 0)
            for handler in reversed(list(connections)):
                handler.write_message(f"{turn} direct")
            if turn == 1:
                await asyncio.sleep(0)
        connections.broadcast("bye")
        for handler in connections:
            handler.close(4000, "that was all")
        expected = [f"{turn} {how}" for turn in range(3) for how in ("broadcast", "direct")] + ["bye"]
        for kind, client in clients.items():
            assert [await client.recv() for _ in expected] == expected, kind
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "that was all")


@pytest.mark.gen_test
async def test_a_stalled_reader_is_found_whatever_the_kind_of_connection(serve, tmp_path):
    # A32
    clock = ManualClock()

    class Chat(Compressing):
        pass

    server = serve(Chat, auth=make_auth(max_buffer_bytes=300_000, clock=clock))
    connections = connections_of(server)
    async with one_of_each_kind(server, tmp_path) as clients:
        for kind, client in clients.items():
            client.transport.pause_reading()
            sent = await clog(server, kind)
            assert connections.send_to_user(kind, "kept", slow="latest") == FanOut(1, 0, 0)
            if kind != "plain":
                client.transport.resume_reading()
                assert [len(await client.recv()) for _ in range(sent)] == [BLOCK] * sent
                assert await client.recv() == "kept"
        assert connections.broadcast("news") == FanOut(3, 0, 1)
        for kind in ("deflate", "tls", "tls and deflate"):
            assert await clients[kind].recv() == "news"
        clock.advance(0.5)
        await until(lambda: "close" in Chat.events)
