"""Whatever a subclass overrides, its handler is closed to clients that are not authenticated."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from unittest.mock import ANY

import pytest
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from tests.handshakes import status_of
from tests.overrides import (
    HOSTILE,
    WORKING,
    App,
    AssignsInInitialize,
    OverridesClose,
    OverridesWritingIntoEnvelope,
    OwnMixin,
    Plain,
)
from tests.support import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    ManualClock,
    RawClient,
    Server,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    settle,
    until,
    upgrade_request,
)
from tornado_wsauth import WebSocketAuthMixin


@pytest.mark.gen_test
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("handler", WORKING + HOSTILE)
async def test_a_handler_is_closed_to_clients_without_a_token_whatever_it_overrides(serve, handler):
    # A11
    class Chat(handler):
        events = []

    server = serve(Chat)
    used = await server.auth.issue_token("alice")
    await status_of(server, f"/ws?token={used}")
    Chat.events.clear()
    for path in ("/ws", "/ws?token=" + "A" * 43, "/ws?token=x", f"/ws?token={used}"):
        assert await status_of(server, path) != 101
    assert Chat.events == []
    assert len(server.auth.connections) == 0


HALF_AUTHENTICATED = {
    "no JWT": [frame(b"hello")],
    "a bad JWT": [frame(jwt_message(make_jwt(secret="k" * 40)).encode()), frame(b"hello")],
    "another user's JWT": [frame(jwt_message(make_jwt("bob")).encode()), frame(b"hello")],
    "silence": [],
    "pings": [frame(b"x", PING), frame(b"x", PONG)],
}


async def data_received_with_a_token_and(sent: list[bytes], server: Server) -> bytes:
    """Connect with a token, send ``sent`` while others broadcast, say goodbye; return what data came back."""
    received = b""
    client = await RawClient.connect(server.port)
    client.send(upgrade_request(f"/ws?token={await server.auth.issue_token('alice')}"))
    try:
        async with asyncio.timeout(0.2):
            head = await client.reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            return b""
        client.send(b"".join(sent))
        for _ in range(5):
            server.auth.connections.broadcast("secret")
            server.auth.connections.send_to_user("alice", "secret")
            await settle()
        client.send(frame(b"\x03\xe8", CLOSE))  # 1000: normal closure
        while True:
            async with asyncio.timeout(0.2):
                opcode, payload = await client.read_frame()
            if opcode not in (PING, PONG, CLOSE):
                received += payload
    except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
        return received
    finally:
        await client.close()


@pytest.mark.gen_test
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("handler", WORKING + HOSTILE)
async def test_a_handler_is_closed_to_clients_with_a_token_alone_whatever_it_overrides(serve, handler):
    # A11, A12
    class Chat(handler):
        events = []

    clock = ManualClock()
    server = serve(Chat, auth=make_auth(clock=clock, max_tokens_per_user=len(HALF_AUTHENTICATED)))
    for name, sent in HALF_AUTHENTICATED.items():
        assert await data_received_with_a_token_and(sent, server) == b"", name
        assert Chat.events == [], name
        assert len(server.auth.connections) == 0, name
    clock.advance(10)
    await until(lambda: len(server.auth.pending) == 0)
    assert Chat.events == []


@pytest.mark.gen_test
@pytest.mark.parametrize("handler", WORKING)
async def test_an_authenticated_client_finds_the_handler_working_as_it_was_written(serve, login, handler):
    # A11
    class Chat(handler):
        events = []

    server = serve(Chat)
    client = await login(server)
    client.send_text("one")
    assert await client.read_frame() == (TEXT, b"one")
    server.auth.connections.broadcast("to all")
    assert await client.read_frame() == (TEXT, b"to all")
    client.send(frame(b"x", PING) + frame(b"two"))
    assert await client.read_frame() == (PONG, b"x")
    assert await client.read_frame() == (TEXT, b"two")
    await client.close()
    await until(lambda: "close" in Chat.events)
    assert [event for event in Chat.events if event != "ping"] == ["open", "one", "two", "close"]
    assert len(server.auth.connections) == 0


@pytest.mark.gen_test
async def test_ours_are_the_bare_frames_of_the_protocol_even_where_write_message_is_overridden(serve, connect):
    # A11
    class Chat(OverridesWritingIntoEnvelope):
        events = []

    server = serve(Chat)
    client, _ = await connect(server)
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_json()).get("type") == "auth_ok"
    client.send_text("hello")
    assert await client.read_json() == {"envelope": "hello"}


@pytest.mark.gen_test
async def test_a_handler_whose_close_is_overridden_still_loses_a_client_we_refuse(serve, connect):
    # A11
    class Chat(OverridesClose):
        events = []

    server = serve(Chat)
    client, _ = await connect(server)
    client.send_text("hello")
    assert (await client.read_close())[0] == 4400


@pytest.mark.gen_test
async def test_a_handler_may_replace_its_callbacks_in_open(serve, login):
    # A11
    class Chat(Plain):
        events = []

        def open(self):
            self.events.append("open")
            self.on_message = self.second

        def second(self, message):
            self.events.append(("second", message))
            self.write_message("from the second")

    server = serve(Chat)
    client = await login(server)
    client.send_text("hello")
    assert (await client.read_frame())[1] == b"from the second"
    assert Chat.events == ["open", ("second", "hello")]


class SendsThroughSuper(App):
    """A base handler with its own way of sending, which looks nothing up on the instance."""

    def send(self, message):
        return super().write_message(message)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "write",
    [
        lambda handler, message: handler.write_message(message),
        lambda handler, message: handler.send(message),
        lambda handler, message: WebSocketHandler.write_message(handler, message),
    ],
    ids=["its own", "super's", "Tornado's"],
)
async def test_what_an_application_writes_to_a_client_that_is_not_authenticated_does_not_reach_it(
    serve, connect, write
):
    # A12: a handler that enters itself into the set of waiters too early
    waiters = set()

    class Chat(WebSocketAuthMixin, SendsThroughSuper):
        events = []

        async def prepare(self):
            await super().prepare()
            waiters.add(self)

        def load_auth_user(self, claims):
            attempt("much too early")
            return claims["sub"]

    def attempt(message):
        for waiter in waiters:
            with contextlib.suppress(WebSocketClosedError):
                write(waiter, message).add_done_callback(lambda future: future.exception())

    server = serve(Chat)
    client, _ = await connect(server)
    attempt("too early")
    await settle()
    client.send_text(jwt_message(make_jwt()))
    assert await client.read_json() == {"type": "auth_ok", "user_id": "alice", "expires_at": ANY}
    attempt("now")
    assert (await client.read_frame())[1] == b"now"


@pytest.mark.gen_test
@pytest.mark.parametrize("last", [jwt_message(make_jwt(secret="k" * 40)), "hello"])
async def test_callbacks_assigned_while_the_client_waits_are_closed_to_it_too(serve, connect, last):
    # A11: whoever assigns them, such as a task that prepare() started
    class Chat(AssignsInInitialize):
        events = []

        async def prepare(self):
            await super().prepare()
            waiting.append(self)

        def initialize(self):
            pass

    waiting = []
    server = serve(Chat)
    client, _ = await connect(server)
    AssignsInInitialize.initialize(waiting[0])
    client.send(frame(last.encode()) + frame(b"hello"))
    code, _ = await client.read_close()
    assert code in (4400, 4401)
    await client.close()
    await until(lambda: len(server.auth.pending) == 0)
    await settle()
    assert Chat.events == []


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_callbacks_that_load_auth_user_chooses_are_the_ones_in_use(serve, login, connect, asynchronous):
    # A11
    class Chat(AssignsInInitialize):
        events = []

        def initialize(self):
            pass

        def load_auth_user(self, claims):
            return self.load(claims) if asynchronous else self.choose(claims)

        async def load(self, claims):
            await asyncio.sleep(0)
            return self.choose(claims)

        def choose(self, claims):
            AssignsInInitialize.initialize(self)
            return None if claims.get("banned") else claims["sub"]

    server = serve(Chat)
    stranger, _ = await connect(server)
    stranger.send(frame(jwt_message(make_jwt(banned=True)).encode()) + frame(b"hello"))
    assert await stranger.read_close() == (4403, "forbidden")
    await stranger.close()
    client = await login(server)
    client.send_text("one")
    assert (await client.read_frame())[1] == b"one"
    assert len(server.auth.connections) == 1
    await client.close()
    await until(lambda: "close" in Chat.events)
    assert Chat.events == ["open", "one", "close"]
    assert len(server.auth.connections) == 0


@pytest.mark.gen_test
async def test_a_handler_may_replace_its_callbacks_with_every_message(serve, login):
    # A11
    class Chat(Plain):
        events = []

        def on_message(self, message):
            self.on_message = self.second
            self.write_message("first")

        def second(self, message):
            self.on_close = lambda: self.events.append("gone")
            self.write_message("second")

    server = serve(Chat)
    client = await login(server)
    client.send(frame(b"x") + frame(b"x"))
    assert [(await client.read_frame())[1] for _ in range(2)] == [b"first", b"second"]
    await client.close()
    await until(lambda: len(Chat.events) == 2)
    assert Chat.events == ["open", "gone"]
    assert len(server.auth.connections) == 0


@pytest.mark.parametrize("base", [WebSocketHandler, App])
def test_the_mixin_behind_websockethandler_is_a_type_error(base):
    # A11
    with pytest.raises(TypeError, match=r"WebSocketAuthMixin.*before"):
        type("Chat", (base, WebSocketAuthMixin), {})


@pytest.mark.parametrize("name", ["open", "on_close", "finish", "get"])
def test_a_callback_that_is_no_method_is_a_type_error(name):
    """Data descriptors win over what stands on the instance, where the gate is."""
    # A11
    for body in ({name: property(lambda self: print)}, {"__slots__": (name,)}):
        with pytest.raises(TypeError, match=name):
            type("Chat", (WebSocketAuthMixin, App), body)
        base = type("Base", (App,), body)
        with pytest.raises(TypeError, match=f"{name}|lay-out"):  # Python itself refuses the base with slots
            type("Chat", (WebSocketAuthMixin, base), {})


def test_a_handler_that_answers_every_look_up_itself_is_a_type_error():
    # A11
    def answer(self, name):
        return object.__getattribute__(self, name)

    with pytest.raises(TypeError, match="__getattribute__"):
        type("Chat", (WebSocketAuthMixin, App), {"__getattribute__": answer})
    with pytest.raises(TypeError, match="__getattribute__"):
        type("Chat", (WebSocketAuthMixin, type("Base", (App,), {"__getattribute__": answer})), {})


def test_an_own_mixin_behind_websockethandler_is_a_type_error_too():
    # A11
    with pytest.raises(TypeError, match="before"):
        type("Chat", (WebSocketHandler, OwnMixin), {})


@pytest.mark.gen_test
async def test_a_mixin_behind_websockethandler_is_closed_even_if_the_type_error_was_silenced(serve):
    # A11
    class Quiet:
        def __init_subclass__(cls, **kwargs: Any) -> None:
            pass

    try:
        chat = type("Chat", (Quiet, App, WebSocketAuthMixin), {"events": []})
    except TypeError:
        return
    server = serve(chat)
    assert await status_of(server, "/ws") != 101
    assert chat.events == []
