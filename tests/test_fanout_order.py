"""What reaches one connection arrives in the order in which it was sent, whoever else comes and goes."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

import pytest
from tornado.websocket import WebSocketClosedError

from tests.fanout import (
    Narrow,
    Prompt,
    answer_close,
    clog,
    complaints,
    connections_of,
    handler_of,
    queued,
    read_blocks,
    readable,
    reset,
    resume,
    stall,
    texts_until,
)
from tests.support import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    RawClient,
    Server,
    frame,
    make_auth,
    nothing_is_left,
    settle,
    until,
)
from tornado_wsauth import FanOut
from tornado_wsauth.gate import JWT_EXPIRED

LARGE = 300_000
"""More than a socket takes at once."""


async def log_in_narrow(login: Any, server: Server, *users: str) -> list[RawClient]:
    """Log clients in to a `Narrow` handler; return them when its ``open()`` has run for all."""
    before = len(Narrow.events)
    clients = [await login(server, user) for user in users]
    await until(lambda: len(Narrow.events) == before + len(users))
    return clients


# --- at the socket, and behind what is queued ------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_message_is_at_the_socket_of_whoever_has_nothing_queued_when_broadcast_returns(serve, login):
    server = serve(Prompt)
    clients = [await login(server, user) for user in ("alice", "bob", "carol")]
    await settle()  # open() has run
    assert readable(clients) == []
    connections_of(server).broadcast("now")
    for client in clients:
        assert readable([client], wait=1) == [client]


@pytest.mark.gen_test
async def test_what_follows_a_frame_that_was_sent_in_part_comes_after_it(serve, login):
    # A33
    server = serve(Narrow)
    (client,) = await log_in_narrow(login, server, "alice")
    (handler,) = connections_of(server)
    stall(client)
    payload = os.urandom(LARGE)
    connections_of(server).broadcast(payload, binary=True)
    assert queued(handler) > 0
    handler.write_message("direct")
    handler.ping(b"ping")
    connections_of(server).broadcast("broadcast")
    handler.close(4000, "bye")
    resume(client)
    received = [await client.read_frame() for _ in range(5)]
    assert received[0] == (BINARY, payload)
    assert received[1:] == [(TEXT, b"direct"), (PING, b"ping"), (TEXT, b"broadcast"), (CLOSE, b"\x0f\xa0bye")]


@pytest.mark.gen_test
async def test_awaiting_a_message_behind_a_broadcast_waits_until_it_has_gone(serve, login):
    server = serve(Narrow)
    (client,) = await log_in_narrow(login, server, "alice")
    (handler,) = connections_of(server)
    stall(client)
    connections_of(server).broadcast("x" * LARGE)
    written = asyncio.ensure_future(handler.write_message("y" * LARGE))
    connections_of(server).broadcast("z" * LARGE)
    await settle()
    assert not written.done()
    resume(client)
    assert [(await client.read_frame())[1][:1] for _ in range(2)] == [b"x", b"y"]
    await written
    assert (await client.read_frame())[1] == b"z" * LARGE
    await handler.write_message("last")
    assert (await client.read_frame())[1] == b"last"


@pytest.mark.gen_test
async def test_large_and_small_messages_of_all_kinds_keep_their_order_for_readers_who_start_late(serve, login):
    # A33
    server = serve(Narrow, auth=make_auth(max_buffer_bytes=100 * LARGE))
    connections = connections_of(server)
    users = ["alice", "bob"]
    clients = await log_in_narrow(login, server, *users)
    handlers = list(connections)
    for handler in handlers:
        handler.auth_session.join("red")
    for client in clients:
        stall(client)
    sizes = [1, LARGE, 1, 200, 70_000, 1, 1, 125, 126, 1000, 65_535, 65_536]

    async def send(numbers: range) -> None:
        for number in numbers:
            message = f"{number} ".ljust(sizes[number % len(sizes)] + 4, chr(ord("a") + number % 26))
            if number % 4 == 0:
                connections.broadcast(message, slow="drop" if number % 8 else "close")
            elif number % 4 == 1:
                connections.broadcast(message.encode(), group="red", binary=True)
            elif number % 4 == 2:
                for handler in handlers:
                    handler.write_message(message)
            else:
                for user in users:
                    connections.send_to_user(user, message)
            if number > 12:
                await asyncio.sleep(0)

    async def read(client: RawClient) -> list[int]:
        numbers = []
        for _ in range(60):
            number, _, rest = (await client.read_frame())[1].decode().partition(" ")
            assert set(rest) - {" "} <= {chr(ord("a") + int(number) % 26)}
            numbers.append(int(number))
        return numbers

    await send(range(24))
    assert all(queued(handler) > 0 for handler in handlers)
    for client in clients:
        resume(client)
    reading = [asyncio.ensure_future(read(client)) for client in clients]
    await send(range(24, 60))  # while the readers catch up
    assert [await numbers for numbers in reading] == [list(range(60))] * 2


@pytest.mark.gen_test
async def test_a_connection_that_catches_up_never_has_a_message_too_early(serve, login):
    # A33
    """Around the moment at which the queue is empty again, a message must not go past the last of it."""
    server = serve(Narrow)
    (client,) = await log_in_narrow(login, server, "alice")
    (handler,) = connections_of(server)
    emptied = 0
    sent: list[str] = []
    received: list[str] = []
    for turn in range(2000):  # as many as it takes on a busy machine
        if turn >= 60 and emptied:
            break
        if turn % 12 == 0:
            stall(client)
            sent.append(f"{turn} large".ljust(LARGE))
            connections_of(server).broadcast(sent[-1])
            resume(client)
        before = queued(handler)
        await asyncio.sleep(0)
        emptied += before > 0 and queued(handler) == 0
        for kind in ("broadcast", "direct"):
            sent.append(f"{turn} {kind}")
            if kind == "direct":
                handler.write_message(sent[-1])
            else:
                connections_of(server).broadcast(sent[-1])
        while readable([client]) and len(received) < len(sent):
            received.append((await client.read_frame())[1].decode())
    while len(received) < len(sent):
        received.append((await client.read_frame())[1].decode())
    assert received == sent
    assert emptied > 0, "the queue was never emptied while messages came"


# --- slow="latest": the newest of what a slow reader misses, in its place ---------------------------------------------

LIMIT = 300_000


async def log_in_clogged(login: Any, serve: Any) -> tuple[Server, RawClient, Any, int]:
    """Log in a user "slow" with more than the limit queued; return server, client, handler, and what `clog` did."""
    server = serve(Narrow, auth=make_auth(max_buffer_bytes=LIMIT))
    (client,) = await log_in_narrow(login, server, "slow")
    stall(client)
    return server, client, handler_of(server, "slow"), await clog(server)


@pytest.mark.gen_test
async def test_only_the_newest_message_reaches_a_slow_reader(serve, login):
    server, client, _, number = await log_in_clogged(login, serve)
    connections = connections_of(server)
    fast = await login(server, "fast")
    for message in ("one", "two", "three"):
        assert connections.broadcast(message, slow="latest") == FanOut(2, 0, 0)
        await settle()
    resume(client)
    await read_blocks(client, number)
    assert (await client.read_frame())[1] == b"three"
    assert connections.broadcast("four", slow="latest") == FanOut(2, 0, 0)
    assert (await client.read_frame())[1] == b"four"
    assert await texts_until(fast, "four") == ["one", "two", "three", "four"]


@pytest.mark.gen_test
async def test_the_newest_message_of_each_group_is_kept(serve, login):
    server, client, handler, number = await log_in_clogged(login, serve)
    connections = connections_of(server)
    handler.auth_session.join("red")
    handler.auth_session.join("blue")
    for message in ("1", "2", "3"):
        for group in ("red", None, "blue"):
            assert connections.broadcast(f"{group} {message}", group=group, slow="latest") == FanOut(1, 0, 0)
    connections.broadcast("red 4", group="red", slow="latest")
    resume(client)
    await read_blocks(client, number)
    kept = [(await client.read_frame())[1].decode() for _ in range(3)]
    assert sorted(kept) == ["None 3", "blue 3", "red 4"]
    connections.broadcast("the end")
    assert (await client.read_frame())[1] == b"the end"


@pytest.mark.gen_test
async def test_a_slow_reader_gets_the_newest_although_nothing_more_is_ever_sent(serve, login):
    """The kept message does not wait for the next broadcast, or for the next write, to go."""
    server, client, _, number = await log_in_clogged(login, serve)
    assert connections_of(server).send_to_user("slow", "kept", slow="latest") == FanOut(1, 0, 0)
    resume(client)
    await read_blocks(client, number)
    assert (await client.read_frame())[1] == b"kept"


@pytest.mark.gen_test
@pytest.mark.parametrize("awake", [False, True])
async def test_a_direct_message_does_not_overtake_the_kept_one(serve, login, awake):
    # A33
    server, client, handler, number = await log_in_clogged(login, serve)
    connections = connections_of(server)
    connections.broadcast("old", slow="latest")
    connections.broadcast("kept", slow="latest")
    if awake:
        resume(client)
    handler.write_message("direct")
    resume(client)
    await read_blocks(client, number)
    assert await texts_until(client, "direct") == ["kept", "direct"]
    connections.broadcast("after")
    assert (await client.read_frame())[1] == b"after", "a kept message is sent once"


@pytest.mark.gen_test
async def test_a_kept_message_that_went_before_a_direct_one_is_not_replaced_by_the_next(serve, login):
    server, client, handler, number = await log_in_clogged(login, serve)
    connections = connections_of(server)
    connections.broadcast("first", slow="latest")
    handler.write_message("direct")
    connections.broadcast("second", slow="latest")
    connections.broadcast("third", slow="latest")
    resume(client)
    await read_blocks(client, number)
    assert await texts_until(client, "third") == ["first", "direct", "third"]


@pytest.mark.gen_test
async def test_a_message_that_may_be_dropped_does_not_take_the_kept_ones_place(serve, login):
    server, client, _, number = await log_in_clogged(login, serve)
    connections = connections_of(server)
    connections.broadcast("kept", slow="latest")
    assert connections.broadcast("dropped", slow="drop") == FanOut(0, 1, 0)
    resume(client)
    await read_blocks(client, number)
    assert (await client.read_frame())[1] == b"kept"
    connections.broadcast("after")
    assert (await client.read_frame())[1] == b"after"


@pytest.mark.gen_test
async def test_a_kept_message_does_not_save_a_slow_reader_from_being_closed(serve, login):
    server, client, _, number = await log_in_clogged(login, serve)
    connections = connections_of(server)
    connections.broadcast("kept", slow="latest")
    assert connections.broadcast("too much", slow="close") == FanOut(0, 0, 1)
    resume(client)
    await read_blocks(client, number)
    opcode_or_text = (await client.read_frame())[1]
    if opcode_or_text == b"kept":  # before the close frame or not at all
        opcode_or_text = (await client.read_frame())[1]
    assert opcode_or_text == b"\x03\xf5slow_reader"


@pytest.mark.gen_test
async def test_a_kept_message_is_not_for_someone_whose_jwt_has_expired(serve, login):
    # A31
    server, client, handler, number = await log_in_clogged(login, serve)
    connections_of(server).broadcast("secret", slow="latest")
    handler._wsauth_guard.close(JWT_EXPIRED)
    resume(client)
    await read_blocks(client, number)
    assert await answer_close(client) == (4401, "jwt_expired")
    assert await client.at_eof()


@pytest.mark.gen_test
async def test_a_slow_reader_that_leaves_with_a_message_kept_for_it_is_forgotten(serve, login, caplog):
    # A33
    caplog.set_level(logging.DEBUG)
    server, client, _, _ = await log_in_clogged(login, serve)
    connections = connections_of(server)
    fast = await login(server, "fast")
    connections.broadcast("kept", slow="latest")
    reset(client)
    await until(lambda: len(connections) == 1)
    assert connections.broadcast("after", slow="latest") == FanOut(1, 0, 0)
    assert await texts_until(fast, "after") == ["kept", "after"]
    fast.abort()
    await nothing_is_left(server)
    assert complaints(caplog) == []


@pytest.mark.gen_test
async def test_what_is_kept_on_several_topics_arrives_in_the_order_of_the_newest(serve, login):
    # A33
    class Chat(Narrow):
        pass

    server = serve(Chat, auth=make_auth(max_buffer_bytes=300_000))
    connections = connections_of(server)
    slow = await login(server, "slow")
    await until(lambda: Chat.events == ["open"])
    handler_of(server, "slow").auth_session.join("red")
    stall(slow)
    number = await clog(server)
    connections.broadcast("old", slow="latest")
    connections.broadcast("red", group="red", slow="latest")
    connections.send_to_user("slow", "to him", slow="latest")
    connections.broadcast("new", slow="latest")
    resume(slow)
    await read_blocks(slow, number)
    assert await texts_until(slow, "new") == ["red", "to him", "new"]


@pytest.mark.gen_test
async def test_awaiting_a_message_that_the_client_never_took_says_that_it_is_gone(serve, login):
    # A33
    class Chat(Narrow):
        pass

    server = serve(Chat)
    slow = await login(server, "slow")
    await until(lambda: Chat.events == ["open"])
    stall(slow)
    written = handler_of(server, "slow").write_message("x" * 10_000_000)
    assert not written.done()
    reset(slow)
    with pytest.raises(WebSocketClosedError):
        await written


@pytest.mark.gen_test
async def test_half_a_frame_that_tornados_limit_leaves_ends_the_connection(serve, login):
    # A33
    class Chat(Narrow):
        pass

    server = serve(Chat)
    connections = connections_of(server)
    client = await login(server, "slow")
    await until(lambda: Chat.events == ["open"])
    stall(client)
    handler = handler_of(server, "slow")
    handler.ws_connection.stream.max_write_buffer_size = 1000
    assert connections.broadcast("x" * 10_000_000, slow="drop") == FanOut(0, 0, 1)
    await until(lambda: len(connections) == 0)


@pytest.mark.gen_test
async def test_a_ping_that_comes_after_our_close_disturbs_nothing(serve, login, caplog):
    # A33
    server = serve(Prompt)
    client = await login(server, "alice")
    handler_of(server, "alice")._wsauth_guard.close(JWT_EXPIRED)
    assert await client.read_close() == (4401, "jwt_expired")
    client.send(frame(b"", PING) + frame(b"\x11\x31", CLOSE))
    await nothing_is_left(server)
    assert complaints(caplog) == []
