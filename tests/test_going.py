"""How an authenticated connection ends."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.support import (
    CLOSE,
    AppError,
    Echo,
    frame,
    nothing_is_left,
    settle,
    until,
)


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["goodbye", "end of stream", "reset"])
async def test_on_close_is_called_once_however_the_client_leaves(serve, login, how):
    # A19
    class Chat(Echo):
        def on_close(self):
            self.events.append(("close", self.close_code, self.auth_session.user_id))

    server = serve(Chat)
    client = await login(server)
    if how == "goodbye":
        client.send(frame(b"\x0f\xa0bye", CLOSE) * 2 + frame(b"after"))
        assert (await client.read_close())[0] == 4000
    if how == "reset":
        client.abort()
    await client.close()
    await nothing_is_left(server)
    await until(lambda: len(Chat.events) > 1)
    await settle()
    assert Chat.events == ["open", ("close", 4000 if how == "goodbye" else None, "alice")]


@pytest.mark.gen_test
@pytest.mark.parametrize("fails", [False, True])
async def test_a_client_that_leaves_during_a_slow_open_gets_on_close_exactly_if_open_completes(serve, login, fails):
    # A19
    opening, opened = asyncio.Event(), asyncio.Event()

    class Chat(Echo):
        async def open(self):
            opening.set()
            await opened.wait()
            if fails:
                raise AppError("x")
            super().open()

    server = serve(Chat)
    client = await login(server)
    await opening.wait()
    client.abort()
    opened.set()
    await nothing_is_left(server)
    await until(lambda: fails or len(Chat.events) == 2)
    await settle()
    assert Chat.events == ([] if fails else ["open", "close"])


@pytest.mark.gen_test
async def test_an_application_that_closes_gives_its_own_code_and_hears_on_close_once(serve, login):
    class Chat(Echo):
        def on_message(self, message):
            self.events.append(message)
            self.close(4321, "enough")

    server = serve(Chat)
    client = await login(server)
    client.send_text("hello")
    assert await client.read_close() == (4321, "enough")
    client.send(frame(b"\x10\xe1", CLOSE))
    await client.close()
    await nothing_is_left(server)
    await until(lambda: "close" in Chat.events)
    await settle()
    assert Chat.events == ["open", "hello", "close"]


@pytest.mark.gen_test
async def test_an_open_that_closes_the_connection_gets_no_message(serve, login):
    class Chat(Echo):
        def open(self):
            self.events.append("open")
            self.close(4321, "not today")

    server = serve(Chat)
    client = await login(server)
    client.send_text("hello")
    assert await client.read_close() == (4321, "not today")
    await client.close()
    await nothing_is_left(server)
    await until(lambda: "close" in Chat.events)
    assert [event for event in Chat.events if event != "hello"] == ["open", "close"]


@pytest.mark.gen_test
async def test_closing_sends_no_broadcast_after_the_close_frame(serve, login):
    class Chat(Echo):
        def on_message(self, message):
            self.close(4321)

    server = serve(Chat)
    client = await login(server)
    client.send_text("hello")
    await until(lambda: server.auth.connections.broadcast("after?").sent == 0)
    frames = []
    while not frames or frames[-1][0] != CLOSE:
        frames.append(await client.read_frame())
    client.send(frame(b"\x10\xe1", CLOSE))
    assert await client.at_eof()


@pytest.mark.gen_test
async def test_closing_wsauth_says_1012_to_the_waiting_and_to_the_open(serve, connect, login):
    # A27
    class Chat(Echo):
        pass

    server = serve(Chat)
    waiting, _ = await connect(server, "bob")
    inside = await login(server)
    closing = asyncio.ensure_future(server.auth.close(grace=0))
    for client in (waiting, inside):
        assert (await client.read_close())[0] == 1012
        client.send(frame(b"\x03\xf4", CLOSE))
        await client.close()
    await closing
    await nothing_is_left(server)
    await until(lambda: Chat.events == ["open", "close"])
    assert Chat.events == ["open", "close"]


@pytest.mark.gen_test
async def test_closing_wsauth_twice_does_no_more_than_closing_it_once(serve, login, caplog):
    # A27, A39
    caplog.set_level(logging.INFO, "tornado_wsauth")
    server = serve()
    client = await login(server)
    await asyncio.gather(server.auth.close(grace=0), server.auth.close(grace=0))
    assert (await client.read_close())[0] == 1012
    client.send(frame(b"\x03\xf4", CLOSE))
    assert await client.at_eof()
    await server.auth.close(grace=0)
    records = [record for record in caplog.records if record.name == "tornado_wsauth"]
    assert [(record.event, record.reason) for record in records] == [("accepted", "auth_ok"), ("closed", "restart")]


@pytest.mark.gen_test
async def test_closing_wsauth_during_a_slow_open_delivers_nothing_and_on_close_follows_open(serve, login):
    # A19, A27
    opening, opened = asyncio.Event(), asyncio.Event()

    class Chat(Echo):
        async def open(self):
            opening.set()
            await opened.wait()
            super().open()

    server = serve(Chat)
    client = await login(server)
    client.send_text("hello")
    await opening.wait()
    await server.auth.close(grace=0)
    assert (await client.read_close())[0] == 1012
    assert len(server.auth.connections) == 0
    opened.set()
    client.send(frame(b"after") + frame(b"\x03\xf4", CLOSE))
    await until(lambda: "close" in Chat.events)
    assert Chat.events == ["open", "close"]


@pytest.mark.gen_test
async def test_an_exception_after_we_closed_changes_neither_the_code_nor_the_record(serve, login, caplog):
    # A19, A39
    caplog.set_level(logging.INFO, "tornado_wsauth")
    handling, go_on = asyncio.Event(), asyncio.Event()

    class Chat(Echo):
        async def on_message(self, message):
            handling.set()
            await go_on.wait()
            raise AppError("x")

    server = serve(Chat)
    client = await login(server)
    client.send_text("hello")
    await handling.wait()
    await server.auth.close(grace=0)
    go_on.set()
    assert (await client.read_close())[0] == 1012
    client.send(frame(b"\x03\xf4", CLOSE))
    assert await client.at_eof()
    await until(lambda: Chat.events == ["open", "close"])
    records = [record for record in caplog.records if record.name == "tornado_wsauth"]
    assert [(record.event, record.reason) for record in records] == [("accepted", "auth_ok"), ("closed", "restart")]


@pytest.mark.gen_test
@pytest.mark.parametrize("in_open", [False, True], ids=["on_message", "open"])
async def test_a_handler_that_writes_to_a_client_that_has_just_left_leaves_no_traceback(serve, login, caplog, in_open):
    # A39
    caplog.set_level(logging.INFO, "tornado_wsauth")

    class Chat(Echo):
        async def write_until_it_fails(self):
            while True:
                self.write_message("news")
                await asyncio.sleep(0)

        async def open(self):
            if in_open:
                await self.write_until_it_fails()

        async def on_message(self, message):
            await self.write_until_it_fails()

    server = serve(Chat)
    client = await login(server)
    client.send_text("hello")
    await client.read_frame()
    client.abort()
    await nothing_is_left(server)
    await until(lambda: in_open or Chat.events == ["close"])
    await settle()
    assert [record for record in caplog.records if record.exc_info] == []
    records = [record for record in caplog.records if record.name == "tornado_wsauth"]
    assert [(record.event, record.reason) for record in records] == [
        ("accepted", "auth_ok"),
        ("closed", "disconnected"),
    ]
