"""A broadcast to many goes out in slices: nothing overtakes it, and nobody gets it who may not."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.fanout import (
    Narrow,
    Prompt,
    answer_close,
    clog,
    complaints,
    connections_of,
    handler_of,
    read_blocks,
    readable,
    reset,
    resume,
    slice_by,
    stall,
    texts_until,
)
from tests.support import (
    CLOSE,
    PING,
    TEXT,
    RawClient,
    Server,
    jwt_message,
    make_auth,
    make_jwt,
    nothing_is_left,
    settle,
    until,
)
from tornado_wsauth import FanOut
from tornado_wsauth.gate import JWT_EXPIRED


async def log_in(login: Any, server: Server, number: int) -> list[RawClient]:
    clients = [await login(server, f"user {index}") for index in range(number)]
    await settle()  # open() has run
    assert readable(clients) == []
    return clients


# --- slices ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("stride", [1, 3])
async def test_the_first_slice_is_sent_when_broadcast_returns_and_the_rest_is_not(serve, login, monkeypatch, stride):
    slice_by(monkeypatch, stride)
    server = serve(Prompt)
    clients = await log_in(login, server, 8)
    assert connections_of(server).broadcast("news") == FanOut(8, 0, 0)
    assert [readable([client], wait=1) for client in clients[:stride]] == [[client] for client in clients[:stride]]
    assert readable(clients) == clients[:stride]
    for client in clients:
        assert await client.read_frame() == (TEXT, b"news")


@pytest.mark.gen_test
async def test_between_two_slices_others_are_served(serve, login, monkeypatch):
    slice_by(monkeypatch)
    unserved: list[int] = []

    class Chat(Prompt):
        def on_message(self, message: str | bytes) -> None:
            unserved.append(len(clients) - len(readable(clients)))
            super().on_message(message)

    server = serve(Chat)
    asks = await login(server, "asks")
    clients = await log_in(login, server, 20)
    asks.send_text("question")
    connections_of(server).broadcast("news")
    assert await texts_until(asks, "question") == ["news", "question"]
    for client in clients:
        assert (await client.read_frame())[1] == b"news"
    assert len(unserved) == 1
    assert unserved[0] >= 1, "everybody had the broadcast before the question was looked at"


# --- what comes after a broadcast ------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_nothing_sent_to_a_connection_overtakes_the_broadcast_whose_slice_has_not_come(serve, login, monkeypatch):
    # A33
    slice_by(monkeypatch)
    server = serve(Prompt)
    clients = await log_in(login, server, 5)
    connections = connections_of(server)
    assert connections.broadcast("b") == FanOut(5, 0, 0)
    for handler in connections:
        handler.write_message("direct")
        handler.ping(b"ping")
        handler.write_message(b"binary", binary=True)
        handler.close(4000, "bye")
    for client in clients:
        received = [await client.read_frame() for _ in range(5)]
        assert received == [(TEXT, b"b"), (TEXT, b"direct"), (PING, b"ping"), (2, b"binary"), (CLOSE, b"\x0f\xa0bye")]


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["message", "ping", "close"])
async def test_each_way_to_send_by_itself_comes_after_the_broadcast(serve, login, monkeypatch, how):
    # A33
    slice_by(monkeypatch)
    server = serve(Prompt)
    clients = await log_in(login, server, 4)
    connections = connections_of(server)
    connections.broadcast("b")
    for handler in reversed(list(connections)):  # the last slice first
        if how == "message":
            handler.write_message("direct")
        elif how == "ping":
            handler.ping(b"ping")
        else:
            handler.close()
    expected = {"message": (TEXT, b"direct"), "ping": (PING, b"ping"), "close": (CLOSE, b"")}[how]
    for client in clients:
        assert [await client.read_frame() for _ in range(2)] == [(TEXT, b"b"), expected]


@pytest.mark.gen_test
async def test_an_answer_between_two_slices_does_not_overtake_the_broadcast(serve, login, monkeypatch):
    # A33
    slice_by(monkeypatch)
    server = serve(Prompt)
    clients = await log_in(login, server, 12)
    for client in clients:
        client.send_text("question")
    connections_of(server).broadcast("b")
    for client in clients:
        assert await texts_until(client, "question") == ["b", "question"]


@pytest.mark.gen_test
async def test_broadcasts_made_while_one_is_unfinished_come_after_it(serve, login, monkeypatch):
    # A33
    slice_by(monkeypatch)
    server = serve(Prompt)
    clients = await log_in(login, server, 6)
    connections = connections_of(server)
    for handler in list(connections)[3:]:
        handler.auth_session.join("red")
    for turn in range(4):
        connections.broadcast(f"{turn} first")
        connections.broadcast(f"{turn} red", group="red")
        connections.send_to_user("user 5", f"{turn} you")
        connections.broadcast(f"{turn} last", slow="drop" if turn % 2 else "latest")
        await asyncio.sleep(0)
    for number, client in enumerate(clients):
        kinds = ["first", *(["red"] if number >= 3 else []), *(["you"] if number == 5 else []), "last"]
        expected = [f"{turn} {kind}" for turn in range(4) for kind in kinds]
        assert await texts_until(client, "3 last") == expected


@pytest.mark.gen_test
async def test_a_large_message_in_a_later_slice_stays_whole(serve, login, monkeypatch):
    # A33
    slice_by(monkeypatch)
    server = serve(Narrow)
    clients = await log_in(login, server, 4)
    connections = connections_of(server)
    message = "ż" * 150_000
    for client in clients:
        stall(client)
    connections.broadcast(message)
    for handler in connections:
        handler.write_message("direct")
    await asyncio.sleep(0)
    connections.broadcast("after")
    await settle()
    for client in clients:
        resume(client)
        assert await texts_until(client, "after") == [message, "direct", "after"]


@pytest.mark.gen_test
async def test_awaiting_a_message_behind_a_slice_ends_when_both_have_gone(serve, login, monkeypatch):
    slice_by(monkeypatch)
    server = serve(Prompt)
    clients = await log_in(login, server, 5)
    connections_of(server).broadcast("b")
    last = handler_of(server, "user 4")
    await last.write_message("direct")
    assert readable([clients[4]], wait=1) == [clients[4]]
    assert await texts_until(clients[4], "direct") == ["b", "direct"]


# --- who gets it -----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_who_is_ended_before_its_slice_does_not_get_the_message(serve, login, monkeypatch):
    # A31
    slice_by(monkeypatch)
    server = serve(Prompt)
    clients = await log_in(login, server, 5)
    connections = connections_of(server)
    connections.broadcast("secret")
    for number in (2, 4):
        handler_of(server, f"user {number}")._wsauth_guard.close(JWT_EXPIRED)
    for number in (2, 4):
        assert await answer_close(clients[number]) == (4401, "jwt_expired")
        assert await clients[number].at_eof()
    assert connections.broadcast("after") == FanOut(3, 0, 0)
    for number in (0, 1, 3):
        assert await texts_until(clients[number], "after") == ["secret", "after"]


@pytest.mark.gen_test
async def test_who_is_ended_with_direct_messages_behind_its_slice_gets_none_of_them(serve, login, monkeypatch):
    # A31
    slice_by(monkeypatch)
    server = serve(Prompt)
    clients = await log_in(login, server, 3)
    handler = handler_of(server, "user 2")
    connections_of(server).broadcast("secret")
    handler.write_message("direct secret")
    handler._wsauth_guard.close(JWT_EXPIRED)
    received: list[bytes] = []
    while not received or not received[-1].startswith(b"\x11\x31"):
        received.append((await clients[2].read_frame())[1])
    assert received in ([b"\x11\x31jwt_expired"], [b"secret", b"direct secret", b"\x11\x31jwt_expired"])


@pytest.mark.gen_test
async def test_who_is_authenticated_after_the_broadcast_was_made_does_not_get_it(serve, login, connect, monkeypatch):
    # A31
    slice_by(monkeypatch)
    waiting, go_on = asyncio.Event(), asyncio.Event()
    unserved: list[int] = []

    class Chat(Prompt):
        async def load_auth_user(self, claims: dict[str, Any]) -> Any:
            if claims["sub"] == "late":
                waiting.set()
                await go_on.wait()
            return claims["sub"]

        def open(self, *args: str, **kwargs: str) -> None:
            super().open(*args, **kwargs)
            if self.auth_session.user_id == "late":
                unserved.append(20 - len(readable(clients)))

    server = serve(Chat)
    clients = await log_in(login, server, 20)
    late, _ = await connect(server, "late")
    late.send_text(jwt_message(make_jwt("late")))
    await waiting.wait()
    connections = connections_of(server)
    assert connections.broadcast("before") == FanOut(20, 0, 0)
    go_on.set()
    assert (await late.read_json())["type"] == "auth_ok"
    for client in clients:
        assert (await client.read_frame())[1] == b"before"
    assert connections.broadcast("after") == FanOut(21, 0, 0)
    assert (await late.read_frame())[1] == b"after"
    assert unserved[0] > 0, "the broadcast was over before anyone came"


@pytest.mark.gen_test
async def test_a_group_is_who_was_in_it_when_the_broadcast_was_made(serve, login, monkeypatch):
    # A31
    slice_by(monkeypatch)
    server = serve(Prompt)
    clients = await log_in(login, server, 4)
    connections = connections_of(server)
    sessions = [handler.auth_session for handler in connections]
    for session in sessions[:3]:
        session.join("red")
    assert connections.broadcast("red", group="red") == FanOut(3, 0, 0)
    sessions[1].leave("red")
    sessions[3].join("red")
    connections.broadcast("all")
    texts = [await texts_until(client, "all") for client in clients]
    assert texts == [["red", "all"], ["red", "all"], ["red", "all"], ["all"]]


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["reset", "fin", "server end", "server close", "expired"])
async def test_who_goes_between_two_slices_takes_nothing_from_those_who_stay(serve, login, monkeypatch, caplog, how):
    # A33
    slice_by(monkeypatch)
    caplog.set_level(logging.DEBUG)
    server = serve(Prompt)
    clients = await log_in(login, server, 12)
    connections = connections_of(server)
    for turn in range(3):
        connections.broadcast(f"{turn}")
    for number in range(0, 12, 2):
        handler = handler_of(server, f"user {number}")
        if how == "reset":
            reset(clients[number])
        elif how == "fin":
            clients[number].writer.close()
        elif how == "server end":
            handler.ws_connection.stream.close()
        elif how == "server close":
            handler.close()
        else:
            handler._wsauth_guard.close(JWT_EXPIRED)
        if number % 4 == 0:
            await asyncio.sleep(0)
            connections.broadcast(f"during {number}")
    connections.broadcast("last")
    expected = ["0", "1", "2", "during 0", "during 4", "during 8", "last"]
    for client in clients[1::2]:
        assert await texts_until(client, "last") == expected
    for client in clients:
        client.abort()
    await nothing_is_left(server)
    assert complaints(caplog) == []


@pytest.mark.gen_test
async def test_a_stalled_reader_in_a_later_slice_is_counted_when_the_broadcast_is_made(serve, login, monkeypatch):
    # A32
    class Chat(Narrow):
        pass

    server = serve(Chat, auth=make_auth(max_buffer_bytes=300_000))
    connections = connections_of(server)
    clients = await log_in(login, server, 4)
    slow = await login(server, "slow")
    await until(lambda: len(Chat.events) == 5)
    stall(slow)
    number = await clog(server)
    slice_by(monkeypatch)
    assert connections.broadcast("dropped", slow="drop") == FanOut(4, 1, 0)
    assert connections.broadcast("kept", slow="latest") == FanOut(5, 0, 0)
    assert connections.broadcast("close", slow="close") == FanOut(4, 0, 1)
    for client in clients:
        assert await texts_until(client, "close") == ["dropped", "kept", "close"]
    await until(lambda: len(connections) == 4)
    resume(slow)
    await read_blocks(slow, number)
    opcode, payload = await slow.read_frame()
    if opcode != CLOSE:
        assert payload == b"kept"
        opcode, payload = await slow.read_frame()
    assert (opcode, payload) == (CLOSE, b"\x03\xf5slow_reader")


@pytest.mark.gen_test
async def test_who_is_closing_when_the_broadcast_is_made_counts_as_closed_in_a_later_slice_too(
    serve, login, monkeypatch
):
    # A33
    slice_by(monkeypatch)
    server = serve(Prompt)
    clients = await log_in(login, server, 3)
    handler_of(server, "user 2").close(4000, "bye")
    assert connections_of(server).broadcast("news", slow="latest") == FanOut(2, 0, 1)
    assert await clients[2].read_close() == (4000, "bye")
    assert [(await client.read_frame())[1] for client in clients[:2]] == [b"news"] * 2


@pytest.mark.gen_test
async def test_a_stalled_reader_that_compresses_is_counted_in_a_later_slice_too(serve, login, connect, monkeypatch):
    # A32
    class Chat(Narrow):
        def get_compression_options(self) -> dict[str, Any]:
            return {}

    server = serve(Chat, auth=make_auth(max_buffer_bytes=300_000))
    await login(server)
    slow, _ = await connect(server, "slow", Sec_WebSocket_Extensions="permessage-deflate")
    slow.send_text(jwt_message(make_jwt("slow")))
    await slow.read_frame()
    await until(lambda: len(Chat.events) == 2)
    stall(slow)
    await clog(server)
    slice_by(monkeypatch)
    assert connections_of(server).broadcast("dropped", slow="drop") == FanOut(1, 1, 0)


@pytest.mark.gen_test
async def test_broadcasts_that_come_faster_than_slices_do_not_pile_up(serve, login, monkeypatch):
    # A32, A33
    slice_by(monkeypatch)
    server = serve(Prompt)
    connections = connections_of(server)
    clients = await log_in(login, server, 3)
    for number in range(100):
        connections.broadcast(f"{number}")
    assert len(connections.dispatcher.unfinished) <= 16
    for client in clients:
        assert await texts_until(client, "99") == [f"{number}" for number in range(100)]


@pytest.mark.gen_test
async def test_a_restart_lets_everyone_have_what_was_broadcast_before_it(serve, login, monkeypatch):
    # A33
    slice_by(monkeypatch)
    server = serve(Prompt)
    clients = await log_in(login, server, 3)
    connections_of(server).broadcast("back soon")
    assert server.auth is not None
    await server.auth.close(grace=0)
    for client in clients:
        assert (await client.read_frame())[1] == b"back soon"
        assert await client.read_close() == (1012, "restart")
