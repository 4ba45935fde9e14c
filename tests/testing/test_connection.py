"""`connect_authenticated` against real servers: what it hands over, and what it says of those that refuse."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tornado.ioloop import PeriodicCallback
from tornado.web import RequestHandler
from tornado.websocket import WebSocketHandler

from tests.support import Echo, Server, make_auth, make_jwt, nothing_is_left, settle
from tornado_wsauth import WebSocketAuthMixin
from tornado_wsauth.testing import (
    AuthenticatedConnection,
    AuthRefused,
    ConnectionEnded,
    Credentials,
    connect_authenticated,
)

pytestmark = pytest.mark.gen_test

Open = Callable[..., Awaitable[AuthenticatedConnection]]
EXPIRES_AT = 1_700_000_000


@pytest.fixture
def opened(io_loop: Any, serve: Callable[..., Server]) -> Any:
    """Serve ``handler`` at ``/ws`` and connect: ``await opened(handler, user, **options and claims)``."""
    connections: list[AuthenticatedConnection] = []

    async def open_one(handler: type = Echo, user: str = "alice", *, auth: Any = None, **options: Any) -> Any:
        server = serve(handler, auth)
        assert server.auth is not None
        url = f"ws://127.0.0.1:{server.port}{options.pop('path', '/ws')}"
        credentials = Credentials(server.auth)
        connections.append(await connect_authenticated(url, user, credentials=credentials, **options))
        return connections[-1]

    yield open_one

    async def close() -> None:
        for connection in connections:
            await connection.close()

    io_loop.run_sync(close)


class Session(WebSocketAuthMixin, WebSocketHandler):
    def open(self) -> None:
        self.write_message({"user": self.auth_session.user_id, "role": self.auth_session.claims.get("role")})


class Says(WebSocketAuthMixin, WebSocketHandler):
    """Sends back what it is told to, and closes when it is told so."""

    def on_message(self, message: str | bytes) -> None:
        if message == "close":
            self.write_message("last words")
            self.close(4999, "as you wish")
        elif message == "close without a code":
            self.close()
        else:
            self.write_message(message, binary=isinstance(message, bytes))


class Protocol(WebSocketHandler):
    """The protocol as a client sees it: each JWT is answered, the second one after other messages."""

    jwts = 0

    def on_message(self, message: str | bytes) -> None:
        if json.loads(message)["token"] == "bad":
            self.close(4403, "user_mismatch")
            return
        self.jwts += 1
        if self.jwts > 1:
            self.write_message('{"type": "news"}')
            self.write_message(b'{"type": "auth_ok"}', binary=True)
            self.write_message("not JSON")
        self.write_message({"type": "auth_ok", "user_id": "alice", "expires_at": EXPIRES_AT + self.jwts})


async def test_the_handler_knows_user_and_claims_of_who_connects(opened: Open) -> None:
    connection = await opened(Session, "bob", role="admin")
    assert connection.auth_ok["user_id"] == "bob"
    assert await connection.receive_json() == {"user": "bob", "role": "admin"}


async def test_expires_in_reaches_the_jwt(opened: Open) -> None:
    near = await opened(expires_in=60)
    far = await opened(expires_in=6000)
    assert 5900 < far.auth_ok["expires_at"] - near.auth_ok["expires_at"] < 5980


async def test_text_is_received_as_str_binary_as_bytes_and_a_dict_as_json(opened: Open) -> None:
    connection = await opened(Says)
    for message in ("text", b"bytes", {"type": "json"}):
        await connection.send(message)
    assert [await connection.receive() for _ in range(2)] == ["text", b"bytes"]
    assert await connection.receive_json() == {"type": "json"}


@pytest.mark.parametrize("message", ["no JSON", b'{"binary": 1}'])
async def test_what_is_no_json_text_is_shown_instead_of_parsed(opened: Open, message: str | bytes) -> None:
    connection = await opened(Says)
    await connection.send(message)
    with pytest.raises(AssertionError) as caught:
        await connection.receive_json()
    assert repr(message) in str(caught.value)


async def test_the_last_words_are_received_before_the_end_and_the_end_each_time_after(opened: Open) -> None:
    connection = await opened(Says)
    await connection.send("close")
    assert await connection.receive() == "last words"
    for _ in range(2):
        with pytest.raises(ConnectionEnded, match=r"^the connection was closed with 4999 as you wish$"):
            await connection.receive()
    assert (connection.close_code, connection.close_reason) == (4999, "as you wish")
    with pytest.raises(ConnectionEnded, match="4999 as you wish"):
        await connection.send("too late")


async def test_waiting_for_the_end_loses_no_message(opened: Open) -> None:
    connection = await opened(Says)
    await connection.send("close")
    assert await connection.wait_closed() == (4999, "as you wish")
    assert await connection.receive() == "last words"


async def test_an_end_without_a_code_is_called_that(opened: Open) -> None:
    connection = await opened(Says)
    await connection.send("close without a code")
    with pytest.raises(ConnectionEnded, match="ended without a close code") as caught:
        await connection.receive()
    assert caught.value.close_code is None


async def test_a_message_that_does_not_come_is_a_timeout_that_says_so(opened: Open) -> None:
    connection = await opened(Says)
    connection.timeout = 0.04
    with pytest.raises(TimeoutError, match=r"no message came within 0\.04 s"):
        await connection.receive()
    with pytest.raises(TimeoutError, match="still open"):
        await connection.wait_closed()
    await connection.send("later")
    connection.timeout = 5
    assert await connection.receive() == "later"


async def test_a_wait_ends_before_tornado_ends_the_test(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNC_TEST_TIMEOUT", "20")
    connection = await opened(Says)
    assert connection.timeout == 16


async def test_leaving_the_block_closes_the_connection(serve: Callable[..., Server]) -> None:
    class Remembers(Echo):
        pass

    server = serve(Remembers)
    assert server.auth is not None
    url = f"ws://127.0.0.1:{server.port}/ws"
    async with await connect_authenticated(url, credentials=Credentials(server.auth)) as connection:
        assert len(server.auth.connections) == 1
    await nothing_is_left(server)
    assert Remembers.events == ["open", "close"]
    assert connection.close_code == 1000


async def test_a_connection_that_the_server_ended_needs_no_close(serve: Callable[..., Server]) -> None:
    server = serve(Says)
    assert server.auth is not None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        connection = await connect_authenticated(
            f"ws://127.0.0.1:{server.port}/ws", credentials=Credentials(server.auth)
        )
        await connection.send("close")
        await connection.wait_closed()
        del connection
        await settle()
        gc.collect()
    assert [str(warning.message) for warning in warned] == []


# Who is refused --------------------------------------------------------------------------------------------------


async def test_a_bad_token_is_refused_at_the_upgrade_with_status_and_error(opened: Open) -> None:
    with pytest.raises(AuthRefused, match=r"^the upgrade was refused: 401 token_invalid$") as caught:
        await opened(token="A" * 43)
    refused = caught.value
    assert (refused.step, refused.status, refused.error, refused.close_code) == ("upgrade", 401, "token_invalid", None)


async def test_a_refusal_that_is_not_ours_has_its_status_and_no_error(opened: Open) -> None:
    with pytest.raises(AuthRefused) as caught:
        await opened(path="/nowhere")
    assert (caught.value.status, caught.value.error) == (404, None)


async def test_an_answer_that_is_no_upgrade_is_a_refusal(opened: Open) -> None:
    class Page(RequestHandler):
        def get(self) -> None:
            self.finish("hello")

    with pytest.raises(AuthRefused, match="Non-websocket response"):
        await opened(Page)


async def test_a_connection_cut_at_the_upgrade_is_a_refusal_without_a_status_and_no_timeout() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(AuthRefused, match=r"the upgrade was refused: .*closed") as caught:
            await AuthenticatedConnection.open(f"ws://127.0.0.1:{port}/ws", token="t", jwt="j")
    assert caught.value.status is None


@pytest.mark.parametrize(
    ("claims", "code", "reason"),
    [
        ({"expires_in": -1}, 4401, "jwt_expired"),
        ({"sub": "mallory"}, 4403, "user_mismatch"),
        ({"jwt": make_jwt()}, 4401, "jwt_invalid"),
    ],
)
async def test_a_bad_jwt_is_refused_at_the_jwt_step_with_code_and_reason(
    opened: Open, claims: dict[str, Any], code: int, reason: str
) -> None:
    with pytest.raises(AuthRefused, match=rf"the jwt step was refused: .* {code} {reason}$") as caught:
        await opened(Echo, "alice", **claims)
    refused = caught.value
    assert (refused.step, refused.close_code, refused.close_reason, refused.status) == ("jwt", code, reason, None)


async def test_a_handler_without_the_mixin_is_not_taken_for_an_authenticated_one(opened: Open) -> None:
    class Bare(WebSocketHandler):
        def on_message(self, message: str | bytes) -> None:
            self.write_message(message)

    jwt = make_jwt()
    with pytest.raises(AssertionError, match="WebSocketAuthMixin") as caught:
        await opened(Bare, jwt=jwt)
    assert jwt not in str(caught.value)


async def test_a_server_that_never_answers_the_jwt_is_a_timeout(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(WebSocketHandler):
        def on_message(self, message: str | bytes) -> None:
            pass

    monkeypatch.setenv("ASYNC_TEST_TIMEOUT", "0.5")
    with pytest.raises(TimeoutError, match="no auth_ok came"):
        await opened(Mute)


async def test_a_server_that_never_answers_the_upgrade_is_a_timeout(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(WebSocketHandler):
        async def prepare(self) -> None:
            await asyncio.sleep(0.3)

    monkeypatch.setenv("ASYNC_TEST_TIMEOUT", "0.05")
    with pytest.raises(TimeoutError, match="no answer to the upgrade"):
        await opened(Slow)


# What the server's options ask for -------------------------------------------------------------------------------


async def test_an_allowed_origin_is_sent_where_the_server_wants_one(opened: Open) -> None:
    auth = make_auth(allowed_origins=["https://app.example"])
    assert (await opened(auth=auth)).auth_ok["user_id"] == "alice"


async def test_an_origin_of_the_tests_own_is_sent_instead(opened: Open) -> None:
    with pytest.raises(AuthRefused) as caught:
        await opened(
            auth=make_auth(allowed_origins=["https://app.example"]), headers={"Origin": "https://evil.example"}
        )
    assert caught.value.error == "origin_not_allowed"


async def test_the_token_goes_where_the_server_looks_for_it(opened: Open) -> None:
    assert (await opened(auth=make_auth(token_param="ticket"))).auth_ok["user_id"] == "alice"


async def test_subprotocols_are_offered(opened: Open) -> None:
    class Speaks(Session):
        def select_subprotocol(self, subprotocols: list[str]) -> str | None:
            return "chat.v2" if "chat.v2" in subprotocols else None

        def open(self) -> None:
            self.write_message(self.selected_subprotocol or "none")

    connection = await opened(Speaks, subprotocols=["chat.v1", "chat.v2"])
    assert await connection.receive() == "chat.v2"


# A further JWT ---------------------------------------------------------------------------------------------------


async def test_a_refresh_gives_the_second_auth_ok_and_keeps_what_came_before_it_in_order(opened: Open) -> None:
    connection = await opened(Protocol)
    assert connection.auth_ok["expires_at"] == EXPIRES_AT + 1
    auth_ok = await connection.refresh("good")
    assert auth_ok == connection.auth_ok == {"type": "auth_ok", "user_id": "alice", "expires_at": EXPIRES_AT + 2}
    kept = [await connection.receive() for _ in range(3)]
    assert kept == ['{"type": "news"}', b'{"type": "auth_ok"}', "not JSON"]


async def test_a_refused_refresh_says_code_and_reason(opened: Open) -> None:
    connection = await opened(Protocol)
    with pytest.raises(AuthRefused, match=r"refresh step was refused: .* 4403 user_mismatch") as caught:
        await connection.refresh("bad")
    assert (caught.value.step, caught.value.close_code) == ("refresh", 4403)


async def test_a_refresh_that_nobody_answers_is_a_timeout_also_while_other_messages_come(opened: Open) -> None:
    class Chatty(WebSocketHandler):
        ticker: PeriodicCallback | None = None

        def on_message(self, message: str | bytes) -> None:
            if self.ticker is None:
                self.write_message({"type": "auth_ok", "user_id": "alice", "expires_at": EXPIRES_AT})
                self.ticker = PeriodicCallback(lambda: self.write_message("tick"), 5)
                self.ticker.start()

        def on_close(self) -> None:
            assert self.ticker is not None
            self.ticker.stop()

    connection = await opened(Chatty)
    connection.timeout = 0.1
    with pytest.raises(TimeoutError, match="after the refresh"):
        await connection.refresh("good")
    assert await connection.receive() == "tick"
