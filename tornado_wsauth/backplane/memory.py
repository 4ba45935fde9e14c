"""A backplane within one process: for tests, and for applications of one process that have several `WSAuth`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

from tornado_wsauth.backplane.base import EVERYONE, Backplane, Claim, OnGap, Place, Receiver
from tornado_wsauth.backplane.envelope import Parcel, seal, wrap
from tornado_wsauth.backplane.inbox import Inbox
from tornado_wsauth.errors import BackplaneError


class Hub:
    """What the `MemoryBackplane` objects have in common that reach each other."""

    def __init__(self) -> None:
        self.members: dict[str, MemoryBackplane] = {}
        self.places: dict[str, list[Place]] = {}  # of each user, oldest first


class MemoryBackplane(Backplane):
    """Reaches every other one that was given the same ``hub``, in this process."""

    def __init__(self, hub: Hub, *, on_gap: OnGap | None = None) -> None:
        self.on_gap = on_gap
        self._hub = hub
        self._process_id = secrets.token_hex(8)
        self._channels = {EVERYONE}
        self._inbox: Inbox | None = None
        self._seq = 0

    @property
    def process_id(self) -> str:
        return self._process_id

    @property
    def is_connected(self) -> bool:
        return self._inbox is not None

    async def start(self, receiver: Receiver) -> None:
        if self._inbox is None:
            self._inbox = Inbox(self._process_id, receiver, self._channels)
            self._hub.members[self._process_id] = self

    async def close(self) -> None:
        if self._inbox is None:
            return
        self._inbox = None
        del self._hub.members[self._process_id]
        for user_id, places in [*self._hub.places.items()]:
            self._keep(user_id, [place for place in places if place.process_id != self._process_id])

    async def publish(self, channel: str, message: Mapping[str, Any]) -> None:
        self._check_started()
        self._send(wrap(channel, message))

    async def announce(self, message: Mapping[str, Any]) -> None:
        await self.publish(EVERYONE, message)

    def listen(self, channel: str) -> None:
        self._channels.add(channel)

    def ignore(self, channel: str) -> None:
        self._channels.discard(channel)

    async def listening(self) -> None:
        self._check_started()

    async def peers(self) -> frozenset[str]:
        self._check_started()
        return frozenset(self._hub.members) - {self._process_id}

    async def claim(self, user_id: str, name: str, *, most: int, evict: bool = False) -> Claim:
        self._check_started()
        places, ours = self._hub.places.get(user_id, []), Place(self._process_id, name)
        if ours in places:
            return Claim(granted=True)
        if len(places) >= most and not evict:
            return Claim(granted=False)
        surplus = max(0, len(places) + 1 - most)
        self._keep(user_id, [*places[surplus:], ours])
        return Claim(granted=True, evicted=tuple(places[:surplus]))

    async def release(self, user_id: str, name: str) -> None:
        self._check_started()
        places = self._hub.places.get(user_id, [])
        self._keep(user_id, [place for place in places if place != Place(self._process_id, name)])

    def _keep(self, user_id: str, places: list[Place]) -> None:
        if places:
            self._hub.places[user_id] = places
        else:
            self._hub.places.pop(user_id, None)

    def _send(self, parcel: Parcel) -> None:
        self._seq += 1
        text = seal(self._process_id, self._seq, [parcel])
        loop = asyncio.get_running_loop()
        for process_id, member in self._hub.members.items():
            if process_id != self._process_id:
                loop.call_soon(member._take, text)

    def _take(self, text: str) -> None:
        if self._inbox is not None:
            self._inbox.take(text)

    def _check_started(self) -> None:
        if self._inbox is None:
            raise BackplaneError("the backplane is not started, or closed: await WSAuth.start()")
