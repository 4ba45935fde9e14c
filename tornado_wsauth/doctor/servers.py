"""Findings about the servers behind the application: whether they answer, and how they are set up."""

from __future__ import annotations

from typing import Any

from tornado_wsauth.doctor.findings import Finding
from tornado_wsauth.doctor.subject import Policy, Subject

PATIENCE = 3.0
"""Seconds for each answer of a server."""


async def look_at_servers(subject: Subject) -> list[Finding]:
    """Ask each server once, where ``connect`` allows for it."""
    if not subject.connect:
        return []
    findings: list[Finding] = []
    seen: list[object] = []
    for policy in subject.policies:
        for part in (policy.auth.tokens, policy.auth.backplane):
            if part is not None and not any(part is one for one in seen):
                seen.append(part)
                findings += await _look_at(policy, part)
    return findings


async def _look_at(policy: Policy, part: object) -> list[Finding]:
    kind = _kind(part)
    if kind is None:
        return []
    option = "backplane" if kind.endswith("Backplane") else "tokens"
    where = policy.at(f"{option}={kind}(…)")
    if kind.startswith("Mongo"):
        return await _look_at_mongo(policy, part, where)
    return await _look_at_redis(part, kind, where)


def _kind(part: object) -> str | None:
    """Return which of ours it is, or is made of. A driver must not be imported to find that out."""
    modules = ("tornado_wsauth.stores.", "tornado_wsauth.backplane.")
    for cls in type(part).__mro__:
        if cls.__module__.startswith(modules) and cls.__module__.endswith((".mongo", ".redis")):
            return cls.__name__
    return None


async def _look_at_mongo(policy: Policy, part: Any, where: str) -> list[Finding]:
    from tornado_wsauth.doctor import mongo

    try:
        if hasattr(part, "collection"):
            return await mongo.store_findings(policy, part, PATIENCE)
        return await mongo.backplane_findings(policy, part, PATIENCE)
    except mongo.UnreachableError as error:
        return [_unreachable(where, str(error))]


async def _look_at_redis(part: Any, kind: str, where: str) -> list[Finding]:
    from tornado_wsauth.doctor import redis

    try:
        return await redis.findings(where, kind, part.redis, PATIENCE)
    except redis.UnreachableError as error:
        return [_unreachable(where, str(error))]


def _unreachable(where: str, why: str) -> Finding:
    return Finding(
        "server-unreachable",
        "error",
        where,
        f"{why}: without it nobody can connect, and how it is set up was not looked at",
        "start the server, look at the URI, the network and the credentials; or leave servers alone with --no-connect",
    )
