"""`AuthWebSocketTestCase`, run as its users run it: through `unittest`, on applications sound and broken."""

# ruff: noqa: PT009, PT027 - what unittest runs is written as unittest's users write it

from __future__ import annotations

import unittest
from typing import Any, ClassVar

import pytest
from tornado.testing import AsyncHTTPSTestCase, gen_test
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from tests.support import SECRET, Echo, make_auth, make_jwt
from tornado_wsauth import JWTVerifier, TokenHandler, WebSocketAuthMixin, WSAuth
from tornado_wsauth.testing import AuthenticatedConnection, AuthRefused, AuthWebSocketTestCase


class Chat(WebSocketAuthMixin, WebSocketHandler):
    def open(self) -> None:
        self.write_message({"hello": self.auth_session.user_id, "role": self.auth_session.claims.get("role")})

    def on_message(self, message: str | bytes) -> None:
        self.write_message(f"echo: {message!r}")


class Mute(Chat):
    """A `Chat` that somebody broke."""

    def on_message(self, message: str | bytes) -> None:
        pass


def outcome(case: type[unittest.TestCase], name: str) -> unittest.TestResult:
    """Run one test of ``case`` through unittest."""
    result = unittest.TestResult()
    case(name).run(result)
    assert result.testsRun == 1
    return result


def problems(result: unittest.TestResult) -> str:
    return "".join(text for _, text in [*result.errors, *result.failures])


class ChatCase(AuthWebSocketTestCase):
    """The case of an application whose keys are somebody else's; its tests are run below, by name."""

    __test__ = False

    handler: ClassVar[type] = Chat
    patience = 4.0  # seconds
    seen: ClassVar[dict[str, Any]] = {}

    def get_app(self) -> Application:
        auth = WSAuth(JWTVerifier("a key that the tests do not know at all", algorithms=["HS256"]), token_ttl=30)
        self.seen.update(auth=auth, verifier=auth.jwt, clock=auth.clock, connections=[])
        return Application(
            [(r"/ws/chat", self.handler), (r"/ws/token", TokenHandler)], wsauth=auth, websocket_ping_interval=30
        )

    async def open_chat(self, *args: Any, **options: Any) -> AuthenticatedConnection:
        connection = await self.connect_authenticated("/ws/chat", *args, **options)
        self.seen["connections"].append(connection)
        return connection

    @gen_test
    async def test_chat(self) -> None:
        alice, bob = await self.open_chat(), await self.open_chat("bob", role="admin")
        self.assertEqual(await alice.receive_json(), {"hello": "alice", "role": None})
        self.assertEqual(await bob.receive_json(), {"hello": "bob", "role": "admin"})
        bob.timeout = self.patience
        await bob.send("hi")
        self.assertEqual(await bob.receive(), "echo: 'hi'")

    @gen_test
    async def test_refused(self) -> None:
        await self.open_chat("bob", jwt=await self.as_jwt("alice"))

    @gen_test
    async def test_route(self) -> None:
        answer = await self.http_client.fetch(
            self.get_url("/ws/token"),
            method="POST",
            body="",
            headers={"Authorization": f"Bearer {await self.as_jwt('alice')}"},
        )
        self.assertEqual(answer.code, 200)

    @gen_test
    async def test_clock(self) -> None:
        self.clock.advance(1)

    async def as_jwt(self, user: str) -> str:
        jwt = self.get_jwt(user)
        return jwt if isinstance(jwt, str) else await jwt


class ClockCase(ChatCase):
    manual_clock = True

    @gen_test
    async def test_expiry(self) -> None:
        token = await self.get_token("alice")
        jwt = await self.as_jwt("alice")
        self.clock.advance(31)
        with self.assertRaises(AuthRefused) as caught:
            await self.open_chat(token=token)
        self.assertEqual((caught.exception.status, caught.exception.error), (401, "token_invalid"))
        self.clock.advance(600)
        with self.assertRaises(AuthRefused) as caught:
            await self.open_chat(jwt=jwt)
        self.assertEqual(caught.exception.close_reason, "jwt_expired")
        await self.open_chat()


def test_a_sound_application_passes() -> None:
    result = outcome(ChatCase, "test_chat")
    assert result.wasSuccessful(), problems(result)


def test_a_handler_that_does_not_answer_fails_and_the_failure_says_what_did_not_come() -> None:
    class Broken(ChatCase):
        handler = Mute
        patience = 0.1

    result = outcome(Broken, "test_chat")
    assert "no message came within 0.1 s" in problems(result)


def test_a_handler_that_lets_everybody_in_fails() -> None:
    class Ungated(WebSocketHandler):
        def open(self) -> None:
            self.write_message({"hello": "whoever"})

    class Broken(ChatCase):
        handler = Ungated

    assert "WebSocketAuthMixin" in problems(outcome(Broken, "test_chat"))


def test_a_refusal_that_is_not_expected_fails_the_test_and_says_why() -> None:
    assert "4403 user_mismatch" in problems(outcome(ChatCase, "test_refused"))


def test_a_jwt_of_the_case_gets_a_token_at_the_applications_route() -> None:
    result = outcome(ChatCase, "test_route")
    assert result.wasSuccessful(), problems(result)


def test_everything_opened_is_closed_and_the_verifier_is_the_applications_again() -> None:
    outcome(ChatCase, "test_chat")
    assert len(ChatCase.seen["connections"]) == 2
    assert [connection.close_code for connection in ChatCase.seen["connections"]] == [1000, 1000]
    assert ChatCase.seen["auth"].jwt is ChatCase.seen["verifier"]


def test_a_turned_clock_expires_token_and_jwt_and_is_the_systems_again_afterwards() -> None:
    result = outcome(ClockCase, "test_expiry")
    assert result.wasSuccessful(), problems(result)
    assert ClockCase.seen["auth"].clock is ClockCase.seen["clock"]


def test_without_a_manual_clock_turning_it_says_how_to_have_one() -> None:
    assert "manual_clock = True" in problems(outcome(ChatCase, "test_clock"))


def test_an_application_without_a_wsauth_under_that_name_is_told_so() -> None:
    class Elsewhere(ChatCase):
        wsauth_setting = "sockets"

    assert "Elsewhere.wsauth_setting = 'sockets'" in problems(outcome(Elsewhere, "test_chat"))


@pytest.mark.parametrize("is_async", [False, True])
def test_an_overridden_get_jwt_leaves_the_applications_key_in_place(is_async: bool) -> None:
    class OwnLogin(ChatCase):
        def get_app(self) -> Application:
            return Application([(r"/ws/chat", Chat)], wsauth=make_auth(), websocket_ping_interval=30)

        def get_jwt(self, user: str, **claims: Any) -> Any:
            async def later() -> str:
                return make_jwt(user, **claims)

            return later() if is_async else make_jwt(user, **claims)

        @gen_test
        async def test_login(self) -> None:
            verifier = self.auth.jwt
            chat = await self.connect_authenticated("/ws/chat", "bob", role="admin")
            self.assertEqual(await chat.receive_json(), {"hello": "bob", "role": "admin"})
            self.assertIs(self.auth.jwt, verifier)

    result = outcome(OwnLogin, "test_login")
    assert result.wasSuccessful(), problems(result)


def test_an_overridden_get_token_is_where_tokens_come_from() -> None:
    class OwnTokens(ChatCase):
        async def get_token(self, user: str) -> str:
            return "A" * 43

    assert "401 token_invalid" in problems(outcome(OwnTokens, "test_chat"))


def test_it_works_with_a_server_that_has_tls() -> None:
    class Secure(ChatCase, AsyncHTTPSTestCase):
        @gen_test
        async def test_url(self) -> None:
            self.assertRegex(self.get_ws_url("/ws/chat"), r"^wss://127\.0\.0\.1:\d+/ws/chat$")
            await self.open_chat()

    result = outcome(Secure, "test_url")
    assert result.wasSuccessful(), problems(result)


def test_another_setting_names_another_wsauth() -> None:
    class Two(ChatCase):
        wsauth_setting = "admins"

        def get_app(self) -> Application:
            class Admins(Echo):
                wsauth_setting = "admins"

            return Application(
                [(r"/ws/admin", Admins)],
                wsauth=make_auth(),
                admins=WSAuth(JWTVerifier(SECRET, algorithms=["HS256"], audience="admin")),
                websocket_ping_interval=30,
            )

        @gen_test
        async def test_admin(self) -> None:
            self.assertEqual((await self.connect_authenticated("/ws/admin")).auth_ok["user_id"], "alice")

    result = outcome(Two, "test_admin")
    assert result.wasSuccessful(), problems(result)
