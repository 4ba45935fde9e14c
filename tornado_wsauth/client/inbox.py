"""The messages that have come and nobody has asked for yet. `exchange` fills it and `connection` empties it."""

from __future__ import annotations

import asyncio
from collections import deque

from tornado_wsauth.client.errors import Stopped


class Inbox:
    """A bounded queue with an end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[str | bytes] = deque()
        self._end: Stopped | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def is_full(self) -> bool:
        """Say whether nothing more should be read from the socket."""
        return len(self._messages) >= self._limit

    def put(self, message: str | bytes) -> None:
        """Add a message, full or not; whoever reads from a socket waits for `room` before it reads on."""
        if self._end is not None:
            return
        self._messages.append(message)
        self._news.set()
        if self.is_full:
            self._room.clear()

    async def room(self) -> None:
        """Wait until it is not full."""
        await self._room.wait()

    def let_in(self) -> None:
        """Let those through who wait for room, full or not."""
        self._room.set()

    async def get(self) -> str | bytes:
        """Return the oldest message, waiting for one if need be; none is lost if the wait is cancelled.

        Raises `Stopped` at the end.
        """
        while not self._messages:
            if self._end is not None:
                raise Stopped(self._end.close)
            self._news.clear()
            await self._news.wait()
        message = self._messages.popleft()
        if not self.is_full:
            self._room.set()
        return message

    def end(self, stopped: Stopped, *, discard: bool) -> None:
        """Take no more messages. Those that are there can still be had, unless they are discarded."""
        self._end = stopped
        if discard:
            self._messages.clear()
        self._news.set()
        self._room.set()
