"""Something to be done once before anything else: whoever needs it first begins, and all who wait share the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context


class Once:
    """Calls ``act`` until it succeeds, and then never again."""

    def __init__(self, act: Callable[[], Awaitable[None]]) -> None:
        self._act = act
        self._is_done = False
        self._attempt: asyncio.Task[Exception | None] | None = None
        self._waiting = 0

    async def __call__(self) -> None:
        """Return when ``act`` has succeeded. Raises what the attempt raised that was under way; the next is another."""
        if self._is_done:
            return
        if self._attempt is None:
            # Not in the context of the request that happens to be the first: what is begun here outlives it.
            self._attempt = asyncio.get_running_loop().create_task(self._try(), context=Context())
        attempt = self._attempt
        self._waiting += 1
        try:
            failure = await asyncio.shield(attempt)  # whoever leaves does not take it away from the others
        finally:
            self._waiting -= 1
            if not self._waiting and not attempt.done():
                self._attempt = None
                attempt.cancel()
        if failure is not None:
            raise failure

    async def _try(self) -> Exception | None:
        try:
            await self._act()
            self._is_done = True
        except Exception as error:
            return error
        finally:
            if self._attempt is asyncio.current_task():
                self._attempt = None
        return None
