"""Who is connected, and one message to many of them, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import zlib
from typing import Any

import pytest
from tornado.iostream import StreamBufferFullError

from tests.support import BINARY, CLOSE, TEXT, Echo, RawClient, Server, frame, jwt_message, make_auth, make_jwt, until
from tornado_wsauth import FanOut


async def log_in_all(login: Any, server: Server, *users: str) -> list[RawClient]:
    return [await login(server, user) for user in users]


# --- what is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("message", "binary", "arrives"),
    [
        ("hello", False, (TEXT, b"hello")),
        ("żółw 🐢", False, (TEXT, "żółw 🐢".encode())),
        ("", False, (TEXT, b"")),
        (b"hello", False, (TEXT, b"hello")),
        (b"\x00\xff", True, (BINARY, b"\x00\xff")),
        ("hello", True, (BINARY, b"hello")),
        (b"", True, (BINARY, b"")),
        ("x" * 200_000, False, (TEXT, b"x" * 200_000)),
    ],
    ids=["str", "unicode", "empty", "bytes", "binary", "str as binary", "empty binary", "large"],
)
async def test_a_message_reaches_every_connection_as_it_is(serve, login, message, binary, arrives):
    server = serve()
    clients = await log_in_all(login, server, "alice", "bob", "alice")
    assert server.auth.connections.broadcast(message, binary=binary) == FanOut(3, 0, 0)
    assert [await client.read_frame() for client in clients] == [arrives] * 3


@pytest.mark.gen_test
async def test_a_dict_is_sent_as_json(serve, login):
    server = serve()
    client = await login(server)
    message = {"type": "tick", "n": [1, 2.5, None], "text": "żółw </script>"}
    server.auth.connections.broadcast(message)
    server.auth.connections.send_to_user("alice", {})
    opcode, payload = await client.read_frame()
    assert (opcode, json.loads(payload)) == (TEXT, message)
    assert await client.read_json() == {}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "message",
    [None, 1, 1.5, True, ["a"], ("a",), {1, 2}, object(), bytearray(b"a"), {"a": object()}],
    ids=lambda message: type(message).__name__,
)
async def test_anything_else_is_a_type_error_before_anything_is_sent(serve, login, message):
    server = serve()
    client = await login(server)
    connections = server.auth.connections
    with pytest.raises(TypeError):
        connections.broadcast(message)
    with pytest.raises(TypeError):
        connections.send_to_user("alice", message)
    connections.broadcast("next")
    assert (await client.read_frame())[1] == b"next"


@pytest.mark.parametrize("message", [None, 1, ["a"]])
def test_a_wrong_message_is_a_type_error_even_with_nobody_to_receive_it(message):
    connections = make_auth().connections
    with pytest.raises(TypeError, match=r"str, bytes or dict"):
        connections.broadcast(message)
    with pytest.raises(TypeError, match=r"str, bytes or dict"):
        connections.broadcast(message, group="nobody")
    with pytest.raises(TypeError, match=r"str, bytes or dict"):
        connections.send_to_user("nobody", message)


@pytest.mark.gen_test
async def test_text_that_cannot_be_encoded_is_an_error_and_reaches_nobody(serve, login):
    server = serve()
    clients = await log_in_all(login, server, "alice", "bob")
    with pytest.raises(UnicodeEncodeError):
        server.auth.connections.broadcast("\ud800")
    server.auth.connections.broadcast("next")
    assert [(await client.read_frame())[1] for client in clients] == [b"next"] * 2


@pytest.mark.gen_test
async def test_a_handlers_own_write_message_is_not_in_the_way_of_a_broadcast(serve, login):
    class Chat(Echo):
        def write_message(self, message: Any, binary: bool = False) -> Any:
            return super().write_message(f"wrapped {message}")

    server = serve(Chat)
    client = await login(server)
    server.auth.connections.broadcast("hello")
    assert (await client.read_frame())[1] == b"hello"


# --- to whom ---------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_group_gets_what_is_sent_to_it_and_nobody_else_does(serve, login):
    server = serve()
    connections = server.auth.connections
    clients = await log_in_all(login, server, "alice", "bob", "carol")
    alice, bob, _ = (handler.auth_session for handler in connections)
    alice.join("red")
    bob.join("red")
    bob.join("blue")
    assert connections.broadcast("to red", group="red") == FanOut(2, 0, 0)
    assert connections.broadcast("to blue", group="blue") == FanOut(1, 0, 0)
    assert connections.broadcast("to green", group="green") == FanOut(0, 0, 0)
    assert connections.broadcast("to all") == FanOut(3, 0, 0)
    assert [connections.count(group) for group in ("red", "blue", "green", None)] == [2, 1, 0, 3]
    received = []
    for client in clients:
        received.append([])
        while received[-1][-1:] != [b"to all"]:
            received[-1].append((await client.read_frame())[1])
    assert received == [[b"to red", b"to all"], [b"to red", b"to blue", b"to all"], [b"to all"]]


@pytest.mark.gen_test
async def test_a_user_gets_it_on_every_connection_of_his_and_nobody_else_does(serve, login):
    server = serve()
    connections = server.auth.connections
    clients = await log_in_all(login, server, "alice", "bob", "alice", "Alice")
    assert connections.send_to_user("alice", "psst") == FanOut(2, 0, 0)
    assert connections.send_to_user("nobody", "psst") == FanOut(0, 0, 0)
    connections.broadcast("all")
    assert [(await client.read_frame())[1] for client in clients] == [b"psst", b"all", b"psst", b"all"]


@pytest.mark.gen_test
async def test_connections_can_be_counted_listed_and_asked_for_by_user(serve, login):
    server = serve()
    connections = server.auth.connections
    assert (len(connections), list(connections), connections.count()) == (0, [], 0)
    clients = await log_in_all(login, server, "alice", "bob", "alice")
    assert len(connections) == connections.count() == 3
    assert [handler.auth_session.user_id for handler in connections] == ["alice", "bob", "alice"]
    first, _, third = connections
    assert connections.for_user("alice") == [first, third]
    assert connections.for_user("nobody") == []
    assert all(handler.auth_session in connections for handler in connections)
    clients[0].abort()
    await until(lambda: len(connections) == 2)
    assert connections.for_user("alice") == [third]
    assert first.auth_session not in connections
    clients[2].abort()
    await until(lambda: len(connections) == 1)
    assert connections.for_user("alice") == []


@pytest.mark.gen_test
async def test_for_user_returns_a_list_of_its_own(serve, login):
    server = serve()
    await login(server)
    server.auth.connections.for_user("alice").clear()
    assert len(server.auth.connections.for_user("alice")) == 1


@pytest.mark.gen_test
async def test_nobody_is_registered_before_the_jwt_is_accepted(serve, connect):  # A12
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Chat(Echo):
        async def load_auth_user(self, claims: dict[str, Any]) -> Any:
            entered.set()
            await go_on.wait()
            return "alice"

    server = serve(Chat)
    connections = server.auth.connections

    def send_everything() -> None:
        assert (len(connections), list(connections), connections.for_user("alice")) == (0, [], [])
        for _ in range(100):
            assert connections.broadcast("secret") == FanOut(0, 0, 0)
            assert connections.broadcast("secret", group="red") == FanOut(0, 0, 0)
            assert connections.send_to_user("alice", "secret") == FanOut(0, 0, 0)

    client, _ = await connect(server)
    send_everything()
    client.send_text(jwt_message(make_jwt()))
    await entered.wait()
    send_everything()
    go_on.set()
    assert (await client.read_json())["type"] == "auth_ok"
    assert connections.broadcast("hello") == FanOut(1, 0, 0)
    assert (await client.read_frame())[1] == b"hello"


@pytest.mark.gen_test
async def test_a_client_that_is_refused_was_never_registered(serve, connect, monkeypatch):  # A12
    server = serve()
    added = []
    monkeypatch.setattr(type(server.auth.connections), "add", lambda self, session: added.append(session))
    for message in ("hello", jwt_message("x.y.z"), jwt_message(make_jwt("mallory"))):
        client, _ = await connect(server)
        client.send_text(message)
        await client.read_close()
        assert server.auth.connections.broadcast("secret") == FanOut(0, 0, 0)
    assert added == []


@pytest.mark.gen_test
async def test_auth_ok_comes_before_any_broadcast(serve, connect):  # A12
    class Chat(Echo):
        def open(self, *args: str, **kwargs: str) -> None:
            server.auth.connections.broadcast("from open")

    server = serve(Chat)
    client, _ = await connect(server)
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_json())["type"] == "auth_ok"
    assert (await client.read_frame())[1] == b"from open"


# --- while connections come and go -----------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_connection_that_is_closing_is_not_counted_as_sent(serve, login):
    server = serve()
    connections = server.auth.connections
    clients = await log_in_all(login, server, "alice", "bob")
    leaving, _ = connections
    leaving.close()
    leaving.close()
    fan_out = connections.broadcast("hello")
    assert (fan_out.sent, fan_out.dropped) == (1, 0)
    assert fan_out.closed == connections.count() - 1
    assert connections.send_to_user("alice", "hello").sent == 0
    assert await clients[0].read_frame() == (CLOSE, b"")
    assert (await clients[1].read_frame())[1] == b"hello"


@pytest.mark.gen_test
async def test_after_we_decided_to_close_nothing_more_is_broadcast(serve, login):  # A31
    server = serve()
    client = await login(server)
    await server.auth.close(grace=0)
    assert len(server.auth.connections) == 0
    assert server.auth.connections.broadcast("too late") == FanOut(0, 0, 0)
    assert await client.read_close() == (1012, "restart")


@pytest.mark.gen_test
async def test_iterating_goes_over_those_who_were_there_when_it_began(serve, login):  # A33
    server = serve()
    connections = server.auth.connections
    clients = await log_in_all(login, server, "alice", "bob", "carol")
    seen = []
    for handler in connections:
        seen.append(handler.auth_session.user_id)
        if len(seen) == 1:
            clients[1].abort()
            await until(lambda: len(connections) == 2)
            await login(server, "dave")
    assert seen == ["alice", "bob", "carol"]
    assert [handler.auth_session.user_id for handler in connections] == ["alice", "carol", "dave"]


@pytest.mark.gen_test
async def test_a_connection_can_be_closed_in_the_middle_of_an_iteration(serve, login):  # A33
    server = serve()
    clients = await log_in_all(login, server, "alice", "bob", "carol")
    for handler in server.auth.connections:
        handler.close(4000, "goodbye")
    assert [await client.read_close() for client in clients] == [(4000, "goodbye")] * 3
    for client in clients:
        await client.close()
    await until(lambda: len(server.auth.connections) == 0)


@pytest.mark.gen_test
async def test_who_stays_misses_nothing_while_others_come_and_go(serve, login):  # A33
    server = serve()
    connections = server.auth.connections
    stays = await login(server, "alice")
    sent = 0
    stop = False

    async def come_and_go(user: str, how: str) -> int:
        rounds = 0
        while not stop:
            client = await login(server, user)
            await client.read_frame()
            if how == "abort":
                client.abort()
            elif how == "close":
                client.send(frame(b"\x03\xe8", CLOSE))
            else:
                await client.close()
            rounds += 1
        return rounds

    others = [asyncio.ensure_future(come_and_go(f"user {how}", how)) for how in ("abort", "close", "fin")]

    async def read() -> None:
        for number in range(500):
            assert await stays.read_json() == {"n": number}

    reading = asyncio.ensure_future(read())
    while sent < 500:
        fan_out = connections.broadcast({"n": sent})
        assert fan_out.sent >= 1
        assert fan_out.sent + fan_out.closed == len(connections)
        sent += 1
        await asyncio.sleep(0)
    await reading
    stop = True
    # Whoever has just come still waits for a message.
    while not all(other.done() for other in others):
        connections.broadcast("the last one")
        await asyncio.sleep(0.001)
    assert all(other.result() > 0 for other in others)
    await until(lambda: len(connections) == 1)


@pytest.mark.gen_test
@pytest.mark.parametrize("size", [10, 5000])
async def test_messages_and_broadcasts_arrive_in_the_order_in_which_they_were_sent(serve, login, size):  # A33
    """5000 bytes × 600 fill the socket's buffers, so that Tornado has to queue."""
    server = serve()
    connections = server.auth.connections
    clients = await log_in_all(login, server, "alice", "bob")
    first, second = connections
    first.auth_session.join("group")
    second.auth_session.join("group")
    padding = " " * size
    for number in range(0, 600, 4):
        for handler in (first, second):
            handler.write_message(f"{number}{padding}")
        connections.broadcast(f"{number + 1}{padding}")
        for user in ("alice", "bob"):
            connections.send_to_user(user, f"{number + 2}{padding}".encode())
        connections.broadcast(f"{number + 3}{padding}", group="group", binary=True)
    for client in clients:
        assert [int((await client.read_frame())[1]) for _ in range(600)] == list(range(600))


async def log_in_compressed(connect: Any, server: Server, user: str) -> tuple[RawClient, Any]:
    """Log in with compression; return the client and what undoes it (RFC 7692 §7.2.2)."""
    client, response = await connect(server, user, Sec_WebSocket_Extensions="permessage-deflate")
    assert "permessage-deflate" in response.headers["sec-websocket-extensions"]
    inflate = zlib.decompressobj(wbits=-15)
    client.send_text(jwt_message(make_jwt(user)))
    auth_ok = inflate.decompress((await client.read_frame())[1] + b"\0\0\xff\xff")
    assert json.loads(auth_ok)["type"] == "auth_ok"
    return client, inflate


@pytest.mark.gen_test
@pytest.mark.parametrize("compressed", [False, True])
async def test_clients_that_vanish_during_broadcasts_leave_nothing_in_asyncios_log(
    serve, login, connect, caplog, compressed
):  # A32, A33
    class Chat(Echo):
        def get_compression_options(self) -> dict[str, Any] | None:
            return {} if compressed else None

    caplog.set_level(logging.DEBUG)
    server = serve(Chat, auth=make_auth(max_buffer_bytes=2**27))
    connections = server.auth.connections
    clients = []
    for number in range(11):
        if compressed:
            clients.append((await log_in_compressed(connect, server, f"user {number}"))[0])
        else:
            clients.append(await login(server, f"user {number}"))
    stays = clients.pop()
    message = "x" * 100_000
    for client in clients:
        for _ in range(5):
            connections.broadcast(message)
        client.abort()
        for _ in range(5):
            await asyncio.sleep(0)
            connections.broadcast(message)
            connections.send_to_user("user 9", message)

    async def read() -> None:
        while len((await stays.read_frame())[1]) > 20:
            pass

    reading = asyncio.ensure_future(read())
    await until(lambda: len(connections) == 1)
    connections.broadcast("the end")
    if not compressed:  # a compressed message may be short at any time
        await reading
    reading.cancel()
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert "never retrieved" not in caplog.text


@pytest.mark.gen_test
async def test_a_compressed_connection_gets_every_broadcast_whole_and_in_order(serve, connect):  # A33
    class Chat(Echo):
        def get_compression_options(self) -> dict[str, Any] | None:
            return {}

    server = serve(Chat)
    client, inflate = await log_in_compressed(connect, server, "alice")
    (handler,) = server.auth.connections
    for number in range(0, 100, 2):
        server.auth.connections.broadcast(f"{number} " + "x" * 1000)
        handler.write_message(f"{number + 1} " + "x" * 1000)
    for number in range(100):
        payload = inflate.decompress((await client.read_frame())[1] + b"\0\0\xff\xff")
        assert payload == f"{number} ".encode() + b"x" * 1000


async def fill(client: RawClient, handler: Any) -> None:
    """Write until neither the kernel nor, with its limit of 10,000 bytes, Tornado takes any more."""
    client.writer.transport.pause_reading()
    while True:
        try:
            handler.write_message("x" * 1000)
        except StreamBufferFullError:
            return


@pytest.mark.gen_test
async def test_one_connection_whose_write_buffer_is_full_takes_nothing_from_the_others(serve, login):  # A32, A33
    """With ``max_write_buffer_size`` set, Tornado raises `StreamBufferFullError` out of ``write_message``."""

    class Chat(Echo):
        def open(self, *args: str, **kwargs: str) -> None:
            self.ws_connection.stream.max_write_buffer_size = 10_000

    server = serve(Chat)
    connections = server.auth.connections
    clients = await log_in_all(login, server, "alice", "slow", "bob")
    await fill(clients[1], connections.for_user("slow")[0])
    assert connections.broadcast("x" * 20_000, slow="drop") == FanOut(2, 1, 0)
    assert connections.broadcast("x" * 20_000) == FanOut(2, 0, 1)
    for client in (clients[0], clients[0], clients[2], clients[2]):
        assert len((await client.read_frame())[1]) == 20_000


@pytest.mark.gen_test
async def test_nobody_is_kept_alive_by_the_registry_after_leaving(serve, login):
    server = serve()
    connections = server.auth.connections
    clients = await log_in_all(login, server, *(f"user {n}" for n in range(5)))
    for handler in connections:
        handler.auth_session.join("red")
        handler.auth_session.join(handler.auth_session.user_id)
    del handler
    for client in clients:
        client.abort()
    await until(lambda: len(connections) == 0)
    assert [connections.count(group) for group in ("red", "user 0", "user 4")] == [0, 0, 0]
    empty = [value for value in vars(connections).values() if isinstance(value, dict)]
    assert empty
    assert all(index == {} for index in empty), "a user or a group without connections is forgotten"
