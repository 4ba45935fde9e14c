"""Exceptions on the way to ``auth_ok``, control frames before it, and what the log says."""

from __future__ import annotations

import asyncio
import logging

import pytest
from tornado.iostream import StreamClosedError
from tornado.web import Finish, HTTPError
from tornado.websocket import WebSocketClosedError

from tests.first_messages import FailingVerifier, an_honest_client_is_served, ending
from tests.support import (
    CLOSE,
    PING,
    PONG,
    SECRET,
    Echo,
    frame,
    jwt_message,
    make_jwt,
    nothing_is_left,
    settle,
    until,
)
from tornado_wsauth import JWTVerifier, KeySourceError, WSAuth


class AppError(Exception):
    pass


ERRORS = [
    ValueError("x"),
    KeyError("x"),
    AppError("x"),
    asyncio.CancelledError(),
    TimeoutError("x"),
    RecursionError(),
    HTTPError(404),
    Finish(),
    WebSocketClosedError(),
    StreamClosedError(),
    StopAsyncIteration(),
]


@pytest.mark.gen_test
@pytest.mark.parametrize("error", [*ERRORS, KeySourceError("no keys")], ids=lambda error: type(error).__name__)
async def test_an_exception_in_the_verifier_closes_1011(serve, connect, login, error):
    # A18
    class Chat(Echo):
        pass

    verifier = FailingVerifier(error)
    server = serve(Chat, auth=WSAuth(verifier))
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
    assert (await client.read_close())[0] == 1011
    await nothing_is_left(server)
    assert Chat.events == []
    verifier.error = None
    await an_honest_client_is_served(server, login, Chat)


@pytest.mark.gen_test
@pytest.mark.parametrize("claims", [None, {}, {"sub": None}, [], "alice", {"sub": 7}], ids=repr)
async def test_a_verifier_that_returns_no_claims_of_the_user_opens_nothing(serve, connect, claims):
    # A18
    class Chat(Echo):
        pass

    class Broken(JWTVerifier):
        async def verify(self, token):
            return claims

    server = serve(Chat, auth=WSAuth(Broken(SECRET, algorithms=["HS256"])))
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
    assert (await client.read_close())[0] in (1011, 4401, 4403)
    await nothing_is_left(server)
    assert Chat.events == []


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["sync", "async", "later"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_exception_in_load_auth_user_closes_1011(serve, connect, login, caplog, error, how):
    # A18
    class Chat(Echo):
        failing = True

        def load_auth_user(self, claims):
            if not self.failing:
                return claims["sub"]
            if how == "sync":
                raise error
            return self.fail()

        async def fail(self):
            if how == "later":
                await asyncio.sleep(0)
            raise error

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
    assert (await client.read_close())[0] == 1011
    await nothing_is_left(server)
    assert Chat.events == []
    if not isinstance(error, (asyncio.CancelledError, HTTPError)):  # Tornado writes an HTTPError without its traceback
        assert len([record for record in caplog.records if record.exc_info]) == 1
    Chat.failing = False
    await an_honest_client_is_served(server, login, Chat)


@pytest.mark.gen_test
async def test_pings_and_pongs_reach_the_application_only_after_auth_ok(serve, connect):
    # A11
    class Chat(Echo):
        def on_ping(self, data):
            self.events.append(("ping", data))

        def on_pong(self, data):
            self.events.append(("pong", data))

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(b"early", PONG) + frame(b"early", PING))
    assert await client.read_frame() == (PONG, b"early")
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"late", PONG) + frame(b"late", PING))
    assert (await client.read_json())["type"] == "auth_ok"
    assert await client.read_frame() == (PONG, b"late")
    assert Chat.events == ["open", ("pong", b"late"), ("ping", b"late")]


@pytest.mark.gen_test
async def test_a_client_that_leaves_before_its_jwt_never_reaches_the_application(serve, connect):
    # A10
    class Chat(Echo):
        pass

    server = serve(Chat)
    for goodbye in (frame(b"\x03\xe8", CLOSE), None):
        client, _ = await connect(server)
        assert len(server.auth.pending) == 1
        if goodbye:
            client.send(goodbye)
            assert await ending(client) == 1000
        else:
            client.abort()
        await nothing_is_left(server)
    await settle()
    assert Chat.events == []


@pytest.mark.gen_test
async def test_an_acceptance_and_its_close_are_one_record_each(serve, login, caplog):
    # A39
    caplog.set_level(logging.INFO, "tornado_wsauth")
    server = serve()
    client = await login(server)
    client.send(frame(b"\x03\xe9", CLOSE))
    await ending(client)
    await client.close()
    await until(lambda: len(server.auth.connections) == 0)
    await settle()
    records = [record for record in caplog.records if record.name == "tornado_wsauth"]
    assert [(record.event, record.user_id, record.remote_ip) for record in records] == [
        ("accepted", "alice", "127.0.0.1"),
        ("closed", "alice", "127.0.0.1"),
    ]
    assert records[-1].code == 1001


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("first", "code", "reason"),
    [
        (b"hello", 4400, "bad_message"),
        (jwt_message(make_jwt(expires_in=-1)).encode(), 4401, "jwt_expired"),
        (jwt_message(make_jwt("bob")).encode(), 4403, "user_mismatch"),
    ],
)
async def test_a_refusal_after_the_101_is_one_record(serve, connect, caplog, first, code, reason):
    # A39
    caplog.set_level(logging.INFO, "tornado_wsauth")
    server = serve()
    client, _ = await connect(server)
    client.send(frame(first) + frame(b"hello"))
    await client.read_close()
    await client.close()
    await nothing_is_left(server)
    await settle()
    (record,) = (record for record in caplog.records if record.name == "tornado_wsauth")
    assert (record.event, record.code, record.reason) == ("refused", code, reason)
    assert (record.user_id, record.remote_ip) == ("alice", "127.0.0.1")
