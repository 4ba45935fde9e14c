"""Fixtures of the client's tests."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tests.client.kit import Client, ClientFactory
from tests.support import until


@pytest.fixture
def client(io_loop: IOLoop, serve: Any, caplog: pytest.LogCaptureFixture) -> Iterator[ClientFactory]:
    """Make a `Client`. At the end of the test all are closed, and nothing may be left of them: no task, no complaint of
    asyncio's, and no report of an exception that nobody retrieved."""
    made: list[Client] = []

    def make(*args: Any, **options: Any) -> Client:
        made.append(Client(*args, **options))
        return made[-1]

    yield make

    async def end() -> None:
        for one in made:
            await one.connection.close()
        try:
            async with asyncio.timeout(3):
                await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        except TimeoutError:
            raise AssertionError(f"left behind: {asyncio.all_tasks()}") from None

    io_loop.run_sync(end)
    gc.collect(1)  # what the test has made is young; all of it takes ten times as long
    complaints = [record for record in caplog.records if record.name == "asyncio" and record.levelno > logging.DEBUG]
    assert complaints == []
