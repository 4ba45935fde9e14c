"""What the tests in a browser share: one Chromium for each module, and a server that runs beside it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.chromium import BrowserMissing, chromium_running, playwright_running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PATIENCE = 20.0
"""Seconds that anything in the server's thread may take."""


# Of the module, not of the session: Playwright's event loop counts as running, and other tests run theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with playwright_running() as playwright, chromium_running(playwright) as browser:
            yield browser
    except BrowserMissing as error:
        pytest.fail(str(error), pytrace=False)


class InThread:
    """An event loop in a thread of its own, for a server: the test's own thread has Playwright's."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, function: Callable[..., Any], *given: Any) -> Any:
        """Call ``function`` where the server runs, and return what it returns, awaited if need be."""

        async def call() -> Any:
            result = function(*given)
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(timeout=PATIENCE)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
