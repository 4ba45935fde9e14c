"""Whose the JWT is: the token's user, known to the application, and nobody else."""

from __future__ import annotations

import asyncio

import jwt
import pytest

from tests.support import (
    Echo,
    ManualClock,
    RawClient,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    nothing_is_left,
    settle,
    until,
)


def unsigned() -> str:
    return jwt.encode({"sub": "alice", "exp": 9_999_999_999}, None, algorithm="none")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("token", "ending_"),
    [
        (unsigned(), (4401, "jwt_invalid")),
        (make_jwt(secret="another secret, long enough for HS256"), (4401, "jwt_invalid")),
        (make_jwt(exp=None), (4401, "jwt_invalid")),
        (make_jwt(None), (4401, "jwt_invalid")),
        (make_jwt(aud="somebody else"), (4401, "jwt_invalid")),
        (make_jwt(nbf=9_999_999_999), (4401, "jwt_invalid")),
        (make_jwt(expires_in=-1), (4401, "jwt_expired")),
        (make_jwt("bob"), (4403, "user_mismatch")),
        (make_jwt("Alice"), (4403, "user_mismatch")),
        (make_jwt("alice "), (4403, "user_mismatch")),
        (make_jwt("alic\u0435"), (4403, "user_mismatch")),
        (make_jwt("bob", expires_in=-1), (4401, "jwt_expired")),
    ],
    ids=["none", "key", "exp", "sub", "aud", "nbf", "expired", "bob", "case", "space", "cyrillic", "expired bob"],
)
async def test_a_jwt_that_does_not_prove_the_tokens_user_is_refused(serve, connect, token, ending_):
    # A20, A22
    class Chat(Echo):
        pass

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(jwt_message(token).encode()) + frame(b"hello"))
    assert await client.read_close() == ending_
    await nothing_is_left(server)
    assert Chat.events == []


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_load_auth_user_returns_becomes_current_user(serve, login, asynchronous):
    seen = []

    class Chat(Echo):
        def load_auth_user(self, claims):
            seen.append(claims["sub"])
            user = {"name": claims["sub"].title(), "role": claims["role"]}
            if not asynchronous:
                return user

            async def load():
                await asyncio.sleep(0)
                return user

            return load()

        def open(self):
            seen.append(self.current_user)

        def on_message(self, message):
            seen.append(self.current_user)
            self.write_message("done")

    server = serve(Chat)
    token = await server.auth.issue_token("alice")
    client = await RawClient.connect(server.port)
    await client.upgrade(f"/ws?token={token}")
    client.send_text(jwt_message(make_jwt("alice", role="admin")))
    await client.read_json()
    client.send_text("who am I?")
    await client.read_frame()
    assert seen == ["alice", {"name": "Alice", "role": "admin"}, {"name": "Alice", "role": "admin"}]
    await client.close()


@pytest.mark.gen_test
async def test_current_user_is_the_user_id_unless_load_auth_user_says_otherwise(serve, login):
    class Chat(Echo):
        def get_current_user(self):
            return "whoever the cookie names"

        def open(self):
            self.events.append(self.current_user)

    server = serve(Chat)
    await login(server)
    await until(lambda: Chat.events == ["alice"])


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_user_that_load_auth_user_does_not_know_is_turned_away(serve, connect, asynchronous):
    class Chat(Echo):
        def load_auth_user(self, claims):
            return self.nobody() if asynchronous else None

        async def nobody(self):
            return None

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
    assert await client.read_close() == (4403, "forbidden")
    await nothing_is_left(server)
    assert Chat.events == []


@pytest.mark.gen_test
async def test_a_client_that_load_auth_user_closes_is_not_let_in(serve, connect):
    class Chat(Echo):
        def load_auth_user(self, claims):
            self.close(4999, "banned")
            return claims["sub"]

    server = serve(Chat)
    client, _ = await connect(server)
    client.send(frame(jwt_message(make_jwt()).encode()) + frame(b"hello"))
    await client.read_close()
    await client.close()
    await nothing_is_left(server)
    assert Chat.events == []


@pytest.mark.gen_test
async def test_load_auth_user_may_ask_for_the_subprotocol(serve, connect):
    class Chat(Echo):
        def select_subprotocol(self, subprotocols):
            return subprotocols[0]

        def load_auth_user(self, claims):
            self.events.append(self.selected_subprotocol)
            return claims["sub"]

    server = serve(Chat)
    client, _ = await connect(server, Sec_WebSocket_Protocol="v2, v1")
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_json())["type"] == "auth_ok"
    assert Chat.events[0] == "v2"


@pytest.mark.gen_test
@pytest.mark.parametrize("user", [0, "", False, [], {}], ids=repr)
async def test_a_user_that_is_falsy_but_not_none_is_a_user(serve, login, user):
    class Chat(Echo):
        def load_auth_user(self, claims):
            return user

        def open(self):
            self.events.append(self.current_user)

    server = serve(Chat)
    await login(server)
    await until(lambda: Chat.events == [user])


@pytest.mark.gen_test
async def test_auth_session_is_not_there_before_the_client_is_authenticated(serve, login):
    class Chat(Echo):
        async def prepare(self):
            await super().prepare()
            self.look()

        def load_auth_user(self, claims):
            self.look()
            return claims["sub"]

        def look(self):
            try:
                self.events.append(self.auth_session.user_id)
            except RuntimeError as error:
                self.events.append(type(error))

        def open(self):
            self.look()

    server = serve(Chat)
    await login(server)
    await until(lambda: len(Chat.events) == 3)
    assert Chat.events == [RuntimeError, RuntimeError, "alice"]


@pytest.mark.gen_test
@pytest.mark.parametrize("raises", [None, RuntimeError("x"), asyncio.CancelledError()], ids=repr)
@pytest.mark.parametrize(
    ("first", "ending_"),
    [
        (b"hello", (4400, "bad_message")),
        (jwt_message(make_jwt(expires_in=-1)).encode(), (4401, "jwt_expired")),
        (jwt_message("x").encode(), (4401, "jwt_invalid")),
        (jwt_message(make_jwt("bob")).encode(), (4403, "user_mismatch")),
        (jwt_message(make_jwt(role="banned")).encode(), (4403, "forbidden")),
        (None, (4408, "auth_timeout")),
    ],
)
async def test_on_auth_failed_is_told_once_and_cannot_change_the_answer(serve, connect, first, ending_, raises):
    # A39
    class Chat(Echo):
        def load_auth_user(self, claims):
            return None if claims.get("role") == "banned" else claims["sub"]

        def on_auth_failed(self, reason):
            self.events.append(reason)
            if raises:
                raise raises

    clock = ManualClock()
    server = serve(Chat, auth=make_auth(clock=clock))
    client, _ = await connect(server)
    if first is None:
        clock.advance(10)
    else:
        client.send(frame(first) + frame(b"hello"))
    assert await client.read_close() == ending_
    await client.close()
    await nothing_is_left(server)
    await settle()
    assert Chat.events == [ending_[1]]


@pytest.mark.gen_test
async def test_on_auth_failed_is_not_told_of_a_client_that_is_let_in(serve, login):
    class Chat(Echo):
        def on_auth_failed(self, reason):
            self.events.append(reason)

    server = serve(Chat)
    client = await login(server)
    await client.close()
    await until(lambda: Chat.events == ["open", "close"])
