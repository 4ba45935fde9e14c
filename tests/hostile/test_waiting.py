"""Thousands of connections that wait for their first message."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.hostile.scene import Answers, Baseline, Honest, allocated
from tests.support import Server, make_auth
from tornado_wsauth import MemoryTokenStore

BEYOND = 200
ROUND_TRIPS = 200


def most_waiting() -> int:
    """Return how many connections this process may hold, at most 10 000; others need a few file descriptors, too."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(10_000, hard - 1000)


@contextlib.asynccontextmanager
async def attackers(server: Server) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.hostile.attackers",
        str(server.port),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def connect_all(process: Any, tokens: list[str]) -> dict[str, int]:
    """Have the attackers connect with ``tokens``; return how many handshakes were answered with which status."""
    process.stdin.write("\n".join([*tokens, "", ""]).encode())
    return json.loads(await process.stdout.readline())


async def p99(honest: Honest) -> float:
    """Return the 99th percentile of an echo's round trip, in seconds; the best of three, to leave out others' noise."""
    best = float("inf")
    for _ in range(3):
        times = []
        for _ in range(ROUND_TRIPS):
            start = time.perf_counter()
            honest.client.send_text("hello")
            await honest.client.read_frame()
            times.append(time.perf_counter() - start)
        best = min(best, sorted(times)[ROUND_TRIPS * 99 // 100 - 1])
    return best


@pytest.mark.thousands
@pytest.mark.usefixtures("quick_garbage_collection")
@pytest.mark.gen_test
async def test_ten_thousand_waiting_connections_slow_nobody_down_and_leave_nothing_behind(serve, login):
    # A28
    waiting = most_waiting()
    limits = {"max_pending": waiting, "max_tokens_per_user": waiting + BEYOND, "auth_timeout": 600}
    server = serve(Answers, auth=make_auth(**limits))
    honest = Honest(await login(server, "bob"))
    await honest.is_served()
    alone = await p99(honest)
    before, memory = Baseline(server), allocated()
    async with attackers(server) as process:
        tokens = [await server.auth.issue_token("mallory") for _ in range(waiting + BEYOND)]
        assert await connect_all(process, tokens) == {"101": waiting, "503": BEYOND}
        assert len(server.auth.pending) == waiting
        assert await p99(honest) < max(2 * alone, alone + 0.005)
    del process, tokens
    server.auth.tokens = MemoryTokenStore()  # how long the old one remembers spent tokens is its own affair
    await before.is_back()
    assert allocated() - memory < waiting, "less than one block of memory for each connection that was there"
    await honest.is_served()
