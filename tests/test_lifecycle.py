"""An authenticated connection: how its handler is opened, and what its exceptions do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tornado import gen
from tornado.web import Finish, HTTPError
from tornado.websocket import WebSocketClosedError

from tests.support import (
    CLOSE,
    TEXT,
    AppError,
    Echo,
    ManualClock,
    RawClient,
    Server,
    errors,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    nothing_is_left,
    settle,
    until,
)


@pytest.mark.gen_test
async def test_a_client_with_both_credentials_is_let_in(serve, connect):
    class Chat(Echo):
        pass

    server = serve(Chat)
    client, response = await connect(server)
    assert response.status == 101
    assert (len(server.auth.pending), len(server.auth.connections)) == (1, 0)
    client.send_text(jwt_message(make_jwt("alice")))
    auth_ok = await client.read_json()
    assert auth_ok["type"] == "auth_ok"
    assert auth_ok["user_id"] == "alice"
    assert (len(server.auth.pending), len(server.auth.connections)) == (0, 1)
    client.send_text("hello")
    assert (await client.read_frame())[1] == b"hello"
    assert Chat.events == ["open", "hello"]


@pytest.mark.gen_test
async def test_a_first_message_that_is_no_jwt_closes_4400(serve, connect):
    # A16
    class Chat(Echo):
        pass

    server = serve(Chat)
    client, _ = await connect(server)
    client.send_text("hello")
    assert await client.read_close() == (4400, "bad_message")
    assert Chat.events == []
    assert len(server.auth.pending) == 0


async def enter(server: Server, path: str, user: str = "alice") -> RawClient:
    client = await RawClient.connect(server.port)
    response = await client.upgrade(f"{path}?token={await server.auth.issue_token(user)}")
    assert response.status == 101
    client.send_text(jwt_message(make_jwt(user)))
    assert (await client.read_json())["type"] == "auth_ok"
    return client


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("route", "arguments"),
    [
        (r"/room/([a-z]+)/(\d+)", (("lobby", "7"), {})),
        (r"/room/(?P<room>[a-z]+)/(?P<seat>\d+)", ((), {"room": "lobby", "seat": "7"})),
    ],
    ids=["positional", "named"],
)
async def test_open_is_given_the_arguments_of_its_route(serve, route, arguments, asynchronous):
    class Room(Echo):
        def open(self, *args, **kwargs):
            if not asynchronous:
                self.events.append((args, kwargs))
                return None
            return self.open_slowly(args, kwargs)

        async def open_slowly(self, args, kwargs):
            await asyncio.sleep(0)
            self.events.append((args, kwargs))

    server = serve(routes=[(route, Room)])
    client = await enter(server, "/room/lobby/7")
    await until(lambda: Room.events == [arguments])
    await client.close()


@pytest.mark.gen_test
async def test_a_message_waits_for_an_open_that_is_slow_and_a_broadcast_does_not(serve, login):
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
    server.auth.connections.broadcast("meanwhile")
    assert await client.read_frame() == (TEXT, b"meanwhile")
    await settle()
    assert Chat.events == []
    opened.set()
    assert await client.read_frame() == (TEXT, b"hello")
    assert Chat.events == ["open", "hello"]


@pytest.mark.gen_test
async def test_a_slow_open_is_not_under_the_deadline_of_the_first_message(serve, login):
    opening, opened = asyncio.Event(), asyncio.Event()

    class Chat(Echo):
        async def open(self):
            opening.set()
            await opened.wait()
            super().open()

    clock = ManualClock()
    server = serve(Chat, auth=make_auth(clock=clock))
    client = await login(server)
    await opening.wait()
    clock.advance(11)
    opened.set()
    client.send_text("hello")
    assert await client.read_frame() == (TEXT, b"hello")


@pytest.mark.gen_test
async def test_one_message_is_handled_at_a_time_and_in_order(serve, login):
    class Chat(Echo):
        async def on_message(self, message):
            self.events.append(f"begin {message}")
            await asyncio.sleep(0)
            self.events.append(f"end {message}")

    server = serve(Chat)
    client = await login(server)
    client.send(frame(b"1") + frame(b"2"))
    await until(lambda: len(Chat.events) == 5)
    assert Chat.events == ["open", "begin 1", "end 1", "begin 2", "end 2"]


@pytest.mark.gen_test
async def test_handlers_of_generator_coroutines_work(serve, login):
    class Chat(Echo):
        @gen.coroutine
        def prepare(self):
            yield super().prepare()
            self.events.append("prepared")

        @gen.coroutine
        def load_auth_user(self, claims):
            yield gen.moment
            return claims["sub"].title()

        @gen.coroutine
        def open(self):
            yield gen.moment
            self.events.append(("open", self.current_user))

        @gen.coroutine
        def on_message(self, message):
            yield gen.moment
            yield self.write_message(message)

    server = serve(Chat)
    client = await login(server)
    client.send_text("hello")
    assert await client.read_frame() == (TEXT, b"hello")
    assert Chat.events == ["prepared", ("open", "Alice")]


@pytest.mark.gen_test
@pytest.mark.parametrize("kind", ["coroutine", "task", "future"])
async def test_on_message_may_return_whatever_tornado_can_wait_for(serve, login, kind):
    class Chat(Echo):
        def on_message(self, message):
            waiting = self.write_message(message)
            if kind == "coroutine":
                return self.wait_for(waiting)
            if kind == "task":
                return asyncio.ensure_future(self.wait_for(waiting))
            return waiting

        async def wait_for(self, waiting):
            await waiting

    server = serve(Chat)
    client = await login(server)
    for message in ("one", "two"):
        client.send_text(message)
        assert (await client.read_frame())[1] == message.encode()


ERRORS = [
    ValueError("x"),
    KeyError("x"),
    AppError("x"),
    asyncio.CancelledError(),
    HTTPError(404),
    Finish(),
    TimeoutError(),
    WebSocketClosedError(),
]


def raising(error: BaseException, how: str) -> Any:
    """Return a callback that raises at once, in a coroutine, or in a coroutine that has waited."""

    def at_once(*args: Any) -> None:
        raise error

    async def in_a_coroutine(*args: Any) -> None:
        if how == "later":
            await asyncio.sleep(0)
        raise error

    return at_once if how == "sync" else in_a_coroutine


def name_of(error: Any) -> str:
    return error if isinstance(error, str) else type(error).__name__


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["sync", "async", "later"])
@pytest.mark.parametrize("error", ERRORS, ids=name_of)
async def test_an_open_that_raises_closes_1011_and_is_not_followed_by_on_close(serve, login, caplog, error, how):
    # A19
    class Chat(Echo):
        def open(self):
            self.auth_session.join("room")
            self.events.append("opening")
            return raising(error, how)()

    server = serve(Chat)
    client, other = await login(server), None
    client.send_text("hello")
    assert (await client.read_close())[0] == 1011
    await nothing_is_left(server)
    assert server.auth.connections.count("room") == 0
    await client.close()
    await settle()
    assert Chat.events == ["opening"]
    if isinstance(error, (ValueError, KeyError, AppError, TimeoutError)):
        assert len(errors(caplog)) == 1
    assert other is None


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["sync", "async", "later"])
@pytest.mark.parametrize("error", ERRORS, ids=name_of)
async def test_an_on_message_that_raises_closes_1011_whatever_it_raises_and_nothing_is_delivered_after_it(
    serve, login, caplog, error, how
):
    # A19
    class Chat(Echo):
        def on_message(self, message):
            self.events.append(message)
            return raising(error, how)()

    server = serve(Chat)
    client = await login(server)
    client.send(frame(b"boom") + frame(b"after") + frame(b"long after"))
    assert (await client.read_close())[0] == 1011
    client.send_text("much later")
    await client.close()
    await nothing_is_left(server)
    await until(lambda: "close" in Chat.events)
    await settle()
    assert Chat.events == ["open", "boom", "close"]
    if isinstance(error, (ValueError, KeyError, AppError, TimeoutError)):
        assert len(errors(caplog)) == 1


@pytest.mark.gen_test
async def test_an_on_close_that_raises_is_logged_once_and_leaves_nothing(serve, login, caplog):
    # A19
    class Chat(Echo):
        def on_close(self):
            self.events.append("close")
            raise AppError("x")

    server = serve(Chat)
    for goodbye in (True, False):
        caplog.clear()
        client = await login(server)
        if goodbye:
            client.send(frame(b"\x03\xe8", CLOSE))
            await client.read_close()
        await client.close()
        await nothing_is_left(server)
        await until(lambda: len(Chat.events) == 2)
        await settle()
        assert Chat.events == ["open", "close"]
        assert len(errors(caplog)) == 1
        Chat.events.clear()


@pytest.mark.gen_test
@pytest.mark.parametrize("where", ["open", "on_message"])
async def test_a_log_exception_that_raises_keeps_no_connection_alive(serve, login, where):
    # A19
    class Chat(Echo):
        def log_exception(self, typ, value, tb):
            raise RuntimeError("the logger is broken too")

        def open(self):
            self.events.append("open")
            if where == "open":
                raise AppError("x")

        def on_message(self, message):
            self.events.append(message)
            raise AppError("x")

    server = serve(Chat)
    client = await login(server)
    client.send(frame(b"boom") + frame(b"after"))
    while (await client.read_frame())[0] != CLOSE:
        pass
    await client.close()
    await nothing_is_left(server)
    await settle()
    assert [event for event in Chat.events if event != "close"] == (["open"] if where == "open" else ["open", "boom"])


@pytest.mark.gen_test
async def test_an_exception_in_one_handler_disturbs_no_other(serve, login):
    # A19
    class Chat(Echo):
        def on_message(self, message):
            if message == "boom":
                raise AppError("x")
            super().on_message(message)

    server = serve(Chat)
    first, second = await login(server), await login(server, "bob")
    first.send_text("boom")
    assert (await first.read_close())[0] == 1011
    second.send_text("hello")
    assert (await second.read_frame())[1] == b"hello"
    assert [handler.current_user for handler in server.auth.connections] == ["bob"]
