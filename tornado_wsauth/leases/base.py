"""What a lease promises. ``tests/contracts/lease.py`` holds every lease to it.

`Broadcaster` takes one where an application runs in several processes.
"""

from __future__ import annotations

import abc


class Lease(abc.ABC):
    """Lets one process of many act at a steady interval.

    Promises of every lease, all by the engine's own clock:

    * **Once for each instant.** Of all calls of ``claim``, in whichever processes, two that are answered True lie at
      least half an interval apart. A process that was paused for however long, and goes on, cannot act for an instant
      that another has acted for.
    * **The same process, as long as it lives.** Whoever was answered True is the holder for an interval, and others are
      answered False meanwhile.
    * **Quick takeover.** A holder that does not claim for an interval has lost it to whoever claims first.
    * **No answer is never a yes.** When the engine cannot answer in time, `BackplaneError` is raised.
    """

    async def start(self) -> None:  # noqa: B027 - not abstract: most leases have nothing to prepare
        """Prepare the engine. Safe to call more than once. Raises `BackplaneError`. The default does nothing."""

    @abc.abstractmethod
    async def claim(self, interval: float) -> bool:
        """Say whether the caller may act now, and hold the lease for another ``interval`` seconds.

        Call it once an interval, for each of the acts. Raises `BackplaneError`: then nobody knows, and it must not act.
        """

    @abc.abstractmethod
    async def release(self) -> None:
        """Let somebody else act next, if this process holds the lease. Raises `BackplaneError`."""
