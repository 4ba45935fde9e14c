"""`Broadcaster`: a message to everyone (or to one group) at a steady interval. Applications make them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import get_args

from tornado.ioloop import PeriodicCallback

from tornado_wsauth.auth import WSAuth
from tornado_wsauth.connections import Payload
from tornado_wsauth.errors import BackplaneError
from tornado_wsauth.fanout import Slow
from tornado_wsauth.leases.base import Lease
from tornado_wsauth.log import logger
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

    Where an application runs in several processes, each ticks for its own clients, unless it has a ``lease``, such as
    ``RedisLease(redis, "news")``. Then one process at a time calls ``callback``, and what it returns goes to the
    clients of all (see `WSAuth.broadcast`); another takes over within two intervals of its end. No message is sent for
    an instant that another process has sent one for: one that is late by an interval, because the callback took so long
    or the process was stopped, is dropped. While the lease cannot be had from its server, nobody ticks.

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
        lease: Lease | None = None,
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
        require(
            lease is None or isinstance(lease, Lease),
            f"Broadcaster(lease=<{type(lease).__name__}>)",
            'must be a Lease, such as RedisLease(redis, "news"); left out, each process ticks for its own clients',
        )
        self._auth = auth
        self._callback = callback
        self._interval_ms = interval_ms
        self._group = group
        self._jitter = jitter
        self._slow = slow
        self._lease = lease
        self._lease_started = False
        self._lease_fails = False
        self._releasing: asyncio.Task[None] | None = None
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
            if self._lease is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended; then it runs out by itself
                    loop = asyncio.get_running_loop()
                    self._releasing = loop.create_task(self._release(self._lease))

    def is_running(self) -> bool:
        """Say whether it was started and not stopped since."""
        return self._periodic is not None

    async def _tick(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            await (self._tick_here() if self._lease is None else self._tick_for_all(self._lease))
        finally:
            self._busy = False

    async def _tick_here(self) -> None:
        connections = self._auth.connections
        if connections.count(self._group):
            started_by = self._periodic
            message = await self._ask_callback()
            if message is not None and self._periodic is started_by:
                connections.broadcast(message, group=self._group, slow=self._slow)

    async def _tick_for_all(self, lease: Lease) -> None:
        started_by, interval, began = self._periodic, self._interval_ms / 1000, time.monotonic()
        if not await self._may_tick(lease, interval) or self._periodic is not started_by:
            return
        message = await self._ask_callback()
        if message is None or self._periodic is not started_by:
            return
        if (late := time.monotonic() - began) >= interval:
            logger.warning("a broadcast that is %.1f s late was dropped: another process may tick by now", late)
            return
        await self._auth.broadcast(message, group=self._group, slow=self._slow)

    async def _ask_callback(self) -> Payload | None:
        message = self._callback()
        return await message if inspect.isawaitable(message) else message

    async def _may_tick(self, lease: Lease, interval: float) -> bool:
        """Say whether it is this process's turn, and anybody would receive."""
        try:
            if not self._lease_started:
                await lease.start()
                self._lease_started = True
            if not await lease.claim(interval):
                return False
            heard = self._auth.connections.count(self._group) or await self._auth.count(self._group)
        except BackplaneError as error:
            if not self._lease_fails:
                logger.warning("nothing is broadcast while it is not known which process should: %s", error)
            self._lease_fails = True
            return False
        self._lease_fails = False
        return bool(heard)

    async def _release(self, lease: Lease) -> None:
        with contextlib.suppress(BackplaneError):  # then it runs out by itself
            await lease.release()
