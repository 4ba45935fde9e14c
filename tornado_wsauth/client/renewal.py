"""A fresh JWT for a live connection, when the server asks for one or the application does. `connection` uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tornado_wsauth.backoff import Backoff, Seams
from tornado_wsauth.client.credentials import Credentials
from tornado_wsauth.client.errors import Failed, LoggedOut
from tornado_wsauth.client.exchange import Exchange
from tornado_wsauth.client.reactions import Step


class Renewal:
    """The renewals of one exchange: one at a time, and given up at its end."""

    def __init__(
        self,
        exchange: Exchange,
        credentials: Credentials,
        backoff: Backoff,
        seams: Seams,
        on_step: Callable[[Step], None],
    ) -> None:
        self._exchange = exchange
        self._credentials = credentials
        self._backoff = backoff
        self._seams = seams
        self._on_step = on_step
        self._once: asyncio.Task[None] | None = None
        self._kept: asyncio.Task[None] | None = None

    def once(self) -> asyncio.Task[None]:
        """Begin to renew, or join the renewal that is under way. Its result is `Failed` if no JWT can be had; it is
        cancelled when the exchange ends."""
        if self._once is None or self._once.done():
            self._once = asyncio.create_task(self._renew())
            self._once.add_done_callback(_retrieve)
        return self._once

    def keep_trying(self) -> None:
        """Renew, and try again with backoff while the exchange lives: its end is what comes if nothing else does."""
        if self._credentials.can_renew and (self._kept is None or self._kept.done()):
            self._kept = asyncio.create_task(self._keep_trying())

    async def end(self) -> None:
        """Give up what is under way."""
        tasks = [task for task in (self._kept, self._once) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self) -> None:
        self._on_step("renew")
        await self._exchange.renew(await self._credentials.jwt())
        self._on_step("renewed")

    async def _keep_trying(self) -> None:
        self._backoff.failures = 0
        while True:
            try:
                await asyncio.shield(self.once())
            except Failed as failed:
                if isinstance(failed.error, LoggedOut):
                    self._exchange.give_up(failed)
                    return
                delay = self._backoff.delay() + failed.retry_after
                self._backoff.failures += 1
                await self._seams.pause(delay, self._exchange.ended)
            else:
                return


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieve the exception for those who do not wait for it, so that nobody reports it."""
    if not task.cancelled():
        task.exception()
