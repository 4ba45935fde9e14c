"""Who sends what to whom in ``benchmarks.cluster``: known to servers and clients alike, so that no message need say it.

A client is in two groups: in that of all clients, and in one of `GROUP_SIZE`. Neighbours are on different servers.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

SIZE = 64  # bytes of each message
GROUP_SIZE = 10  # clients in each of the many groups
ALL = "all"
SEED = 6


def group_of(number: int) -> int:
    """Return the group of the client with this number."""
    return number // GROUP_SIZE


def group_name(group: int) -> str:
    return f"group-{group}"


class Stream(NamedTuple):
    """What one task of one server sends, message by message; the next when the one before is sent."""

    publisher: int
    messages: int
    groups: int
    """Each message goes to one of so many groups; 0: to the group of all clients."""
    start: float
    """When to begin, on the monotonic clock, which all processes of a machine share."""
    interval: float
    """Seconds between two messages on average; 0: as fast as they can be sent."""

    def destinations(self) -> list[int]:
        """Return the group of each message."""
        if not self.groups:
            return [0] * self.messages
        choose = random.Random(f"{SEED} {self.publisher}")
        return [choose.randrange(self.groups) for _ in range(self.messages)]

    def names(self) -> list[str]:
        """Return the name of the group of each message."""
        return [group_name(group) if self.groups else ALL for group in self.destinations()]

    def text(self, number: int) -> str:
        """Return one message of it."""
        return f"{self.publisher:03d}{number:07d}".ljust(SIZE, "m")


def read_text(text: bytes) -> tuple[int, int]:
    """Return the publisher and the number of a message."""
    return int(text[:3]), int(text[3:10])


def stream_from(values: Any) -> Stream:
    """Return the stream that came as JSON."""
    return Stream(*values)
