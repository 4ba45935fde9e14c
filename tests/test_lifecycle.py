"""The life of one connection over a real socket, from the handshake to the close."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest
from tornado import gen
from tornado.web import Finish, HTTPError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from tests.support import (
    CLOSE,
    TEXT,
    Echo,
    ManualClock,
    RawClient,
    Server,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    until,
)
from tornado_wsauth import WebSocketAuthMixin


async def settle() -> None:
    """Let everything run that waits for nothing but its turn."""
    for _ in range(20):
        await asyncio.sleep(0)


async def nothing_is_left(server: Server) -> None:
    """Wait until the server knows of no connection; one that nobody frees is a timeout here."""
    await until(lambda: len(server.auth.pending) == len(server.auth.connections) == 0)


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


# Coming in


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


# Exceptions


class AppError(Exception):
    pass


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


# Going


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
    closing = asyncio.ensure_future(server.auth.close())
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
    await asyncio.gather(server.auth.close(), server.auth.close())
    assert (await client.read_close())[0] == 1012
    client.send(frame(b"\x03\xf4", CLOSE))
    assert await client.at_eof()
    await server.auth.close()
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
    await server.auth.close()
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
    await server.auth.close()
    go_on.set()
    assert (await client.read_close())[0] == 1012
    client.send(frame(b"\x03\xf4", CLOSE))
    assert await client.at_eof()
    await until(lambda: Chat.events == ["open", "close"])
    records = [record for record in caplog.records if record.name == "tornado_wsauth"]
    assert [(record.event, record.reason) for record in records] == [("accepted", "auth_ok"), ("closed", "restart")]


# Tornado's own chat


class ChatSocketHandler(WebSocketHandler):
    """As Tornado's demos/websocket writes it."""

    waiters: set[Any] = set()
    cache: list[str] = []

    def get_compression_options(self):
        return {}

    def open(self):
        ChatSocketHandler.waiters.add(self)

    def on_close(self):
        ChatSocketHandler.waiters.remove(self)

    @classmethod
    def send_updates(cls, chat):
        for waiter in cls.waiters:
            try:
                waiter.write_message(chat)
            except Exception:
                logging.exception("Error sending message")

    def on_message(self, message):
        self.cache.append(message)
        ChatSocketHandler.send_updates(message)


class AuthenticatedChat(WebSocketAuthMixin, ChatSocketHandler):
    pass


@pytest.mark.gen_test
async def test_tornados_chat_works_unchanged_and_nobody_unauthenticated_ever_waits_in_it(serve, connect, login, caplog):
    # A11, A12, A19
    waiters = ChatSocketHandler.waiters
    server = serve(AuthenticatedChat)
    refused = await RawClient.connect(server.port)
    assert (await refused.upgrade("/ws")).status == 401
    strangers = [(await connect(server))[0] for _ in range(3)]
    assert waiters == set()
    alice, bob = await login(server), await login(server, "bob")
    await until(lambda: len(waiters) == 2)
    strangers[0].send(frame(jwt_message(make_jwt(secret="k" * 40)).encode()) + frame(b"spam"))
    assert await strangers[0].read_close() == (4401, "jwt_invalid")
    strangers[1].abort()
    alice.send_text("hi")
    assert (await alice.read_frame())[1] == b"hi"
    assert (await bob.read_frame())[1] == b"hi"
    await bob.close()
    await until(lambda: len(waiters) == 1)
    alice.send_text("alone")
    assert (await alice.read_frame())[1] == b"alone"
    await alice.close()
    await until(lambda: len(waiters) == 0)
    strangers[2].send_text("let me in")
    assert await strangers[2].read_close() == (4400, "bad_message")
    for client in (refused, *strangers):
        await client.close()
    await nothing_is_left(server)
    assert ChatSocketHandler.cache == ["hi", "alone"]
    assert errors(caplog) == []


# What the session is for


@pytest.mark.gen_test
async def test_the_session_knows_the_user_the_claims_and_the_expiry(serve, connect):
    seen = {}

    class Chat(Echo):
        def open(self):
            session = self.auth_session
            seen.update(
                user=session.user_id, role=session.claims["role"], end=session.expires_at, id=session.session_id
            )

    server = serve(Chat)
    ids = set()
    for _ in range(2):
        client, _ = await connect(server)
        client.send_text(jwt_message(make_jwt("alice", role="admin", exp=4_000_000_000)))
        await client.read_json()
        await until(lambda: "id" in seen)
        ids.add(seen.pop("id"))
        assert seen == {"user": "alice", "role": "admin", "end": 4_000_000_000}
    assert len(ids) == 2


@pytest.mark.gen_test
async def test_a_group_receives_its_broadcasts_until_its_members_leave(serve, login):
    class Chat(Echo):
        def on_message(self, message):
            order, _, group = message.partition(" ")
            getattr(self.auth_session, order)(group)
            self.write_message(" ".join(sorted(self.auth_session.groups)) or "none")

    server = serve(Chat)
    connections = server.auth.connections
    alice, bob = await login(server), await login(server, "bob")
    for client in (alice, bob):
        client.send_text("join red")
        assert (await client.read_frame())[1] == b"red"
    assert connections.broadcast("to red", group="red").sent == 2
    bob.send_text("leave red")
    assert (await alice.read_frame())[1] == b"to red"
    assert (await bob.read_frame())[1] == b"to red"
    assert (await bob.read_frame())[1] == b"none"
    assert connections.broadcast("again", group="red").sent == 1
    assert (await alice.read_frame())[1] == b"again"
    await alice.close()
    await until(lambda: connections.count("red") == 0)
    assert connections.count() == 1


@pytest.mark.gen_test
async def test_call_every_calls_for_as_long_as_the_connection_lives(serve, login):
    periodic = []

    class Chat(Echo):
        def open(self):
            self.number = 0
            periodic.append(self.auth_session.call_every(self.tick, 1))

        async def tick(self):
            self.number += 1
            await self.write_message(str(self.number))

    server = serve(Chat)
    client = await login(server)
    assert [(await client.read_frame())[1] for _ in range(3)] == [b"1", b"2", b"3"]
    await client.close()
    await nothing_is_left(server)
    await until(lambda: not periodic[0].is_running())


@pytest.mark.gen_test
async def test_call_every_ends_with_an_open_that_raises(serve, login):
    # A19
    periodic = []

    class Chat(Echo):
        def open(self):
            periodic.append(self.auth_session.call_every(lambda: None, 1))
            raise AppError("x")

    server = serve(Chat)
    client = await login(server)
    assert (await client.read_close())[0] == 1011
    assert not periodic[0].is_running()


@pytest.mark.gen_test
async def test_call_every_on_a_connection_that_has_closed_starts_nothing(serve, login):
    periodic = []

    class Chat(Echo):
        def on_close(self):
            self.auth_session.join("room")
            periodic.append(self.auth_session.call_every(lambda: None, 1))

    server = serve(Chat)
    client = await login(server)
    await client.close()
    await until(lambda: len(periodic) == 1)
    await settle()
    assert not periodic[0].is_running()
    assert server.auth.connections.count("room") == 0


# No garbage


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
