"""What the contract of backplanes needs of an engine, and who listens in its tests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from tornado_wsauth.backplane.base import EVERYONE, Backplane

MOST_SECONDS = 5.0
"""How long a test waits for what must come. Nothing waits for time to pass."""

_fences = itertools.count()


class BackplaneHarness(Protocol):
    """Makes backplanes on one engine, in a name space of the test's own, and closes them after the test."""

    async def make(self, **options: Any) -> Backplane:
        """Return another backplane, not started: another process of the same application."""


class ServerHarness(BackplaneHarness, Protocol):
    """What only a test may do to an engine that is a server."""

    history: bool
    """Whether messages of while a process was cut off arrive late; if not, they are lost, and told of by ``gap``."""

    async def die(self, backplane: Backplane) -> None:
        """End its tasks and connections as the end of its process would: what it has on the engine stays there."""

    async def pass_time(self, seconds: float) -> None:
        """Make every sign of life on the engine that much older. Living processes show another within `HEARTBEAT`."""

    async def cut(self, backplane: Backplane) -> None:
        """Drop its connections, and let it make no others until ``mend``. It may be called before ``start``, too."""

    async def mend(self, backplane: Backplane) -> None:
        """Let it connect again. It does so by itself."""


class Recorder:
    """A receiver that remembers what it was told, in order, and can be waited for."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.events: list[str] = []
        """"message", "gap" and "forgotten", in the order in which they came."""
        self.on_message: Callable[[str, dict[str, Any]], object] = lambda channel, message: None
        """Called with each message, after it was recorded; it may raise."""
        self._fences: set[int] = set()
        self._news = asyncio.Event()

    def receive(self, channel: str, message: Mapping[str, Any]) -> None:
        if "fence" in message:
            self._fences.add(message["fence"])
            self._news.set()
            return
        self.messages.append((channel, dict(message)))
        self._remember("message")
        self.on_message(channel, dict(message))

    def gap(self) -> None:
        self._remember("gap")

    def forgotten(self) -> None:
        self._remember("forgotten")

    def _remember(self, event: str) -> None:
        self.events.append(event)
        self._news.set()

    async def received(self, number: int) -> list[tuple[str, dict[str, Any]]]:
        """Wait until that many messages have come, and return all that have."""
        await self._wait_until(lambda: len(self.messages) >= number)
        return self.messages

    async def told(self, event: str, times: int = 1) -> None:
        """Wait until ``event`` has come that often."""
        await self._wait_until(lambda: self.events.count(event) >= times)

    async def heard(self, message: dict[str, Any]) -> None:
        """Wait for this message, in whichever channel."""
        await self._wait_until(lambda: any(found == message for _, found in self.messages))

    async def reached(self, number: int) -> None:
        """Wait for the fence of that number."""
        await self._wait_until(lambda: number in self._fences)

    def forget(self) -> None:
        """Forget everything, to begin again."""
        self.messages.clear()
        self.events.clear()

    async def _wait_until(self, fulfilled: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(MOST_SECONDS):
                while not fulfilled():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            kinds = {kind: self.events.count(kind) for kind in self.events}
            raise AssertionError(f"waited {MOST_SECONDS} s; so far came {kinds}") from None


class Process(NamedTuple):
    """A backplane that was started, and who listens to it."""

    backplane: Backplane
    recorder: Recorder

    async def listen(self, *channels: str) -> None:
        """Listen to ``channels``; return when that is in effect."""
        for channel in channels:
            self.backplane.listen(channel)
        await self.backplane.listening()


async def join(harness: BackplaneHarness, *channels: str, **options: Any) -> Process:
    """Start another process that listens to ``channels``."""
    process = Process(await harness.make(**options), Recorder())
    await process.backplane.start(process.recorder)
    await process.listen(*channels)
    return process


async def join_all(harness: BackplaneHarness, number: int, *channels: str) -> list[Process]:
    """Start that many processes that listen to ``channels``."""
    return [await join(harness, *channels) for _ in range(number)]


async def fence(publisher: Process, *receivers: Process) -> None:
    """Wait until ``receivers`` have received everything that ``publisher`` has published before. It leaves no trace."""
    number = next(_fences)
    await publisher.backplane.publish(EVERYONE, {"fence": number})
    for receiver in receivers:
        await receiver.recorder.reached(number)


async def until(fulfilled: Callable[[], bool], what: str) -> None:
    """Wait until ``fulfilled()``, where there is nothing to be woken by."""
    try:
        async with asyncio.timeout(MOST_SECONDS):
            while not fulfilled():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited {MOST_SECONDS} s for {what}") from None
