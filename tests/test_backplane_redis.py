"""`RedisBackplane` on a real Redis: what no other backplane has."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
import redis
from redis.asyncio import RedisCluster
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.redis_server import RedisServer
from tests.support import until
from tornado_wsauth.backoff import Seams
from tornado_wsauth.backplane.base import DEAD_AFTER, EVERYONE, HEARTBEAT, Claim, Place
from tornado_wsauth.backplane.envelope import Parcel, seal
from tornado_wsauth.backplane.redis import RedisBackplane
from tornado_wsauth.errors import BackplaneError, ConfigurationError

pytestmark = pytest.mark.engines

ANN = 'places:"ann"'


class Recorder:
    """A receiver that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def receive(self, channel: str, message: Mapping[str, Any]) -> None:
        self.told.append(message["text"])

    def gap(self) -> None:
        self.told.append("GAP")

    def forgotten(self) -> None:
        self.told.append("FORGOTTEN")


class Stepped(Seams):
    """Heartbeats come when the test says so; a new attempt to connect comes soon, unless it is held back."""

    def __init__(self) -> None:
        self.may_connect = asyncio.Event()
        self.may_connect.set()
        self._beats: list[asyncio.Future[None]] = []

    async def pause(self, seconds: float, woken: asyncio.Event) -> None:
        if seconds == HEARTBEAT:
            self._beats.append(asyncio.get_running_loop().create_future())
            await self._beats[-1]
        else:
            await super().pause(0.01, woken)
            await self.may_connect.wait()

    async def beat(self, waiting: int = 2) -> None:
        """Let a heartbeat pass: for the sign of life, and for the connection on which messages arrive."""
        await until(lambda: len(self._beats) >= waiting)
        beats, self._beats = self._beats, []
        for beat in beats:
            if not beat.done():
                beat.set_result(None)


class Process:
    """What stands for one of the application's processes."""

    def __init__(self, client: Any, prefix: str, **options: Any) -> None:
        self.client = client
        self.seams = Stepped()
        self.receiver = Recorder()
        self.told = self.receiver.told
        self.backplane = RedisBackplane(client, prefix=prefix, seams=self.seams, **options)

    async def start(self) -> Process:
        await self.backplane.start(self.receiver)
        return self

    async def hears(self, other: Process, text: str) -> None:
        """Return when a message of ``other`` has come, and so all that was sent before it."""
        await other.backplane.publish(EVERYONE, {"text": text})
        await until(lambda: text in self.told)


@pytest.fixture
def start(
    io_loop: Any, redis_url: str, redis_client: Callable[..., Any], redis_prefix: str
) -> Iterator[Callable[..., Any]]:
    """Start a process: ``await start(url=…, answers_in=…, **client_options)``."""
    processes: list[Process] = []

    async def start_one(url: str | None = None, *, answers_in: float = 5.0, **options: Any) -> Process:
        processes.append(Process(redis_client(url, **options), redis_prefix, timeout=answers_in))
        return await processes[-1].start()

    yield start_one

    async def close() -> None:
        for process in processes:
            await process.backplane.close()

    io_loop.run_sync(close)


@pytest.fixture
def lose_an_answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """Let the connection break after the next script that says ``word`` was carried out, before its answer is read."""

    def lose(word: str) -> list[Any]:
        read = AsyncScript.__call__
        lost: list[Any] = []

        async def losing(self: AsyncScript, *args: Any, **options: Any) -> Any:
            answer = await read(self, *args, **options)
            if not lost and word in str(self.script):
                lost.append(answer)
                raise RedisConnectionError("the answer was lost")
            return answer

        monkeypatch.setattr(AsyncScript, "__call__", losing)
        return lost

    return lose


async def subscribed(client: Any, prefix: str) -> dict[str, int]:
    """Return how many are subscribed to each of our channels."""
    channels = [channel for channel in await client.pubsub_channels() if channel.startswith(prefix.encode())]
    counts = await client.pubsub_numsub(*channels)
    return {channel.decode().removeprefix(prefix): count for channel, count in counts}


async def calls(client: Any, command: str) -> int:
    stats = (await client.info("commandstats")).get(f"cmdstat_{command}", {})
    return int(stats.get("calls", 0))


async def cut(client: Any, *processes: Process) -> None:
    """Cut the connections on which messages arrive; return when that was noticed."""
    for process in processes:
        process.seams.may_connect.clear()
    await client.client_kill_filter(_type="pubsub")
    await until(lambda: not any(process.backplane.is_connected for process in processes))


async def mend(*processes: Process) -> None:
    for process in processes:
        process.seams.may_connect.set()
    await until(lambda: all(process.backplane.is_connected for process in processes))


async def die(process: Process, client: Any, prefix: str) -> None:
    """Let the last sign of life be too long ago."""
    await client.zincrby(f"{prefix}processes", -1000 * DEAD_AFTER - 1, process.backplane.process_id)


@pytest.mark.parametrize(
    "options",
    [{}, {"decode_responses": True}, {"single_connection_client": True}, {"max_connections": 1}, {"protocol": 3}],
    ids=lambda options: "-".join(options) or "plain",
)
@pytest.mark.gen_test
async def test_all_of_it_works_whatever_the_client_was_told(start: Callable[..., Any], options: Any) -> None:
    one, other = await start(**options), await start(**options)
    other.backplane.listen("group:x")
    await other.backplane.listening()
    texts = [f"{number}" for number in range(20)]
    channels = [EVERYONE, "group:x", "group:y"]
    sending = [one.backplane.publish(channels[int(text) % 3], {"text": text}) for text in texts]
    claiming = [one.backplane.claim("ann", text, most=9) for text in texts]
    await asyncio.gather(*sending, *(claims := [*map(asyncio.ensure_future, claiming)]))
    held = [text for text, claim in zip(texts, claims, strict=True) if claim.result().granted]
    assert len(held) == 9
    assert await other.backplane.peers() == {one.backplane.process_id}
    await one.backplane.announce({"text": "kept"})
    await until(lambda: "kept" in other.told)
    assert other.told[:-1] == [text for text in texts if int(text) % 3 != 2]
    ((process_id, evicted),) = (await other.backplane.claim("ann", "a", most=9, evict=True)).evicted
    assert process_id == one.backplane.process_id
    held.remove(evicted)
    await one.backplane.release("ann", held[0])
    assert await other.backplane.claim("ann", "b", most=9) == Claim(granted=True)
    assert one.told == []


@pytest.mark.gen_test
async def test_it_is_subscribed_from_the_first_listener_to_the_last(
    start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str
) -> None:
    one, other = await start(), await start()
    client = redis_client()
    assert await subscribed(client, redis_prefix) == {EVERYONE: 2, "announced": 2}
    for process in (one, other):
        process.backplane.listen("group:x")
        await process.backplane.listening()
    assert (await subscribed(client, redis_prefix))["group:x"] == 2
    one.backplane.ignore("group:x")
    await one.backplane.listening()
    assert (await subscribed(client, redis_prefix))["group:x"] == 1
    other.backplane.ignore("group:x")
    await other.backplane.listening()
    assert "group:x" not in await subscribed(client, redis_prefix)


@pytest.mark.parametrize("moves", ["+-", "+-+", "+-+-", "+-+-+"])
@pytest.mark.parametrize("pace", ["at once", "turn by turn"])
@pytest.mark.gen_test
async def test_the_last_word_counts_however_quickly_listeners_come_and_go(
    start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str, moves: str, pace: str
) -> None:
    process = await start()
    for move in moves:
        (process.backplane.listen if move == "+" else process.backplane.ignore)("group:x")
        if pace == "turn by turn":
            await asyncio.sleep(0)
    await process.backplane.listening()
    assert ("group:x" in await subscribed(redis_client(), redis_prefix)) == (moves[-1] == "+")


@pytest.mark.gen_test
async def test_thousands_of_listeners_in_one_turn_are_a_few_commands(
    own_redis: RedisServer, start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str
) -> None:
    process, client = await start(own_redis.url), redis_client(own_redis.url)
    await client.config_resetstat()
    for number in range(5000):
        process.backplane.listen(f"user:{number}")
    await process.backplane.listening()
    assert len(await subscribed(client, redis_prefix)) == 5002
    assert await calls(client, "subscribe") == 5
    for number in range(5000):
        process.backplane.ignore(f"user:{number}")
    await process.backplane.listening()
    assert len(await subscribed(client, redis_prefix)) == 2
    assert await calls(client, "unsubscribe") == 5


@pytest.mark.gen_test
async def test_consecutive_messages_of_a_channel_share_a_command(
    own_redis: RedisServer, start: Callable[..., Any], redis_client: Callable[..., Any]
) -> None:
    one, other = await start(own_redis.url), await start(own_redis.url)
    client = redis_client(own_redis.url)
    await client.config_resetstat()
    await asyncio.gather(*(one.backplane.publish(EVERYONE, {"text": number}) for number in range(500)))
    await other.hears(one, "last")
    assert other.told == [*range(500), "last"]
    assert await calls(client, "publish") == 1 + 1


@pytest.mark.gen_test
async def test_after_a_cut_everything_is_listened_to_as_it_is_then(
    start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str
) -> None:
    # A37
    process, client = await start(), redis_client()
    process.backplane.listen("group:old")
    process.backplane.listen("group:kept")
    await process.backplane.listening()
    await cut(client, process)
    process.backplane.ignore("group:old")
    process.backplane.listen("group:new")
    waiting = asyncio.ensure_future(process.backplane.listening())
    await asyncio.sleep(0)
    assert not waiting.done()
    await mend(process)
    await waiting
    assert set(await subscribed(client, redis_prefix)) == {EVERYONE, "announced", "group:kept", "group:new"}
    assert process.told == ["GAP"]


@pytest.mark.gen_test
async def test_a_cut_is_told_once_and_nothing_comes_twice(
    start: Callable[..., Any], redis_client: Callable[..., Any]
) -> None:
    # A37
    one, other = await start(), await start()
    for number in (1, 2):
        await other.hears(one, f"before {number}")
        await cut(redis_client(), one, other)
        with pytest.raises(BackplaneError, match="cut off"):
            await one.backplane.publish(EVERYONE, {"text": "nobody hears it"})
        await mend(one, other)
    await other.hears(one, "after")
    assert other.told == ["before 1", "GAP", "before 2", "GAP", "after"]
    assert one.told == ["GAP", "GAP"]


@pytest.mark.gen_test
async def test_what_is_announced_during_a_cut_comes_before_the_gap_is_told_and_once(
    start: Callable[..., Any], redis_client: Callable[..., Any]
) -> None:
    # A37
    one, other = await start(), await start()
    await one.backplane.announce({"text": "before"})
    await until(lambda: other.told == ["before"])
    await cut(redis_client(), one, other)
    await asyncio.gather(*(one.backplane.announce({"text": number}) for number in range(250)))
    await mend(one, other)
    await one.backplane.announce({"text": "after"})
    await until(lambda: "after" in other.told)
    assert other.told == ["before", *range(250), "GAP", "after"]
    assert one.told == ["GAP"]


@pytest.mark.gen_test
async def test_a_process_that_starts_does_not_hear_what_was_announced_before(start: Callable[..., Any]) -> None:
    one = await start()
    await one.backplane.announce({"text": "before"})
    other = await start()
    await one.backplane.announce({"text": "after"})
    await until(lambda: "after" in other.told)
    assert other.told == ["after"]


@pytest.mark.gen_test
async def test_an_announcement_is_heard_that_is_made_while_a_process_starts(
    start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await start()
    other = Process(redis_client(), redis_prefix)
    connect = RedisBackplane._find_end

    async def announce_then(self: RedisBackplane) -> str:
        end = await connect(self)
        monkeypatch.undo()
        await one.backplane.announce({"text": "meanwhile"})
        return end

    monkeypatch.setattr(RedisBackplane, "_find_end", announce_then)
    await other.start()
    assert other.told == ["meanwhile"], "before it counts as connected"
    await other.backplane.close()


@pytest.mark.parametrize("left", ["nothing", "an older stream"])
@pytest.mark.gen_test
async def test_announcements_go_on_after_their_stream_was_lost_during_a_cut(
    start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str, left: str
) -> None:
    one, other = await start(), await start()
    client = redis_client()
    await one.backplane.announce({"text": "before"})
    await until(lambda: other.told == ["before"])
    await cut(client, one, other)
    await client.delete(f"{redis_prefix}announcements")
    if left == "an older stream":
        old = seal("somebody", 1, [Parcel(EVERYONE, '{"text":"old"}')])
        await client.xadd(f"{redis_prefix}announcements", {"envelope": old}, id="5-1")
    await mend(one, other)
    if left == "an older stream":
        new = seal("somebody", 2, [Parcel(EVERYONE, '{"text":"new"}')])
        await client.xadd(f"{redis_prefix}announcements", {"envelope": new}, id="5-2")
    await one.backplane.announce({"text": "after"})
    await until(lambda: "after" in other.told)
    assert other.told == ["before", "GAP", *(["new"] if left == "an older stream" else []), "after"]


@pytest.mark.gen_test
async def test_announcements_are_kept_for_an_hour_and_no_longer(
    start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str
) -> None:
    one, client, stream = await start(), redis_client(), f"{redis_prefix}announcements"
    seconds, _ = await client.time()
    minutes = [61] * 300 + [59] * 300
    for number, ago in enumerate(minutes):
        await client.xadd(stream, {"envelope": "x" * 100}, id=f"{(seconds - 60 * ago) * 1000}-{number + 1}")
    await one.backplane.announce({"text": "now"})
    kept = [int(entry.split(b"-")[0]) for entry, _ in await client.xrange(stream)]
    assert sum(at >= (seconds - 60 * 59) * 1000 for at in kept) == 301
    assert len(kept) < 301 + 100, "it is trimmed by whole nodes"


@pytest.mark.gen_test
async def test_a_redis_that_restarts_empty_is_used_as_before(
    own_redis: RedisServer, start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str
) -> None:
    # A37
    one, other = await start(own_redis.url), await start(own_redis.url)
    other.backplane.listen("group:x")
    await one.backplane.announce({"text": "before"})
    await until(lambda: other.told == ["before"])
    assert (await one.backplane.claim("ann", "a", most=1)).granted
    own_redis.kill()
    await until(lambda: not (one.backplane.is_connected or other.backplane.is_connected))
    own_redis.start()
    await mend(one, other)
    await one.seams.beat()
    await until(lambda: one.told == ["GAP", "FORGOTTEN"])
    assert (await one.backplane.claim("ann", "a", most=1)).granted
    assert not (await other.backplane.claim("ann", "b", most=1)).granted
    await one.backplane.announce({"text": "after"})
    await one.backplane.publish("group:x", {"text": "in the group"})
    await until(lambda: {"after", "in the group"} <= set(other.told))
    assert other.told[:2] == ["before", "GAP"]


GARBAGE = {
    "a pickle": pickle.dumps({"text": "bad"}),
    "nothing": b"",
    "no text": b"\xff\xfe\x00",
    "nested": b"[" * 100_000,
    "another version": json.dumps({"v": 2, "from": "x", "seq": 1, "messages": [[EVERYONE, {"text": "bad"}]]}).encode(),
    "no messages": json.dumps({"v": 1, "from": "x", "seq": 1, "messages": [[EVERYONE]]}).encode(),
}


@pytest.mark.parametrize("way", ["published", "announced"])
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "decoded"])
@pytest.mark.gen_test
async def test_what_others_put_there_is_ignored_with_a_warning(
    start: Callable[..., Any],
    redis_client: Callable[..., Any],
    redis_prefix: str,
    caplog: pytest.LogCaptureFixture,
    way: str,
    garbage: bytes,
    decode: bool,
) -> None:
    # A37
    one, other = await start(), await start(decode_responses=decode)
    client = redis_client()
    if way == "published":
        await client.publish(f"{redis_prefix}{EVERYONE}", garbage)
    else:
        await client.xadd(f"{redis_prefix}announcements", {"envelope": garbage})
        await client.xadd(f"{redis_prefix}announcements", {"another field": garbage})
        await one.backplane.announce({"text": "announced"})
        await until(lambda: "announced" in other.told)
    await other.hears(one, "still there")
    assert set(other.told) == {"still there", *(["announced"] if way == "announced" else [])}
    assert "that are not ours" in caplog.text
    assert (one.backplane.is_connected, other.backplane.is_connected) == (True, True)


@pytest.mark.gen_test
async def test_the_places_of_a_process_are_free_when_it_has_shown_no_sign_of_life_for_long(
    start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str
) -> None:
    one, other = await start(), await start()
    client = redis_client()
    assert (await one.backplane.claim("ann", "a", most=1)).granted
    await client.zincrby(f"{redis_prefix}processes", -1000 * DEAD_AFTER + 500, one.backplane.process_id)
    assert not (await other.backplane.claim("ann", "b", most=1)).granted, "it is slow, and alive"
    await die(one, client, redis_prefix)
    assert await other.backplane.peers() == frozenset()
    assert await other.backplane.claim("ann", "b", most=1) == Claim(granted=True)
    await other.seams.beat()
    while await client.zscore(f"{redis_prefix}processes", one.backplane.process_id):
        await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_a_process_that_was_taken_for_dead_is_told_once_and_may_claim_again(
    start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str
) -> None:
    one, other = await start(), await start()
    await one.backplane.claim("ann", "a", most=2)
    await die(one, redis_client(), redis_prefix)
    await other.backplane.claim("ann", "b", most=2)
    await one.seams.beat()
    await until(lambda: one.told == ["FORGOTTEN"])
    assert await one.backplane.claim("ann", "a", most=2) == Claim(granted=True)
    assert await other.backplane.claim("ann", "c", most=2) == Claim(granted=False)
    assert (await other.backplane.claim("ann", "c", most=2, evict=True)).evicted == (
        Place(other.backplane.process_id, "b"),
    ), "who claims again claims last"
    await one.seams.beat()
    await one.seams.beat()
    assert one.told == ["FORGOTTEN"]


@pytest.mark.gen_test
async def test_a_process_is_told_that_it_was_taken_for_dead_though_the_answer_was_lost(
    start: Callable[..., Any],
    redis_client: Callable[..., Any],
    redis_prefix: str,
    lose_an_answer: Callable[[str], list[Any]],
) -> None:
    process = await start()
    await die(process, redis_client(), redis_prefix)
    lost = lose_an_answer("ZREMRANGEBYSCORE")
    await process.seams.beat()
    await until(lambda: process.told == ["FORGOTTEN"])
    assert lost == [0]


@pytest.mark.gen_test
async def test_who_was_evicted_is_told_again_when_the_answer_was_lost(
    start: Callable[..., Any], lose_an_answer: Callable[[str], list[Any]]
) -> None:
    process = await start()
    for name in ("a", "b"):
        await process.backplane.claim("ann", name, most=2)
    lost = lose_an_answer("LRANGE")
    claim = await process.backplane.claim("ann", "c", most=1, evict=True)
    assert claim.evicted == tuple(Place(process.backplane.process_id, name) for name in ("a", "b"))
    assert len(lost) == 1


@pytest.mark.gen_test
async def test_a_place_whose_release_failed_is_released_by_a_later_beat(
    start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await start(), await start()
    for name in ("a", "b"):
        await one.backplane.claim("ann", name, most=2)

    async def zrem(*arguments: Any) -> None:
        raise RedisConnectionError("it is down")

    monkeypatch.setattr(one.client, "zrem", zrem)
    for name in ("a", "b"):
        with pytest.raises(BackplaneError, match="Redis failed: ConnectionError"):
            await one.backplane.release("ann", name)
    monkeypatch.undo()
    await one.backplane.claim("ann", "b", most=2)
    await one.seams.beat()
    while await redis_client().zcard(f"{redis_prefix}{ANN}") > 1:
        await asyncio.sleep(0)
    assert (await other.backplane.claim("ann", "c", most=2)).granted
    assert not (await other.backplane.claim("ann", "d", most=2)).granted, "b was claimed again, and is held"


@pytest.mark.gen_test
async def test_every_key_expires_unless_a_beat_renews_it(
    start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str
) -> None:
    process, client = await start(), redis_client()
    for user_id in ("ann", "bob"):
        await process.backplane.claim(user_id, "a", most=1)
    await process.backplane.claim("ann", "b", most=1, evict=True)
    await process.backplane.announce({"text": "x"})
    pattern = f"{redis_prefix}*".replace("{", r"\{").replace("}", r"\}")
    keys = [key async for key in client.scan_iter(match=pattern)]
    assert len(keys) == 5
    for key in keys:
        assert 0 < await client.ttl(key) <= 24 * 3600
    places = [f'{redis_prefix}places:"{user_id}"' for user_id in ("ann", "bob")]
    for key in places:
        await client.expire(key, 60)
    for _ in places:
        await process.seams.beat()
    while min([await client.ttl(key) for key in places]) <= 60:
        await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_nothing_but_what_expires_soon_is_left_by_a_process_that_closes(
    start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str
) -> None:
    one, other = await start(), await start()
    client = redis_client()
    for number in range(30):
        await one.backplane.claim(f"user {number % 7}", f"{number}", most=100)
    await one.backplane.close()
    pattern = f"{redis_prefix}*".replace("{", r"\{").replace("}", r"\}")
    assert [key async for key in client.scan_iter(match=pattern)] == [f"{redis_prefix}processes".encode()]
    assert await client.zrange(f"{redis_prefix}processes", 0, -1) == [other.backplane.process_id.encode()]
    assert set((await subscribed(client, redis_prefix)).values()) == {1}


@pytest.mark.gen_test
async def test_a_closed_backplane_starts_again(start: Callable[..., Any]) -> None:
    one, other = await start(), await start()
    await one.backplane.claim("ann", "a", most=1)
    await one.backplane.close()
    await other.backplane.announce({"text": "before"})
    await one.start()
    await one.hears(other, "after")
    assert [text for text in one.told if text != "GAP"] == ["after"]
    assert (await other.backplane.claim("ann", "b", most=1)).granted


@pytest.mark.gen_test
async def test_a_redis_that_hangs_is_a_backplane_error_in_time_and_nothing_comes_twice(
    own_redis: RedisServer, start: Callable[..., Any]
) -> None:
    # A37
    one, other = await start(own_redis.url, answers_in=0.2), await start(own_redis.url)
    await other.hears(one, "before")
    one.backplane.listen("group:x")
    own_redis.signal(signal.SIGSTOP)
    try:
        asked: list[Awaitable[Any]] = [
            one.backplane.publish(EVERYONE, {"text": "published"}),
            one.backplane.announce({"text": "announced"}),
            one.backplane.claim("ann", "a", most=1),
            one.backplane.release("ann", "b"),
            one.backplane.peers(),
            one.backplane.listening(),
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        own_redis.signal(signal.SIGCONT)
    assert [str(answer) for answer in answers] == ["the backplane did not answer within 0.2 seconds"] * 6
    assert {type(answer) for answer in answers} == {BackplaneError}
    await one.backplane.listening()
    await one.backplane.announce({"text": "announced after"})
    await other.hears(one, "after")
    await until(lambda: "announced after" in other.told)
    assert sorted({*other.told}) == sorted(other.told)
    assert "GAP" not in other.told, "it was no cut"


@pytest.mark.gen_test
async def test_a_connection_that_is_silent_for_long_is_cut(own_redis: RedisServer, start: Callable[..., Any]) -> None:
    # A37
    process = await start(own_redis.url, answers_in=0.2)
    own_redis.signal(signal.SIGSTOP)
    try:
        for _ in range(2):
            await process.seams.beat()
        assert process.backplane.is_connected, "it may be busy"
        await process.seams.beat()
        await until(lambda: not process.backplane.is_connected)
    finally:
        own_redis.signal(signal.SIGCONT)
    await until(lambda: process.told == ["GAP"])


@pytest.mark.gen_test
async def test_a_connection_on_which_nothing_is_sent_stays_as_long_as_it_is_answered(
    start: Callable[..., Any], redis_client: Callable[..., Any]
) -> None:
    client = redis_client()
    process = await start(socket_timeout=0.05, health_check_interval=1)
    for _ in range(5):
        await process.seams.beat()
        await client.blpop("nothing is ever put here", timeout=0.05)
    assert process.backplane.is_connected
    assert process.told == []


@pytest.mark.gen_test
async def test_a_redis_that_is_not_there_is_a_backplane_error_and_the_next_start_tries_again(
    own_redis: RedisServer, redis_url: str, redis_client: Callable[..., Any], redis_prefix: str
) -> None:
    process = Process(redis_client(own_redis.url), redis_prefix, timeout=1)
    own_redis.kill()
    with pytest.raises(BackplaneError):
        await process.start()
    own_redis.start()
    await process.start()
    own_redis.kill()
    await until(lambda: not process.backplane.is_connected)
    await process.backplane.close()


@pytest.mark.gen_test
async def test_what_the_server_says_of_an_error_is_in_no_error_of_ours(
    start: Callable[..., Any], redis_client: Callable[..., Any], redis_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    # A38
    caplog.set_level(logging.DEBUG)
    process = await start()
    await redis_client().set(f"{redis_prefix}{ANN}", "of another type")
    with pytest.raises(BackplaneError) as caught:
        await process.backplane.claim("ann", "a", most=1)
    assert str(caught.value) == "Redis failed: ResponseError"
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)
    assert ANN not in caplog.text


@pytest.mark.gen_test
async def test_a_redis_that_is_too_old_is_told_at_the_start(
    redis_client: Callable[..., Any], redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def info(section: str) -> dict[str, str]:
        return {"redis_version": "6.2.14"}

    process = Process(redis_client(), redis_prefix)
    monkeypatch.setattr(process.client, "info", info)
    with pytest.raises(BackplaneError, match=r"Redis 6\.2\.14 is too old: RedisBackplane needs 7\.0"):
        await process.start()


@pytest.mark.parametrize("client", [redis.Redis(), None, "redis://localhost"], ids=["synchronous", "none", "text"])
def test_a_client_that_cannot_be_awaited_is_a_configuration_error(client: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"RedisBackplane.*must be a redis\.asyncio\.Redis, such as"):
        RedisBackplane(client)


def test_a_cluster_is_a_configuration_error_that_says_why() -> None:
    cluster: Any = RedisCluster(host="localhost")
    with pytest.raises(ConfigurationError, match=r"no cluster: a script looks at .* which a cluster keeps apart"):
        RedisBackplane(cluster)


@pytest.mark.parametrize("options", [{"prefix": ""}, {"prefix": None}, {"timeout": 0}, {"timeout": True}])
def test_an_option_that_is_none_is_a_configuration_error(redis_client: Callable[..., Any], options: Any) -> None:
    with pytest.raises(ConfigurationError, match="is the default"):
        RedisBackplane(redis_client("redis://localhost"), **options)
