"""A clock that tests turn by hand. `testing` gives it to users; of ours, it imports `clock`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tornado_wsauth.clock import Clock


class ManualClock(Clock):
    """A clock that stands still until it is turned: ``WSAuth(…, clock=ManualClock())``.

    It shows the real time when it is made, so that JWTs with an ordinary ``exp`` are good.
    """

    def __init__(self) -> None:
        self.now = time.time()
        """What the clock shows, in Unix seconds."""
        self.timers: list[_ManualTimer] = []
        """The calls that are to come."""

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _ManualTimer:
        timer = _ManualTimer(self, self.now + seconds, callback)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Turn the clock on, and make every call that comes due on the way, each at its time."""
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer.due <= until]:
            timer = min(due, key=lambda timer: timer.due)
            self.timers.remove(timer)
            self.now = max(self.now, timer.due)
            timer.callback()
        self.now = until


@dataclass(eq=False)
class _ManualTimer:
    clock: ManualClock
    due: float
    callback: Callable[[], None]

    def cancel(self) -> None:
        if self in self.clock.timers:
            self.clock.timers.remove(self)
