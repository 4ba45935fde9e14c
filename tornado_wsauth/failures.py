"""Why the last connection of a user was refused, for that user alone to ask. `auth` owns one `LastFailures`.

A browser tells a page nothing about a refused upgrade, so the token route may (``?explain=1``). It is a courtesy and
not a record: kept in memory, for a few minutes, for so many users. The log has it all.
"""

from __future__ import annotations

from collections import OrderedDict

from tornado_wsauth.clock import Clock

REMEMBERED = 600  # seconds
MOST_USERS = 10_000


class LastFailures:
    """The reason of each user's last refusal, until a connection of theirs is accepted."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._by_user: OrderedDict[str, tuple[str, float]] = OrderedDict()  # reason and time, oldest first

    def __len__(self) -> int:
        return len(self._by_user)

    def note(self, user_id: str, reason: str) -> None:
        """A connection of ``user_id`` was refused for ``reason``."""
        self.forget(user_id)
        self._by_user[user_id] = reason, self.clock.time()
        if len(self._by_user) > MOST_USERS:
            self._by_user.popitem(last=False)

    def forget(self, user_id: str) -> None:
        """A connection of ``user_id`` was accepted."""
        self._by_user.pop(user_id, None)

    def of(self, user_id: str) -> str | None:
        """Return why the last connection of ``user_id`` was refused; None if it was not, or too long ago."""
        reason, at = self._by_user.get(user_id, (None, 0.0))
        return reason if self.clock.time() < at + REMEMBERED else None
