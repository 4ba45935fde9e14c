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
    """Close ``connections`` in batches, in an order and at instants left to chance, within half of ``grace`` seconds.

    Their clients have the rest of it to answer; whatever is ``still_there`` then is aborted. Nobody is waited for when
    nobody is there. Without any ``grace``, all are closed, and that is all.
    """
    if not grace:
        for connection in connections:
            close(connection)
        return
    began = clock.time()
    shuffled = random.sample(connections, len(connections))
    batches = [shuffled[start : start + BATCH] for start in range(0, len(shuffled), BATCH)]
    for number, batch in enumerate(batches):
        # The first at once, and each of the others somewhere in the beginning of a share of its own.
        share = number + random.random() / 2 if number else 0  # noqa: S311 - no secret
        await _wait(began + grace / 2 * share / len(batches), clock, still_there)
        for connection in batch:
            close(connection)
    await _wait(began + grace, clock, still_there)
    for connection in [*still_there()]:
        connection.abort()


async def _wait(until: float, clock: Clock, still_there: Callable[[], Collection[object]]) -> None:
    while (left := until - clock.time()) > 0 and still_there():
        await _sleep(clock, min(left, LOOK_EVERY))


async def _sleep(clock: Clock, seconds: float) -> None:
    woken = asyncio.get_running_loop().create_future()
    timer = clock.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
    try:
        await woken
    finally:
        timer.cancel()
