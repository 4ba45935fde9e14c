"""What the doctor says of a real Redis, and how it bears with one that does not answer."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.doctor.kit import findings, make_app, make_auth
from tests.redis_server import RedisServer
from tornado_wsauth import RedisBackplane, RedisTokenStore
from tornado_wsauth.doctor import servers

pytestmark = pytest.mark.engines


@pytest.fixture
def own_redis():
    """A Redis of this test's own, whose settings it may change."""
    server = RedisServer()
    server.start()
    yield server
    server.close()


@contextlib.asynccontextmanager
async def app_on(url: str) -> AsyncIterator[object]:
    redis = Redis.from_url(url)
    try:
        yield make_app(auth=make_auth(RedisTokenStore(redis), backplane=RedisBackplane(redis)))
    finally:
        await redis.aclose()


@pytest.mark.gen_test
async def test_a_redis_that_drops_whatever_it_likes_is_a_warning(own_redis):
    async with app_on(own_redis.url) as app:
        redis = app.settings["wsauth"].tokens.redis
        assert "redis-evicts" not in await findings(app)
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        assert "redis-evicts" not in await findings(app), "without a limit, nothing is dropped"
        await redis.config_set("maxmemory", 100 * 2**20)
        assert (await findings(app))["redis-evicts"].level == "warning"
        await redis.config_set("maxmemory-policy", "volatile-ttl")
        assert "redis-evicts" not in await findings(app)


@pytest.mark.gen_test
async def test_a_redis_that_is_not_there_is_an_error_and_its_password_is_not_told(monkeypatch):
    monkeypatch.setattr(servers, "PATIENCE", 0.5)
    async with app_on("redis://:hunter2@127.0.0.1:1") as app:
        found = await findings(app)
    assert found["server-unreachable"].level == "error"
    assert "hunter2" not in repr(found)


@pytest.mark.gen_test
async def test_a_redis_that_hangs_is_given_up(monkeypatch, own_redis):
    monkeypatch.setattr(servers, "PATIENCE", 0.3)
    own_redis.signal(signal.SIGSTOP)
    async with app_on(own_redis.url) as app:
        found = await findings(app)
    own_redis.signal(signal.SIGCONT)
    assert "did not answer within 0.3 seconds" in found["server-unreachable"].problem


@pytest.mark.gen_test
async def test_a_redis_is_left_alone_without_connect():
    async with app_on("redis://127.0.0.1:1") as app:
        assert "server-unreachable" not in await findings(app, connect=False)
