"""`Broadcaster`: a message to everyone (or to one group) at a steady interval. Applications make them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import get_args

from tornado.ioloop import PeriodicCallback

from tornado_wsauth.auth import WSAuth
from tornado_wsauth.connections import Payload
from tornado_wsauth.fanout import Slow
from tornado_wsauth.options import require, require_one_of, require_positive
from tornado_wsauth.verifier import is_number


class Broadcaster:
    """Broadcasts what ``callback`` returns every ``interval_ms`` milliseconds.

    ``callback`` takes no argument, may be sync or async, and returns a `str`, `bytes` or `dict`, or None to skip
    this time. It is not called while nobody would receive, and never overlaps itself: a tick that comes due while
    an async callback still runs is skipped. An exception it raises is logged, and the next tick runs.

    With ``group``, only connections in that group receive. ``jitter`` (0 to 1) spreads each interval at random over
    a window of that fraction of it, so that many processes do not tick in step. ``slow`` says what becomes of a tick
    for a reader that is too slow, as in `Connections.broadcast`; for a clock or a cursor, ``"latest"`` serves best.

    Nothing runs before `start`, which wants a running event loop. Raises `ConfigurationError` for a callback that
    cannot be called, an interval that is not positive, a jitter outside 0 to 1, or another ``slow``.
    """

    def __init__(
        self,
        auth: WSAuth,
        callback: Callable[[], Payload | Awaitable[Payload | None] | None],
        interval_ms: float,
        *,
        group: str | None = None,
        jitter: float = 0,
        slow: Slow = "close",
    ) -> None:
        require(
            isinstance(auth, WSAuth), f"Broadcaster(auth=<{type(auth).__name__}>)", "must be the application's WSAuth"
        )
        require(callable(callback), f"Broadcaster(callback={callback!r})", "must be callable; pass the function itself")
        require_positive("Broadcaster", "interval_ms", interval_ms, "it is in milliseconds, 3000 is 3 s")
        require(
            is_number(jitter) and 0 <= jitter <= 1,
            f"Broadcaster(jitter={jitter!r})",
            "must be between 0 and 1; 0 is the default",
        )
        require_one_of("Broadcaster", "slow", slow, get_args(Slow))
        self._auth = auth
        self._callback = callback
        self._interval_ms = interval_ms
        self._group = group
        self._jitter = jitter
        self._slow = slow
        self._periodic: PeriodicCallback | None = None
        self._busy = False

    def start(self) -> None:
        """Begin; the first message goes out one interval from now. Starting again does nothing."""
        if self._periodic is None:
            # A new one each time: one that is restarted while its async callback runs goes on twice as often.
            self._periodic = PeriodicCallback(self._tick, self._interval_ms, self._jitter)
            self._periodic.start()

    def stop(self) -> None:
        """End. An async callback that is running finishes, and its message is not sent."""
        if self._periodic is not None:
            self._periodic.stop()
            self._periodic = None

    def is_running(self) -> bool:
        """Say whether it was started and not stopped since."""
        return self._periodic is not None

    async def _tick(self) -> None:
        connections = self._auth.connections
        if self._busy or not connections.count(self._group):
            return
        started_by = self._periodic
        self._busy = True
        try:
            message = self._callback()
            if inspect.isawaitable(message):
                message = await message
        finally:
            self._busy = False
        if message is not None and self._periodic is started_by:
            connections.broadcast(message, group=self._group, slow=self._slow)
