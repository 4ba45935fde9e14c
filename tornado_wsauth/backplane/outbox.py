"""What goes out to other processes: one batch at a time, so that order is kept and many messages cost one trip."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from tornado_wsauth.backplane.envelope import MOST_BYTES, Parcel
from tornado_wsauth.errors import BackplaneError

logger: logging.Logger = logging.getLogger("tornado_wsauth")

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
        if self._waiting_bytes + parcel.size > MOST_WAITING_BYTES:
            raise BackplaneError(f"more than {MOST_WAITING_BYTES} bytes wait for the backplane")
        sent = asyncio.get_running_loop().create_future()
        self._waiting.append((parcel, sent))
        self._waiting_bytes += parcel.size
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._send_all())
        await sent

    async def close(self, within: float) -> None:
        """Wait until nothing waits, at most so many seconds; what waits still is not sent."""
        if self._pump is not None:
            _, late = await asyncio.wait({self._pump}, timeout=within)
            if late:
                self._pump.cancel()
                await asyncio.wait(late, timeout=within)

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._send_batch(self._take())
        finally:
            self._pump = None

    def _take(self) -> list[tuple[Parcel, asyncio.Future[None]]]:
        batch, size = [self._waiting.popleft()], 0
        while self._waiting and len(batch) < MOST_IN_BATCH:
            size += batch[-1][0].size
            if size + self._waiting[0][0].size > MOST_BYTES:
                break
            batch.append(self._waiting.popleft())
        self._waiting_bytes -= sum(parcel.size for parcel, _ in batch)
        return batch

    async def _send_batch(self, batch: list[tuple[Parcel, asyncio.Future[None]]]) -> None:
        try:
            await self._send([parcel for parcel, _ in batch])
        except BackplaneError as error:
            _fail(batch, error)
        except asyncio.CancelledError:
            _fail([*batch, *self._waiting], BackplaneError("the backplane was closed"))
            self._waiting.clear()
            self._waiting_bytes = 0
            raise
        except Exception as error:
            logger.exception("what was to go over the backplane could not be sent")
            _fail(batch, BackplaneError(f"it could not be sent ({type(error).__name__})"))
        else:
            for _, sent in batch:
                if not sent.done():
                    sent.set_result(None)


def _fail(batch: Iterable[tuple[Parcel, asyncio.Future[None]]], failure: BackplaneError) -> None:
    for _, sent in batch:
        if not sent.done():
            sent.set_exception(failure)
            sent.exception()  # whoever put it in may have left
