"""How fast a client may send, where the application limits it. `auth` owns one `Pace`, and `guard` asks it."""

from __future__ import annotations

from collections.abc import Hashable

from tornado_wsauth.clock import Clock


class Pace:
    """Lets each client send ``messages`` at once, and on average as many in ``seconds``.

    It is the generic cell rate algorithm (ITU-T I.371): one number for each client, which is all that a bucket of
    tokens comes to.
    """

    def __init__(self, messages: int, seconds: float, clock: Clock) -> None:
        self._interval = seconds / messages  # seconds that a message takes of its client's time
        self._seconds = seconds
        self.clock = clock
        self._used_until: dict[Hashable, float] = {}  # the time that each client's messages have taken up

    def __len__(self) -> int:
        return len(self._used_until)

    def allows(self, client: Hashable) -> bool:
        """A message came from ``client``. Say whether that was in time."""
        now = self.clock.time()
        used_until = max(self._used_until.get(client, now), now)
        if used_until > now + self._seconds:  # more than a client can have taken up: the clock was set back
            used_until = now
        # The tolerance is for arithmetic: a hundred times a hundredth is not always one.
        if used_until + self._interval > now + self._seconds + self._interval / 1000:
            return False
        self._used_until[client] = used_until + self._interval
        return True

    def forget(self, client: Hashable) -> None:
        """``client`` has gone."""
        self._used_until.pop(client, None)
