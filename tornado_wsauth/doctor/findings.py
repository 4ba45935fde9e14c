"""What the doctor finds. All of its modules import this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Level = Literal["note", "warning", "error"]

LEVELS: tuple[Level, ...] = get_args(Level)
"""From the least to the worst."""


IDS = (
    *("no-guarded-route", "no-wsauth", "no-token-route", "unguarded-route", "opaque-routing"),
    *("weak-key", "shared-key", "same-key-twice"),
    *("debug", "any-origin", "no-origin-list", "reusable-tokens", "expiry-disabled"),
    *("no-ping-interval", "slow-ping-interval", "huge-max-message-size", "compression-with-broadcasts"),
    *("memory-store-with-processes", "memory-store", "memory-backplane-with-processes", "no-backplane"),
    *("xheaders-without-proxies", "xheaders-unknown"),
    *("forgeable-address", "address-of-proxy", "remote-ip-without-xheaders"),
    *("wildcard-cors", "token-route-not-asked"),
    *("server-unreachable", "standalone-mongodb", "ttl-index-missing", "ttl-index-wrong", "redis-evicts"),
)
"""Every kind of finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that would hurt.

    ``id``: which of `IDS`; docs/doctor.md has a section for each. ``level``: ``"error"`` for what fails in production,
    or gives something away; ``"warning"`` for what will hurt one day; ``"note"`` for what is worth knowing, and for
    what cannot be known from here. ``where``: the place to change. ``problem`` and ``advice`` are sentences. None of
    them holds a secret.
    """

    id: str
    level: Level
    where: str
    problem: str
    advice: str


def is_at_least(level: Level, limit: Level) -> bool:
    """Say whether ``level`` is ``limit`` or worse."""
    return LEVELS.index(level) >= LEVELS.index(limit)
