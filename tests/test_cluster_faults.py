"""Several processes, when messages are lost, make no sense, or the backplane cannot be reached."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fanout import complaints
from tests.handshakes import ask
from tests.processes import (
    REVOKED,
    SpyBackplane,
    Stranger,
    backplane_of,
    everywhere,
    heard_by,
    hub_of,
    is_served,
    path_of,
    processes,
)
from tests.processes import to_the_end as to_the_end
from tests.support import AppError, ManualClock, http, make_auth, make_jwt, settle
from tornado_wsauth import (
    BackplaneError,
    ConfigurationError,
    FanOut,
    MemoryBackplane,
    MemoryTokenStore,
    TokenStoreError,
)
from tornado_wsauth.backplane.base import process_channel, user_channel
from tornado_wsauth.backplane.memory import Hub


def gap(server: Any) -> None:
    """Tell the process that it may have missed something, as a backplane does."""
    receiver = backplane_of(server).receiver
    assert receiver is not None
    receiver.gap()


class Gaps:
    """An ``on_gap`` that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


# --- a gap -----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_application_is_told_of_a_gap(serve, caplog, asynchronous):
    # A37
    calls: list[str] = []

    async def later() -> None:
        await asyncio.sleep(0)
        calls.append("later")

    (server,) = await processes(serve, 1)
    backplane_of(server).on_gap = later if asynchronous else lambda: calls.append("now")
    for number in range(3):
        assert len(calls) == number
        gap(server)
        await settle()
    assert calls == ["later" if asynchronous else "now"] * 3
    assert complaints(caplog) == []


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_on_gap_raises_is_logged_and_does_no_harm(serve, login, caplog, asynchronous):
    # A37
    async def later() -> None:
        raise AppError("a bug")

    def now() -> None:
        raise AppError("a bug")

    servers = await processes(serve)
    clients = await everywhere(login, servers)
    backplane_of(servers[1]).on_gap = later if asynchronous else now
    gap(servers[1])
    await settle()
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info[0] is AppError
    assert (record.name, record.getMessage()) == ("tornado_wsauth", "on_gap() failed")
    await servers[0].auth.broadcast("news")
    assert await heard_by(servers, clients) == [["news"]] * 2


@pytest.mark.gen_test
async def test_after_a_gap_each_session_is_asked_about_at_once_and_the_invalid_are_closed(serve, login):
    """A logout of another process may be what was lost."""
    # A25, A37
    asked: list[str] = []

    def still_valid(session: Any) -> bool:
        asked.append(session.user_id)
        return session.user_id != "alice"

    clock = ManualClock()
    servers = await processes(serve, still_valid=still_valid, clock=clock)
    alice, bob = await login(servers[0], "alice"), await login(servers[0], "bob")
    other = await login(servers[1], "alice")
    await settle()
    assert asked == []
    gap(servers[0])
    clock.advance(0)
    assert await alice.read_close() == REVOKED
    assert sorted(asked) == ["alice", "bob"]
    assert await is_served(bob)
    assert await is_served(other), "the other process missed nothing"


@pytest.mark.gen_test
async def test_the_others_learn_that_something_was_lost_once_they_can_be_told(serve, login, caplog):
    # A37
    servers = await processes(serve, 3)
    clients = await everywhere(login, servers)
    gaps = [Gaps() for _ in servers]
    for server, one in zip(servers, gaps, strict=True):
        backplane_of(server).on_gap = one
    backplane_of(servers[0]).failing = {"publish"}
    for number in range(5):
        assert await servers[0].auth.broadcast(f"lost {number}") == FanOut(1, 0, 0)
        await servers[0].auth.send_to_user("alice", f"lost too {number}")
    (said,) = complaints(caplog)
    assert "this one's clients only" in said
    assert "no answer to publish" in said
    backplane_of(servers[0]).failing = set()
    await servers[0].auth.broadcast("again")
    await servers[0].auth.broadcast("and again")
    texts = await heard_by(servers, clients)
    assert texts[1:] == [["again", "and again"]] * 2
    assert len(texts[0]) == 12
    assert [one.calls for one in gaps] == [0, 1, 1]
    assert len(complaints(caplog)) == 1


@pytest.mark.gen_test
async def test_each_outage_is_logged_once_and_told_once(serve, login, caplog):
    # A37
    servers = await processes(serve)
    backplane_of(servers[1]).on_gap = gaps = Gaps()
    for outage in range(1, 4):
        backplane_of(servers[0]).failing = {"publish"}
        for _ in range(3):
            await servers[0].auth.broadcast("lost")
        assert len(complaints(caplog)) == outage
        backplane_of(servers[0]).failing = set()
        await servers[0].auth.broadcast("again")
        await settle()
        assert gaps.calls == outage


@pytest.mark.gen_test
async def test_many_who_broadcast_at_the_end_of_an_outage_tell_of_it_once(serve):
    # A37
    class Slow(SpyBackplane):
        async def publish(self, *args: Any) -> None:
            await asyncio.sleep(0)
            await super().publish(*args)

    servers = await processes(serve, spy=Slow)
    backplane_of(servers[1]).on_gap = gaps = Gaps()
    backplane_of(servers[0]).failing = {"publish"}
    await servers[0].auth.broadcast("lost")
    backplane_of(servers[0]).failing = set()
    await asyncio.gather(*(servers[0].auth.broadcast("again") for _ in range(10)))
    await settle()
    assert gaps.calls == 1


# --- messages that make no sense -------------------------------------------------------------------------------------

TEXT_MESSAGE = {"text": "x", "slow": "close"}

NONSENSE = [
    {},
    {"kind": None},
    {"kind": "BROADCAST", **TEXT_MESSAGE, "group": None},
    {"kind": ["broadcast"]},
    {"text": "x"},
    {"kind": "broadcast"},
    {"kind": "broadcast", "text": "x", "group": None},
    {"kind": "broadcast", "text": "x", "slow": "close"},
    {"kind": "broadcast", **TEXT_MESSAGE, "group": 7},
    {"kind": "broadcast", **TEXT_MESSAGE, "group": ["red"]},
    {"kind": "broadcast", "text": "x", "slow": "later", "group": None},
    {"kind": "broadcast", "text": "x", "slow": ["close"], "group": None},
    {"kind": "broadcast", "slow": "close", "group": None},
    {"kind": "broadcast", "text": 7, "slow": "close", "group": None},
    {"kind": "broadcast", "text": {"a": 1}, "slow": "close", "group": None},
    {"kind": "broadcast", "text": "\ud800", "slow": "close", "group": None},
    {"kind": "broadcast", "binary": "no base64!", "slow": "close", "group": None},
    {"kind": "broadcast", "binary": "żółw", "slow": "close", "group": None},
    {"kind": "broadcast", "binary": "QQ", "slow": "close", "group": None},
    {"kind": "broadcast", "binary": [81], "slow": "close", "group": None},
    {"kind": "send", **TEXT_MESSAGE},
    {"kind": "send", **TEXT_MESSAGE, "user": None},
    {"kind": "send", **TEXT_MESSAGE, "user": ["alice"]},
    {"kind": "send", "user": "alice", "slow": "close"},
    {"kind": "send", "user": "alice", "slow": 1, "text": "x"},
    {"kind": "end_user"},
    {"kind": "end_user", "user": None},
    {"kind": "end_user", "user": ["alice"]},
    {"kind": "end_session", "session": 7},
    {"kind": "end_session", "user": "alice"},
    {"kind": "evict", "process": "0", "names": "0"},
    {"kind": "evict", "names": ["0"]},
    {"kind": "evict"},
    {"kind": "answer"},
    {"kind": "answer", "number": "1", "process": "x", "answer": 1},
    {"kind": "answer", "number": 1, "process": 7, "answer": 1},
    {"kind": "answer", "number": 1, "process": "x"},
    {"kind": "ask"},
]


@pytest.mark.gen_test
@pytest.mark.parametrize("message", NONSENSE, ids=str)
@pytest.mark.parametrize("channel", ["everyone", "own"])
async def test_a_message_without_sense_is_warned_about_and_changes_nothing(serve, login, caplog, channel, message):
    # A37
    (server,) = await processes(serve, 1, max_connections_per_user=5)
    client = await login(server)
    stranger = await Stranger(hub_of(server)).start()
    if channel == "own":
        channel = process_channel(backplane_of(server).process_id)
    await stranger.send(message, channel)
    (said,) = complaints(caplog)
    assert repr(channel) in said
    await stranger.send({"kind": "broadcast", "text": "right", "slow": "close", "group": None})
    await stranger.send({"kind": "send", "user": "alice", "binary": "cmlnaHQ=", "slow": "drop"}, user_channel("alice"))
    assert await heard_by([server], [client]) == [["right", "right"]]
    assert await server.auth.disconnect_session("unknown") == 0
    assert len(complaints(caplog)) == 1


@pytest.mark.gen_test
async def test_what_a_later_version_adds_to_a_message_is_no_matter(serve, login, caplog):
    (server,) = await processes(serve, 1)
    client = await login(server)
    stranger = await Stranger(hub_of(server)).start()
    await stranger.send({"kind": "broadcast", "group": None, **TEXT_MESSAGE, "later": [1]})
    assert await heard_by([server], [client]) == [["x"]]
    await stranger.send({"kind": "end_user", "user": "alice", "later": None})
    assert await client.read_close() == REVOKED
    assert complaints(caplog) == []


# --- beginning and end -----------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_until_the_backplane_is_reached_tokens_and_upgrades_are_503_and_tokens_stay_good(serve, login):
    # A34
    servers = await processes(serve, 1)
    hub, store = hub_of(servers[0]), servers[0].auth.tokens
    late = serve(auth=make_auth(backplane=SpyBackplane(hub), tokens=store))
    backplane_of(late).failing = {"start"}
    path = await path_of(servers[0])
    for _ in range(2):
        token = await http(late, Authorization=f"Bearer {make_jwt('alice')}")
        upgrade = await ask(late, path)
        assert (token.status, upgrade.status) == (503, 503)
        assert token.json().keys() == upgrade.json().keys() == {"error"}
        assert int(token.headers["retry-after"]) >= 1
        assert int(upgrade.headers["retry-after"]) >= 1
    with pytest.raises(BackplaneError, match="no answer to start"):
        await late.auth.start()
    backplane_of(late).failing = set()
    assert (await http(late, Authorization=f"Bearer {make_jwt('alice')}")).status == 200
    assert (await ask(late, path)).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize("what", ["count", "presence", "disconnect_user", "disconnect_session"])
async def test_what_needs_the_others_fails_until_the_backplane_is_reached_and_then_starts_it(what):
    auth = make_auth(backplane=SpyBackplane(Hub()))
    auth.backplane.failing = {"start"}
    arguments = ("alice",) if what.startswith("disconnect") else ()
    with pytest.raises(BackplaneError):
        await getattr(auth, what)(*arguments)
    auth.backplane.failing = set()
    assert not await getattr(auth, what)(*arguments)
    assert auth.backplane.is_connected


@pytest.mark.gen_test
async def test_a_broadcast_before_the_backplane_was_ever_reached_is_logged(caplog):
    auth = make_auth(backplane=SpyBackplane(Hub()))
    auth.backplane.failing = {"start"}
    assert await auth.broadcast("news") == FanOut(0, 0, 0)
    assert len(complaints(caplog)) == 1


@pytest.mark.gen_test
async def test_however_many_call_it_start_starts_once_and_again_only_after_a_failure():
    starts: list[str] = []

    class Store(MemoryTokenStore):
        async def start(self) -> None:
            starts.append("store")

    auth = make_auth(backplane=SpyBackplane(Hub()), tokens=Store())
    backplane = auth.backplane
    reached = backplane.hold("start")
    starting = [asyncio.ensure_future(call) for _ in range(5) for call in (auth.start(), auth.issue_token("alice"))]
    await settle()
    assert backplane.calls["start"] == 1
    assert not any(task.done() for task in starting), "nobody goes on before it is done"
    reached.set()
    await asyncio.gather(*starting)
    await auth.start()
    assert (backplane.calls["start"], starts) == (1, ["store"])


@pytest.mark.gen_test
async def test_without_the_store_the_backplane_is_not_started_and_both_are_the_next_time():
    class Store(MemoryTokenStore):
        error: Exception | None = TokenStoreError("down")

        async def start(self) -> None:
            if self.error is not None:
                raise self.error

    auth = make_auth(backplane=SpyBackplane(Hub()), tokens=Store())
    with pytest.raises(TokenStoreError):
        await auth.start()
    assert auth.backplane.calls["start"] == 0
    auth.tokens.error = None
    await auth.start()
    assert auth.backplane.is_connected


@pytest.mark.gen_test
async def test_close_takes_the_process_out(serve, login, caplog):
    servers = await processes(serve)
    clients = await everywhere(login, servers)
    await servers[0].auth.close(grace=0)
    assert not backplane_of(servers[0]).is_connected
    assert hub_of(servers[0]).members.keys() == {backplane_of(servers[1]).process_id}
    assert await clients[0].read_close() == (1012, "restart")
    assert await servers[1].auth.broadcast("news") == FanOut(1, 0, 0)
    assert await heard_by(servers[1:], clients[1:]) == [["news"]]
    assert complaints(caplog) == []
    await servers[0].auth.close(grace=0)
    assert backplane_of(servers[0]).calls["close"] == 2, "which does nothing"
    assert hub_of(servers[0]).members.keys() == {backplane_of(servers[1]).process_id}


@pytest.mark.gen_test
async def test_what_was_never_started_can_be_closed():
    auth = make_auth(backplane=SpyBackplane(Hub()), max_connections_per_user=1)
    await auth.close()
    assert auth.closing
    assert not auth.backplane.is_connected


@pytest.mark.gen_test
async def test_what_waits_for_the_backplane_ends_with_close(serve):
    servers = await processes(serve)
    answering = backplane_of(servers[1]).hold("publish")
    asking = asyncio.ensure_future(servers[0].auth.count())
    await settle()
    before = asyncio.all_tasks()
    await servers[1].auth.close(grace=0)
    await settle()
    assert len(asyncio.all_tasks()) == len(before) - 1, "the answer that was on its way"
    asking.cancel()
    answering.set()


@pytest.mark.parametrize("backplane", [object(), "redis://", MemoryBackplane, Hub(), 0, False])
def test_what_is_no_backplane_is_a_configuration_error_that_says_what_to_write(backplane):
    with pytest.raises(ConfigurationError) as raised:
        make_auth(backplane=backplane)
    assert str(raised.value) == (
        f"WSAuth(backplane=<{type(backplane).__name__}>): must be a Backplane, such as RedisBackplane(redis); "
        "left out, there is one process"
    )
