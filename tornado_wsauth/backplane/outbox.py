"""What goes out to other processes: one batch at a time, so that order is kept and many messages cost one trip."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from tornado_wsauth.backplane.envelope import MOST_BYTES, Parcel
from tornado_wsauth.errors import BackplaneError

MOST_IN_BATCH = 1000
MOST_WAITING_BYTES = 4 * MOST_BYTES
"""How much may wait for an engine that does not keep up."""


class Outbox:
    """Hands ``send`` what was put in, in order, as batches: whatever came while the batch before was on its way.

    ``send`` raises `BackplaneError` where a batch was not, or may not have been, received.
    """

    def __init__(self, send: Callable[[Sequence[Parcel]], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: deque[tuple[Parcel, asyncio.Future[None]]] = deque()
        self._waiting_bytes = 0
        self._pump: asyncio.Task[None] | None = None

    async def put(self, parcel: Parcel) -> None:
        """Return when ``parcel`` was sent. Raises what ``send`` does, and `BackplaneError` when too much waits."""
        if self._waiting_bytes + len(parcel.text) > MOST_WAITING_BYTES:
            raise BackplaneError(f"more than {MOST_WAITING_BYTES} bytes wait for the backplane")
        sent = asyncio.get_running_loop().create_future()
        self._waiting.append((parcel, sent))
        self._waiting_bytes += len(parcel.text)
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._send_all())
        await sent

    async def flush(self) -> None:
        """Wait until nothing waits."""
        if self._pump is not None:
            await asyncio.wait({self._pump})

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._send_batch(self._take())
        finally:
            self._pump = None

    def _take(self) -> list[tuple[Parcel, asyncio.Future[None]]]:
        batch, size = [self._waiting.popleft()], 0
        while self._waiting and len(batch) < MOST_IN_BATCH:
            size += len(batch[-1][0].text)
            if size + len(self._waiting[0][0].text) > MOST_BYTES:
                break
            batch.append(self._waiting.popleft())
        self._waiting_bytes -= sum(len(parcel.text) for parcel, _ in batch)
        return batch

    async def _send_batch(self, batch: list[tuple[Parcel, asyncio.Future[None]]]) -> None:
        try:
            await self._send([parcel for parcel, _ in batch])
        except (Exception, asyncio.CancelledError) as error:
            failure = error if isinstance(error, BackplaneError) else BackplaneError("the backplane was closed")
            for _, sent in batch:
                if not sent.done():
                    sent.set_exception(failure)
                    sent.exception()  # whoever put it in may have left
            if not isinstance(error, BackplaneError):
                raise
        else:
            for _, sent in batch:
                if not sent.done():
                    sent.set_result(None)
