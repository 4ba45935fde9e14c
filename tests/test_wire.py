"""What the library relies on and Tornado does not document. Each tox environment runs this against its Tornado."""

from __future__ import annotations

import sys
import zlib

import pytest
import tornado.iostream
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from tests.fanout import tls_port, websockets_client
from tests.support import Echo, frame, jwt_message, make_jwt, until
from tornado_wsauth import fanout, wire
from tornado_wsauth.message import Message


class Bare(WebSocketHandler):
    handlers: list[WebSocketHandler]

    def open(self) -> None:
        type(self).handlers = [self]

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


class Deflating(Bare):
    def get_compression_options(self) -> dict[str, int]:
        return {}


@pytest.mark.gen_test
async def test_the_message_limit_can_be_changed_on_a_live_connection(serve, connect):  # A17
    client, _ = await connect(serve(Bare), path="/ws")
    client.send_text("x" * 2000)
    assert (await client.read_frame())[1] == b"x" * 2000
    (handler,) = Bare.handlers
    assert wire.set_max_message_size(handler.ws_connection, 1000) == 10 * 1024 * 1024
    client.send_text("x" * 1001)
    assert (await client.read_close())[0] == 1009


@pytest.mark.gen_test
async def test_what_a_handler_would_do_with_its_settings_can_be_asked_beforehand(serve, connect):
    class Chatty(Bare):
        @property
        def ping_interval(self) -> float:
            return 7

    server = serve(Chatty, websocket_max_message_size=1000)
    client, _ = await connect(server, path="/ws")
    client.send_text("x" * 1001)
    assert (await client.read_close())[0] == 1009
    (handler,) = Chatty.handlers
    assert (wire.seconds_between_pings(handler), wire.largest_message(handler)) == (7, 1000)


@pytest.mark.gen_test
async def test_the_message_limit_counts_what_comes_out_of_decompression(serve, connect):  # A17
    server = serve(Deflating)
    client, response = await connect(server, path="/ws", Sec_WebSocket_Extensions="permessage-deflate")
    assert "permessage-deflate" in response.headers["sec-websocket-extensions"]
    (handler,) = Deflating.handlers
    wire.set_max_message_size(handler.ws_connection, 1000)
    deflate = zlib.compressobj(wbits=-15)
    bomb = deflate.compress(b"x" * 100_000) + deflate.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 1000
    client.send(frame(bomb[:-4], rsv1=True))
    assert (await client.read_close())[0] == 1009


@pytest.mark.gen_test
async def test_tornado_calls_what_it_finds_on_the_instance(serve, connect):  # A11
    """The whole gate rests on this: a callback set on the instance is called, whatever the class says."""
    calls: list[str] = []

    class Shadowed(WebSocketHandler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            get = self.get
            self.get = lambda: (calls.append("get"), get())[1]
            self.open = lambda: calls.append("open")
            self.on_message = lambda message: calls.append("on_message")
            self.on_ping = lambda data: calls.append("on_ping")
            self.on_pong = lambda data: calls.append("on_pong")
            self.on_finish = lambda: calls.append("on_finish")
            self.on_close = lambda: calls.append("on_close")
            self.check_origin = lambda origin: calls.append("check_origin") or True

        def get(self):
            return super().get()

        def open(self):
            calls.append("the class's")

        on_message = on_ping = on_pong = open

        def on_close(self):
            calls.append("the class's")

    server = serve(Shadowed)
    client, _ = await connect(server, path="/ws", Origin="https://foreign.example")
    client.send(frame(b"", 0x9) + frame(b"", 0xA) + frame(b"hello") + frame(b"", 0x8))
    assert await client.read_frame() == (0xA, b"")
    assert (await client.read_frame())[0] == 0x8
    assert await client.at_eof()
    await until(lambda: "on_close" in calls)
    expected = ["get", "check_origin", "on_finish", "open", "on_ping", "on_pong", "on_message", "on_close"]
    assert calls == expected


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),
        ({"Origin": "http://127.0.0.1"}, False),
        ({"Origin": "https://foreign.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "https://foreign.example", "Sec_Fetch_Site": "cross-site"}, True),
    ],
)
@pytest.mark.gen_test
async def test_an_origin_is_judged_as_tornado_judges_it(serve, connect, headers, foreign):  # A9
    verdicts: list[bool] = []

    class Asked(Bare):
        def prepare(self) -> None:
            verdicts.append(wire.refuses_origin(self))

    server = serve(Asked)
    _, response = await connect(server, path="/ws", **headers)
    assert verdicts == [foreign]
    assert response.status == (403 if foreign else 101), tornado.version


@pytest.mark.gen_test
async def test_the_mixin_costs_a_handler_no_dictionary_of_its_own(serve, login):
    class Chat(Echo):
        def open(self) -> None:
            handlers.append(self)

    handlers: list[WebSocketHandler] = []
    server = serve(Chat)
    for _ in range(2):  # the first of a class makes the keys that the others share
        await login(server)
    assert sys.getsizeof(vars(handlers[1])) < 500


# --- sending ---------------------------------------------------------------------------------------------------------


class Keeping(Echo):
    handlers: list[WebSocketHandler]

    def open(self, *args: str, **kwargs: str) -> None:
        self.handlers.append(self)

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.handlers = []


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.gen_test
async def test_a_frame_of_ours_is_a_frame_of_tornados(serve, connect, size, binary):  # A33
    client, _ = await connect(serve(Bare), path="/ws")
    await until(lambda: getattr(Bare, "handlers", []))
    Bare.handlers.pop().write_message(b"x" * size, binary)
    frame = Message(b"x" * size, binary).frame
    assert await client.reader.readexactly(len(frame)) == frame


@pytest.mark.gen_test
async def test_a_plain_connection_is_written_to_directly_while_its_stream_has_nothing(serve, login):  # A32, A33
    class Chat(Keeping):
        pass

    await login(serve(Chat))
    (handler,) = Chat.handlers
    writer, stream = handler.ws_connection, handler.ws_connection.stream
    assert (writer._socket, writer.idle) == (stream.socket, True)
    written = stream._total_write_index
    sent = [writer.send(Message("hello")), handler.write_message("hello")]
    assert all(future.done() for future in sent)
    assert stream._total_write_index == written, "Tornado has not seen it"
    while writer.queued() == 0:
        sent.append(writer.send(Message("x" * 100_000)))
    assert writer.queued() == len(stream._write_buffer) == stream._write_buffer._size
    assert not sent[-1].done()
    before = writer.queued()
    assert wire.send_to_idle([writer], Message("hello")) == [writer]
    writer.send(Message("hello"))
    assert writer.queued() == before + 7


@pytest.mark.gen_test
async def test_a_frame_that_tornado_sends_by_itself_is_noticed(serve, login):  # A33
    class Chat(Keeping):
        pass

    client = await login(serve(Chat))
    (handler,) = Chat.handlers
    writer = handler.ws_connection
    for tornado_sends in (lambda: client.send(frame(b"", 0x9)), lambda: handler.ping(), lambda: handler.close(1000)):
        writer.send(Message("hello"))
        assert writer.idle
        tornado_sends()
        await until(lambda: not writer.idle)
    frames = [await client.read_frame() for _ in range(6)]
    assert [opcode for opcode, _ in frames] == [1, 0xA, 1, 0x9, 1, 0x8]


@pytest.mark.gen_test
async def test_the_writer_costs_a_connection_no_dictionary_of_its_own(serve, login):
    class Chat(Keeping):
        pass

    server = serve(Chat)
    for _ in range(2):  # the first makes the keys that the others share
        await login(server)
    assert sys.getsizeof(vars(Chat.handlers[1].ws_connection._connection)) < 500


@pytest.mark.gen_test
async def test_a_compressing_connection_has_tornado_frame_its_messages(serve, connect):  # A33
    class Chat(Keeping):
        def get_compression_options(self) -> dict[str, int]:
            return {}

    client, _ = await connect(serve(Chat), Sec_WebSocket_Extensions="permessage-deflate")
    client.send_text(jwt_message(make_jwt()))
    await client.read_frame()
    (handler,) = Chat.handlers
    assert (handler.ws_connection._framed, handler.ws_connection._socket) == (False, None)
    assert wire.send_to_idle([handler.ws_connection], Message("hello")) == [handler.ws_connection]


@pytest.mark.gen_test
async def test_nothing_is_sent_after_a_close_frame(serve, login):  # A33
    class Chat(Keeping):
        pass

    client = await login(serve(Chat))
    (handler,) = Chat.handlers
    writer = handler.ws_connection
    writer.ping_interval  # noqa: B018 - what else an application looks for is Tornado's
    handler.close(4000)
    assert writer.server_terminated
    assert wire.send_to_idle([writer], Message("hello")) == [writer]
    with pytest.raises(WebSocketClosedError):
        writer.send(Message("hello"))
    assert (await client.read_close())[0] == 4000


@pytest.mark.gen_test
async def test_aborting_closes_the_stream_and_frees_what_it_had_queued(serve, login):  # A32
    class Chat(Keeping):
        pass

    await login(serve(Chat))
    (handler,) = Chat.handlers
    writer, stream = handler.ws_connection, handler.ws_connection.stream
    while writer.queued() == 0:
        writer.send(Message("x" * 100_000))
    wire.abort(writer._connection)
    assert stream.closed()
    assert stream._write_buffer is None
    assert writer.queued() == 0


class OtherBuffer:
    """A write buffer as another Tornado might have it: it keeps its size in another place."""

    def __init__(self) -> None:
        self.data = bytearray()

    def __len__(self) -> int:
        return len(self.data)

    def append(self, data: bytes) -> None:
        self.data += data

    def peek(self, size: int) -> memoryview:
        return memoryview(bytes(self.data[:size]))

    def advance(self, size: int) -> None:
        del self.data[:size]

    def clear(self) -> None:
        self.data.clear()


@pytest.mark.gen_test
async def test_in_a_tornado_that_is_built_otherwise_everything_goes_through_write_message(
    serve, login, monkeypatch, caplog
):  # A33
    class Chat(Keeping):
        pass

    monkeypatch.setattr(tornado.iostream, "_StreamBuffer", OtherBuffer)
    monkeypatch.setattr(wire, "_warned", False)
    monkeypatch.setattr(fanout, "SLICE_SECONDS", -1)
    monkeypatch.setattr(fanout, "STRIDE", 1)
    server = serve(Chat)
    clients = [await login(server, user) for user in ("alice", "bob", "carol")]
    assert [handler.ws_connection._socket for handler in Chat.handlers] == [None] * 3
    assert server.auth.connections.broadcast("first") == (3, 0, 0)
    for handler in Chat.handlers:
        handler.write_message("second")
    assert server.auth.connections.broadcast("third", slow="latest") == (3, 0, 0)
    for client in clients:
        assert [(await client.read_frame())[1] for _ in range(3)] == [b"first", b"second", b"third"]
    warnings = [record.getMessage() for record in caplog.records if "write_message()" in record.getMessage()]
    assert len(warnings) == 1
    assert "_size" in warnings[0]


@pytest.mark.gen_test
async def test_a_connection_over_tls_is_never_written_to_past_its_stream(serve, tmp_path):  # A33
    class Chat(Keeping):
        pass

    server = serve(Chat)
    async with tls_port(server, tmp_path) as tls, websockets_client(server, "alice", tls=tls) as client:
        (handler,) = Chat.handlers
        writer = handler.ws_connection
        assert (writer._framed, writer._socket, writer.idle) == (True, None, False)
        writer.send(Message("hello"))
        assert await client.recv() == "hello"
        assert not writer.idle
