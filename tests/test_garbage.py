"""A connection that is over leaves no reference cycle."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest
from tornado.websocket import WebSocketHandler

from tests.support import (
    CLOSE,
    AppError,
    RawClient,
    Server,
    frame,
    jwt_message,
    make_jwt,
    nothing_is_left,
    until,
)
from tornado_wsauth import WebSocketAuthMixin


class Bare(WebSocketHandler):
    """What Tornado itself leaves behind is the measure."""

    def open(self):
        pass

    def on_message(self, message):
        if message == "boom":
            raise AppError("x")


class Watched(WebSocketAuthMixin, Bare):
    pass


class WatchedAsync(Watched):
    async def load_auth_user(self, claims):
        await asyncio.sleep(0)
        return claims["sub"]

    async def open(self):
        await asyncio.sleep(0)
        self.auth_session.join("room")
        self.auth_session.call_every(self.tick, 1000)

    async def on_message(self, message):
        await asyncio.sleep(0)
        if message == "boom":
            raise AppError("x")

    def tick(self):
        pass


async def refused_for_its_token(server: Server) -> None:
    client = await RawClient.connect(server.port)
    assert (await client.upgrade("/ws")).status in (401, 101)
    await client.close()


async def refused_for_its_headers(server: Server) -> None:
    client = await RawClient.connect(server.port)
    assert (await client.upgrade("/ws", Connection="close")).status == 400
    await client.close()


async def refused_for_its_jwt(server: Server) -> None:
    client = await half_way(server)
    client.send_text("hello")
    await said_goodbye(client)


async def gone_without_a_jwt(server: Server) -> None:
    client = await half_way(server)
    client.send(frame(b"\x03\xe8", CLOSE))
    await said_goodbye(client)


async def reset_without_a_jwt(server: Server) -> None:
    (await half_way(server)).abort()


async def gone_from_inside(server: Server) -> None:
    client = await all_the_way(server)
    client.send(frame(b"hello") + frame(b"\x03\xe8", CLOSE))
    await said_goodbye(client)


async def reset_from_inside(server: Server) -> None:
    (await all_the_way(server)).abort()


async def reset_unread(server: Server) -> None:
    client = await all_the_way(server)
    client.writer.transport.pause_reading()
    while server.auth.connections.broadcast("x" * 100_000, slow="drop").sent:
        await asyncio.sleep(0)
    client.abort()


async def closed_for_an_exception(server: Server) -> None:
    client = await all_the_way(server)
    client.send_text("boom")
    await said_goodbye(client)


async def half_way(server: Server) -> RawClient:
    client = await RawClient.connect(server.port)
    response = await client.upgrade(f"/ws?token={await server.auth.issue_token('alice')}")
    assert response.status == 101
    return client


async def all_the_way(server: Server) -> RawClient:
    client = await half_way(server)
    if issubclass(server.app.wildcard_router.rules[0].target, WebSocketAuthMixin):
        client.send_text(jwt_message(make_jwt()))
        await client.read_json()
    return client


async def said_goodbye(client: RawClient) -> None:
    try:
        await client.read_close()
        client.send(frame(b"\x03\xe8", CLOSE))
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    await client.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", [Bare, Watched, WatchedAsync])
@pytest.mark.parametrize(
    "visit",
    [
        refused_for_its_token,
        refused_for_its_headers,
        refused_for_its_jwt,
        gone_without_a_jwt,
        reset_without_a_jwt,
        gone_from_inside,
        reset_from_inside,
        closed_for_an_exception,
    ],
)
async def test_a_connection_that_ended_leaves_no_reference_cycle(serve, handler, visit):
    """With the collector off only a handler that is in no cycle dies; a bare one shows what Tornado itself keeps."""
    born: list[weakref.ref[Any]] = []

    class Chat(handler):
        def initialize(self):
            born.append(weakref.ref(self))

    if visit is closed_for_an_exception:
        logging.getLogger("tornado.application").disabled = True  # pytest keeps the records, and they the frames
    server = serve(Chat)
    if handler is Bare and visit is refused_for_its_jwt:
        return
    gc.collect()
    gc.disable()
    try:
        await visit(server)
        await nothing_is_left(server)
        await until(lambda: born[0]() is None)
    finally:
        gc.enable()
        logging.getLogger("tornado.application").disabled = False


@pytest.mark.gen_test
@pytest.mark.parametrize("visit", [gone_from_inside, reset_from_inside, reset_unread, closed_for_an_exception])
async def test_what_a_connection_was_written_through_goes_with_it(serve, visit):
    streams: list[weakref.ref[Any]] = []

    class Chat(Watched):
        def open(self):
            streams.append(weakref.ref(self.ws_connection.stream))

    logging.getLogger("tornado.application").disabled = True  # pytest keeps the records, and they the frames
    try:
        server = serve(Chat)
        await visit(server)
        await nothing_is_left(server)
        await until(lambda: gc.collect() >= 0 and streams[0]() is None)
    finally:
        logging.getLogger("tornado.application").disabled = False
