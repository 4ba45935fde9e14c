"""What every backplane on an engine has in common: it connects again, shows signs of life, and sends in batches.

`mongo` and `redis` say how that is done on theirs.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
import math
import os
import secrets
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from tornado_wsauth.backoff import Backoff, Seams
from tornado_wsauth.backplane.base import EVERYONE, HEARTBEAT, Backplane, Claim, OnGap, Receiver
from tornado_wsauth.backplane.envelope import Parcel, wrap
from tornado_wsauth.backplane.inbox import Inbox
from tornado_wsauth.backplane.outbox import Outbox
from tornado_wsauth.errors import BackplaneError, ConfigurationError

logger: logging.Logger = logging.getLogger("tornado_wsauth")

T = TypeVar("T")

_FIRST_DELAY = 0.25  # seconds; the limit of a random wait, which doubles with each failure in a row
_LONGEST_DELAY = 5.0


class EngineBackplane(Backplane):
    """A backplane on a server that can go away and come back.

    A subclass implements what begins with an underscore and is abstract here. Each of these methods raises
    `BackplaneError`, or whatever its driver does, which ``_translate`` makes one of.
    """

    def __init__(self, *, timeout: float, on_gap: OnGap | None, seams: Seams | None = None) -> None:
        name = type(self).__name__
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not 0 < timeout < math.inf:
            raise ConfigurationError(f"{name}(timeout={timeout!r}): must be positive, in seconds; 5.0 is the default")
        if on_gap is not None and not callable(on_gap):
            raise ConfigurationError(f"{name}(on_gap={on_gap!r}): must be a function; pass the function itself")
        self.on_gap = on_gap
        self._timeout = timeout
        self._seams = seams or Seams()
        self._process_id, self._named_in = secrets.token_hex(8), os.getpid()
        self._channels = {EVERYONE}
        self._inbox: Inbox | None = None  # from start() on
        self._receiver: Receiver | None = None
        self._outbox = Outbox(self._send)
        self._started_in: int | None = None  # the id of the process that called start()
        self._connected = asyncio.Event()
        self._was_connected = False
        self._cut_at: float | None = None  # on the monotonic clock
        self._failure: BackplaneError | None = None  # why it did not connect the last time
        self._backoff = Backoff(_FIRST_DELAY, _LONGEST_DELAY, self._seams)
        self._starting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._never = asyncio.Event()

    # What an engine implements ------------------------------------------------------------------------------------

    @abc.abstractmethod
    async def _open(self) -> None:
        """Prepare the server, and look whether it fits."""

    @abc.abstractmethod
    async def _receive(self) -> NoReturn:
        """Connect, listen to all of ``self._channels``, call ``self._arrived``, and take what comes.

        It is called again each time it has raised, after a while. What arrives goes to ``self._inbox.take``.
        """

    def _channels_changed(self) -> None:
        """What is listened to is not what it was. Called from anywhere, also before `start`, and must not wait."""

    async def _wait_until_listening(self) -> None:
        """Wait until ``self._channels``, as they are at the call, are listened to."""
        await self._connected.wait()

    @abc.abstractmethod
    async def _deliver(self, parcels: Sequence[Parcel], *, keep: bool) -> None:
        """Send ``parcels`` in order, once; with ``keep``, as `Backplane.announce` wants it."""

    @abc.abstractmethod
    async def _beat(self) -> bool:
        """Show a sign of life; say whether the engine still knew this process."""

    @abc.abstractmethod
    async def _find_peers(self) -> frozenset[str]:
        """Return who has shown a sign of life lately, with or without this process."""

    @abc.abstractmethod
    async def _claim(self, user_id: str, name: str, most: int, evict: bool) -> Claim:
        """See `Backplane.claim`."""

    @abc.abstractmethod
    async def _release(self, user_id: str, name: str) -> None:
        """See `Backplane.release`."""

    @abc.abstractmethod
    async def _leave(self) -> None:
        """Take this process and its places off the engine."""

    @abc.abstractmethod
    def _translate(self, error: Exception) -> BackplaneError | None:
        """Return what to raise for an error of the driver's; None for one that is no failure of the engine's."""

    # What it is given ---------------------------------------------------------------------------------------------

    def _arrived(self, *, lost: bool) -> None:
        """Everything that was listened to arrives from now on; ``lost``: what was sent since it was cut does not."""
        self._connected.set()
        self._failure = None
        self._backoff.failures = 0
        if self._cut_at is not None:
            logger.warning("the backplane is connected again, after %.1f s", time.monotonic() - self._cut_at)
            self._cut_at = None
        if self._was_connected and lost:
            self._tell("gap")
        self._was_connected = True

    def _tell(self, what: str) -> None:
        assert self._receiver is not None
        try:
            getattr(self._receiver, what)()
        except Exception:
            logger.exception("%s() failed", what)

    async def _answer(self, operation: Coroutine[Any, Any, T]) -> T:
        """Bound ``operation`` by the timeout and turn every way of not answering into `BackplaneError`."""
        try:
            async with asyncio.timeout(self._timeout):
                return await operation
        except TimeoutError:
            raise BackplaneError(f"the backplane did not answer within {self._timeout} seconds") from None
        except Exception as error:
            failure = self._translate(error)
            if failure is None:
                raise
            # As no cause: a server quotes what it was sent.
            raise failure from None

    # What it promises ---------------------------------------------------------------------------------------------

    @property
    def process_id(self) -> str:
        if self._named_in != os.getpid() and not self._tasks:
            # Made before a fork, and started after it, in each process.
            self._process_id, self._named_in = secrets.token_hex(8), os.getpid()
        return self._process_id

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    async def start(self, receiver: Receiver) -> None:
        async with self._starting:
            if self._tasks:
                self._check_process()
            else:
                await self._start(receiver)

    async def _start(self, receiver: Receiver) -> None:
        self._started_in = os.getpid()
        self._receiver = receiver
        self._inbox = Inbox(self.process_id, receiver, self._channels)
        await self._answer(self._open())
        await self._answer(self._beat())
        create = asyncio.get_running_loop().create_task
        self._tasks = [create(self._keep_receiving()), create(self._keep_beating())]
        try:
            await self._answer(self._wait_until_connected())
        except BackplaneError as error:
            await self._stop()
            raise self._failure or error from None
        except BaseException:
            await self._stop()
            raise

    async def close(self) -> None:
        if not self._tasks:
            return
        if self._started_in != os.getpid():
            self._tasks = []  # the parent's, and so is what the engine has
            return
        await self._outbox.close(self._timeout)
        await self._stop()
        with contextlib.suppress(BackplaneError):  # then it is for the others to notice
            await self._answer(self._leave())

    async def publish(self, channel: str, message: Mapping[str, Any]) -> None:
        self._check_reachable()
        await self._outbox.put(wrap(channel, message))

    async def announce(self, message: Mapping[str, Any]) -> None:
        self._check_started()
        await self._answer(self._deliver([wrap(EVERYONE, message)], keep=True))

    def listen(self, channel: str) -> None:
        self._channels.add(channel)
        self._channels_changed()

    def ignore(self, channel: str) -> None:
        self._channels.discard(channel)
        self._channels_changed()

    async def listening(self) -> None:
        self._check_started()
        await self._answer(self._wait_until_listening())

    async def peers(self) -> frozenset[str]:
        self._check_reachable()
        return await self._answer(self._find_peers()) - {self._process_id}

    async def claim(self, user_id: str, name: str, *, most: int, evict: bool = False) -> Claim:
        self._check_started()
        return await self._answer(self._claim(user_id, name, most, evict))

    async def release(self, user_id: str, name: str) -> None:
        self._check_started()
        await self._answer(self._release(user_id, name))

    # How ----------------------------------------------------------------------------------------------------------

    async def _send(self, parcels: Sequence[Parcel]) -> None:
        await self._answer(self._deliver(parcels, keep=False))

    async def _wait_until_connected(self) -> None:
        await self._connected.wait()

    async def _keep_receiving(self) -> None:
        while True:
            try:
                await self._receive()
            except Exception as error:
                self._cut(error)
            delay = self._backoff.delay()
            self._backoff.failures += 1
            await self._seams.pause(delay, self._never)

    def _cut(self, error: Exception) -> None:
        failure = self._failure = self._translate(error)
        if failure is None:
            logger.error("the backplane stopped receiving", exc_info=error)
        if self._connected.is_set():
            self._connected.clear()
            self._cut_at = time.monotonic()
            logger.warning(
                "the backplane is cut off (%s): this process reaches its own clients only, until it is connected again",
                failure or type(error).__name__,
            )

    async def _keep_beating(self) -> None:
        while True:
            await self._seams.pause(HEARTBEAT, self._never)
            try:
                if not await self._answer(self._beat()):
                    logger.warning("the other processes took this one for dead; it claims its users' places again")
                    self._tell("forgotten")
            except BackplaneError as error:
                logger.debug("no sign of life went out: %s", error)
            except Exception:
                logger.exception("no sign of life went out")

    async def _stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        await end(tasks, again_after=1)
        self._connected.clear()
        self._was_connected, self._cut_at = False, None

    def _check_process(self) -> None:
        if self._started_in != os.getpid():
            raise BackplaneError(
                "the backplane was started before this process was forked: fork first, then start one in each process"
            )

    def _check_started(self) -> None:
        if not self._tasks:
            raise BackplaneError("the backplane is not started, or closed: await WSAuth.start()")
        self._check_process()

    def _check_reachable(self) -> None:
        self._check_started()
        if not self._connected.is_set():
            raise BackplaneError("the backplane is cut off")


async def end(tasks: Sequence[asyncio.Task[Any]], *, again_after: float) -> None:
    """Cancel ``tasks`` until they have ended, whatever with; again when they have not after that many seconds.

    Before Python 3.12, `asyncio.wait_for` may swallow a cancellation, and drivers use it.
    """
    ending: Collection[asyncio.Task[Any]] = tasks
    while ending:
        for task in ending:
            task.cancel()
        _, ending = await asyncio.wait(ending, timeout=again_after)
    await asyncio.gather(*tasks, return_exceptions=True)
