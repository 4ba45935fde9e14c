"""An engine for backplanes that fails as no real one can be made to, with time in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

from tests.contracts.backplane_harness import Recorder, until
from tornado_wsauth.backoff import Seams
from tornado_wsauth.backplane.base import HEARTBEAT, Claim
from tornado_wsauth.backplane.engine import EngineBackplane
from tornado_wsauth.backplane.envelope import Parcel
from tornado_wsauth.errors import BackplaneError

SECRET = "what-the-driver-quotes"


class DriverError(Exception):
    """What the driver of `Fake` raises."""


class Hand(Seams):
    """Time in the test's hand: hearts beat when told to, and no pause before a reconnection lasts."""

    def __init__(self) -> None:
        self.limits: list[float] = []
        """What the backoff drew from: the upper limit, in seconds."""
        self.heart = asyncio.Semaphore(0)

    def uniform(self, limit: float) -> float:
        self.limits.append(limit)
        return 0.0

    async def pause(self, seconds: float, woken: asyncio.Event) -> None:
        if seconds:
            assert seconds == HEARTBEAT
            await self.heart.acquire()
        else:
            await asyncio.sleep(0)


class Fake(EngineBackplane):
    """An engine that does nothing, and does it as it is told."""

    made: ClassVar[list[Fake]] = []

    @classmethod
    async def stop_all(cls) -> None:
        """End whatever the test has left running."""
        for fake in cls.made:
            fake.hanging.clear()
            await fake._outbox.close(5)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:  # also of a start that the fake knows nothing of
            task.cancel()
        cls.made.clear()

    def __init__(self, *, timeout: float = 5.0, **options: Any) -> None:
        self.hand = Hand()
        super().__init__(timeout=timeout, on_gap=options.pop("on_gap", None), seams=self.hand)
        self.made.append(self)
        self.failures: dict[str, list[Exception]] = {}
        self.failing: dict[str, Exception] = {}  # for ever
        """What the next calls of a method raise."""
        self.hanging: set[str] = set()
        self.called: list[str] = []
        self.lost = True
        self.knows_us = True
        self.delivered: list[list[str]] = []
        self._cuts: asyncio.Queue[Exception] = asyncio.Queue()

    def cut(self, error: Exception | None = None) -> None:
        """Make the engine drop the connection."""
        self._cuts.put_nowait(error or DriverError(SECRET))

    def beat(self) -> None:
        """Let a heartbeat's time pass."""
        self.hand.heart.release()

    async def do(self, what: str) -> None:
        self.called.append(what)
        await asyncio.sleep(0)
        while what in self.hanging:
            await asyncio.sleep(0.01)
        if what in self.failing:
            raise self.failing[what]
        if self.failures.get(what):
            raise self.failures[what].pop(0)

    async def _open(self) -> None:
        await self.do("open")

    async def _receive(self) -> NoReturn:
        await self.do("receive")
        self._arrived(lost=self.lost)
        raise await self._cuts.get()

    async def _deliver(self, parcels: Sequence[Parcel], *, keep: bool) -> None:
        await self.do("deliver")
        self.delivered.append([parcel.text for parcel in parcels])

    async def _beat(self) -> bool:
        await self.do("beat")
        return self.knows_us

    async def _find_peers(self) -> frozenset[str]:
        await self.do("peers")
        return frozenset({self.process_id, "another"})

    async def _claim(self, user_id: str, name: str, most: int, evict: bool) -> Claim:
        await self.do("claim")
        return Claim(granted=True)

    async def _release(self, user_id: str, name: str) -> None:
        await self.do("release")

    async def _leave(self) -> None:
        await self.do("leave")

    def _translate(self, error: Exception) -> BackplaneError | None:
        if isinstance(error, BackplaneError):
            return error
        return BackplaneError("the server is away") if isinstance(error, DriverError) else None


async def started(**options: Any) -> tuple[Fake, Recorder]:
    fake, recorder = Fake(**options), Recorder()
    await fake.start(recorder)
    return fake, recorder


async def reconnected(fake: Fake, *failures: Exception) -> None:
    """Cut ``fake`` off, fail its first attempts to connect again, and wait until it has."""
    fake.failures["receive"] = [*failures]
    before = fake.called.count("receive")
    fake.cut()
    await until(lambda: fake.called.count("receive") == before + len(failures) + 1, "the last attempt")
    await until(lambda: fake.is_connected, "the connection")
