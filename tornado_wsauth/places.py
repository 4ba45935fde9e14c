"""The limit on a user's connections across processes: a place is claimed for each on the backplane, and given back.

`auth` owns a `Places` where it has both a limit and a backplane; `handshake` and `guard` claim. Within the process, the
limit is kept without it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Coroutine, Iterable
from typing import Any, NamedTuple, Protocol

from tornado_wsauth.backoff import Seams
from tornado_wsauth.backplane.base import Backplane, Claim, Place
from tornado_wsauth.errors import BackplaneError
from tornado_wsauth.gate import REPLACED, TOO_MANY, Close
from tornado_wsauth.log import logger
from tornado_wsauth.observer import Observer, timed

AT_ONCE = 50  # places given back, or claimed anew, at the same time
PAUSE = 1.0  # seconds until a place is given back that could not be


class Holder(Protocol):
    """A connection that has a place, or is about to."""

    place: str | None
    """The name of its place. `Places` alone sets it."""

    def close(self, close: Close, detail: str = "") -> bool:
        """End the connection."""


class _Held(NamedTuple):
    holder: Holder
    user_id: str


class Places:
    """The places that the connections of this process hold."""

    def __init__(
        self,
        backplane: Backplane,
        most: int,
        *,
        evict: bool,
        metrics: Observer | None = None,
        seams: Seams | None = None,
    ) -> None:
        self._backplane = backplane
        self._most = most
        self._evict = evict
        self._metrics = metrics
        self._seams = seams or Seams()
        self._held: dict[str, _Held] = {}
        self._surplus: dict[str, str] = {}  # names to give back, and whose
        self._names = map(str, itertools.count())
        self._giving_back: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._alone = False  # the last connection that was let in could not be counted
        self._closed = False
        self._never = asyncio.Event()

    async def claim(self, holder: Holder, user_id: str) -> bool:
        """Say whether ``user_id`` may have this connection. Raises `BackplaneError` when nobody knows."""
        name = holder.place = next(self._names)
        self._held[name] = _Held(holder, user_id)
        try:
            claim = await self._claim(user_id, name)
        except BaseException:
            self._drop(name, user_id)  # it may have been granted
            raise
        if name not in self._held:
            self._drop(name, user_id)  # the client left meanwhile, and its place was given back before it was claimed
        elif not claim.granted:
            del self._held[name]
            holder.place = None
        await self._send_away(claim.evicted)
        return claim.granted

    async def _claim(self, user_id: str, name: str) -> Claim:
        claiming = self._backplane.claim(user_id, name, most=self._most, evict=self._evict)
        return await timed(self._metrics, "backplane", "claim", claiming)

    def claim_later(self, holder: Holder, user_id: str) -> None:
        """Claim a place for a connection that is let in. Those who have to go for it are closed a moment later."""
        self._in_background(self._claim_or_say(holder, user_id))

    def give_back(self, holder: Holder) -> None:
        """The connection is over. Giving back again does nothing."""
        name, holder.place = holder.place, None
        if name is not None and name in self._held:
            self._drop(name, self._held[name].user_id)

    def evict(self, names: Iterable[str]) -> None:
        """End connections of this process whose places were given to others."""
        for name in names:
            if name in self._held:
                self._held[name].holder.close(REPLACED)

    def claim_all_again(self) -> None:
        """All places were taken from this process. Whoever finds none any more has to go."""
        self._in_background(self._claim_all_again())

    def close(self) -> None:
        """Give nothing back from now on: the backplane does, all at once, when it is closed."""
        self._closed = True
        for task in [*self._background, *([self._giving_back] if self._giving_back else [])]:
            task.cancel()

    def _drop(self, name: str, user_id: str) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            held.holder.place = None
        if self._closed:
            return
        self._surplus[name] = user_id
        if self._giving_back is None:
            self._giving_back = asyncio.get_running_loop().create_task(self._give_all_back())

    async def _give_all_back(self) -> None:
        try:
            while self._surplus:
                some = dict(itertools.islice(self._surplus.items(), AT_ONCE))
                for name in some:  # whoever drops one again meanwhile wants another release: this one may be too early
                    del self._surplus[name]
                done = await _gather(self._backplane.release(user_id, name) for name, user_id in some.items())
                self._surplus.update({name: some[name] for name, failed in zip(some, done, strict=True) if failed})
                if any(done):
                    await self._seams.pause(PAUSE, self._never)
        finally:
            self._giving_back = None

    async def _claim_or_say(self, holder: Holder, user_id: str) -> None:
        try:
            await self.claim(holder, user_id)
            self._alone = False
        except BackplaneError as error:
            if not self._alone:
                logger.warning("limits on a user's connections hold in each process for itself, for now: %s", error)
            self._alone = True

    async def _claim_all_again(self) -> None:
        held = [*self._held.items()]
        for start in range(0, len(held), AT_ONCE):
            some = held[start : start + AT_ONCE]
            while some:
                done = await _gather(self._claim_again(name, *entry) for name, entry in some)
                some = [one for one, failed in zip(some, done, strict=True) if failed]
                if some:
                    await self._seams.pause(PAUSE, self._never)

    async def _claim_again(self, name: str, holder: Holder, user_id: str) -> None:
        if name not in self._held:
            return
        claim = await self._claim(user_id, name)
        if name not in self._held:
            self._drop(name, user_id)
        elif not claim.granted:
            holder.close(TOO_MANY, "its place was taken while this process seemed dead")
        await self._send_away(claim.evicted)

    async def _send_away(self, evicted: Iterable[Place]) -> None:
        by_process: defaultdict[str, list[str]] = defaultdict(list)
        for place in evicted:
            by_process[place.process_id].append(place.name)
        self.evict(by_process.pop(self._backplane.process_id, []))
        for process_id, names in by_process.items():
            # Announced, because it must not be lost: nobody counts that connection any more.
            await self._backplane.announce({"kind": "evict", "process": process_id, "names": names})

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _gather(calls: Iterable[Coroutine[Any, Any, None]]) -> list[bool]:
    """Run calls at the same time; return for each whether it failed because the backplane did not answer."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, BackplaneError):
            raise result
    return [isinstance(result, BackplaneError) for result in results]
