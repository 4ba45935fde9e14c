"""What a live connection takes for another JWT, and which of those end it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.fanout import Prompt, complaints
from tests.lifetimes import Timed, frames_until_close
from tests.support import BINARY, SECRET, TEXT, AppError, frame, jwt_message, until

ACCEPTED = ("accepted", "auth_ok", "alice", None)

# --- what is refused -------------------------------------------------------------------------------------------------

BAD = {
    "another user": (lambda timed: timed.jwt(900, "bob"), (4403, "user_mismatch")),
    "another key": (lambda timed: timed.jwt(900, secret=SECRET + "!"), (4401, "jwt_invalid")),
    "no jwt": (lambda timed: "x.y.z", (4401, "jwt_invalid")),
    "no user": (lambda timed: timed.jwt(900, None), (4401, "jwt_invalid")),
    "expired": (lambda timed: timed.jwt(0), (4401, "jwt_expired")),
    "no exp": (lambda timed: timed.jwt(None, exp=None), (4401, "jwt_invalid")),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("name", BAD)
async def test_a_jwt_that_would_not_have_opened_the_connection_ends_it(serve, connect, check, name):  # A24, A22
    class Chat(Prompt):
        pass

    make, (code, reason) = BAD[name]
    timed = Timed(serve, connect, Chat)
    client = await timed.enter(60)
    client.send_text(jwt_message(make(timed)))
    client.send_text("after")
    assert await client.read_close() == (code, reason)
    assert len(timed.auth.connections) == 0
    await client.close()
    await until(lambda: "close" in Chat.events)
    assert Chat.events == ["open", "close"]
    assert timed.clock.timers == []
    check(ACCEPTED, ("closed", reason, "alice", code))


MALFORMED = [
    '{"type":"jwt"}',
    '{"type":"jwt","token":1}',
    '{"type":"jwt","token":""}',
    '{"type":"jwt","token":null}',
    '{"type":"jwt","token":{"a":"b"}}',
    ' { "token" : ["a.b.c"] , "type" : "jwt" } ',
]


@pytest.mark.gen_test
@pytest.mark.parametrize("message", MALFORMED)
async def test_a_refresh_without_a_jwt_to_speak_of_closes_4400(serve, connect, check, message):  # A24
    class Chat(Prompt):
        pass

    timed = Timed(serve, connect, Chat)
    client = await timed.enter(60)
    client.send_text(message)
    assert await client.read_close() == (4400, "bad_message")
    await client.close()
    await timed.gone()
    assert message not in Chat.events
    check(ACCEPTED, ("closed", "bad_message", "alice", 4400))


class Choosy(Prompt):
    """Wants the first JWT, and treats a second one as its ``role`` says."""

    def load_auth_user(self, claims: dict[str, Any]) -> Any:
        if claims["role"] == "raise":
            raise AppError("not this one")
        return {"none": None}.get(claims["role"], claims["role"])


@pytest.mark.gen_test
@pytest.mark.parametrize(("role", "close"), [("none", (4403, "forbidden")), ("raise", (1011, "internal"))])
async def test_a_user_the_application_no_longer_wants_is_turned_away(serve, connect, logged, role, close):  # A24, A18
    timed = Timed(serve, connect, Choosy)
    client = await timed.enter(60, role="good")
    client.send_text(jwt_message(timed.jwt(900, role=role)))
    assert await client.read_close() == close
    await client.close()
    await timed.gone()
    assert logged.events == [ACCEPTED, ("closed", close[1], "alice", close[0])]
    assert [record.exc_info[0] for record in logged.errors] == ([AppError] if role == "raise" else [])


@pytest.mark.gen_test
async def test_a_client_that_refreshes_faster_than_it_may_send_is_ended(serve, connect):  # A24
    timed = Timed(serve, connect, message_rate=(3, 1000))
    client = await timed.enter(60)
    for _ in range(3):
        assert (await timed.refresh(client, 900))["type"] == "auth_ok"
    client.send_text(jwt_message(timed.jwt(900)))
    assert await client.read_close() == (4429, "too_many")


@pytest.mark.gen_test
async def test_a_load_auth_user_that_closes_the_connection_itself_renews_nothing(serve, connect, logged):  # A24
    class Chat(Prompt):
        def load_auth_user(self, claims: dict[str, Any]) -> Any:
            if claims["role"] == "new":
                self.close(4321, "not like this")
            return claims["role"]

    timed = Timed(serve, connect, Chat)
    client = await timed.enter(60, role="old")
    (handler,) = timed.auth.connections
    session = handler.auth_session
    client.send_text(jwt_message(timed.jwt(900, role="new")))
    assert await client.read_close() == (4321, "not like this")
    await client.close()
    await timed.gone()
    await until(lambda: len(logged.events) == 2)
    assert (session.claims["role"], handler.current_user) == ("old", "old")
    assert [event for event, *_ in logged.events] == ["accepted", "closed"]
    assert timed.clock.timers == []


# --- what only looks like one ----------------------------------------------------------------------------------------

THEIRS = [
    'how do I use {"type":"jwt"}?',
    '"jwt"',
    '["jwt"]',
    '[{"type":"jwt","token":"a.b.c"}]',
    '{"chat":{"type":"jwt","token":"a.b.c"}}',
    '{"type":"JWT","token":"a.b.c"}',
    '{"type":["jwt"],"token":"a.b.c"}',
    '{"type":"chat","text":"jwt","token":"a.b.c"}',
    '{"jwt":"a.b.c"}',
    '{"type":"jwt","token":"a.b.c"',
    '{"type":"jwt","type":"jwt","token":"a.b.c"}',
    '{"type":"jwt","token":"a.b.c","token":"a.b.c"}',
    '{"type":"jwt","token":"a.b.c"}{"type":"jwt","token":"a.b.c"}',
    '\ufeff{"type":"jwt","token":"a.b.c"}',
    '{"type":"jwt","x":' + "[" * 10_000,
    '{"type":"jwt","n":' + "9" * 5000 + "}",
    '{"type":"jwt","token":"a.b.c","x":"' + "x" * 16384 + '"}',
]


@pytest.mark.gen_test
@pytest.mark.parametrize("message", THEIRS, ids=range(len(THEIRS)))
async def test_a_message_that_only_mentions_a_jwt_is_the_applications(serve, connect, message):  # A24
    class Chat(Prompt):
        pass

    timed = Timed(serve, connect, Chat)
    client = await timed.enter(60)
    client.send_text(message)
    assert await client.read_frame() == (TEXT, message.encode())
    assert Chat.events == ["open", message]


@pytest.mark.gen_test
async def test_a_binary_message_is_never_a_refresh(serve, connect):  # A24
    timed = Timed(serve, connect)
    client = await timed.enter(60)
    message = jwt_message(timed.jwt(900)).encode()
    client.send(frame(message, BINARY))
    assert await client.read_frame() == (BINARY, message)
    assert timed.session().expires_at == timed.clock.now + 60


@pytest.mark.gen_test
@pytest.mark.parametrize("over", [0, 1])
async def test_the_limit_of_the_first_message_is_the_limit_of_a_refresh(serve, connect, over):  # A24, A17
    timed = Timed(serve, connect, max_preauth_bytes=1000)
    client = await timed.enter(60)
    message = jwt_message(timed.jwt(900)).ljust(1000 + over)
    client.send_text(message)
    _, answer = await client.read_frame()
    assert (answer == message.encode()) is bool(over)
    assert timed.session().expires_at == timed.clock.now + (60 if over else 900)


# --- nowhere to be read ----------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("fault", [None, *BAD, "none", "raise"])
async def test_no_jwt_is_to_be_read_in_a_log_a_close_or_a_repr(serve, connect, caplog, fault):  # A38
    caplog.set_level(logging.DEBUG)
    for name in ("asyncio", "tornado_wsauth", "tornado.application", "tornado.general", "tornado.access"):
        caplog.set_level(logging.DEBUG, name)
    timed = Timed(serve, connect, Choosy)
    client, _ = await connect(timed.server)
    old = timed.jwt(60, role="good")
    new = BAD[fault][0](timed) if fault in BAD else timed.jwt(900, role=fault or "better")
    client.send_text(jwt_message(old))
    await client.read_json()
    (handler,) = timed.auth.connections
    client.send_text(jwt_message(new))
    seen = repr(await frames_until_close(client) if fault else await client.read_json())
    timed.clock.advance(1000)
    await client.close()
    await timed.gone()
    guard = handler._wsauth_guard
    slots = {name: getattr(thing, name, None) for thing in (guard, guard.gate) for name in thing.__slots__}
    shown = [handler, handler.auth_session, guard, vars(handler), slots]
    formatter = logging.Formatter("%(message)s")
    logged = [formatter.format(record) + repr({**vars(record), "exc_info": None}) for record in caplog.records]
    assert len(logged) >= 2
    for text in [seen, *map(repr, shown), *logged]:
        assert [jwt for jwt in (old, new) if jwt in text] == []
        assert old.split(".")[2] not in text
    assert complaints(caplog) == [] or fault == "raise"
