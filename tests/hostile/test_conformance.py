"""`assert_gate_holds` passes where the gate holds, and says what broke where it does not."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from tornado.websocket import WebSocketHandler

from tests.hostile.scene import PREAUTH_BYTES, Answers, OverridesEverything
from tests.support import Server, http, make_auth, make_jwt, nothing_is_left
from tornado_wsauth import guard
from tornado_wsauth.gate import DELIVER, OPEN, Gate
from tornado_wsauth.testing.attacks import ATTACKS
from tornado_wsauth.testing.conformance import assert_gate_holds
from tornado_wsauth.testing.target import GateBreach


async def attacked(server: Server, user: str = "mallory", **options: Any) -> list[str]:
    async def new_token() -> str:
        return (await http(server, Authorization=f"Bearer {make_jwt(user)}")).json()["token"]

    options = {
        "new_token": new_token,
        "make_jwt": lambda: make_jwt(user),
        "other_jwt": lambda: make_jwt("trudy"),
        "expired_jwt": lambda: make_jwt(user, expires_in=-60),
        "exchange": ("hello", "hello"),
        "max_preauth_bytes": PREAUTH_BYTES,
        "patience": 5,
        **options,
    }
    return await assert_gate_holds(f"ws://127.0.0.1:{server.port}/ws", **options)


def guarded(**options: Any) -> Any:
    return make_auth(max_preauth_bytes=PREAUTH_BYTES, **options)


@pytest.mark.gen_test
async def test_a_guarded_handler_withstands_every_attack(serve):
    server = serve(OverridesEverything, auth=guarded())
    assert await attacked(server) == [attack.name for attack in ATTACKS]
    await nothing_is_left(server)


@pytest.mark.gen_test
async def test_attacks_that_nothing_was_given_for_are_left_out_and_are_not_among_the_names(serve):
    server = serve(Answers, auth=guarded(single_use=False, max_tokens_per_user=1000))
    left_out = {"other_jwt", "expired_jwt", "exchange", "foreign_origin"}
    made = await attacked(
        server, new_token=lambda: server.auth.issue_token("mallory"), single_use=False, **dict.fromkeys(left_out)
    )
    assert {attack.name for attack in ATTACKS} - set(made) == {
        "jwt_of_another_user",
        "expired_jwt",
        "foreign_origin",
        "spent_token",
        "raced_token",
    }


@pytest.mark.gen_test
async def test_a_limit_too_small_to_attack_is_said_to_be_so(serve):
    with pytest.raises(ValueError, match=r"max_preauth_bytes=999"):
        await attacked(serve(), max_preauth_bytes=999)


# Where the gate is broken -------------------------------------------------------------------------------------------


class Unguarded(WebSocketHandler):
    """Has no mixin, and says what the protocol says all the same."""

    def on_message(self, message):
        first = not hasattr(self, "greeted")
        self.greeted = True
        self.write_message({"type": "auth_ok"} if first else message)


def breach(text: str) -> Any:
    return pytest.raises(GateBreach, match=re.escape(text))


@pytest.mark.gen_test
async def test_a_handler_without_the_mixin_is_found_out(serve):
    with breach("no_token: the handshake was answered with 101 instead of 401"):
        await attacked(serve(Unguarded, auth=guarded()))


@pytest.mark.gen_test
async def test_a_handler_that_greets_without_asking_is_found_out(serve):
    class Greets(WebSocketHandler):
        def open(self):
            self.write_message("hello")

    with breach("the honest client: the attacker received a data frame (opcode 1): b'hello'"):
        await attacked(serve(Greets, auth=guarded()))


@pytest.mark.gen_test
async def test_a_token_that_can_be_spent_twice_is_found_out(serve):
    with breach("spent_token: the handshake was answered with 101 instead of 401"):
        await attacked(serve(Answers, auth=guarded(single_use=False)))


@pytest.mark.gen_test
async def test_a_gate_that_lets_frames_through_is_found_out(serve, monkeypatch):
    def frame(self, message):
        return DELIVER if self.state is OPEN or not message.startswith("{") else unbroken(self, message)

    unbroken = Gate.frame
    monkeypatch.setattr(Gate, "frame", frame)
    monkeypatch.setattr(guard.wire, "take_over", take_over_but_let_write)
    with breach("message_behind_the_request: the attacker received a data frame (opcode 1): b'hello'"):
        await attacked(serve(Answers, auth=guarded()))


def take_over_but_let_write(handler, delegate):
    connection = handler.ws_connection
    connection.handler = delegate
    return connection


@pytest.mark.gen_test
async def test_a_gate_that_takes_any_users_jwt_is_found_out(serve, monkeypatch):
    unbroken = Gate.identified
    monkeypatch.setattr(Gate, "identified", lambda self, user_id: unbroken(self, self.user_id))
    with breach("jwt_of_another_user: the attacker received a data frame"):
        await attacked(serve(Answers, auth=guarded()))


@pytest.mark.gen_test
async def test_a_verifier_that_looks_at_no_signature_is_found_out(serve, monkeypatch):
    async def verify(self, token):
        return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))

    server = serve(Answers, auth=guarded())
    monkeypatch.setattr(type(server.auth.jwt), "verify", verify)
    with pytest.raises(GateBreach, match=r"^(expired_jwt|forged_jwt|bad_jwt_then_good): "):
        await attacked(server)


@pytest.mark.gen_test
async def test_a_handler_that_answers_twice_is_found_out(serve):
    class Twice(Answers):
        def on_message(self, message):
            super().on_message(message)
            super().on_message(message)

    with breach("no attack yet: the honest client beside it noticed: its message was answered 2 times"):
        await attacked(serve(Twice, auth=guarded()))


@pytest.mark.gen_test
async def test_a_server_that_cuts_others_off_is_found_out(serve):
    class Alone(Answers):
        def on_auth_failed(self, reason):
            for handler in self.settings["wsauth"].connections:
                handler.close(4000)

    with breach("no_token: the honest client beside it noticed: it was closed"):
        await attacked(serve(Alone, auth=guarded()))


@pytest.mark.gen_test
async def test_a_server_that_stops_serving_others_is_found_out(serve):
    class Silent(Answers):
        failed = False

        def on_auth_failed(self, reason):
            type(self).failed = True

        def on_message(self, message):
            if not self.failed:
                super().on_message(message)

    with breach("no_token: the honest client beside it is not served any more"):
        await attacked(serve(Silent, auth=guarded()), patience=3)


@pytest.mark.gen_test
async def test_a_limit_that_is_larger_than_said_is_found_out(serve):
    with pytest.raises(GateBreach, match=r"^too_large: the attacker received a data frame.*auth_ok"):
        await attacked(serve(Answers, auth=make_auth(max_preauth_bytes=100_000)))


@pytest.mark.gen_test
async def test_a_token_burnt_by_a_bad_handshake_is_found_out(serve, monkeypatch):
    monkeypatch.setattr("tornado_wsauth.handshake._malformed", lambda headers: None)
    with pytest.raises(GateBreach, match=r"^bad_handshake: "):
        await attacked(serve(Answers, auth=guarded()))


@pytest.mark.gen_test
async def test_a_server_that_waits_for_ever_is_found_out(serve, monkeypatch):
    monkeypatch.setattr(guard.Guard, "_hang_up", lambda self, close, detail="": None)
    with breach("message_behind_the_request: what must come did not come within 3 s"):
        await attacked(serve(Answers, auth=guarded()), patience=3)
