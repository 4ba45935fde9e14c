"""``refuse="close"``: whose token is no good learns it from a close frame, and from nothing else."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from tornado.websocket import WebSocketHandler

from tests.handshakes import SpyStore, ask
from tests.support import (
    CLOSE,
    PING,
    Echo,
    ManualClock,
    RawClient,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    settle,
    until,
)
from tests.token_routes import APP
from tornado_wsauth import MemoryTokenStore, TokenStoreError, WebSocketAuthMixin


class Told(Echo):
    def on_auth_failed(self, reason):
        self.events.append(("failed", reason))


def start(serve: Any, handler: Any = Told, **options: Any) -> Any:
    clock = options.setdefault("clock", ManualClock())
    options.setdefault("tokens", MemoryTokenStore(clock=clock.time))

    class Chat(handler):
        pass

    class Other(Told):
        pass

    return serve(Chat, make_auth(refuse="close", **options), routes=[(r"/other", Other)]), Chat


async def leave(client: RawClient, code: int) -> None:
    client.send(frame(code.to_bytes(2, "big"), CLOSE))
    assert await client.at_eof()


async def bad_path(server: Any, why: str) -> str:
    """Return a path that is refused for ``why``."""
    if why == "token_missing":
        return "/ws"
    if why == "token_malformed":
        return "/ws?token=short"
    if why == "token_unknown":
        return f"/ws?token={'A' * 43}"
    bound_to = {"path": "/ws"} if server.auth.bind_tokens else None
    token = await server.auth.issue_token("alice", bound_to=bound_to)
    if why == "token_expired":
        server.auth.clock.advance(30)
    if why == "token_replayed":
        await server.auth.redeem_token(token)
    return f"{'/other' if why == 'token_elsewhere' else '/ws'}?token={token}"


REASONS = {
    "token_missing": None,
    "token_malformed": None,
    "token_unknown": None,
    "token_expired": "alice",
    "token_replayed": "alice",
    "token_elsewhere": "alice",
}


@pytest.mark.gen_test
@pytest.mark.parametrize("why", REASONS)
async def test_a_token_that_is_no_good_is_closed_4401_and_the_log_knows_why(serve, logged, why):
    # A7, A39
    server, chat = start(serve, bind_tokens=["path"] if why == "token_elsewhere" else ())
    events = server.app.wildcard_router.rules[2].target.events if why == "token_elsewhere" else chat.events
    client = await RawClient.connect(server.port)
    assert (await client.upgrade(await bad_path(server, why))).status == 101
    assert await client.read_close() == (4401, "token_invalid")
    assert len(server.auth.pending) == len(server.auth.connections) == 0
    client.send(frame(b"x", PING) + frame(jwt_message(make_jwt("alice")).encode()) + frame(b"hello"))
    await leave(client, 4401)
    await until(lambda: len(server.auth.ending) == 0)
    await settle()
    assert events == [("failed", why)]
    assert logged.events == [("refused", why, REASONS[why], 4401)]
    assert why in logged.records[0].getMessage()
    assert logged.errors == []
    await client.close()


@pytest.mark.gen_test
async def test_a_user_with_too_many_connections_is_closed_4429_and_keeps_the_token(serve, login, logged):
    # A26
    server, chat = start(serve, max_connections_per_user=1)
    first = await login(server)
    path = f"/ws?token={await server.auth.issue_token('alice')}"
    client = await RawClient.connect(server.port)
    assert (await client.upgrade(path)).status == 101
    assert await client.read_close() == (4429, "too_many")
    await leave(client, 4429)
    assert logged.events[-1] == ("refused", "too_many_connections", "alice", 4429)
    assert chat.events == ["open", ("failed", "too_many_connections")]
    await first.close()
    await until(lambda: len(server.auth.connections) == 0)
    assert (await client.close()) is None
    again = await RawClient.connect(server.port)
    assert (await again.upgrade(path)).status == 101
    again.send_text(jwt_message(make_jwt("alice")))
    assert (await again.read_json())["type"] == "auth_ok"
    await again.close()


@pytest.mark.gen_test
async def test_all_else_is_refused_over_http_as_ever(serve, logged):
    store = SpyStore()
    server, _ = start(serve, tokens=store, allowed_origins=[APP, None], max_pending=1)
    path = f"/ws?token={await server.auth.issue_token('alice')}"
    assert (await ask(server, path, Origin="https://evil.example")).status == 403
    assert (await ask(server, path, method="POST")).status == 405
    assert (await ask(server, path, Upgrade=None)).status == 426
    assert (await ask(server, path, Sec_WebSocket_Version="12")).status == 426
    assert (await ask(server, path, Sec_WebSocket_Key="short")).status == 400
    store.error = TokenStoreError("down")
    answer = await ask(server, path)
    assert (answer.status, answer.json()) == (503, {"error": "store_unavailable"})
    store.error = None
    waiting = await RawClient.connect(server.port)
    assert (await waiting.upgrade(path)).status == 101
    answer = await ask(server, "/ws")
    assert (answer.status, answer.json()) == (503, {"error": "too_many_pending"})
    await server.auth.close(grace=0)
    answer = await ask(server, "/ws")
    assert (answer.status, answer.json()) == (503, {"error": "closing"})
    await waiting.close()
    assert all(record.code != 4401 for record in logged.records)


class Overrides:
    """Handlers that forget ``super()``. None of them lets anybody in, and none answers in another way."""

    class Prepare(Told):
        def prepare(self):
            self.events.append("prepare")

    class AsyncPrepare(Told):
        async def prepare(self):
            await asyncio.sleep(0)

    class Initialize(Told):
        def initialize(self):
            pass

    class Get(Told):
        async def get(self, *args, **kwargs):
            self.events.append("get")
            await WebSocketHandler.get(self, *args, **kwargs)

    class Open(WebSocketAuthMixin, WebSocketHandler):
        events: list[Any] = []

        def open(self):
            self.events.append("open")
            self.write_message("secret")

        def on_message(self, message):
            self.events.append(message)

        def on_close(self):
            self.events.append("close")

        def on_auth_failed(self, reason):
            self.events.append(("failed", reason))


@pytest.mark.gen_test
@pytest.mark.parametrize("name", ["Prepare", "AsyncPrepare", "Initialize", "Get", "Open"])
async def test_a_handler_that_forgets_super_refuses_all_the_same(serve, name):
    # A11
    handler = getattr(Overrides, name)
    handler.events.clear()
    server = serve(handler, make_auth(refuse="close"))
    client = await RawClient.connect(server.port)
    assert (await client.upgrade("/ws")).status == 101
    client.send_text(jwt_message(make_jwt("alice")))
    client.send_text("hello")
    assert await client.read_close() == (4401, "token_invalid")
    await leave(client, 4401)
    await until(lambda: len(server.auth.ending) == 0)
    await settle()
    assert [event for event in handler.events if event != "prepare"] == [("failed", "token_missing")]
    await client.close()


@pytest.mark.gen_test
async def test_what_stands_behind_await_super_prepare_does_not_run(serve):
    # A11
    class Chat(Told):
        async def prepare(self):
            await super().prepare()
            self.events.append("prepared")

        async def get(self, *args, **kwargs):
            self.events.append("get")
            await super().get(*args, **kwargs)

        def on_finish(self):
            self.events.append("finish")

    server, chat = start(serve, Chat)
    client = await RawClient.connect(server.port)
    assert (await client.upgrade("/ws")).status == 101
    assert (await client.read_close())[0] == 4401
    await leave(client, 4401)
    await settle()
    assert [event for event in chat.events if event != "finish"] == [("failed", "token_missing")]
    await client.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("leaves", ["answers", "ends the stream", "resets"])
async def test_nothing_is_left_of_a_refused_client(serve, caplog, leaves):
    # A10
    handlers: list[weakref.ref[Any]] = []

    class Chat(Told):
        def initialize(self):
            handlers.append(weakref.ref(self))

    server, _ = start(serve, Chat)
    for path in ("/ws", f"/ws?token={'A' * 43}"):
        client = await RawClient.connect(server.port)
        assert (await client.upgrade(path)).status == 101
        assert (await client.read_close())[0] == 4401
        if leaves == "answers":
            await leave(client, 4401)
        if leaves == "resets":
            client.abort()
        await client.close()
        del client
    await until(lambda: len(server.auth.ending) == 0)
    await settle()
    gc.collect()
    assert [handler() for handler in handlers] == [None, None]
    assert len(server.auth.pending) == len(server.auth.connections) == 0
    assert server.auth.clock.timers == []
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.gen_test
async def test_a_refused_client_makes_the_server_keep_no_more_than_a_waiting_one_can(serve):
    # A17, A29
    streams: list[Any] = []

    class Chat(Told):
        def prepare(self):
            streams.append(self.request.connection.stream)
            return super().prepare()

    server, _ = start(serve, Chat, max_preauth_bytes=4096)
    client = await RawClient.connect(server.port)
    await client.upgrade("/ws")
    assert (await client.read_close())[0] == 4401
    client.send(b"\x81\xff" + (9_000_000).to_bytes(8, "big") + b"mask")  # the head of a message of 9 MB
    peak = 0
    for _ in range(20):
        client.send(b"x" * 50_000)
        await asyncio.sleep(0.001)
        peak = max(peak, 0 if streams[0].closed() else streams[0]._read_buffer_size)
    client.abort()
    await client.close()
    assert peak <= 200_000


@pytest.mark.gen_test
@pytest.mark.parametrize("compress", [False, True])
async def test_it_works_with_origins_a_subprotocol_and_compression(serve, compress):
    class Chat(Told):
        def select_subprotocol(self, subprotocols):
            return subprotocols[0] if subprotocols else None

        def get_compression_options(self):
            return {} if compress else None

        def check_origin(self, origin):
            return False

    server, chat = start(serve, Chat, allowed_origins=[APP])
    client = await RawClient.connect(server.port)
    response = await client.upgrade(
        "/ws", Origin=APP, Sec_WebSocket_Protocol="chat", Sec_WebSocket_Extensions="permessage-deflate"
    )
    assert response.status == 101
    assert response.headers["sec-websocket-protocol"] == "chat"
    assert ("sec-websocket-extensions" in response.headers) == compress
    assert await client.read_close() == (4401, "token_invalid")
    assert chat.events == [("failed", "token_missing")]
    await client.close()


@pytest.mark.gen_test
async def test_a_good_token_gets_in_as_ever(serve, login):
    server, chat = start(serve)
    client = await login(server)
    client.send_text("hello")
    assert (await client.read_frame())[1] == b"hello"
    assert chat.events == ["open", "hello"]


@pytest.mark.gen_test
async def test_a_refused_client_hears_no_broadcast_and_a_drain_does_not_wait_for_long(serve):
    # A12, A27
    server, _ = start(serve)
    client = await RawClient.connect(server.port)
    await client.upgrade("/ws")
    assert server.auth.connections.broadcast("secret").sent == 0
    await until(lambda: len(server.auth.ending) == 1)
    closing = asyncio.ensure_future(server.auth.close(grace=1))
    await settle()
    assert not closing.done()
    server.auth.clock.advance(1.01)
    await closing
    assert len(server.auth.ending) == 0
    assert (await client.read_close())[0] == 4401
    await client.close()
