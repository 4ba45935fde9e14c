"""How fast one connection may speak."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Echo,
    ManualClock,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    nothing_is_left,
    until,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def start(serve: Any, clock: ManualClock) -> Any:
    """``server, handler_class = start(rate)``."""

    def start_one(rate: Any = (3, 30), **options: Any) -> Any:
        class Chat(Echo):
            def on_ping(self, data):
                self.events.append(("ping", data))

        return serve(Chat, make_auth(message_rate=rate, clock=clock, **options)), Chat

    return start_one


@pytest.mark.gen_test
async def test_one_message_more_than_allowed_closes_4429_and_does_not_reach_the_application(start, login, logged):
    # A29, A39
    server, chat = start()
    client = await login(server)
    for number in range(5):
        client.send_text(f"message {number}")
    for number in range(3):
        assert await client.read_frame() == (TEXT, b"message %d" % number)
    assert await client.read_close() == (4429, "too_many")
    client.send(frame(b"\x11\x4d", CLOSE))
    await nothing_is_left(server)
    await until(lambda: "close" in chat.events)
    assert chat.events == ["open", "message 0", "message 1", "message 2", "close"]
    assert logged.events[-1] == ("closed", "too_many", "alice", 4429)


@pytest.mark.gen_test
async def test_pings_count_as_messages_do(start, login):
    # A29
    server, chat = start()
    client = await login(server)
    client.send(frame(b"1", PING) + frame(b"one") + frame(b"2", PING) + frame(b"3", PING))
    assert [await client.read_frame() for _ in range(3)] == [(PONG, b"1"), (TEXT, b"one"), (PONG, b"2")]
    assert await client.read_close() == (4429, "too_many")
    assert ("ping", b"3") not in chat.events


@pytest.mark.gen_test
async def test_a_jwt_that_renews_the_session_counts_as_a_message_does(start, login):
    # A29
    server, _ = start()
    client = await login(server)
    for _ in range(4):
        client.send_text(jwt_message(make_jwt("alice")))
    for _ in range(3):
        assert (await client.read_json())["type"] == "auth_ok"
    assert await client.read_close() == (4429, "too_many")


@pytest.mark.gen_test
async def test_pongs_and_fragments_do_not_count(start, login):
    # A29
    server, _ = start()
    client = await login(server)
    client.send(frame(b"", PONG) * 20)
    client.send(frame(b"a", TEXT, fin=False) + frame(b"", 0, fin=False) * 20 + frame(b"b", 0))
    assert await client.read_frame() == (TEXT, b"ab")


@pytest.mark.gen_test
async def test_the_allowance_comes_back_with_time(start, login, clock):
    # A29
    server, _ = start()
    client = await login(server)
    for _ in range(4):
        for _ in range(3):
            client.send_text("again")
            assert await client.read_frame() == (TEXT, b"again")
        clock.advance(30.01)
    client.send(frame(b"again") * 3)
    for _ in range(3):
        assert await client.read_frame() == (TEXT, b"again")
    clock.advance(10.01)
    client.send(frame(b"again") * 2)
    assert await client.read_frame() == (TEXT, b"again")
    assert (await client.read_close())[0] == 4429


@pytest.mark.gen_test
async def test_each_connection_is_measured_by_itself(start, login):
    # A29
    server, _ = start()
    first, second = await login(server), await login(server)
    first.send(frame(b"x") * 4)
    second.send(frame(b"x") * 3)
    for client in (first, second):
        for _ in range(3):
            assert await client.read_frame() == (TEXT, b"x")
    assert (await first.read_close())[0] == 4429
    assert server.auth.connections.broadcast("news").sent == 1
    assert await second.read_frame() == (TEXT, b"news")


@pytest.mark.gen_test
async def test_a_clock_set_back_does_not_lock_a_connection_out(start, login, clock):
    # A29
    server, _ = start()
    client = await login(server)
    client.send(frame(b"x") * 2)
    for _ in range(2):
        await client.read_frame()
    clock.now -= 3600
    client.send(frame(b"x"))
    assert await client.read_frame() == (TEXT, b"x")
    clock.advance(30.01)
    for _ in range(3):
        client.send(frame(b"y"))
        assert await client.read_frame() == (TEXT, b"y")


@pytest.mark.gen_test
async def test_without_a_rate_nobody_is_too_fast(start, login):
    server, _ = start(None)
    client = await login(server)
    client.send(frame(b"x") * 500)
    for _ in range(500):
        assert await client.read_frame() == (TEXT, b"x")


@pytest.mark.gen_test
async def test_nothing_is_kept_of_a_connection_that_is_gone(start, login):
    server, chat = start()
    clients = [await login(server) for _ in range(5)]
    for client in clients:
        client.send_text("x")
        await client.read_frame()
        await client.close()
    await nothing_is_left(server)
    await until(lambda: chat.events.count("close") == 5)
    assert len(server.auth.pace) == 0
