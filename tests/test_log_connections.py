"""One record for each connection that is refused, accepted or closed, and each refusal of the token route."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tornado.web

from tests.logs import UNKNOWN_TOKEN
from tests.support import (
    CLOSE,
    SECRET,
    Echo,
    ManualClock,
    Server,
    frame,
    http,
    jwt_message,
    make_auth,
    make_jwt,
    until,
)
from tornado_wsauth import JWTVerifier, KeySourceError, MemoryTokenStore, TokenHandler, TokenStoreError, WSAuth

REFUSED_MESSAGES = {
    "no json": ("hello", "bad_message", 4400),
    "no object": ("[]", "bad_message", 4400),
    "another type": ('{"type": "hi"}', "bad_message", 4400),
    "garbage": (jwt_message("x.y.z"), "jwt_invalid", 4401),
    "wrong key": (jwt_message(make_jwt(secret=SECRET + "!")), "jwt_invalid", 4401),
    "expired": (jwt_message(make_jwt(expires_in=-60)), "jwt_expired", 4401),
    "another user": (jwt_message(make_jwt("mallory")), "user_mismatch", 4403),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("name", REFUSED_MESSAGES)
async def test_a_refused_first_message_is_one_record_with_the_tokens_user(serve, connect, check, logged, name):  # A39
    message, reason, code = REFUSED_MESSAGES[name]
    server = serve()
    client, _ = await connect(server)
    client.send_text(message)
    client.send_text(message)
    client.send(frame(b"\x03\xe8", CLOSE))
    assert await client.read_close() == (code, reason)
    assert await client.at_eof()
    await until(lambda: not server.auth.pending)
    check(("refused", reason, "alice", code))
    assert logged.errors == []


@pytest.mark.gen_test
async def test_a_binary_first_message_is_one_record(serve, connect, check):  # A39
    client, _ = await connect(serve())
    client.send(frame(jwt_message(make_jwt()).encode(), 2))
    assert (await client.read_close())[0] == 4400
    check(("refused", "bad_message", "alice", 4400))


@pytest.mark.gen_test
async def test_silence_is_one_record(serve, connect, check):  # A39
    clock = ManualClock()
    client, _ = await connect(serve(Echo, make_auth(clock=clock)))
    clock.advance(10)
    await client.read_close()
    clock.advance(100)
    check(("refused", "auth_timeout", "alice", 4408))


@pytest.mark.gen_test
async def test_a_user_that_the_application_does_not_want_is_one_record(serve, connect, check):  # A39
    class Chat(Echo):
        def load_auth_user(self, claims: dict[str, Any]) -> Any:
            return None

    client, _ = await connect(serve(Chat))
    client.send_text(jwt_message(make_jwt()))
    await client.read_close()
    check(("refused", "forbidden", "alice", 4403))
    assert Chat.events == []


@pytest.mark.gen_test
async def test_an_exception_in_load_auth_user_is_one_record_and_one_traceback(serve, connect, check, logged):
    # A39, A18
    class Chat(Echo):
        async def load_auth_user(self, claims: dict[str, Any]) -> Any:
            raise ZeroDivisionError

    client, _ = await connect(serve(Chat))
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_close())[0] == 1011
    check(("refused", "internal", "alice", 1011))
    assert [error.exc_info[0] for error in logged.errors] == [ZeroDivisionError]


@pytest.mark.gen_test
async def test_a_jwt_that_no_key_can_be_had_for_is_one_record(serve, connect, logged):  # A39, A21
    class Keyless:
        async def key_for(self, kid: str | None, alg: str) -> Any:
            raise KeySourceError("the JWKS server is down")

    server = serve(Echo, WSAuth(JWTVerifier(Keyless(), algorithms=["RS256"])))
    client, _ = await connect(server)
    client.send_text(jwt_message("eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJhIn0.AAAA"))
    code, reason = await client.read_close()
    assert code == 1011, "the client should try again"
    assert logged.events == [("refused", reason, "alice", code)]
    assert "the JWKS server is down" in logged.records[0].getMessage()


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["abort", "close frame", "fin"])
async def test_a_client_that_leaves_before_its_jwt_is_one_record(serve, connect, logged, how):  # A39
    server = serve()
    client, _ = await connect(server)
    if how == "abort":
        client.abort()
    elif how == "fin":
        await client.close()
    else:
        client.send(frame(b"\x03\xe9", CLOSE))
    await until(lambda: not server.auth.pending)
    await until(lambda: bool(logged.records))
    (record,) = logged.records
    assert (record.event, record.user_id) == ("closed", "alice")
    assert record.code == (1001 if how == "close frame" else None)


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_its_jwt_is_checked_leaves_a_log_that_adds_up(serve, connect, logged):  # A39
    """Tornado does not look at the socket meanwhile, so the server may learn of it only after it has accepted."""
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Chat(Echo):
        async def load_auth_user(self, claims: dict[str, Any]) -> Any:
            entered.set()
            await go_on.wait()
            return "alice"

    server = serve(Chat)
    client, _ = await connect(server)
    client.send_text(jwt_message(make_jwt()))
    await entered.wait()
    client.abort()
    await client.close()
    go_on.set()
    await until(lambda: bool(logged.records) and not server.auth.pending and len(server.auth.connections) == 0)
    events = [(record.event, record.user_id) for record in logged.records]
    accepted = [("accepted", "alice"), ("closed", "alice")]
    assert (events, Chat.events) in [([("refused", "alice")], []), (accepted, ["open", "close"])]
    assert logged.errors == []


ACCEPTED = ("accepted", "auth_ok", "alice", None)


@pytest.mark.gen_test
async def test_an_accepted_connection_is_one_record(serve, login, check):  # A39
    client = await login(serve())
    client.send_text("hello")
    await client.read_frame()
    check(ACCEPTED)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("payload", "code"), [(b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001), (b"\x0f\xa0", 4000), (b"", None)]
)
async def test_a_client_that_says_goodbye_is_one_record_with_its_code(serve, login, check, payload, code):  # A39
    server = serve()
    client = await login(server)
    client.send(frame(payload, CLOSE))
    await client.read_frame()
    await until(lambda: len(server.auth.connections) == 0)
    check(ACCEPTED, ("closed", "disconnected", "alice", code))


@pytest.mark.gen_test
async def test_a_client_that_vanishes_is_one_record(serve, login, check):  # A39
    server = serve()
    client = await login(server)
    client.abort()
    await until(lambda: len(server.auth.connections) == 0)
    check(ACCEPTED, ("closed", "disconnected", "alice", None))


@pytest.mark.gen_test
async def test_a_restart_is_one_record_for_each_connection(serve, connect, login, check, logged):  # A39
    server = serve()
    authenticated = await login(server, "alice")
    waiting, _ = await connect(server, "bob")
    await server.auth.close(grace=0)
    assert await authenticated.read_close() == (1012, "restart")
    assert await waiting.read_close() == (1012, "restart")
    await authenticated.close()
    await waiting.close()
    await until(lambda: not server.auth.pending and len(server.auth.connections) == 0)
    assert logged.events[0] == ACCEPTED
    assert sorted(logged.events[1:]) == [("closed", "restart", "alice", 1012), ("refused", "restart", "bob", 1012)]


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["open", "on_message"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_an_exception_of_the_application_is_one_traceback_and_one_close(
    serve, connect, check, logged, method, is_async
):  # A39, A19
    def fail(self: Any, *args: Any) -> None:
        raise ZeroDivisionError

    async def fail_later(self: Any, *args: Any) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    chat = type("Chat", (Echo,), {method: fail_later if is_async else fail})
    client, _ = await connect(serve(chat))
    client.send_text(jwt_message(make_jwt()))
    await client.read_json()
    client.send_text("hello")
    assert (await client.read_close())[0] == 1011
    assert [error.exc_info[0] for error in logged.errors] == [ZeroDivisionError]
    check(ACCEPTED, ("closed", "internal", "alice", 1011))


@pytest.mark.gen_test
async def test_a_handler_that_closes_its_connection_is_one_record_with_its_code(serve, login, logged):  # A39
    class Chat(Echo):
        def on_message(self, message: str | bytes) -> None:
            self.close(4000, "goodbye")
            self.close(4001, "again")

    server = serve(Chat)
    client = await login(server)
    client.send_text("hello")
    assert await client.read_close() == (4000, "goodbye")
    await client.close()
    await until(lambda: len(server.auth.connections) == 0)
    await until(lambda: len(logged.records) > 1)
    assert logged.events[0] == ACCEPTED
    assert len(logged.events) == 2
    event, _, user_id, code = logged.events[1]
    assert (event, user_id) == ("closed", "alice")
    assert code in (4000, None), "Tornado tells the code the peer sent; ours is the one that matters"


@pytest.mark.gen_test
async def test_an_on_auth_failed_that_raises_costs_one_traceback_and_changes_nothing(serve, connect, logged):  # A39
    class Chat(Echo):
        def on_auth_failed(self, reason: str) -> None:
            raise ZeroDivisionError(reason)

    server = serve(Chat)
    _, response = await connect(server, path="/ws")
    assert response.status == 401
    client, _ = await connect(server)
    client.send_text("hello")
    assert await client.read_close() == (4400, "bad_message")
    assert [str(error.exc_info[1]) for error in logged.errors] == ["token_missing", "bad_message"]
    events = [record.event for record in logged.records if hasattr(record, "event")]
    assert events == ["refused", "refused"]


@pytest.mark.gen_test
async def test_on_auth_failed_is_told_the_reason_that_is_logged(serve, connect, logged):  # A39
    class Chat(Echo):
        def on_auth_failed(self, reason: str) -> None:
            self.events.append(reason)

    server = serve(Chat)
    await connect(server, path="/ws")
    await connect(server, path=f"/ws?token={UNKNOWN_TOKEN}")
    await connect(server, method="POST")
    for message in ("hello", jwt_message(make_jwt("mallory")), jwt_message(make_jwt(expires_in=-60))):
        client, _ = await connect(server)
        client.send_text(message)
        await client.read_close()
    assert Chat.events == [record.reason for record in logged.records]
    assert Chat.events == [
        "token_missing",
        "token_unknown",
        "method_not_allowed",
        "bad_message",
        "user_mismatch",
        "jwt_expired",
    ]


def bearer(*args: Any, **kwargs: Any) -> str:
    return f"Bearer {make_jwt(*args, **kwargs)}"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("headers", "reason", "code"),
    [
        ({}, "anonymous", 401),
        ({"Authorization": "Bearer x"}, "jwt_invalid", 401),
        ({"Authorization": bearer(secret=SECRET + "!")}, "jwt_invalid", 401),
        ({"Authorization": bearer(expires_in=-60)}, "jwt_expired", 401),
        ({"Origin": "https://evil.example"}, "origin_not_allowed", 403),
    ],
)
async def test_a_refusal_of_the_token_route_is_one_record(serve, check, headers, reason, code):  # A39
    await http(serve(), **headers)
    check(("refused", reason, None, code), path="/ws/token")


@pytest.mark.gen_test
async def test_a_failed_xsrf_check_is_one_record(serve, check):  # A39
    await http(serve(xsrf_cookies=True))
    check(("refused", "xsrf_failed", None, 403), path="/ws/token")


@pytest.mark.gen_test
async def test_a_wrong_method_on_the_token_route_is_one_record(serve, check):  # A39
    await http(serve(), method="GET")
    check(("refused", "method_not_allowed", None, 405), path="/ws/token")


@pytest.mark.gen_test
async def test_a_refusal_by_tornados_own_cross_origin_protection_is_one_record(serve, check):  # A39
    """Tornado 6.6 refuses before we are asked; 6.5 leaves it to us. The log must not differ."""
    await http(serve(cross_origin_protection=True), Origin="https://evil.example", Sec_Fetch_Site="cross-site")
    check(("refused", "origin_not_allowed", None, 403), path="/ws/token")


@pytest.mark.gen_test
async def test_a_limit_a_store_and_a_restart_on_the_token_route_are_one_record_each(serve, check):  # A39, A4
    class Store(MemoryTokenStore):
        down = False

        async def issue(self, *args: Any, **kwargs: Any) -> str:
            if self.down:
                raise TokenStoreError("down")
            return await super().issue(*args, **kwargs)

    store = Store()
    server: Server = serve(Echo, make_auth(tokens=store, max_tokens_per_user=1))
    await http(server, Authorization=bearer())
    await http(server, Authorization=bearer())
    store.down = True
    await http(server, Authorization=bearer())
    await server.auth.close(grace=0)
    await http(server, Authorization=bearer())
    check(
        ("refused", "too_many_tokens", "alice", 429),
        ("refused", "store_unavailable", "alice", 503),
        ("refused", "closing", None, 503),
        path="/ws/token",
    )


@pytest.mark.gen_test
async def test_missing_keys_on_the_token_route_are_one_record(serve, check):  # A39, A21
    class Token(TokenHandler):
        async def get_user_id(self) -> Any:
            raise KeySourceError("the JWKS server is down")

    await http(serve(routes=[(r"/own", Token)]), "/own")
    check(("refused", "keys_unavailable", None, 503), path="/own")


@pytest.mark.gen_test
async def test_a_route_that_is_not_ours_writes_no_record_of_ours(serve, connect, check):  # A39
    class Page(tornado.web.RequestHandler):
        def get(self) -> None:
            self.write("a page")

    await connect(serve(routes=[(r"/page", Page)]), path="/page")
    check()
