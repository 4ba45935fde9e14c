"""Closing all connections of a process without having all of their clients reconnect at the same instant.

`auth` calls it; it knows connections as what can be closed and aborted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from tornado_wsauth.clock import Clock

BATCH = 100  # connections closed at a time


LOOK_EVERY = 0.05  # seconds between two looks at whether everybody has gone


class Closable(Protocol):
    """A connection."""

    def abort(self) -> None:
        """End it at once."""


C = TypeVar("C", bound=Closable)


async def drain(
    connections: Sequence[C],
    close: Callable[[C], object],
    still_there: Callable[[], Collection[C]],
    clock: Clock,
    grace: float,
) -> None:
    """Close ``connections`` in batches, in an order and at intervals left to chance, within half of ``grace`` seconds.

    Their clients have the rest of it to answer; whatever is ``still_there`` then is aborted. Without any ``grace``, all
    are closed, and nobody is waited for.
    """
    if not grace:
        for connection in connections:
            close(connection)
        return
    ends_at = clock.time() + grace
    shuffled = random.sample(connections, len(connections))
    batches = [shuffled[start : start + BATCH] for start in range(0, len(shuffled), BATCH)]
    for number, batch in enumerate(batches):
        if number:
            await _sleep(clock, grace / 2 / len(batches) * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        for connection in batch:
            close(connection)
    while still_there() and (left := ends_at - clock.time()) > 0:
        await _sleep(clock, min(left, LOOK_EVERY))
    for connection in [*still_there()]:
        connection.abort()


async def _sleep(clock: Clock, seconds: float) -> None:
    woken = asyncio.get_running_loop().create_future()
    timer = clock.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
    try:
        await woken
    finally:
        timer.cancel()
