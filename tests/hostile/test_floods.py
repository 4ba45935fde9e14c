"""Floods: what a client can make the server keep by sending without end, or without reading."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.first_messages import CONTINUATION
from tests.hostile.victim import LARGE
from tests.support import PING, TEXT, RawClient, frame, jwt_message, make_jwt, upgrade_request

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")

MAY_GROW = 5_000_000  # bytes
FLOOD_TIME = 1.0  # seconds: enough to send several times what may be kept, and what the sockets of both ends hold
BUFFER = 65_536  # bytes, the victim's max_buffer_bytes and its application's largest message


@dataclass
class Victim:
    process: Any
    port: int
    clients: list[RawClient] = field(default_factory=list)

    async def ask(self, question: str) -> Any:
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        return json.loads(await self.process.stdout.readline())

    async def memory(self) -> int:
        return (await self.ask(""))["memory"]

    async def is_empty(self) -> None:
        """Wait until it has no connection any more; raises `TimeoutError` if that takes seconds."""
        async with asyncio.timeout(5):
            while (now := await self.ask(""))["pending"] or now["open"]:
                await asyncio.sleep(0.01)

    async def connect(self, *, authenticated: bool) -> RawClient:
        """Return a client whose kernel takes little that it does not read."""
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        client = RawClient(*await asyncio.open_connection(sock=raw, limit=4096))
        self.clients.append(client)
        client.send(upgrade_request(f"/ws?token={await self.ask('mallory')}"))
        assert (await client.read_response()).status == 101
        if authenticated:
            client.send_text(jwt_message(make_jwt("mallory")))
            assert (await client.read_json())["type"] == "auth_ok"
        return client


@contextlib.asynccontextmanager
async def victim() -> AsyncIterator[Victim]:
    options = {
        "auth": {"max_buffer_bytes": BUFFER},
        "settings": {"websocket_ping_interval": 30, "websocket_max_message_size": BUFFER},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.hostile.victim",
        json.dumps(options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    server = Victim(process, int(await process.stdout.readline()))
    try:
        yield server
    finally:
        for client in server.clients:
            client.abort()
            await client.close()
        process.stdin.close()
        await process.wait()


async def flood(server: Victim, client: RawClient, frames: bytes, seconds: float = FLOOD_TIME) -> int:
    """Send ``frames`` again and again, until we are cut off; return how much memory the server took at most."""
    before = most = await server.memory()
    until, cut = time.monotonic() + seconds, False
    while time.monotonic() < until and not cut:
        client.send(frames)
        try:
            await asyncio.wait_for(client.writer.drain(), seconds)
        except (OSError, TimeoutError):
            cut = True
        cut = cut or client.writer.transport.is_closing()
        most = max(most, await server.memory())
    return most - before


@pytest.mark.gen_test
@pytest.mark.parametrize("authenticated", [False, True], ids=["before", "after"])
async def test_pings_whose_pongs_nobody_reads_take_no_memory(authenticated):
    # A29
    async with victim() as server:
        client = await server.connect(authenticated=authenticated)
        grown = await flood(server, client, frame(b"x" * 125, PING) * 1000)
        assert grown < MAY_GROW


@pytest.mark.gen_test
async def test_a_client_that_asks_and_does_not_read_the_handlers_answers_is_cut_off():
    # A29
    async with victim() as server:
        client = await server.connect(authenticated=True)
        grown = await flood(server, client, frame(LARGE.encode()) * 20)
        assert grown < MAY_GROW
        await server.is_empty()


@pytest.mark.gen_test
@pytest.mark.parametrize("authenticated", [False, True], ids=["before", "after"])
async def test_endless_one_byte_fragments_are_cut_off_at_the_limit_of_the_message(authenticated):
    # A29
    async with victim() as server:
        client = await server.connect(authenticated=authenticated)
        client.send(frame(b"x", TEXT, fin=False))
        grown = await flood(server, client, frame(b"x", CONTINUATION, fin=False) * 2000, seconds=8)
        assert grown < MAY_GROW
        await server.is_empty()


@pytest.mark.gen_test
@pytest.mark.parametrize("authenticated", [False, True], ids=["before", "after"])
async def test_endless_empty_fragments_take_no_memory(authenticated):
    # A29
    async with victim() as server:
        client = await server.connect(authenticated=authenticated)
        client.send(frame(b"", TEXT, fin=False))
        grown = await flood(server, client, frame(b"", CONTINUATION, fin=False) * 2000)
        assert grown < MAY_GROW
