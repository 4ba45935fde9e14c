"""What is due when: any number of items and one timer. `lifetime` keeps its sessions in one.

A timer of the event loop for each connection would cost 300 bytes, know nothing of a clock that was set or a machine
that slept, and could come after a broadcast that it should have come before.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from contextvars import Context
from time import perf_counter
from typing import Generic, Protocol, TypeVar

from tornado_wsauth.clock import Clock, Timer

LOOK_AGAIN = 60  # seconds after which the clock is looked at again: it may have been set meanwhile
SLICE_SECONDS = 0.004  # of items that come due together; then it is the turn of the loop's other callbacks


class Item(Protocol):
    """What can be put into an agenda."""

    wake_at: float
    """When it is due, in Unix seconds. The agenda alone sets it, for as long as the item is in there."""


T = TypeVar("T", bound=Item)


class Agenda(Generic[T]):
    """Calls ``wake`` with each item when its time has come, earliest first, having taken it out."""

    def __init__(self, clock: Clock, wake: Callable[[T], None]) -> None:
        self.clock = clock
        self._wake = wake
        self._items: list[T] = []  # by time; a list of 100,000 is moved along in 20 µs
        self._timer: Timer | None = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, at: float) -> None:
        """Have ``item``, which is not in here, woken ``at`` Unix seconds."""
        item.wake_at = at
        insort(self._items, item, key=_key)
        self._set_timer()

    def remove(self, item: T) -> None:
        """Forget ``item``. Forgetting one that is not in here does nothing."""
        position = bisect_left(self._items, _key(item), key=_key)
        if position < len(self._items) and self._items[position] is item:
            del self._items[position]
            self._set_timer()

    def run(self, seconds: float = float("inf")) -> None:
        """Wake what is due now, even if the timer is late. The rest waits for its turn after ``seconds`` of it."""
        until = perf_counter() + seconds
        try:
            while self._items and self._items[0].wake_at <= self.clock.time() and perf_counter() < until:
                self._wake(self._items.pop(0))
        finally:
            self._set_timer()

    def _set_timer(self) -> None:
        """Have the timer come for the first item, and not at all when there is none."""
        if not self._items:
            self._cancel_timer()
            return
        now = self.clock.time()
        at = min(self._items[0].wake_at, now + LOOK_AGAIN)
        if self._timer is None or at < self._timer_at:
            self._cancel_timer()
            self._timer_at = at
            # In a context of its own: the timer sets itself again and again, and would go on in that of the connection
            # that happened to come first, with all that a framework has put there, for as long as there are others.
            self._timer = Context().run(self.clock.call_later, max(at - now, 0), self._timer_came)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timer_came(self) -> None:
        self._timer = None
        self.run(SLICE_SECONDS)


def _key(item: Item) -> tuple[float, int]:
    return item.wake_at, id(item)
