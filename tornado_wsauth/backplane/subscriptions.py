"""Which channels an engine was asked for that subscribes one by one, and how far it has confirmed that."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Set


class Subscriptions:
    """What one connection is subscribed to, and what it is to be.

    The engine confirms each channel of what is sent to it, in order.
    """

    def __init__(self) -> None:
        self.stirred: set[str] = set()
        """The channels that may have changed since the server was asked."""
        self.changed: asyncio.Event = asyncio.Event()
        """Set by a change, until it is taken."""
        self.sent: int = 0
        """How many channels were sent on this connection, to subscribe to or no more."""
        self._asked: set[str] = set()
        self._confirmed = 0
        self._version = 0  # rises with each change
        self._confirmed_version = -1
        self._due: deque[tuple[int, int]] = deque()  # how many confirmations make which version
        self._progress = asyncio.Event()

    def change(self) -> None:
        """Note that something changed, and wake whoever takes the changes."""
        self._version += 1
        self.changed.set()

    def forget(self, channels: Collection[str]) -> None:
        """Begin anew: the connection is another one."""
        self.stirred = set(channels)
        self._asked.clear()
        self.sent = self._confirmed = 0
        self._confirmed_version = -1
        self._due.clear()

    def take_changes(self, channels: Set[str]) -> tuple[list[str], list[str]]:
        """Return what to subscribe to and what no more; it counts as sent."""
        stirred, self.stirred = self.stirred, set()
        self.changed.clear()
        more = [channel for channel in stirred if channel in channels and channel not in self._asked]
        less = [channel for channel in stirred if channel not in channels and channel in self._asked]
        self._asked.update(more)
        self._asked.difference_update(less)
        self.sent += len(more) + len(less)
        self._due.append((self.sent, self._version))
        self._advance()
        return more, less

    def confirm(self) -> None:
        """Note that the server has confirmed one more of what was sent, in order."""
        self._confirmed += 1
        self._advance()

    async def wait(self) -> None:
        """Wait until the server has confirmed every change of before."""
        version = self._version
        while self._confirmed_version < version:
            await self._progress.wait()

    def _advance(self) -> None:
        while self._due and self._due[0][0] <= self._confirmed:
            _, self._confirmed_version = self._due.popleft()
            self._progress.set()
            self._progress = asyncio.Event()
