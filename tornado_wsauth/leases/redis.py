"""A lease on Redis. The only lease module that imports its driver; it is loaded when it is named."""

from __future__ import annotations

import os
import secrets

from redis.asyncio import Redis

from tornado_wsauth.drivers.redis import Caller, check_client, check_prefix, check_timeout
from tornado_wsauth.errors import BackplaneError, ConfigurationError
from tornado_wsauth.leases.base import Lease

# By the server's clock. Should it go back by more than an interval, what was written before would hold the lease for
# ever; by less, it is waited for, so that nothing is done twice. The same attempt may be sent twice, because the answer
# to the first was lost; it is granted once.
_CLAIM = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = KEYS[1]
local holder, attempt, interval = ARGV[1], ARGV[2], tonumber(ARGV[3])
local found = redis.call('HMGET', lease, 'holder', 'until', 'last', 'attempt')
local held_until, last = tonumber(found[2]), tonumber(found[3])
if found[4] == attempt then return 1 end
if last and last <= now + interval then
  if now - last < interval / 2 then return 0 end
  if found[1] and found[1] ~= holder and now < held_until then return 0 end
end
redis.call('HSET', lease, 'holder', holder, 'until', now + interval, 'last', now, 'attempt', attempt)
redis.call('PEXPIRE', lease, 2 * interval + 60000)
return 1
"""

_RELEASE = """
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then redis.call('HDEL', KEYS[1], 'holder', 'until') end
"""


class RedisLease(Lease):
    """A lease in Redis.

    ``redis``: a `redis.asyncio.Redis`, with or without ``decode_responses``. ``name``: what is to be done once, such as
    ``"ticker"``; those with the same ``name`` and ``prefix`` take turns. ``timeout``: seconds within which each call
    answers or raises `BackplaneError`.

    It is one hash, ``{prefix}lease:{name}``: who holds it, ``until`` when, and when it was ``last`` granted
    (milliseconds on the server's clock). It expires a minute after nobody has wanted it. Redis 7.0 or later.

    Redis answers before its replicas have written: in a failover two processes may act for one instant.

    Raises `ConfigurationError` for a client it cannot await, a cluster, an empty name or prefix, and a timeout that is
    not positive.
    """

    def __init__(self, redis: Redis, name: str, *, prefix: str = "wsauth:", timeout: float = 5.0) -> None:
        owner = type(self).__name__
        check_client(owner, redis, no_cluster="a lease and a backplane share one server")
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f'{owner}(name={name!r}): must say what is done once, such as "ticker"')
        check_prefix(owner, prefix)
        check_timeout(owner, timeout)
        self._caller = Caller(owner, redis, timeout, BackplaneError)
        self._key = f"{prefix}lease:{name}"
        self._token = secrets.token_hex(8)
        self._claim = redis.register_script(_CLAIM)
        self._release = redis.register_script(_RELEASE)

    async def start(self) -> None:
        """Check that Redis answers and is recent enough. Raises `BackplaneError` if not."""
        await self._caller.answer(self._caller.check_server)

    async def claim(self, interval: float) -> bool:
        arguments: list[str | int] = [self._holder(), secrets.token_hex(8), round(interval * 1000)]
        return bool(await self._caller.answer(lambda: self._claim(keys=[self._key], args=arguments)))

    async def release(self) -> None:
        await self._caller.answer(lambda: self._release(keys=[self._key], args=[self._holder()]))

    def _holder(self) -> str:
        return f"{self._token}-{os.getpid()}"  # a lease that was made before a fork is one of each process
