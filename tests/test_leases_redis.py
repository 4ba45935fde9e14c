"""`RedisLease` on a real Redis: what no other lease has."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.asyncio import RedisCluster
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.redis_server import RedisServer
from tornado_wsauth.errors import BackplaneError, ConfigurationError
from tornado_wsauth.leases.redis import RedisLease

pytestmark = [pytest.mark.engines, pytest.mark.usefixtures("redis_url")]

INTERVAL = 100.0  # seconds, so that what a test takes of it is nothing


class Harness:
    def __init__(self, client: Any, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self.key = f"{prefix}lease:ticker"

    def lease(self) -> RedisLease:
        return RedisLease(self.client, "ticker", prefix=self.prefix)

    async def pass_time(self, seconds: float) -> None:
        for field in {"until", "last"} & {str(_plain(field)) for field in await self.client.hkeys(self.key)}:
            await self.client.hincrby(self.key, field, round(-seconds * 1000))
        await self.client.pexpireat(self.key, await self.client.pexpiretime(self.key) - round(seconds * 1000))


def _plain(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.fixture(params=[False, True], ids=["bytes", "decoded"])
def harness(request: pytest.FixtureRequest, redis_client: Callable[..., Any], redis_prefix: str) -> Harness:
    return Harness(redis_client(decode_responses=request.param), redis_prefix)


@pytest.mark.gen_test
async def test_the_holder_may_act_again_after_half_an_interval_and_others_after_a_whole_one(harness: Harness) -> None:
    one, other = harness.lease(), harness.lease()
    await one.start()
    assert (await one.claim(INTERVAL), await one.claim(INTERVAL), await other.claim(INTERVAL)) == (True, False, False)
    await harness.pass_time(INTERVAL * 0.49)
    assert (await one.claim(INTERVAL), await other.claim(INTERVAL)) == (False, False)
    await harness.pass_time(INTERVAL * 0.02)
    assert (await other.claim(INTERVAL), await one.claim(INTERVAL)) == (False, True)
    await harness.pass_time(INTERVAL * 0.98)
    assert await other.claim(INTERVAL) is False
    await harness.pass_time(INTERVAL * 0.03)
    assert (await other.claim(INTERVAL), await one.claim(INTERVAL)) == (True, False)


@pytest.mark.gen_test
async def test_of_many_that_claim_at_once_one_may_act(harness: Harness) -> None:
    leases = [harness.lease() for _ in range(50)]
    for _ in range(3):
        assert sum(await asyncio.gather(*(lease.claim(INTERVAL) for lease in leases))) == 1
        await harness.pass_time(INTERVAL * 1.01)


@pytest.mark.gen_test
async def test_who_releases_lets_another_act_and_not_within_the_same_instant(harness: Harness) -> None:
    one, other = harness.lease(), harness.lease()
    await one.claim(INTERVAL)
    await other.release()
    await harness.pass_time(INTERVAL * 0.51)
    assert await other.claim(INTERVAL) is False, "it was not the other's to release"
    assert await one.claim(INTERVAL) is True
    await one.release()
    assert (await other.claim(INTERVAL), await one.claim(INTERVAL)) == (False, False)
    await harness.pass_time(INTERVAL * 0.51)
    assert await other.claim(INTERVAL) is True


@pytest.mark.gen_test
async def test_a_claim_whose_answer_was_lost_is_answered_like_the_first(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A35
    read = AsyncScript.__call__
    lost: list[Any] = []

    async def losing(self: AsyncScript, *args: Any, **options: Any) -> Any:
        answer = await read(self, *args, **options)
        if not lost:
            lost.append(answer)
            raise RedisConnectionError("the answer was lost")
        return answer

    monkeypatch.setattr(AsyncScript, "__call__", losing)
    one, other = harness.lease(), harness.lease()
    assert await one.claim(INTERVAL) is True
    assert lost == [1]
    assert (await one.claim(INTERVAL), await other.claim(INTERVAL)) == (False, False)


@pytest.mark.gen_test
async def test_a_clock_that_goes_back_a_little_is_waited_for_and_one_that_goes_back_far_is_not(
    harness: Harness,
) -> None:
    one, other = harness.lease(), harness.lease()
    await one.claim(INTERVAL)
    await harness.pass_time(-INTERVAL * 0.9)
    assert (await one.claim(INTERVAL), await other.claim(INTERVAL)) == (False, False)
    await harness.pass_time(-INTERVAL * 0.2)
    assert (await other.claim(INTERVAL), await one.claim(INTERVAL)) == (True, False)


@pytest.mark.gen_test
async def test_it_is_one_hash_that_expires_when_nobody_wants_it(harness: Harness) -> None:
    await harness.lease().claim(INTERVAL)
    assert {_plain(field) for field in await harness.client.hkeys(harness.key)} == {
        "holder",
        "until",
        "last",
        "attempt",
    }
    assert INTERVAL < await harness.client.ttl(harness.key) <= 2 * INTERVAL + 60
    await harness.pass_time(2 * INTERVAL + 61)
    assert await harness.client.exists(harness.key) == 0


@pytest.mark.gen_test
async def test_a_lease_made_before_a_fork_is_one_of_each_process(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = harness.lease()
    assert await lease.claim(INTERVAL) is True
    await harness.pass_time(INTERVAL * 0.6)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert await lease.claim(INTERVAL) is False
    monkeypatch.undo()
    assert await lease.claim(INTERVAL) is True


@pytest.mark.gen_test
async def test_leases_of_other_names_and_prefixes_do_not_matter(harness: Harness) -> None:
    leases = [
        harness.lease(),
        RedisLease(harness.client, "another", prefix=harness.prefix),
        RedisLease(harness.client, "ticker", prefix=f"{harness.prefix}another:"),
    ]
    assert [await lease.claim(INTERVAL) for lease in leases] == [True] * 3


@pytest.mark.gen_test
async def test_a_redis_that_hangs_or_is_gone_is_a_backplane_error_in_time_and_never_a_yes(
    own_redis: RedisServer, redis_client: Callable[..., Any]
) -> None:
    lease = RedisLease(redis_client(own_redis.url), "ticker", timeout=0.1)
    assert await lease.claim(0.001) is True
    own_redis.signal(signal.SIGSTOP)
    try:
        for call in (lease.start(), lease.claim(0.001), lease.release()):
            with pytest.raises(BackplaneError, match=r"Redis did not answer within 0\.1 seconds"):
                await call
    finally:
        own_redis.signal(signal.SIGCONT)
    own_redis.kill()
    for call in (lease.start(), lease.claim(0.001), lease.release()):
        with pytest.raises(BackplaneError, match="Redis"):
            await call
    own_redis.start()
    patient = RedisLease(redis_client(own_redis.url), "ticker")
    assert await patient.claim(INTERVAL) is True


@pytest.mark.gen_test
async def test_a_redis_that_is_too_old_is_told_at_the_start(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    async def info(section: str) -> dict[str, str]:
        return {"redis_version": "6.2.14"}

    monkeypatch.setattr(harness.client, "info", info)
    with pytest.raises(BackplaneError, match=r"Redis 6\.2\.14 is too old: RedisLease needs 7\.0"):
        await harness.lease().start()


@pytest.mark.parametrize("client", [redis.Redis(), None, "redis://localhost"], ids=["synchronous", "none", "text"])
def test_a_client_that_cannot_be_awaited_is_a_configuration_error(client: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"RedisLease.*must be a redis\.asyncio\.Redis, such as"):
        RedisLease(client, "ticker")


def test_a_cluster_is_a_configuration_error() -> None:
    cluster: Any = RedisCluster(host="localhost")
    with pytest.raises(ConfigurationError, match=r"RedisLease.*on a server that is no cluster"):
        RedisLease(cluster, "ticker")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": ""}, r"RedisLease\(name=''\): must say what is done once"),
        ({"name": None}, r"RedisLease\(name=None\): must say what is done once"),
        ({"prefix": ""}, r"RedisLease\(prefix=''\): .* is the default"),
        ({"timeout": 0}, r"RedisLease\(timeout=0\): must be positive; 5\.0 is the default"),
    ],
)
def test_an_option_that_is_none_is_a_configuration_error(
    redis_client: Callable[..., Any], options: Any, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        RedisLease(redis_client("redis://localhost"), **{"name": "ticker", **options})
