"""Connections whose client has vanished without a word: it answers nothing, and no packet says that it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.hostile.scene import Answers
from tests.support import make_auth, until

INTERVAL = 0.4  # seconds
TIMEOUT = 0.2
GRACE = 1.0
"""What a busy machine may take longer; far less than the 5 s after which Tornado gives up on any close frame."""


async def time_until(condition: Callable[[], bool]) -> float:
    start = asyncio.get_running_loop().time()
    await until(condition)
    return asyncio.get_running_loop().time() - start


@pytest.mark.gen_test
async def test_a_waiting_client_that_answers_no_ping_is_gone_after_interval_and_timeout(serve, connect):
    # A30
    server = serve(
        Answers,
        auth=make_auth(auth_timeout=600),
        websocket_ping_interval=INTERVAL,
        websocket_ping_timeout=TIMEOUT,
    )
    await connect(server)
    assert len(server.auth.pending) == 1
    took = await time_until(lambda: len(server.auth.pending) == 0)
    assert INTERVAL < took < INTERVAL + TIMEOUT + GRACE


@pytest.mark.gen_test
async def test_an_authenticated_client_that_answers_no_ping_is_gone_after_interval_and_timeout(serve, login):
    # A30
    class Chat(Answers):
        pass

    server = serve(Chat, websocket_ping_interval=INTERVAL, websocket_ping_timeout=TIMEOUT)
    await login(server)
    took = await time_until(lambda: len(server.auth.connections) == 0 and "close" in Chat.events)
    assert INTERVAL < took < INTERVAL + TIMEOUT + GRACE
