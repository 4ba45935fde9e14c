"""`RedisTokenStore` on a real Redis."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.contracts.token_store import TokenStoreContract, rejection
from tests.redis_server import RedisServer
from tornado_wsauth.errors import ConfigurationError, TokenLimitReached, TokenStoreError
from tornado_wsauth.stores.redis import RedisTokenStore
from tornado_wsauth.tokens import hash_token


class Harness:
    def __init__(self, client: Any, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self.store = RedisTokenStore(client, prefix=prefix)

    async def keys(self, kind: str) -> list[bytes]:
        pattern = f"{self.prefix}{kind}:*".replace("{", r"\{").replace("}", r"\}")
        return [key async for key in self.client.scan_iter(match=pattern)]

    async def pass_time(self, seconds: float) -> None:
        passed = round(seconds * 1000)
        for key in await self.keys("token"):
            await self.client.hincrby(key, "created_at", -passed)
            await self.client.pexpireat(key, await self.client.hincrby(key, "expires_at", -passed))
        for key in await self.keys("held"):
            for member, _ in await self.client.zrange(key, 0, -1, withscores=True):
                await self.client.zincrby(key, -passed, member)
            await self.client.pexpireat(key, await self.client.pexpiretime(key) - passed)

    async def dump(self) -> str:
        tokens = [(key, await self.client.hgetall(key)) for key in await self.keys("token")]
        held = [(key, await self.client.zrange(key, 0, -1)) for key in await self.keys("held")]
        return repr((tokens, held))


@pytest.fixture(params=[False, True], ids=["bytes", "decoded"])
def harness(request: pytest.FixtureRequest, redis_client: Callable[..., Any], redis_prefix: str) -> Harness:
    return Harness(redis_client(decode_responses=request.param), redis_prefix)


class TestRedisTokenStore(TokenStoreContract):
    remembers_expired = False


@pytest.mark.gen_test
async def test_one_token_is_one_hash_of_the_documented_shape_that_expires_with_it(harness: Harness) -> None:
    # A2
    token = await harness.store.issue("ann", 30, context={"a": 1})
    ours = Harness(harness.client, harness.prefix)
    (key,) = await ours.keys("token")
    assert f"token:{hash_token(token)}" in str(key)
    fields = {str(name) for name in map(_plain, await harness.client.hkeys(key))}
    assert fields == {"user_id", "created_at", "expires_at", "context"}
    assert await harness.client.pexpiretime(key) == int(await harness.client.hget(key, "expires_at"))
    await harness.store.redeem(token, spender="10.0.0.1")
    fields = {str(name) for name in map(_plain, await harness.client.hkeys(key))}
    assert fields == {"user_id", "created_at", "expires_at", "context", "spent", "spent_by"}


def _plain(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.gen_test
async def test_nothing_is_left_when_the_last_token_of_a_user_has_expired(harness: Harness) -> None:
    for ttl in (20, 10, 30):
        await harness.store.issue("ann", ttl)
    await harness.pass_time(29)
    assert [len(await harness.keys(kind)) for kind in ("token", "held")] == [1, 1]
    await harness.pass_time(1)
    assert [len(await harness.keys(kind)) for kind in ("token", "held")] == [0, 0]


@pytest.fixture
def lose_an_answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """Let the connection break after the next script was carried out, and before its answer is read."""

    def lose() -> list[Any]:
        read = AsyncScript.__call__
        lost: list[Any] = []

        async def losing(self: AsyncScript, *args: Any, **options: Any) -> Any:
            answer = await read(self, *args, **options)
            if not lost:
                lost.append(answer)
                raise RedisConnectionError("the answer was lost")
            return answer

        monkeypatch.setattr(AsyncScript, "__call__", losing)
        return lost

    return lose


@pytest.mark.gen_test
async def test_a_redeem_whose_answer_was_lost_is_no_replay_when_it_is_sent_again(
    harness: Harness, lose_an_answer: Callable[[], list[Any]]
) -> None:
    # A35
    token = await harness.store.issue("ann", 30)
    lost = lose_an_answer()
    assert (await harness.store.redeem(token, spender="10.0.0.1")).user_id == "ann"
    assert len(lost) == 1
    assert await rejection(harness.store.redeem(token)) == ("replayed", "ann")


@pytest.mark.gen_test
async def test_a_token_whose_answer_was_lost_counts_once_when_it_is_issued_again(
    harness: Harness, lose_an_answer: Callable[[], list[Any]]
) -> None:
    # A4
    lost = lose_an_answer()
    token = await harness.store.issue("ann", 30, max_live=1)
    assert lost == [1]
    with pytest.raises(TokenLimitReached):
        await harness.store.issue("ann", 30, max_live=1)
    assert (await harness.store.redeem(token)).user_id == "ann"


@pytest.mark.gen_test
async def test_connections_that_were_dropped_are_replaced_without_a_word(
    own_redis: RedisServer, redis_client: Callable[..., Any]
) -> None:
    # A35
    client = redis_client(own_redis.url)
    store = RedisTokenStore(client)
    tokens = [await store.issue("ann", 30) for _ in range(3)]
    for token in tokens:
        await redis_client(own_redis.url).client_kill_filter(_type="normal", skipme=True)
        assert (await store.redeem(token)).user_id == "ann"


@pytest.mark.gen_test
async def test_a_redis_that_is_not_there_is_a_token_store_error(
    own_redis: RedisServer, redis_client: Callable[..., Any]
) -> None:
    # A34
    store = RedisTokenStore(redis_client(own_redis.url), timeout=1)
    await store.start()
    token = await store.issue("ann", 30)
    own_redis.kill()
    for call in (store.start(), store.issue("ann", 30), store.redeem(token), store.revoke_user("ann")):
        with pytest.raises(TokenStoreError, match="Redis"):
            await call
    own_redis.start()
    assert await rejection(store.redeem(token)) == ("unknown", None), "it had no disk"
    assert (await store.redeem(await store.issue("ann", 30))).user_id == "ann"


@pytest.mark.gen_test
async def test_a_redis_that_hangs_is_a_token_store_error_in_time_and_then_works_again(
    own_redis: RedisServer, redis_client: Callable[..., Any]
) -> None:
    # A34
    store = RedisTokenStore(redis_client(own_redis.url), timeout=0.1)
    tokens = [await store.issue("ann", 30) for _ in range(3)]
    own_redis.signal(signal.SIGSTOP)
    try:
        results = await asyncio.gather(*map(store.redeem, tokens[:2]), return_exceptions=True)
    finally:
        own_redis.signal(signal.SIGCONT)
    assert [str(result) for result in results] == ["Redis did not answer within 0.1 seconds"] * 2
    assert {type(result) for result in results} == {TokenStoreError}
    patient = RedisTokenStore(redis_client(own_redis.url))
    assert (await patient.redeem(tokens[2])).user_id == "ann"
    assert (await store.redeem(await store.issue("ann", 30))).user_id == "ann"


@pytest.mark.gen_test
async def test_no_token_and_no_hash_is_in_an_error_or_a_log(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    # A38
    caplog.set_level(logging.DEBUG)
    token = await harness.store.issue("ann", 30)
    await harness.client.delete(f"{harness.prefix}token:{hash_token(token)}")
    await harness.client.set(f"{harness.prefix}token:{hash_token(token)}", "of another type")
    with pytest.raises(TokenStoreError) as caught:
        await harness.store.redeem(token)
    told = repr(caught.value) + str(caught.value) + caplog.text + repr(harness.store)
    assert token not in told
    assert hash_token(token) not in told
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)


@pytest.mark.gen_test
async def test_a_redis_that_is_too_old_is_told_at_the_start(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    async def info(section: str) -> dict[str, str]:
        return {"redis_version": "6.2.14"}

    monkeypatch.setattr(harness.client, "info", info)
    with pytest.raises(TokenStoreError, match=r"Redis 6\.2\.14 is too old.*7\.0"):
        await harness.store.start()


@pytest.mark.parametrize("client", [redis.Redis(), None, "redis://localhost"], ids=["synchronous", "none", "text"])
def test_a_client_that_cannot_be_awaited_is_a_configuration_error(client: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"must be a redis\.asyncio\.Redis, such as"):
        RedisTokenStore(client)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": True}, {"timeout": float("inf")}, {"timeout": "1"}])
def test_a_timeout_that_is_none_is_a_configuration_error(redis_client: Callable[..., Any], options: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"timeout=.*5\.0 is the default"):
        RedisTokenStore(redis_client("redis://localhost"), **options)


@pytest.mark.parametrize("prefix", ["", "wsauth:", "{}:", None])
def test_a_prefix_without_a_hash_tag_is_a_configuration_error(redis_client: Callable[..., Any], prefix: Any) -> None:
    with pytest.raises(ConfigurationError, match="hash tag"):
        RedisTokenStore(redis_client("redis://localhost"), prefix=prefix)
