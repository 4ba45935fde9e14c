"""One message to many connections: straight to those that keep up, in slices, with a policy for those that do not.

`connections` says to whom; `wire` knows how a single connection is written to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from time import perf_counter
from typing import Literal, NamedTuple, Protocol, get_args

from tornado.iostream import StreamBufferFullError
from tornado.websocket import WebSocketClosedError

from tornado_wsauth.message import Message
from tornado_wsauth.wire import Writer, send_to_idle

Slow = Literal["close", "drop", "latest"]
"""What becomes of a reader, or of its message, that is too slow."""

SLICE_SECONDS = 0.004  # of one fan-out at a time; then it is the turn of the loop's other callbacks
STRIDE = 32  # connections between two looks at the clock
MOST_UNFINISHED = 16  # whoever broadcasts faster than the slices come waits for the sockets, and does not fill memory


class FanOut(NamedTuple):
    """What became of one message to many. Each connection is counted once."""

    sent: int
    """Connections it was handed to, or is queued for."""
    dropped: int
    """Connections it was left out for, because they read too slowly."""
    closed: int
    """Connections that turned out to be closing already, or are closed because they read too slowly."""


class Remainder:
    """What is left of a message to many: those who have not had it, in order."""

    def __init__(self, writers: list[Writer], message: Message, slow: Slow, topic: Hashable) -> None:
        self.message = message
        self.slow = slow
        self.topic = topic
        self._writers = writers
        self._position = 0
        self._waiting: set[Writer] | None = None  # made when somebody cannot wait

    @property
    def left(self) -> int:
        """How many have not had it."""
        return len(self._writers) - self._position if self._waiting is None else len(self._waiting)

    def take(self, count: int) -> list[Writer]:
        """Return the next ones, at most ``count``; all have had it when there are none."""
        while self._position < len(self._writers):
            stride = self._writers[self._position : self._position + count]
            self._position += len(stride)
            if self._waiting is None:
                return stride
            stride = [writer for writer in stride if writer in self._waiting]
            self._waiting.difference_update(stride)
            if stride:
                return stride
        return []

    def __contains__(self, writer: Writer) -> bool:
        if self._waiting is None:
            self._waiting = set(self._writers[self._position :])
        return writer in self._waiting

    def claim(self, writer: Writer) -> bool:
        """Say whether ``writer`` has not had it; from now on it counts as one that has."""
        if writer not in self:
            return False
        assert self._waiting is not None
        self._waiting.remove(writer)
        return True


class DropCounter(Protocol):
    """Who is told of readers that are too slow."""

    def dropped(self, policy: Slow) -> None:
        """One connection reads too slowly for a message."""


class Dispatcher:
    """Sends messages to many, and what is left of each in the turns of the event loop that follow."""

    def __init__(
        self,
        max_buffer_bytes: int,
        end_expired: Callable[[], None] = lambda: None,
        metrics: DropCounter | None = None,
    ) -> None:
        self.unfinished: deque[Remainder] = deque()
        self.lagging: set[Writer] = set()
        self.max_buffer_bytes = max_buffer_bytes  # queued for one connection; with more it is too slow
        # A connection that broadcasts spare or pass by, by their ``slow``, has as much room again for its own.
        self.most_queued: float = 2 * max_buffer_bytes
        self.end_expired = end_expired  # called before each slice: nobody gets one whose time is over
        self._metrics = metrics
        self._scheduled = False

    def buffered(self) -> int:
        """Return how many bytes wait for slow readers."""
        return sum(writer.queued() for writer in self.lagging)

    def send(self, writers: list[Writer], message: Message, slow: Slow, topic: Hashable) -> FanOut:
        """Send ``message`` to as many of ``writers`` as a slice allows, and let the others wait.

        Whose time is over must not be among them.

        With ``slow="latest"`` it replaces what is kept of the same ``topic``.
        """
        if slow not in get_args(Slow):
            raise ValueError(f"slow={slow!r}: must be 'close', the default, 'drop' or 'latest'")
        remainder = Remainder(writers, message, slow, topic)
        counts = dict.fromkeys(FanOut._fields, 0)
        until = perf_counter() + SLICE_SECONDS
        while stride := remainder.take(STRIDE):
            if self.unfinished:
                for writer in stride:
                    self.catch_up(writer)
            self._send(stride, remainder, counts)
            if perf_counter() > until:
                break
        if remainder.left:
            self._foresee(remainder, counts)
            self._postpone(remainder)
        return FanOut(**counts)

    def catch_up(self, writer: Writer) -> None:
        """Send to ``writer`` whatever it has not had of what is unfinished, oldest first."""
        for remainder in tuple(self.unfinished):
            if remainder.claim(writer):
                self._deliver(writer, remainder)

    def _send(self, stride: list[Writer], remainder: Remainder, counts: dict[str, int]) -> None:
        others = send_to_idle(stride, remainder.message)
        counts["sent"] += len(stride) - len(others)
        for writer in others:
            counts[self._deliver(writer, remainder)] += 1

    def _deliver(self, writer: Writer, remainder: Remainder) -> str:
        """Send to one connection, which may have something queued; return which of `FanOut`'s fields it counts for."""
        if writer.is_closing():
            return "closed"
        if writer.queued() <= self.max_buffer_bytes:
            try:
                writer.send(remainder.message)
                return "sent"
            except WebSocketClosedError:
                return "closed"
            except StreamBufferFullError:  # Tornado's own limit is the smaller one
                if writer.is_closing():
                    return "closed"
        return self._leave_behind(writer, remainder)

    def _leave_behind(self, writer: Writer, remainder: Remainder) -> str:
        """Do what ``slow`` says about a reader that has too much queued."""
        if remainder.slow == "latest":
            if writer.keep(remainder.message, remainder.topic) and self._metrics is not None:
                self._metrics.dropped("latest")
            return "sent"
        if self._metrics is not None:
            self._metrics.dropped(remainder.slow)
        if remainder.slow == "drop":
            return "dropped"
        writer.too_slow()
        return "closed"

    def _foresee(self, remainder: Remainder, counts: dict[str, int]) -> None:
        """Count those whose turn has not come. To close slow readers takes long; that waits for their turn as well."""
        counts["sent"] += remainder.left
        for writer in tuple(self.lagging):
            closing, queued = writer.is_closing(), writer.queued()
            if not queued and not closing:
                self.lagging.discard(writer)
            elif writer in remainder and (closing or (queued > self.max_buffer_bytes and remainder.slow != "latest")):
                counts["sent"] -= 1
                if remainder.slow == "drop" and not closing:
                    remainder.claim(writer)
                    counts[self._leave_behind(writer, remainder)] += 1
                else:
                    counts["closed"] += 1

    def _postpone(self, remainder: Remainder) -> None:
        while len(self.unfinished) >= MOST_UNFINISHED:
            self._go_on(self.unfinished[0])
        self.unfinished.append(remainder)
        self._schedule()

    def _go_on(self, remainder: Remainder) -> None:
        """Send to the next few, in the order of ``unfinished``."""
        stride = remainder.take(STRIDE)
        if stride:
            self._send(stride, remainder, dict.fromkeys(FanOut._fields, 0))
        else:
            self.unfinished.popleft()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next_slice)

    def _next_slice(self) -> None:
        self._scheduled = False
        self.end_expired()
        until = perf_counter() + SLICE_SECONDS
        try:
            while self.unfinished:
                self._go_on(self.unfinished[0])
                if perf_counter() > until:
                    break
        finally:
            if self.unfinished:
                self._schedule()
