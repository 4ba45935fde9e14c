"""A clock that tests turn by hand, and how it gets into an application that was made without one.

`testing` gives both to users; `case` and the pytest fixtures use them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tornado_wsauth.clock import Clock
from tornado_wsauth.stores.memory import MemoryTokenStore

if TYPE_CHECKING:
    from tornado_wsauth.auth import WSAuth


class ManualClock(Clock):
    """A clock that stands still until it is turned: ``WSAuth(…, clock=ManualClock())``.

    It shows the real time when it is made, so that JWTs with an ordinary ``exp`` are good.
    """

    def __init__(self) -> None:
        self.now: float = time.time()
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


@contextlib.contextmanager
def manual_clock(auth: WSAuth) -> Iterator[ManualClock]:
    """Let everything that asks ``auth`` for the time see a `ManualClock`, until the ``with`` block ends.

    That is ``auth.clock``, the verifier's clock and that of a `MemoryTokenStore`. Other stores keep their server's
    time, and `Broadcaster` and ``call_every`` the event loop's. Use it before anything connects: timers that run
    already stay with the clock they were set on.
    """
    clock, before = ManualClock(), auth.clock
    verifier, verifier_clock = auth.jwt, auth.jwt.clock
    auth.clock, verifier.clock = clock, clock.time
    try:
        # The store itself stays: another WSAuth may share it, and it may hold tokens already.
        with _clock_of_store(auth, clock):
            yield clock
    finally:
        auth.clock, verifier.clock = before, verifier_clock


@contextlib.contextmanager
def _clock_of_store(auth: WSAuth, clock: ManualClock) -> Iterator[None]:
    store = auth.tokens
    if not isinstance(store, MemoryTokenStore):
        yield
        return
    before, store.clock = store.clock, clock.time
    try:
        yield
    finally:
        store.clock = before
