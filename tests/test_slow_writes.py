"""A client that does not read, whatever it is that waits for it: messages of its handler's own, pongs, pings."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest
from tornado.websocket import WebSocketClosedError

from tests.fanout import Narrow, handler_of, resume, stall
from tests.support import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Echo,
    ManualClock,
    RawClient,
    Response,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    nothing_is_left,
    settle,
    until,
)

LIMIT = 50_000
SIZE = 10_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def start(serve: Any, clock: ManualClock) -> Any:
    def start_one(compress: bool = False, **options: Any) -> Any:
        class Chat(Narrow):
            def get_compression_options(self):
                return {} if compress else None

        options = {"max_buffer_bytes": LIMIT, "clock": clock, **options}
        return serve(Chat, make_auth(**options)), Chat

    return start_one


@pytest.fixture
def narrow(io_loop: Any) -> Any:
    """Connect with a socket that takes a few kilobytes: ``client, response = await narrow(server, compress)``."""
    clients: list[RawClient] = []

    async def open_one(server: Any, compress: bool = False) -> tuple[RawClient, Response]:
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect(("127.0.0.1", server.port))
        clients.append(RawClient(*await asyncio.open_connection(sock=small)))
        extensions = "permessage-deflate" if compress else None
        path = f"/ws?token={await server.auth.issue_token('alice')}"
        response = await clients[-1].upgrade(path, Sec_WebSocket_Extensions=extensions)
        assert response.status == 101
        assert ("sec-websocket-extensions" in response.headers) == compress
        return clients[-1], response

    yield open_one

    async def close() -> None:
        for client in clients:
            client.abort()
            await client.close()

    io_loop.run_sync(close)


async def connected(narrow: Any, server: Any, compress: bool = False) -> RawClient:
    """Log in; the answer may come compressed."""
    client, _ = await narrow(server, compress)
    client.send_text(jwt_message(make_jwt("alice")))
    assert (await client.read_frame())[0] == TEXT
    return client


async def stalled(narrow: Any, server: Any, compress: bool = False) -> tuple[RawClient, Any]:
    """Log in a client that reads nothing from now on; return it and its handler."""
    client = await connected(narrow, server, compress)
    await until(lambda: "open" in handler_of(server, "alice").events)
    stall(client)
    return client, handler_of(server, "alice")


def noise(size: int = SIZE) -> bytes:
    """Return what no compression makes smaller."""
    return os.urandom(size)


def waiting_in(stream: Any) -> int:
    """Return how many bytes Tornado holds for the client; the handler has no connection to ask any more."""
    return len(stream._write_buffer)


async def fill(handler: Any) -> int:
    """Queue messages until more than twice ``LIMIT`` bytes wait and the kernel takes no more; return how many."""
    number, stream = 0, handler.ws_connection.stream
    while waiting_in(stream) <= 2 * LIMIT:
        handler.write_message(noise(), binary=True)
        number += 1
        assert number < 2000
        if waiting_in(stream) > 2 * LIMIT:
            await asyncio.sleep(0.01)
    return number


both = pytest.mark.parametrize("compress", [False, True])


@pytest.mark.gen_test
@both
async def test_one_message_behind_too_many_closes_the_reader_and_tells_the_handler(
    start, narrow, clock, logged, compress
):
    # A29, A39
    server, chat = start(compress)
    _client, handler = await stalled(narrow, server, compress)
    await fill(handler)
    stream = handler.ws_connection.stream
    before = waiting_in(stream)
    assert before <= 2 * LIMIT + SIZE + 100, "one message beyond the limit is the most"
    assert logged.events[-1][1] == "auth_ok"
    with pytest.raises(WebSocketClosedError):
        handler.write_message("one more")
    assert logged.events[-1] == ("closed", "slow_reader", "alice", 1013)
    assert len(server.auth.connections) == 0
    for _ in range(3):
        with pytest.raises(WebSocketClosedError):
            handler.write_message("and another")
    assert waiting_in(stream) <= before + 20, "nothing but a close frame was added"
    clock.advance(0.4)
    await settle()
    assert "close" not in chat.events
    clock.advance(0.2)
    await until(lambda: "close" in chat.events)
    await nothing_is_left(server)
    assert [event[1] for event in logged.events].count("slow_reader") == 1
    assert len(server.auth.ending) == 0
    assert clock.timers == []


@pytest.mark.gen_test
@both
async def test_a_reader_that_is_behind_by_less_gets_everything_in_order(start, narrow, logged, compress):
    # A29, A33
    server, _ = start(compress, max_buffer_bytes=10 * LIMIT)
    client, handler = await stalled(narrow, server, compress)
    number = await fill(handler)
    resume(client)
    for _ in range(number):
        assert (await client.read_frame())[0] == BINARY
    await until(lambda: waiting_in(handler.ws_connection.stream) == 0)
    handler.write_message("done")
    assert (await client.read_frame())[0] == TEXT
    assert logged.events[-1][1] == "auth_ok"


@pytest.mark.gen_test
async def test_who_reads_on_in_time_sees_why_it_was_closed(start, narrow, clock):
    # A29
    server, _ = start()
    client, handler = await stalled(narrow, server)
    number = await fill(handler)
    with pytest.raises(WebSocketClosedError):
        handler.write_message("one more")
    resume(client)
    for _ in range(number):
        assert (await client.read_frame())[0] == BINARY
    assert await client.read_close() == (1013, "slow_reader")
    client.send(frame(b"\x03\xf5", CLOSE))
    assert await client.at_eof()
    await until(lambda: len(server.auth.ending) == 0)
    assert clock.timers == []


@pytest.mark.gen_test
@both
@pytest.mark.parametrize("who", ["the client's ping", "the handler's ping"])
async def test_a_pong_or_ping_behind_too_many_closes_the_reader(start, narrow, clock, logged, compress, who):
    # A29
    server, chat = start(compress)
    client, handler = await stalled(narrow, server, compress)
    stream, before = handler.ws_connection.stream, 0
    while len(server.auth.connections):  # again, for as long as the kernels between us take some of what waits
        await fill(handler)
        before = waiting_in(stream)
        if who == "the client's ping":
            client.send(frame(b"?", PING))
        else:
            handler.ping(b"?")
        await asyncio.sleep(0.01)
    assert logged.events[-1] == ("closed", "slow_reader", "alice", 1013)
    assert waiting_in(stream) <= before + 20
    clock.advance(0.6)
    await until(lambda: "close" in chat.events)
    await nothing_is_left(server)
    assert len(server.auth.ending) == 0
    assert logged.errors == []


@pytest.mark.gen_test
@both
async def test_a_flood_of_pings_after_the_jwt_queues_no_more_than_twice_the_limit(start, narrow, clock, compress):
    # A29
    server, _ = start(compress)
    client, handler = await stalled(narrow, server, compress)
    stream = handler.ws_connection.stream
    peak = await flood(client, server, stream)
    assert peak <= 2 * LIMIT + 200
    if len(server.auth.connections) == 0:
        clock.advance(0.6)
        await until(lambda: stream.closed())


@pytest.mark.gen_test
@both
async def test_a_flood_of_pings_before_the_jwt_queues_no_more_than_max_preauth_bytes(
    serve, narrow, clock, logged, compress
):
    # A15, A29
    streams: list[Any] = []

    class Chat(Echo):
        def prepare(self):
            streams.append(self.request.connection.stream)
            streams[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            return super().prepare()

        def get_compression_options(self):
            return {} if compress else None

    server = serve(Chat, make_auth(clock=clock, max_preauth_bytes=4096))
    client, _ = await narrow(server, compress)
    stall(client)
    peak = await flood(client, server, streams[0])
    assert peak <= 4096 + 200
    if logged.events:
        assert logged.events == [("refused", "slow_reader", "alice", 1013)]
        clock.advance(0.6)
    else:
        assert len(server.auth.pending) == 1, "Tornado has stopped reading"
        clock.advance(10)
        assert logged.events == [("refused", "auth_timeout", "alice", 4408)]
        client.abort()
    await until(lambda: streams[0].closed())
    await nothing_is_left(server)
    assert Chat.events == []


async def flood(client: RawClient, server: Any, stream: Any) -> int:
    """Send 6000 pings; return the most bytes that were ever queued for the client, turn by turn."""
    peak = 0
    ours = frame(b"x" * 125, PING) * 1000
    for _ in range(6):
        client.send(ours)
        for _ in range(8):
            await asyncio.sleep(0)
            peak = max(peak, waiting_in(stream))
        await asyncio.sleep(0.001)
    return max(peak, waiting_in(stream))


@pytest.mark.gen_test
@both
@pytest.mark.parametrize("authenticated", [False, True])
async def test_once_we_closed_no_pong_is_sent(start, narrow, clock, compress, authenticated):
    # A29
    server, _ = start(compress)
    if authenticated:
        client = await connected(narrow, server, compress)
        assert await server.auth.disconnect_user("alice") == 1
    else:
        client, _ = await narrow(server, compress)
        clock.advance(10)
    client.send(frame(b"1", PING) * 50 + frame(b"\x11\x33", CLOSE))
    frames = []
    while True:
        try:
            frames.append((await client.read_frame())[0])
        except (asyncio.IncompleteReadError, ConnectionError):
            break
    assert frames == [CLOSE]


@pytest.mark.gen_test
async def test_pings_are_answered_as_long_as_the_client_reads(start, login, connect):
    # A29
    server, _ = start()
    inside = await login(server)
    waiting, _ = await connect(server)
    for client in (inside, waiting):
        for number in range(100):  # one by one: Tornado 6.6 answers only the latest of many (RFC 6455 §5.5.3)
            client.send(frame(b"%d" % number, PING))
            assert await client.read_frame() == (PONG, b"%d" % number)
    waiting.send_text(jwt_message(make_jwt("alice")))
    assert (await waiting.read_json())["type"] == "auth_ok"


@pytest.mark.gen_test
async def test_one_message_of_any_size_is_no_slowness_of_a_reader_with_nothing_queued(start, login):
    # A29
    server, _ = start()
    client = await login(server)
    handler = handler_of(server, "alice")
    written = asyncio.ensure_future(handler.write_message(noise(10 * LIMIT), binary=True))
    opcode, payload = await client.read_frame()
    await written
    assert (opcode, len(payload)) == (BINARY, 10 * LIMIT)
    assert len(server.auth.connections) == 1
