"""A reader who does not keep up: closed, passed over, or told the newest only, and never in anyone's way."""

from __future__ import annotations

import gc
import logging
import os
import tracemalloc
from typing import Any

import pytest

from tests.fanout import (
    BLOCK,
    Narrow,
    Prompt,
    answer_close,
    auth_of,
    clog,
    complaints,
    connections_of,
    handler_of,
    queued,
    read_blocks,
    resume,
    stall,
    texts_until,
)
from tests.support import ManualClock, RawClient, Server, make_auth, nothing_is_left, settle, until
from tornado_wsauth import ConfigurationError, FanOut

LIMIT = 300_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def narrow(serve: Any, clock: ManualClock) -> Any:
    """Start a server whose limit is ``LIMIT``: ``server, handler_class = narrow()``."""

    def start() -> tuple[Server, type[Narrow]]:
        class Chat(Narrow):
            pass

        return serve(Chat, auth=make_auth(max_buffer_bytes=LIMIT, clock=clock)), Chat

    return start


async def log_in_slow(login: Any, server: Server) -> RawClient:
    """Log in a user "slow" who reads nothing from now on."""
    client = await login(server, "slow")
    await until(lambda: "open" in handler_of(server, "slow").events)
    stall(client)
    return client


# --- what is a mistake -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, 1.5, "1048576", None, float("inf")])
def test_a_buffer_limit_that_is_no_positive_whole_number_is_a_mistake(size):
    with pytest.raises(ConfigurationError, match="max_buffer_bytes"):
        make_auth(max_buffer_bytes=size)


@pytest.mark.gen_test
@pytest.mark.parametrize("slow", ["abort", "", None, "Close", 1, ["close"]])
async def test_an_unknown_policy_is_a_mistake_before_anything_is_sent(serve, login, slow):
    server = serve(Prompt)
    client = await login(server)
    connections = connections_of(server)
    with pytest.raises(ValueError, match="slow"):
        connections.broadcast("wrong", slow=slow)
    with pytest.raises(ValueError, match="slow"):
        connections.broadcast("wrong", group="nobody", slow=slow)
    with pytest.raises(ValueError, match="slow"):
        connections.send_to_user("alice", "wrong", slow=slow)
    connections.broadcast("right")
    assert (await client.read_frame())[1] == b"right"


@pytest.mark.gen_test
async def test_bytes_that_are_not_utf8_are_no_text(serve, login):
    server = serve(Prompt)
    client = await login(server)
    connections = connections_of(server)
    with pytest.raises(ValueError):  # noqa: PT011 - UnicodeDecodeError is as good as any
        connections.broadcast(b"\xff\xfe")
    with pytest.raises(ValueError):  # noqa: PT011
        connections.send_to_user("alice", b"\xc3")
    with pytest.raises(ValueError):  # noqa: PT011
        connections.broadcast(b"\xff", group="nobody")
    assert connections.broadcast("żółw".encode()) == FanOut(1, 0, 0)
    assert connections.broadcast(b"\xff\xfe", binary=True) == FanOut(1, 0, 0)
    assert [(await client.read_frame())[1] for _ in range(2)] == ["żółw".encode(), b"\xff\xfe"]


# --- who is slow -----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_reader_is_slow_with_one_byte_more_than_the_limit_queued(narrow, login):
    server, _ = narrow()
    connections = connections_of(server)
    await log_in_slow(login, server)
    handler = handler_of(server, "slow")
    fan_outs = []
    while queued(handler) < LIMIT:
        room = LIMIT - queued(handler)
        # A frame of up to 125 bytes has a head of 2 bytes, and one of up to 65535 a head of 4.
        handler.write_message(b"x" * (min(room, BLOCK) - 4 if room > 300 else max(min(room, 102) - 2, 0)), binary=True)
        assert queued(handler) <= LIMIT
    fan_outs.append(connections.broadcast(b"", slow="drop"))  # two bytes on top of exactly the limit
    assert queued(handler) == LIMIT + 2
    fan_outs.append(connections.broadcast(b"", slow="drop"))
    assert fan_outs == [FanOut(1, 0, 0), FanOut(0, 1, 0)]
    assert queued(handler) == LIMIT + 2


@pytest.mark.gen_test
async def test_one_message_larger_than_the_limit_is_no_reason_to_close_a_reader_who_has_nothing_queued(narrow, login):
    server, _ = narrow()
    client = await login(server)
    assert connections_of(server).broadcast("x" * 5 * LIMIT) == FanOut(1, 0, 0)
    assert len((await client.read_frame())[1]) == 5 * LIMIT


@pytest.mark.gen_test
async def test_messages_up_to_the_limit_are_kept_for_a_reader_who_comes_late(narrow, login):
    server, _ = narrow()
    client = await log_in_slow(login, server)
    number = await clog(server)
    assert number * BLOCK > LIMIT
    resume(client)
    await read_blocks(client, number)
    assert connections_of(server).broadcast("caught up") == FanOut(1, 0, 0)
    assert (await client.read_frame())[1] == b"caught up"


# --- among many ------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("slow", "first", "second"),
    [
        ("close", FanOut(20, 0, 1), FanOut(20, 0, 0)),
        ("drop", FanOut(20, 1, 0), FanOut(20, 1, 0)),
        ("latest", FanOut(21, 0, 0), FanOut(21, 0, 0)),
    ],
)
async def test_one_stalled_reader_takes_nothing_from_twenty_others(narrow, login, slow, first, second):
    # A32
    server, _ = narrow()
    clients = [await login(server, f"user {number}") for number in range(10)]
    await log_in_slow(login, server)
    clients += [await login(server, f"user {number}") for number in range(10, 20)]
    await clog(server)
    connections = connections_of(server)
    assert connections.broadcast("one", slow=slow) == first
    assert connections.broadcast("two", slow=slow) == second
    for client in clients:
        assert [(await client.read_frame())[1] for _ in range(2)] == [b"one", b"two"]


# --- close -----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_slow_reader_is_out_at_once_and_cut_off_half_a_second_later(narrow, login, clock, logged):
    # A32
    server, chat = narrow()
    auth, connections = auth_of(server), connections_of(server)
    fast = await login(server, "fast")
    await log_in_slow(login, server)
    handler = handler_of(server, "slow")
    stream = handler.ws_connection.stream
    handler.auth_session.join("red")
    await clog(server)
    assert connections.broadcast("news") == FanOut(1, 0, 1)
    assert handler.auth_session not in connections
    assert (len(connections), connections.count("red"), connections.for_user("slow")) == (1, 0, [])
    assert connections.broadcast("more news") == FanOut(1, 0, 0)
    await settle()
    clock.advance(0.49)
    await settle()
    assert not stream.closed(), "the client has half a second to answer"
    clock.advance(0.02)
    assert stream.closed()
    await until(lambda: "close" in chat.events)
    clock.advance(60)
    await settle()
    assert chat.events.count("close") == 1
    assert logged.events.count(("closed", "slow_reader", "slow", 1013)) == 1
    assert [event for event in logged.events if event[0] == "closed"] == [("closed", "slow_reader", "slow", 1013)]
    assert handler.ws_connection is None or handler.ws_connection.stream.closed()
    assert await texts_until(fast, "more news") == ["news", "more news"]
    assert auth is server.auth


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["broadcast", "group", "user"])
async def test_a_slow_reader_who_wakes_up_gets_what_was_queued_and_then_why_it_ends(narrow, login, clock, how):
    server, chat = narrow()
    connections = connections_of(server)
    client = await log_in_slow(login, server)
    handler_of(server, "slow").auth_session.join("red")
    number = await clog(server)
    if how == "user":
        assert connections.send_to_user("slow", "too much") == FanOut(0, 0, 1)
    else:
        assert connections.broadcast("too much", group="red" if how == "group" else None) == FanOut(0, 0, 1)
    resume(client)
    await read_blocks(client, number)
    assert await answer_close(client) == (1013, "slow_reader")
    assert await client.at_eof()
    await until(lambda: "close" in chat.events)
    clock.advance(1)
    await settle()
    assert chat.events == ["open", "close"]


@pytest.mark.gen_test
async def test_a_slow_reader_who_answered_leaves_no_timer_behind(narrow, login, clock):
    server, chat = narrow()
    before = len(clock.timers)
    client = await log_in_slow(login, server)
    number = await clog(server)
    connections_of(server).broadcast("too much")
    resume(client)
    await read_blocks(client, number)
    await answer_close(client)
    await until(lambda: "close" in chat.events)
    await nothing_is_left(server)
    assert len(clock.timers) == before


@pytest.mark.gen_test
async def test_nothing_the_application_does_to_a_slow_reader_keeps_it_or_ends_it_twice(narrow, login, clock, logged):
    server, chat = narrow()
    client = await log_in_slow(login, server)
    handler = handler_of(server, "slow")
    await clog(server)
    assert connections_of(server).broadcast("news") == FanOut(0, 0, 1)
    handler.close(4000, "from the application")
    await settle()
    clock.advance(0.5)
    await until(lambda: "close" in chat.events)
    assert logged.events.count(("closed", "slow_reader", "slow", 1013)) == 1
    assert chat.events == ["open", "close"]
    resume(client)
    assert len(connections_of(server)) == 0


@pytest.mark.gen_test
async def test_what_handlers_write_to_a_slow_reader_leaves_nothing_in_asyncios_log(narrow, login, clock, caplog):
    # A32
    caplog.set_level(logging.DEBUG)
    server, chat = narrow()
    await log_in_slow(login, server)
    handler = handler_of(server, "slow")
    await clog(server)
    for number in range(5):
        handler.write_message(f"not awaited {number}")
    await settle()
    handler.write_message("not awaited, and not begun")
    assert connections_of(server).broadcast("news") == FanOut(0, 0, 1)
    del handler
    clock.advance(0.5)
    await until(lambda: "close" in chat.events)
    for _ in range(3):
        gc.collect()
        await settle()
    assert complaints(caplog) == []
    assert "never retrieved" not in caplog.text


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_what_was_queued_for_a_slow_reader_is_free_once_it_is_cut_off(serve, login, clock):
    # A32
    class Chat(Narrow):
        pass

    server = serve(Chat, auth=make_auth(max_buffer_bytes=1_500_000, clock=clock))
    connections = connections_of(server)
    stays = await login(server, "fast")
    await log_in_slow(login, server)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        closed = 0
        for _ in range(100):
            closed = connections.broadcast(os.urandom(64_000), binary=True).closed
            await stays.read_frame()
            if closed:
                break
        assert closed == 1
        assert tracemalloc.get_traced_memory()[0] - before > 1_300_000, "there is something to be freed"
        clock.advance(0.5)
        await until(lambda: "close" in Chat.events)
        await settle()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.gen_test
@pytest.mark.parametrize("slow", ["drop", "latest"])
async def test_what_a_slow_reader_misses_takes_no_memory(narrow, login, slow):
    # A32
    server, _ = narrow()
    await log_in_slow(login, server)
    await clog(server)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            connections_of(server).broadcast(os.urandom(64_000), binary=True, slow=slow)
            await settle()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 200_000
    finally:
        tracemalloc.stop()


# --- drop ------------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_dropped_message_is_missing_and_what_comes_later_is_not(narrow, login):
    server, _ = narrow()
    connections = connections_of(server)
    client = await log_in_slow(login, server)
    number = await clog(server)
    assert connections.broadcast("lost", slow="drop") == FanOut(0, 1, 0)
    assert connections.send_to_user("slow", "lost too", slow="drop") == FanOut(0, 1, 0)
    handler_of(server, "slow").write_message("direct")
    resume(client)
    await read_blocks(client, number)
    assert (await client.read_frame())[1] == b"direct"
    assert connections.broadcast("found", slow="drop") == FanOut(1, 0, 0)
    assert (await client.read_frame())[1] == b"found"
