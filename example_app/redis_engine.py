"""The application on Redis. Loaded only where ``--redis-url`` is given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from example_app.engine import Engine
from example_app.ledger import ANSWER_WITHIN, LOGIN_LIFETIME, Keys, Ledger, LedgerError, Login
from example_app.terminal import StartError
from tornado_wsauth import RedisBackplane, RedisLease, RedisTokenStore

_PREFIX = "wsauth-example:"

_ROTATE = """
redis.call('HSET', KEYS[1], 'before', redis.call('HGET', KEYS[1], 'newest'), 'newest', ARGV[1])
return redis.call('HINCRBY', KEYS[1], 'rotations', 1)
"""


class RedisEngine(Engine):
    where = "in Redis"
    advice = "start Redis, mend --redis-url, or leave it out: one process can keep all in memory"

    def __init__(self, url: str) -> None:
        try:
            self._redis = Redis.from_url(url, decode_responses=True)
        except ValueError as error:
            raise StartError(f"--redis-url: {error}; it looks like redis://localhost", status=2) from error
        self.ledger = RedisLedger(self._redis)

    def tokens(self) -> RedisTokenStore:
        return RedisTokenStore(self._redis, prefix=f"{{{_PREFIX}}}")

    def backplane(self) -> RedisBackplane:
        return RedisBackplane(self._redis, prefix=_PREFIX)

    def lease(self, name: str) -> RedisLease:
        return RedisLease(self._redis, name, prefix=_PREFIX)

    async def close(self) -> None:
        await self._redis.aclose()


class RedisLedger(Ledger):
    """A login is one key, which says whose it is, and a member of its user's set. The JWT keys are one hash."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # its annotations allow for bytes, and in a transaction for what is not chained
        self._keys = f"{_PREFIX}keys"
        self._rotate = redis.register_script(_ROTATE)

    async def start(self, first_key: str) -> None:
        await _answer(self._redis.hsetnx(self._keys, "newest", first_key))

    async def add(self, login: Login) -> None:
        sessions = _sessions(login.user_id)
        async with self._redis.pipeline() as transaction:
            transaction.set(_session(login.session_id), login.user_id, ex=LOGIN_LIFETIME)
            transaction.sadd(sessions, login.session_id).expire(sessions, LOGIN_LIFETIME)
            await _answer(transaction.execute())

    async def user_of(self, session_id: str) -> str | None:
        user_id: str | None = await _answer(self._redis.get(_session(session_id)))
        return user_id

    async def end(self, login: Login) -> None:
        await self._end(login.user_id, {login.session_id})

    async def end_all(self, user_id: str) -> None:
        await self._end(user_id, await _answer(self._redis.smembers(_sessions(user_id))))

    async def _end(self, user_id: str, ended: set[str]) -> None:
        if ended:
            async with self._redis.pipeline() as transaction:
                transaction.delete(*map(_session, ended)).srem(_sessions(user_id), *ended)
                await _answer(transaction.execute())

    async def keys(self) -> Keys:
        newest, before, rotations = await _answer(self._redis.hmget(self._keys, "newest", "before", "rotations"))
        if newest is None:
            raise LedgerError("the keys are gone from Redis; restart the application")
        return Keys(newest, before, int(rotations or 0))

    async def rotate(self, new_key: str) -> None:
        await _answer(self._rotate(keys=[self._keys], args=[new_key]))


def _session(session_id: str) -> str:
    return f"{_PREFIX}login:{session_id}"


def _sessions(user_id: str) -> str:
    return f"{_PREFIX}logins:{user_id}"


async def _answer(call: Awaitable[Any]) -> Any:
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            return await call
    except (RedisError, TimeoutError) as error:
        raise LedgerError(f"Redis does not answer: {error or type(error).__name__}") from error
