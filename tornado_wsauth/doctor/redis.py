"""What the doctor asks Redis. It reads, and changes nothing. Loaded only for applications that use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis, RedisCluster

from tornado_wsauth.doctor.findings import Finding
from tornado_wsauth.drivers.redis import Caller
from tornado_wsauth.errors import WSAuthError

_HARMLESS = ("noeviction", "volatile-")


class UnreachableError(WSAuthError):
    """The server does not answer, or is too old. The message says nothing of the URL."""


async def findings(where: str, owner: str, redis: Redis | RedisCluster, patience: float) -> list[Finding]:
    """Look at the server of what is at ``where``; ``owner`` is its class, ``patience``: seconds for each answer.

    Raises `UnreachableError`.
    """
    caller = Caller(owner, redis, patience, UnreachableError)
    await caller.answer(caller.check_server)
    if not isinstance(redis, Redis):
        return []  # each node of a cluster has a policy of its own
    memory: Mapping[str, Any] = await caller.answer(lambda: redis.info("memory"))
    policy = str(memory.get("maxmemory_policy", ""))
    if not int(memory.get("maxmemory", 0)) or not policy or policy.startswith(_HARMLESS):
        return []
    return [
        Finding(
            "redis-evicts",
            "warning",
            where,
            f"when its memory is full, Redis drops whatever it likes (maxmemory-policy {policy}): tokens go before "
            "they expire, and who is connected is forgotten",
            "set maxmemory-policy to noeviction, or to one of volatile-*, or use a Redis that is no cache",
        )
    ]
