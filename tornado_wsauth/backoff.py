"""How long to wait between attempts, and the client's time and chance as seams.

Tests replace `Seams`, so that nothing ever sleeps for a time to pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

_MOST_DOUBLINGS = 60  # more, and a float could not hold it


class Seams:
    """Time and randomness, as they are."""

    def uniform(self, limit: float) -> float:
        """Return a random number of seconds from 0 to ``limit``."""
        return random.uniform(0, limit)  # noqa: S311 - it spreads load, and guards no secret

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """Return a context that raises `TimeoutError` when it lasts longer than that."""
        return asyncio.timeout(seconds)

    async def pause(self, seconds: float, woken: asyncio.Event) -> None:
        """Wait that many seconds, or until ``woken`` is set."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await woken.wait()


class Backoff:
    """Exponential backoff with "full jitter": a random time up to a limit that doubles with each failure in a row."""

    def __init__(self, interval: float, most: float, seams: Seams) -> None:
        self.failures = 0
        """How many attempts in a row have failed."""
        self._interval = interval
        self._most = most
        self._seams = seams

    def delay(self) -> float:
        """Return how many seconds to wait before the next attempt."""
        return self._seams.uniform(min(self._most, self._interval * 2 ** min(self.failures, _MOST_DOUBLINGS)))
