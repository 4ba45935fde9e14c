"""Connection tokens in Redis, for any number of processes. The only store module that imports the Redis driver.

Applications name `RedisTokenStore`, and only then is this module loaded.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis, RedisCluster

from tornado_wsauth.drivers.redis import Caller, check_client, check_timeout, text
from tornado_wsauth.errors import ConfigurationError, TokenLimitReached, TokenRejected, TokenStoreError
from tornado_wsauth.stores.base import TokenStore
from tornado_wsauth.tokens import TokenRecord, hash_token, new_token

# Each of the three calls reads and writes more than one thing, which no single command of Redis does. A script is
# atomic, and goes by the server's clock: one clock for every process. Each may be sent twice, because the answer to the
# first was lost: a token that the same attempt has spent is no replay, and one that it has issued counts once.
_ISSUE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token, held = KEYS[1], KEYS[2]
local hash, user_id, ttl, most, context = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
redis.call('ZREMRANGEBYSCORE', held, '-inf', now)
if most >= 0 and redis.call('ZCARD', held) >= most and not redis.call('ZSCORE', held, hash) then return 0 end
local expires_at = now + ttl
redis.call('HSET', token, 'user_id', user_id, 'created_at', now, 'expires_at', expires_at)
if context then redis.call('HSET', token, 'context', context) end
redis.call('PEXPIREAT', token, expires_at)
redis.call('ZADD', held, expires_at, hash)
redis.call('PEXPIREAT', held, expires_at, 'NX')
redis.call('PEXPIREAT', held, expires_at, 'GT')
return 1
"""

_REDEEM = """
local token = KEYS[1]
local prefix, hash, attempt, spender = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local found = redis.call('HMGET', token, 'user_id', 'created_at', 'expires_at', 'context', 'spent', 'spent_by')
if found[1] and found[5] == attempt then found[5] = false end
if found[1] and not found[5] and attempt ~= '' then
  redis.call('HSET', token, 'spent', attempt)
  if spender then redis.call('HSET', token, 'spent_by', spender) end
  redis.call('ZREM', prefix .. 'held:' .. found[1], hash)
end
return found
"""

_REVOKE = """
local held = KEYS[1]
local revoked = 0
for _, hash in ipairs(redis.call('ZRANGE', held, 0, -1)) do
  revoked = revoked + redis.call('DEL', ARGV[1] .. 'token:' .. hash)
end
redis.call('DEL', held)
return revoked
"""


class RedisTokenStore(TokenStore):
    """Keeps tokens in Redis.

    ``redis``: a `redis.asyncio.Redis` or ``RedisCluster``, with or without ``decode_responses``. ``prefix``: what all
    keys begin with. It has a hash tag, so that a cluster keeps them in one slot, where a script can reach them all.
    ``timeout``: seconds within which each call answers or raises `TokenStoreError`. Within it, a connection that
    was dropped is replaced once.

    One token is one hash, ``{prefix}token:<SHA-256>``: ``user_id``, ``created_at``, ``expires_at`` (milliseconds on the
    server's clock), ``context`` (JSON text) if given, and, once it was used, ``spent`` and ``spent_by``. The unspent
    ones of a user are listed in ``{prefix}held:<user id>``. Redis removes both at the expiry itself, so an expired
    token is ``unknown`` here. Redis 7.0 or later.

    Redis answers before its replicas have written. A failover can forget that a token was spent a moment before, and
    with an eviction policy other than ``noeviction`` or ``volatile-*`` tokens can go early; where neither may happen,
    `MongoTokenStore` waits for a majority.

    Raises `ConfigurationError` for a client it cannot await, an empty prefix, and a timeout that is not positive.
    """

    def __init__(self, redis: Redis | RedisCluster, *, prefix: str = "{wsauth}:", timeout: float = 5.0) -> None:
        check_client("RedisTokenStore", redis)
        if not isinstance(prefix, str) or not re.search(r"\{[^}]+\}", prefix):
            raise ConfigurationError(
                f'RedisTokenStore(prefix={prefix!r}): must have a hash tag in it; "{{wsauth}}:" is the default'
            )
        check_timeout("RedisTokenStore", timeout)
        self._redis = redis
        self._prefix = prefix
        self._caller = Caller("RedisTokenStore", redis, timeout, TokenStoreError)
        self._issue = redis.register_script(_ISSUE)
        self._redeem = redis.register_script(_REDEEM)
        self._revoke = redis.register_script(_REVOKE)

    @property
    def redis(self) -> Redis | RedisCluster:
        """The client it was given."""
        return self._redis

    async def start(self) -> None:
        """Check that Redis answers and is recent enough. Raises `TokenStoreError` if not."""
        await self._caller.answer(self._caller.check_server)

    async def issue(
        self,
        user_id: str,
        ttl: float,
        *,
        context: Mapping[str, Any] | None = None,
        max_live: int | None = None,
    ) -> str:
        """Create a token; see `TokenStore.issue`."""
        token = new_token()
        key = hash_token(token)
        arguments: list[str | int] = [key, user_id, round(ttl * 1000), -1 if max_live is None else max_live]
        if context is not None:
            arguments.append(json.dumps(context))
        keys = [f"{self._prefix}token:{key}", f"{self._prefix}held:{user_id}"]
        if not await self._caller.answer(lambda: self._issue(keys=keys, args=arguments)):
            raise TokenLimitReached(f"the user already holds {max_live} live tokens")
        return token

    async def redeem(self, token: str, *, consume: bool = True, spender: str | None = None) -> TokenRecord:
        """Spend ``token`` and return its record; see `TokenStore.redeem`."""
        key = hash_token(token)
        arguments = [self._prefix, key, secrets.token_hex(8) if consume else ""]
        if spender is not None:
            arguments.append(spender)
        keys = [f"{self._prefix}token:{key}"]
        found = await self._caller.answer(lambda: self._redeem(keys=keys, args=arguments))
        user_id, created_at, expires_at, context, spent, spent_by = map(text, found)
        if user_id is None or created_at is None or expires_at is None:
            raise TokenRejected("unknown")
        if spent is not None:
            raise TokenRejected("replayed", user_id, spent_by)
        return TokenRecord(
            user_id=user_id,
            created_at=int(created_at) / 1000,
            expires_at=int(expires_at) / 1000,
            context=None if context is None else json.loads(context),
        )

    async def revoke_user(self, user_id: str) -> int:
        """Delete the user's live tokens and return their number; see `TokenStore.revoke_user`."""
        keys = [f"{self._prefix}held:{user_id}"]
        return int(await self._caller.answer(lambda: self._revoke(keys=keys, args=[self._prefix])))
