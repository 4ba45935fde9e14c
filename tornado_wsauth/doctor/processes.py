"""Findings about what several processes need, as far as it can be seen in one."""

from __future__ import annotations

from collections.abc import Iterator

from tornado_wsauth.backplane.memory import MemoryBackplane
from tornado_wsauth.doctor.findings import Finding
from tornado_wsauth.doctor.subject import Policy, Subject
from tornado_wsauth.stores.memory import MemoryTokenStore

_SHARED = "MongoTokenStore(collection) or RedisTokenStore(redis)"


def memory_store(subject: Subject) -> Iterator[Finding]:
    """Tokens that only the process knows that issued them."""
    seen: list[object] = []
    for policy in subject.policies:
        store = policy.auth.tokens
        if isinstance(store, MemoryTokenStore) and not any(store is one for one in seen):
            seen.append(store)
            why = _why_several(subject, policy)
            if why is not None:
                yield Finding(
                    "memory-store-with-processes",
                    "error",
                    policy.at("tokens=MemoryTokenStore()"),
                    f"{why}, and each has tokens of its own: a token is refused with 401 wherever it was not issued",
                    f"use {_SHARED}",
                )
            elif subject.processes is None:
                yield Finding(
                    "memory-store",
                    "note",
                    policy.at("tokens=MemoryTokenStore()"),
                    "tokens are kept in the memory of one process; whether there are more cannot be seen from here",
                    f"say --processes 1 if there is one; for several, use {_SHARED}",
                )


def memory_backplane(subject: Subject) -> Iterator[Finding]:
    """A backplane that ends where the process does."""
    for policy in subject.policies:
        if isinstance(policy.auth.backplane, MemoryBackplane) and (subject.processes or 1) > 1:
            yield Finding(
                "memory-backplane-with-processes",
                "error",
                policy.at("backplane=MemoryBackplane(…)"),
                f"there will be {subject.processes} processes, and it reaches none but its own",
                "use RedisBackplane(redis) or MongoBackplane(database)",
            )


def no_backplane(subject: Subject) -> Iterator[Finding]:
    """Processes that do not know of each other."""
    for policy in subject.policies:
        if policy.auth.backplane is None and (subject.processes or 1) > 1:
            yield Finding(
                "no-backplane",
                "warning",
                policy.at("backplane=…"),
                f"there will be {subject.processes} processes, and none knows of the others: broadcasts, logouts and "
                "limits on a user's connections stay in the process where they are made",
                "use RedisBackplane(redis) or MongoBackplane(database)",
            )


def _why_several(subject: Subject, policy: Policy) -> str | None:
    """Say how it is known that there is more than one process; None if it is not."""
    if subject.processes is not None:
        return f"there will be {subject.processes} processes" if subject.processes > 1 else None
    backplane = policy.auth.backplane
    if backplane is None or isinstance(backplane, MemoryBackplane):
        return None
    return "a backplane is for several processes"
