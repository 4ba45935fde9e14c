"""The application is asked, again and again, whether a session may go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.fanout import Prompt, complaints
from tests.lifetimes import Timed, is_served
from tests.support import AppError, jwt_message, settle, until
from tornado_wsauth import AuthSession, ConfigurationError, JWTVerifier, WSAuth
from tornado_wsauth import lifetime as lifetime_module


class Asked:
    """A ``still_valid`` that remembers whom it was asked about, and says what ``answers`` says of that user."""

    def __init__(self, asynchronous: bool = True, **answers: Any) -> None:
        self.sessions: list[AuthSession] = []
        self.answers = answers
        self.asynchronous = asynchronous

    def __call__(self, session: AuthSession) -> Any:
        self.sessions.append(session)
        return self._later(session) if self.asynchronous else self._now(session)

    def _now(self, session: AuthSession) -> Any:
        answer = self.answers.get(session.user_id, True)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _later(self, session: AuthSession) -> Any:
        await asyncio.sleep(0)
        answer = self._now(session)
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return True
        return answer

    @property
    def users(self) -> list[str]:
        return [session.user_id for session in self.sessions]


@pytest.fixture
def timed(serve: Any, connect: Any, caplog: pytest.LogCaptureFixture) -> Callable[..., Timed]:
    caplog.set_level(logging.DEBUG)

    def make(still_valid: Any, handler: type = Prompt, **options: Any) -> Timed:
        options.setdefault("expiry_warning", 0)
        return Timed(serve, connect, handler, still_valid=still_valid, **options)

    return make


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("interval", [60, 45])
async def test_each_session_is_asked_about_once_in_each_interval_of_its_own(timed, asynchronous, interval):  # A25
    asked = Asked(asynchronous)
    server = timed(asked, recheck_interval=interval)
    alice = await server.enter(9000)
    server.clock.advance(20)
    bob = await server.enter(9000, "bob")
    server.clock.advance(interval - 20.001)
    await settle()
    assert asked.users == []
    for _ in range(3):
        server.clock.advance(0.001)
        await settle()
        assert asked.users == ["alice"]
        server.clock.advance(20 - 0.002)
        await settle()
        assert asked.users == ["alice"]
        server.clock.advance(0.002)
        await settle()
        assert asked.users == ["alice", "bob"]
        asked.sessions.clear()
        server.clock.advance(interval - 20.001)
    assert await is_served(alice)
    assert await is_served(bob)


@pytest.mark.gen_test
@pytest.mark.parametrize("enforce", [True, False])
async def test_asking_goes_on_beside_the_expiry_and_after_a_refresh(timed, enforce):  # A25, A24
    asked = Asked()
    server = timed(asked, expiry_warning=30, enforce_expiry=enforce)
    client = await server.enter(100)
    server.clock.advance(60)
    await settle()
    assert asked.sessions == [server.session()]
    assert await server.refresh(client, 100) == {
        "type": "auth_ok",
        "user_id": "alice",
        "expires_at": server.clock.now + 100,
    }
    server.clock.advance(60)
    await settle()
    assert asked.users == ["alice"] * 2
    if enforce:
        server.clock.advance(10)
        assert await client.read_json() == {"type": "auth_expiring", "expires_in": 30}
        server.clock.advance(30)
        assert await client.read_close() == (4401, "jwt_expired")
    else:
        server.clock.advance(60)
        await settle()
        assert asked.users == ["alice"] * 3


@pytest.mark.gen_test
async def test_a_refresh_does_not_put_off_the_next_question(timed):  # A25
    asked = Asked()
    server = timed(asked)
    client = await server.enter(100)
    for _ in range(2):
        server.clock.advance(50)
        await server.refresh(client, 100)
    await settle()
    assert asked.users == ["alice"]


# --- no --------------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("no", [False, None, 0, ""])
async def test_a_session_that_is_not_valid_any_more_is_ended_and_others_go_on(timed, logged, caplog, asynchronous, no):
    # A25, A39
    server = timed(Asked(asynchronous, alice=no))
    alice, bob = await server.enter(9000), await server.enter(9000, "bob")
    server.clock.advance(60)
    assert await alice.read_close() == (4403, "revoked")
    assert await is_served(bob)
    assert logged.events[2:] == [("closed", "revoked", "alice", 4403)]
    assert complaints(caplog) == []


@pytest.mark.gen_test
async def test_a_session_that_has_ended_is_not_asked_about_again(timed):  # A25
    asked = Asked(alice=False)
    server = timed(asked)
    await server.enter(9000)
    bob = await server.enter(9000, "bob")
    server.clock.advance(60)
    await until(lambda: len(server.auth.connections) == 1)
    bob.abort()
    await server.gone()
    assert server.clock.timers == []
    server.clock.advance(600)
    await settle()
    assert sorted(asked.users) == ["alice", "bob"]


@pytest.mark.gen_test
async def test_an_answer_that_comes_when_the_session_has_ended_changes_nothing(timed, logged, caplog):  # A25
    answer = asyncio.Event()

    async def still_valid(session: AuthSession) -> bool:
        await answer.wait()
        return False

    server = timed(still_valid)
    client = await server.enter(90)
    server.clock.advance(60)
    await settle()
    server.clock.advance(30)
    assert await client.read_close() == (4401, "jwt_expired")
    answer.set()
    await settle()
    assert [reason for _, reason, *_ in logged.events] == ["auth_ok", "jwt_expired"]
    assert complaints(caplog) == []


@pytest.mark.gen_test
async def test_a_session_that_ends_itself_while_it_is_asked_about_ends_once(timed, logged):  # A25
    server: Timed

    async def still_valid(session: AuthSession) -> bool:
        await server.auth.disconnect_session(session.session_id)
        return False

    server = timed(still_valid)
    client = await server.enter(9000)
    server.clock.advance(60)
    assert await client.read_close() == (4403, "revoked")
    await settle()
    assert [event for event, *_ in logged.events] == ["accepted", "closed"]
    assert logged.errors == []


# --- no answer -------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("error", [AppError("x"), asyncio.CancelledError(), TimeoutError()], ids=repr)
async def test_without_an_answer_a_session_ends_with_1011_and_one_traceback(timed, logged, asynchronous, error):  # A25
    server = timed(Asked(asynchronous, alice=error))
    alice, bob = await server.enter(9000), await server.enter(9000, "bob")
    server.clock.advance(60)
    await settle()
    assert [handler.auth_session.user_id for handler in server.auth.connections] == ["bob"]
    assert await alice.read_close() == (1011, "internal")
    assert await is_served(bob)
    assert [record.exc_info[0] for record in logged.errors] == [type(error)]
    assert "alice" in logged.errors[0].getMessage()
    assert ("closed", "internal", "alice", 1011) in [
        (r.event, r.reason, r.user_id, r.code) for r in logged.records if hasattr(r, "event")
    ]


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_session_that_is_kept_without_an_answer_is_asked_about_again(timed, logged, asynchronous):  # A25
    asked = Asked(asynchronous, alice=AppError("x"))
    server = timed(asked, recheck_failure="keep")
    client = await server.enter(9000)
    for number in (1, 2):
        server.clock.advance(60)
        await settle()
        assert asked.users == ["alice"] * number
        assert [record.exc_info[0] for record in logged.errors] == [AppError] * number
        assert await is_served(client)
    asked.answers["alice"] = False
    server.clock.advance(60)
    assert await client.read_close() == (4403, "revoked")


@pytest.mark.gen_test
@pytest.mark.parametrize("failure", ["close", "keep"])
async def test_an_answer_that_takes_longer_than_the_interval_is_none(timed, logged, failure):  # A25
    never = asyncio.Event()
    server = timed(Asked(alice=never), recheck_interval=0.05, recheck_failure=failure)
    client = await server.enter(9000)
    server.clock.advance(0.05)
    if failure == "close":
        assert await client.read_close() == (1011, "internal")
    else:
        await until(lambda: bool(logged.errors))
        assert await is_served(client)
    assert [record.exc_info[0] for record in logged.errors] == [TimeoutError]


@pytest.mark.gen_test
async def test_a_slow_answer_holds_up_neither_its_own_connection_nor_others(timed, caplog):  # A25
    slow = asyncio.Event()
    asked = Asked(alice=slow, carol=False)
    server = timed(asked)
    alice, bob = await server.enter(9000), await server.enter(9000, "bob")
    carol = await server.enter(9000, "carol")
    server.clock.advance(60)
    assert await carol.read_close() == (4403, "revoked")
    assert await is_served(alice)
    assert await is_served(bob)
    assert server.auth.connections.broadcast("news").sent == 2
    slow.set()
    await settle()
    assert [(await client.read_frame())[1] for client in (alice, bob)] == [b"news"] * 2
    assert complaints(caplog) == []


@pytest.mark.gen_test
async def test_while_nobody_answers_the_questions_do_not_pile_up(timed, monkeypatch):  # A25
    monkeypatch.setattr(lifetime_module, "RECHECKS_AT_ONCE", 1)
    never = asyncio.Event()
    asked = Asked(alice=never, bob=never)
    server = timed(asked, recheck_failure="keep")
    await server.enter(9000)
    await server.enter(9000, "bob")
    before = len(asyncio.all_tasks())
    for _ in range(10):
        server.clock.advance(60)
        await settle()
    open_questions = len(asyncio.all_tasks()) - before
    never.set()
    await until(lambda: len(asyncio.all_tasks()) == before)
    assert set(asked.users) == {"alice", "bob"}
    assert open_questions <= 2


@pytest.mark.gen_test
async def test_no_more_than_so_many_are_asked_about_at_once(timed, monkeypatch):  # A25
    monkeypatch.setattr(lifetime_module, "RECHECKS_AT_ONCE", 2)
    running: list[int] = []
    most = 0

    async def still_valid(session: AuthSession) -> bool:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        await settle()
        running.pop()
        return True

    server = timed(still_valid)
    clients = [await server.enter(9000, f"user {number}") for number in range(5)]
    server.clock.advance(60)
    await until(lambda: most > 0 and not running)
    assert most == 2
    assert len(server.auth.connections) == len(clients)


@pytest.mark.gen_test
async def test_one_that_ends_while_it_waits_for_its_turn_is_not_asked_about(timed, monkeypatch):  # A25
    monkeypatch.setattr(lifetime_module, "RECHECKS_AT_ONCE", 1)
    slow = asyncio.Event()
    asked = Asked(alice=slow)
    server = timed(asked)
    await server.enter(9000)
    server.clock.advance(1)
    await server.enter(9000, "bob")
    server.clock.advance(60)
    await settle()
    await server.auth.disconnect_user("bob")
    slow.set()
    await settle()
    assert asked.users == ["alice"]


@pytest.mark.gen_test
async def test_closing_the_library_ends_a_question_that_is_open_and_leaves_nothing_in_the_log(timed, caplog):  # A25
    asked: list[str] = []

    async def still_valid(session: AuthSession) -> bool:
        asked.append("asked")
        try:
            await asyncio.Event().wait()
        finally:
            asked.append("ended")
        return True

    server = timed(still_valid)
    client = await server.enter(9000)
    server.clock.advance(60)
    await until(lambda: asked == ["asked"])
    await server.auth.close(grace=0)
    await until(lambda: asked == ["asked", "ended"])
    assert await client.read_close() == (1012, "restart")
    await client.close()
    await server.gone()
    assert complaints(caplog) == []


@pytest.mark.gen_test
async def test_a_connection_that_is_not_authenticated_yet_is_not_asked_about(timed, connect):  # A25
    asked = Asked()
    server = timed(asked, auth_timeout=100)
    client, _ = await connect(server.server)
    server.clock.advance(70)
    await settle()
    assert asked.users == []
    client.send_text(jwt_message(server.jwt(9000)))
    assert (await client.read_json())["type"] == "auth_ok"
    server.clock.advance(59.9)
    await settle()
    assert asked.users == []
    server.clock.advance(0.1)
    await settle()
    assert asked.users == ["alice"]


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("still_valid", True),
        ("still_valid", "f"),
        ("recheck_interval", 0),
        ("recheck_interval", -1),
        ("recheck_interval", float("nan")),
        ("recheck_interval", float("inf")),
        ("recheck_interval", None),
        ("recheck_interval", "60"),
        ("recheck_failure", "open"),
        ("recheck_failure", None),
    ],
)
def test_an_option_that_cannot_be_right_is_refused_by_its_name(option, value):
    options = {"still_valid": lambda session: True, option: value}
    with pytest.raises(ConfigurationError, match=option):
        WSAuth(JWTVerifier("k" * 32, algorithms=["HS256"]), **options)
