"""What the library relies on and Tornado does not document. Each tox environment runs this against its Tornado."""

from __future__ import annotations

import sys
import zlib

import pytest
import tornado
from tornado.websocket import WebSocketHandler

from tests.support import Echo, frame, until
from tornado_wsauth import wire


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
