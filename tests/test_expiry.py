"""A live connection ends when its JWT does, and its client is told before."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any

import pytest

from tests.fanout import Narrow, clog, complaints, read_blocks, resume, slice_by, stall
from tests.lifetimes import Timed, frames_until_close, is_served
from tests.support import CLOSE, TEXT, Echo, jwt_message, make_jwt, settle, until
from tornado_wsauth import FanOut

EXPIRED = (CLOSE, struct.pack("!H", 4401) + b"jwt_expired")


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_connection_whose_jwt_expires_is_closed_and_the_application_hears_of_it(
    serve, connect, check, caplog
):  # A24, A39
    class Chat(Echo):
        pass

    timed = Timed(serve, connect, Chat, expiry_warning=0)
    client = await timed.enter(60)
    timed.clock.advance(60)
    assert len(timed.auth.connections) == 0
    assert await client.read_close() == (4401, "jwt_expired")
    await client.close()
    await until(lambda: "close" in Chat.events)
    await settle()
    assert Chat.events == ["open", "close"]
    assert timed.clock.timers == []
    check(("accepted", "auth_ok", "alice", None), ("closed", "jwt_expired", "alice", 4401))
    assert complaints(caplog) == []


@pytest.mark.gen_test
@pytest.mark.parametrize("leeway", [0, 30])
async def test_a_connection_lives_up_to_the_leeway_after_exp_and_not_a_moment_longer(serve, connect, leeway):
    # A23, A24
    timed = Timed(serve, connect, leeway=leeway, expiry_warning=0)
    client = await timed.enter(60)
    timed.clock.advance(60 + leeway - 0.001)
    assert await is_served(client)
    assert timed.auth.connections.broadcast("news") == FanOut(1, 0, 0)
    assert await client.read_frame() == (TEXT, b"news")
    timed.clock.advance(0.001)
    assert await client.read_close() == (4401, "jwt_expired")


@pytest.mark.gen_test
@pytest.mark.parametrize("expires_in", [-5, 0.5])
async def test_a_jwt_that_the_leeway_alone_lets_in_lives_for_what_is_left_of_it(serve, connect, expires_in):
    # A23, A24
    timed = Timed(serve, connect, leeway=10, expiry_warning=0)
    client = await timed.enter(expires_in)
    timed.clock.advance(10 + expires_in - 0.01)
    assert await is_served(client)
    timed.clock.advance(0.01)
    assert await client.read_close() == (4401, "jwt_expired")


@pytest.mark.gen_test
async def test_each_connection_ends_with_its_own_jwt(serve, connect):  # A24
    timed = Timed(serve, connect, expiry_warning=0)
    clients = {seconds: await timed.enter(seconds, f"user {seconds}") for seconds in (90, 30, 60)}
    for seconds in (30, 60, 90):
        timed.clock.advance(29.5)
        assert [await is_served(client) for client in clients.values()] == [True] * len(clients)
        timed.clock.advance(0.5)
        assert await clients.pop(seconds).read_close() == (4401, "jwt_expired")


@pytest.mark.gen_test
async def test_a_connection_that_left_before_leaves_nothing_to_expire(serve, connect, logged):  # A24
    timed = Timed(serve, connect)
    client = await timed.enter(60)
    client.abort()
    await timed.gone()
    assert timed.clock.timers == []
    timed.clock.advance(100)
    await settle()
    assert [event for event, *_ in logged.events] == ["accepted", "closed"]


@pytest.mark.gen_test
async def test_messages_that_come_after_exp_do_not_reach_the_application_though_the_timer_is_late(serve, connect):
    # A24
    class Chat(Echo):
        pass

    timed = Timed(serve, connect, Chat, expiry_warning=0)
    client = await timed.enter(60)
    timed.clock.now += 60
    timed.auth.connections.broadcast("the loop turns again")
    client.send_text("too late")
    assert await client.read_close() == (4401, "jwt_expired")
    await client.close()
    await timed.gone()
    await settle()
    assert Chat.events == ["open", "close"]


@pytest.mark.gen_test
async def test_a_session_that_does_not_enforce_expiry_outlives_its_jwt_without_a_word(serve, connect):  # A24
    timed = Timed(serve, connect, enforce_expiry=False)
    client = await timed.enter(60)
    assert timed.clock.timers == []
    timed.clock.advance(1000)
    assert timed.auth.connections.broadcast("news") == FanOut(1, 0, 0)
    assert await client.read_frame() == (TEXT, b"news")
    assert await is_served(client)


@pytest.mark.gen_test
async def test_a_jwt_that_expires_while_open_runs_still_ends_the_connection(serve, connect):  # A24
    opened = asyncio.Event()

    class Slow(Echo):
        async def open(self, *args: str, **kwargs: str) -> None:
            await opened.wait()
            super().open()

    timed = Timed(serve, connect, Slow, expiry_warning=0)
    client = await timed.enter(60)
    client.send_text("hello")
    timed.clock.advance(60)
    assert await client.read_close() == (4401, "jwt_expired")
    opened.set()
    await client.close()
    await timed.gone()
    await until(lambda: "close" in Slow.events)
    assert Slow.events == ["open", "close"]


@pytest.mark.gen_test
async def test_a_jwt_that_expires_while_load_auth_user_runs_lets_nobody_in_for_longer(serve, connect):  # A24
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Echo):
        async def load_auth_user(self, claims: dict[str, Any]) -> Any:
            entered.set()
            await go_on.wait()
            return "alice"

    timed = Timed(serve, connect, Slow, auth_timeout=100)
    client, _ = await connect(timed.server)
    client.send_text(jwt_message(timed.jwt(60)))
    await entered.wait()
    timed.clock.advance(61)
    go_on.set()
    frames = await frames_until_close(client)
    assert frames[-1] == EXPIRED
    assert timed.auth.connections.broadcast("news") == FanOut(0, 0, 0)
    await client.close()
    await timed.gone()
    assert len([text for _, text in frames if b"auth_ok" not in text]) == 1


# --- no broadcast after it -------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("to", ["all", "group", "user"])
@pytest.mark.parametrize("late", [0, 5])
async def test_a_broadcast_made_at_or_after_exp_reaches_nobody_whose_timer_is_late(serve, connect, to, late):
    # A24
    timed = Timed(serve, connect, expiry_warning=0)
    client = await timed.enter(60)
    lasting = await timed.enter(600, "alice" if to == "user" else "bob")
    for handler in timed.auth.connections:
        handler.auth_session.join("red")
    timed.clock.now += 60 + late
    connections = timed.auth.connections
    send = {
        "all": lambda: connections.broadcast("news"),
        "group": lambda: connections.broadcast("news", group="red"),
        "user": lambda: connections.send_to_user("alice", "news"),
    }
    assert send[to]() == FanOut(1, 0, 0)
    assert await client.read_frame() == EXPIRED
    assert await lasting.read_frame() == (TEXT, b"news")
    assert len(connections) == 1


@pytest.mark.gen_test
async def test_a_broadcast_made_right_before_exp_comes_before_the_close(serve, connect):  # A24
    timed = Timed(serve, connect, expiry_warning=0)
    client = await timed.enter(60)
    timed.clock.now += 59.999
    assert timed.auth.connections.broadcast("news").sent == 1
    timed.clock.advance(0.001)
    assert [await client.read_frame() for _ in range(2)] == [(TEXT, b"news"), EXPIRED]


@pytest.mark.gen_test
@pytest.mark.parametrize("timer", ["in time", "late", "later than the slice"])
async def test_a_message_that_waits_for_its_slice_at_exp_is_not_sent(serve, connect, monkeypatch, timer):  # A24
    slice_by(monkeypatch)
    timed = Timed(serve, connect, expiry_warning=0)
    clients = [await timed.enter(600 if number < 2 else 60, f"user {number}") for number in range(5)]
    timed.auth.connections.broadcast("news")
    if timer == "in time":
        timed.clock.advance(60)
    else:
        timed.clock.now += 60
    if timer == "late":
        timed.auth.connections.broadcast("more")
    more = [(TEXT, b"more")] if timer == "late" else []
    for client in clients[:2]:
        assert [await client.read_frame() for _ in range(1 + len(more))] == [(TEXT, b"news"), *more]
    for client in clients[2:]:
        assert await client.read_frame() == EXPIRED
    assert len(timed.auth.connections) == 2


@pytest.mark.gen_test
@pytest.mark.parametrize("timer", ["in time", "late"])
async def test_a_message_kept_for_a_slow_reader_dies_with_its_jwt(serve, connect, timer):  # A24
    timed = Timed(serve, connect, Narrow, expiry_warning=0, max_buffer_bytes=300_000)
    client = await timed.enter(60, "slow")
    stall(client)
    number = await clog(timed.server, "slow")
    assert timed.auth.connections.broadcast("kept", slow="latest").sent == 1
    if timer == "in time":
        timed.clock.advance(60)
    else:
        timed.clock.now += 60
        assert timed.auth.connections.broadcast("newer", slow="latest") == FanOut(0, 0, 0)
    resume(client)
    await read_blocks(client, number)
    assert await client.read_frame() == EXPIRED
    await client.close()
    await timed.gone()


@pytest.mark.gen_test
async def test_a_join_while_the_timer_is_late_receives_nothing(serve, connect):  # A24
    timed = Timed(serve, connect, expiry_warning=0)
    client = await timed.enter(60)
    session = timed.session()
    timed.clock.now += 60
    session.join("red")
    assert timed.auth.connections.broadcast("news", group="red") == FanOut(0, 0, 0)
    assert await client.read_frame() == EXPIRED


# --- by the real clock -----------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_by_the_real_clock_a_connection_ends_within_a_second_of_exp(serve, connect):  # A24
    server = serve()
    client, _ = await connect(server)
    exp = time.time() + 0.3
    client.send_text(jwt_message(make_jwt(exp=exp)))
    assert (await client.read_json())["type"] == "auth_ok"
    assert (await client.read_json())["type"] == "auth_expiring"
    assert await client.read_close() == (4401, "jwt_expired")
    assert 0 <= time.time() - exp < 1
