"""Whether this process can serve clients, for a load balancer that wants to know. `auth` owns one `Readiness`.

`health` answers the load balancer.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from tornado_wsauth.backplane.base import Backplane
from tornado_wsauth.clock import Clock
from tornado_wsauth.errors import BackplaneError, TokenStoreError
from tornado_wsauth.log import logger

AT_MOST_EVERY = 1.0
"""Seconds between two questions to the token store, however many ask: the route is open to anybody."""


class Process(Protocol):
    """What is asked."""

    backplane: Backplane | None
    closing: bool

    @property
    def clock(self) -> Clock:
        """What the time is read from."""

    async def check_store(self) -> None:
        """Ask the token store something. Raises `TokenStoreError`."""


class Readiness:
    """Why a process cannot serve clients at the moment."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._check: asyncio.Task[None] | None = None
        self._checked_at: float | None = None
        self._broken: str | None = None  # what failed when it was last looked at
        self._said: list[str] = []

    async def reasons(self) -> list[str]:
        """Return what is in the way, nothing if it is ready.

        ``draining``: `WSAuth.close` was called. ``store_unavailable``: the token store does not answer.
        ``backplane_unavailable``: messages of the other processes do not arrive. Each change is logged.
        """
        process = self._process
        if process.closing:
            reasons = ["draining"]
        else:
            await self._look()
            reasons = [] if self._broken is None else [self._broken]
            cut = process.backplane is not None and not process.backplane.is_connected
            if cut and "backplane_unavailable" not in reasons:
                reasons.append("backplane_unavailable")
        if reasons != self._said:
            self._said = reasons
            if reasons:
                logger.warning("not ready: %s", ", ".join(reasons))
            else:
                logger.info("ready again")
        return reasons

    async def _look(self) -> None:
        """Ask the store, unless it was asked a moment ago. All who ask meanwhile share one answer."""
        now = self._process.clock.time()
        if self._check is None and (self._checked_at is None or not 0 <= now - self._checked_at < AT_MOST_EVERY):
            self._check = asyncio.get_running_loop().create_task(self._ask())
        if self._check is not None:
            await asyncio.shield(self._check)  # whoever leaves does not take it away from the others

    async def _ask(self) -> None:
        try:
            await self._process.check_store()
            self._broken = None
        except TokenStoreError as error:
            self._broken = "store_unavailable"
            logger.debug("the token store does not answer: %s", error)
        except BackplaneError as error:
            self._broken = "backplane_unavailable"
            logger.debug("the backplane does not answer: %s", error)
        except Exception:
            self._broken = "store_unavailable"
            logger.exception("the token store failed")
        finally:
            self._checked_at = self._process.clock.time()
            self._check = None
