"""Time as a seam: Unix seconds and timers. `auth`, and whatever it owns that goes by the time, take it.

Tests hand `WSAuth` a clock they turn by hand, so that nothing ever sleeps for a deadline to pass.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is due later, such as an `asyncio.TimerHandle`."""

    def cancel(self) -> None:
        """Forget the call. Does nothing once it was made."""


class Clock:
    """The system's clock and the running event loop's timers."""

    def time(self) -> float:
        """Return the time in Unix seconds."""
        return time.time()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once, ``seconds`` from now, on the running event loop."""
        return asyncio.get_running_loop().call_later(seconds, callback)
