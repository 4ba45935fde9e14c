"""How long a session lasts: until its JWT expires, or until the application says that it is not valid any more.

`auth` owns one `Lifetimes`, for all of its sessions; `guard` begins, renews and ends them.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, Literal, Protocol

from tornado_wsauth.agenda import Agenda, Item
from tornado_wsauth.clock import Clock
from tornado_wsauth.gate import INTERNAL, JWT_EXPIRED, REVOKED, Close
from tornado_wsauth.log import logger
from tornado_wsauth.session import AuthSession

StillValid = Callable[[AuthSession], bool | Awaitable[bool]]
"""Says whether a session may go on."""

RecheckFailure = Literal["close", "keep"]
"""What becomes of a session when nobody can say whether it is still valid."""

RECHECKS_AT_ONCE = 100  # calls of still_valid() under way; the others wait for their turn


class Live(Item, Protocol):
    """An authenticated connection: what a `Guard` is once its session has begun."""

    warn_at: float | None
    """When the client is told that its JWT expires soon, in Unix seconds; None once it was. `Lifetimes` sets it."""

    @property
    def live_session(self) -> AuthSession:
        """Whose it is, and until when."""

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message of the protocol, unless the connection is closing."""

    def close(self, close: Close, detail: str = "") -> object:
        """End the connection. Ending it again does nothing."""


class Lifetimes:
    """Warns sessions before their JWT expires, ends them when it does, and asks ``still_valid`` in between.

    ``leeway`` (seconds) is the verifier's: the session ends when the JWT would not be accepted any more.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        leeway: float,
        enforce_expiry: bool,
        expiry_warning: float,
        still_valid: StillValid | None,
        recheck_interval: float,
        recheck_failure: RecheckFailure,
    ) -> None:
        self._leeway = leeway
        self._enforce_expiry = enforce_expiry
        self._expiry_warning = expiry_warning
        self._still_valid = still_valid
        self._recheck_interval = recheck_interval
        self._recheck_failure = recheck_failure
        self._agenda: Agenda[Live] = Agenda(clock, self._wake)
        self._recheck_at: dict[Live, float] = {}
        self._rechecks: dict[Live, asyncio.Task[None]] = {}  # the questions that are not answered yet
        self._places = asyncio.Semaphore(RECHECKS_AT_ONCE)

    @property
    def clock(self) -> Clock:
        """What all of this goes by."""
        return self._agenda.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self._agenda.clock = clock

    @property
    def ends_sessions(self) -> bool:
        """Whether a session ends without its client: with its JWT, or when ``still_valid`` says so."""
        return self._enforce_expiry or self._still_valid is not None

    def has_expired(self, expires_at: float | None) -> bool:
        """Say whether a session whose JWT has this ``exp`` must end, or cannot begin."""
        return self.clock.time() >= self._end_of(expires_at)

    def _end_of(self, expires_at: float | None) -> float:
        """Return when a session whose JWT has this ``exp`` must end, in Unix seconds; infinity for never."""
        return expires_at + self._leeway if self._enforce_expiry and expires_at is not None else math.inf

    def begin(self, live: Live) -> None:
        """A JWT was accepted: its time begins. Called with the first one, and again with each that renews it."""
        self._agenda.remove(live)
        ends_at, now = self._end_of(live.live_session.expires_at), self.clock.time()
        live.warn_at = None
        if self._expiry_warning and ends_at < math.inf:
            # A JWT that lives shorter than the warning is early: half-way, or its client would be renewing for ever.
            live.warn_at = ends_at - min(self._expiry_warning, (ends_at - now) / 2)
        if self._still_valid is not None and live not in self._recheck_at:
            self._recheck_at[live] = now + self._recheck_interval
        self._plan(live)

    def end(self, live: Live) -> None:
        """The session is over."""
        self._agenda.remove(live)
        self._recheck_at.pop(live, None)

    def run(self) -> None:
        """End what must end by now. Called before each broadcast: a loop that is busy runs its timers late."""
        self._agenda.run()

    def recheck(self) -> None:
        """Ask about each session now, if ``still_valid`` is asked at all, and an interval later again."""
        now = self.clock.time()
        for live in [*self._recheck_at]:
            self._agenda.remove(live)
            self._recheck_at[live] = now
            self._plan(live)

    def cancel(self) -> None:
        """Forget the answers of ``still_valid`` that are still to come."""
        for task in self._rechecks.values():
            task.cancel()

    def _plan(self, live: Live) -> None:
        """Have the connection woken for what comes next, if anything does."""
        times = self._end_of(live.live_session.expires_at), live.warn_at, self._recheck_at.get(live)
        due = min(at for at in times if at is not None)
        if due < math.inf:
            self._agenda.put(live, due)

    def _wake(self, live: Live) -> None:
        ends_at, now = self._end_of(live.live_session.expires_at), self.clock.time()
        if now >= ends_at:
            live.close(JWT_EXPIRED)
            return
        if live.warn_at is not None and live.warn_at <= now:
            live.warn_at = None
            live.tell({"type": "auth_expiring", "expires_in": round(ends_at - now)})
        if self._recheck_at.get(live, now + 1) <= now:
            self._recheck_at[live] = now + self._recheck_interval
            if live not in self._rechecks:  # else the last answer is still to come, and one is enough
                # Not in the context of whoever broadcasts just now: that may be another user's.
                task = asyncio.get_running_loop().create_task(self._recheck(live), context=Context())
                self._rechecks[live] = task
                task.add_done_callback(lambda _: self._rechecks.pop(live, None))
        self._plan(live)

    async def _recheck(self, live: Live) -> None:
        """Ask whether the session may go on. No answer within the interval is a failure like any other."""
        assert self._still_valid is not None
        async with self._places:
            if live not in self._recheck_at:
                return  # it ended while this waited
            try:
                async with asyncio.timeout(self._recheck_interval):
                    answer: Any = self._still_valid(live.live_session)
                    if inspect.isawaitable(answer):
                        answer = await answer
            except (Exception, asyncio.CancelledError):
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # it is us who are cancelled, and not what still_valid() waited for
                self._recheck_failed(live)
                return
        if not answer:
            live.close(REVOKED, "still_valid() said no")

    def _recheck_failed(self, live: Live) -> None:
        logger.exception("still_valid() failed for user=%r", live.live_session.user_id)
        if self._recheck_failure == "close":
            live.close(INTERNAL, "still_valid() failed, logged above")
