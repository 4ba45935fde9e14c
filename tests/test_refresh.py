"""Another JWT of the same user keeps a live connection going; any other ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from tests.fanout import Prompt
from tests.lifetimes import HeldVerifier, Timed, is_served
from tests.support import TEXT, frame, jwt_message, settle, ticks, until
from tornado_wsauth import FanOut

ACCEPTED = ("accepted", "auth_ok", "alice", None)
REFRESHED = ("accepted", "refreshed", "alice", None)


# --- what a new JWT changes, and what it leaves ----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_refresh_is_answered_like_the_first_jwt_and_the_application_does_not_see_it(serve, connect, check):
    # A24, A39
    class Chat(Prompt):
        pass

    timed = Timed(serve, connect, Chat)
    client = await timed.enter(60)
    exp = timed.clock.now + 900
    assert await timed.refresh(client, 900) == {"type": "auth_ok", "user_id": "alice", "expires_at": exp}
    assert await is_served(client)
    assert Chat.events == ["open", "still there?"]
    check(ACCEPTED, REFRESHED)


@pytest.mark.gen_test
async def test_a_refresh_keeps_the_session_its_groups_its_tickers_and_its_place(serve, connect):  # A24
    timed = Timed(serve, connect)
    client = await timed.enter(60, role="old", sid="login 1")
    await timed.enter(60, "bob")
    session, order = timed.session(), list(timed.auth.connections)
    ticked: list[int] = []
    session.join("red")
    session.call_every(lambda: ticked.append(1), 2)
    await timed.refresh(client, 900, role="new", sid="login 2")
    assert timed.session() is session
    assert list(timed.auth.connections) == order
    assert (session.groups, session.user_id) == ({"red"}, "alice")
    assert (session.claims["role"], session.expires_at) == ("new", timed.clock.now + 900)
    assert session.session_id == "login 2"
    ticked.clear()
    await ticks(2)
    assert ticked
    assert timed.auth.connections.broadcast("news", group="red") == FanOut(1, 0, 0)
    assert await client.read_frame() == (TEXT, b"news")


@pytest.mark.gen_test
@pytest.mark.parametrize("before", [{}, {"sid": "login 1"}])
async def test_a_refresh_without_a_sid_leaves_the_session_id_as_it_was(serve, connect, before):  # A24
    timed = Timed(serve, connect)
    client = await timed.enter(60, **before)
    session_id = timed.session().session_id
    await timed.refresh(client, 900)
    assert timed.session().session_id == session_id


@pytest.mark.gen_test
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_load_auth_user_decides_again_and_its_answer_is_the_current_user(serve, connect, asynchronous):  # A24
    class Chat(Prompt):
        def load_auth_user(self, claims: dict[str, Any]) -> Any:
            async def answer() -> Any:
                await asyncio.sleep(0)
                return claims["role"]

            return answer() if asynchronous else claims["role"]

    timed = Timed(serve, connect, Chat)
    client = await timed.enter(60, role="guest")
    (handler,) = timed.auth.connections
    assert handler.current_user == "guest"
    await timed.refresh(client, 900, role="admin")
    assert handler.current_user == "admin"


@pytest.mark.gen_test
async def test_with_the_new_jwt_the_old_expiry_and_its_warning_are_gone_and_the_new_ones_come(serve, connect):  # A24
    timed = Timed(serve, connect)
    client = await timed.enter(600)
    timed.clock.advance(500)
    await timed.refresh(client, 300)
    timed.clock.advance(269.9)
    assert await is_served(client)
    timed.clock.advance(0.1)
    assert await client.read_json() == {"type": "auth_expiring", "expires_in": 30}
    timed.clock.advance(29.999)
    assert await is_served(client)
    timed.clock.advance(0.001)
    assert await client.read_close() == (4401, "jwt_expired")


@pytest.mark.gen_test
async def test_after_a_warning_each_new_jwt_is_warned_of_again(serve, connect):  # A24
    timed = Timed(serve, connect)
    client = await timed.enter(100)
    for _ in range(3):
        timed.clock.advance(70)
        assert await client.read_json() == {"type": "auth_expiring", "expires_in": 30}
        assert (await timed.refresh(client, 100))["type"] == "auth_ok"
    timed.clock.advance(69)
    assert await is_served(client)


@pytest.mark.gen_test
async def test_a_new_jwt_that_expires_earlier_ends_the_connection_earlier(serve, connect):  # A24
    timed = Timed(serve, connect, expiry_warning=0)
    client = await timed.enter(600)
    await timed.refresh(client, 40)
    timed.clock.advance(39.999)
    assert await is_served(client)
    timed.clock.advance(0.001)
    assert await client.read_close() == (4401, "jwt_expired")


@pytest.mark.gen_test
async def test_sessions_that_do_not_enforce_expiry_can_be_renewed_as_well(serve, connect):  # A24
    timed = Timed(serve, connect, enforce_expiry=False)
    client = await timed.enter(60, role="old")
    timed.clock.advance(500)
    assert (await timed.refresh(client, 60, role="new"))["type"] == "auth_ok"
    assert timed.session().claims["role"] == "new"
    assert timed.clock.timers == []
    timed.clock.advance(500)
    assert await is_served(client)


# --- what comes meanwhile --------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_messages_in_the_same_segment_are_handled_in_order_and_after_the_refresh(serve, connect):  # A24
    class Chat(Prompt):
        async def load_auth_user(self, claims: dict[str, Any]) -> Any:
            await asyncio.sleep(0.002)
            return claims["role"]

        def on_message(self, message: str | bytes) -> None:
            self.events.append((message, self.current_user))
            super().on_message(message)

    timed = Timed(serve, connect, Chat)
    client = await timed.enter(60, role="old")
    texts = ["one", jwt_message(timed.jwt(900, role="new")), "two", jwt_message(timed.jwt(901, role="newer")), "three"]
    client.send(b"".join(frame(text.encode()) for text in texts))
    received = [(await client.read_frame())[1] for _ in range(5)]
    assert [json.loads(text)["type"] if b"{" in text else text for text in received] == [
        b"one",
        "auth_ok",
        b"two",
        "auth_ok",
        b"three",
    ]
    assert [event for event in Chat.events if isinstance(event, tuple)] == [
        ("one", "old"),
        ("two", "new"),
        ("three", "newer"),
    ]


@pytest.mark.gen_test
async def test_a_slow_check_holds_up_no_broadcast_and_nobody_else(serve, connect):  # A24
    timed = Timed(serve, connect, verifier=HeldVerifier)
    client, other = await timed.enter(60), await timed.enter(60, "bob")
    client.send_text(jwt_message(timed.verifier.hold(timed.jwt(900))))
    client.send_text("after")
    await timed.verifier.entered.wait()
    assert timed.auth.connections.broadcast("meanwhile") == FanOut(2, 0, 0)
    assert await client.read_frame() == await other.read_frame() == (TEXT, b"meanwhile")
    assert await is_served(other)
    timed.verifier.release.set()
    assert (await client.read_json())["type"] == "auth_ok"
    assert await client.read_frame() == (TEXT, b"after")


@pytest.mark.gen_test
@pytest.mark.parametrize("slow", ["verifier", "load_auth_user"])
async def test_a_check_that_outlasts_the_old_jwt_comes_too_late_and_changes_nothing(serve, connect, logged, slow):
    # A24
    loading, loaded = asyncio.Event(), asyncio.Event()

    class Chat(Prompt):
        async def load_auth_user(self, claims: dict[str, Any]) -> Any:
            if claims["role"] == "new" and slow == "load_auth_user":
                loading.set()
                with contextlib.suppress(asyncio.CancelledError):  # an application that will not be stopped
                    await loaded.wait()
            return claims["role"]

    timed = Timed(serve, connect, Chat, verifier=HeldVerifier, expiry_warning=0)
    client = await timed.enter(60, role="old")
    (handler,) = timed.auth.connections
    session, old_exp = handler.auth_session, handler.auth_session.expires_at
    new = timed.jwt(900, role="new")
    client.send_text(jwt_message(timed.verifier.hold(new) if slow == "verifier" else new))
    client.send_text("after")
    await (loading if slow == "load_auth_user" else timed.verifier.entered).wait()
    timed.clock.advance(60)
    assert len(timed.auth.connections) == 0
    loaded.set()
    timed.verifier.release.set()
    assert await client.read_close() == (4401, "jwt_expired")
    await client.close()
    await until(lambda: "close" in Chat.events)
    await settle()
    assert Chat.events == ["open", "close"]
    assert (session.claims["role"], session.expires_at, handler.current_user) == ("old", old_exp, "old")
    assert logged.events == [ACCEPTED, ("closed", "jwt_expired", "alice", 4401)]
    assert (timed.clock.timers, logged.errors) == ([], [])


@pytest.mark.gen_test
@pytest.mark.parametrize("end", ["expiry", "revocation"])
async def test_a_check_that_hangs_is_given_up_when_its_connection_ends(serve, connect, logged, end):  # A24, A25
    events: list[str] = []

    class Chat(Prompt):
        async def load_auth_user(self, claims: dict[str, Any]) -> Any:
            if claims["role"] == "old":
                return "alice"
            events.append("asked")
            try:
                await asyncio.Event().wait()
            finally:
                events.append("given up")

    timed = Timed(serve, connect, Chat, expiry_warning=0)
    client = await timed.enter(60, role="old")
    client.send_text(jwt_message(timed.jwt(900, role="new")))
    await until(lambda: events == ["asked"])
    if end == "expiry":
        timed.clock.advance(60)
    else:
        await timed.auth.disconnect_user("alice")
    await settle()
    assert events == ["asked", "given up"]
    assert (await client.read_close())[0] == (4401 if end == "expiry" else 4403)
    assert logged.errors == []


@pytest.mark.gen_test
async def test_a_check_that_ends_after_the_old_exp_is_too_late_though_no_timer_has_fired(serve, connect):  # A24
    timed = Timed(serve, connect, verifier=HeldVerifier, expiry_warning=0)
    client = await timed.enter(60)
    client.send_text(jwt_message(timed.verifier.hold(timed.jwt(900))))
    await timed.verifier.entered.wait()
    timed.clock.now += 60
    timed.verifier.release.set()
    assert await client.read_close() == (4401, "jwt_expired")


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_its_new_jwt_is_checked_leaves_nothing_behind(serve, connect, logged):  # A24
    timed = Timed(serve, connect, verifier=HeldVerifier)
    client = await timed.enter(60)
    client.send_text(jwt_message(timed.verifier.hold(timed.jwt(900))))
    await timed.verifier.entered.wait()
    client.abort()
    await settle()
    timed.verifier.release.set()
    await timed.gone()
    await settle()
    assert timed.clock.timers == []
    assert logged.errors == []
    assert logged.events[-1][0] == "closed"


@pytest.mark.gen_test
async def test_a_refresh_before_open_has_run_waits_for_it_and_counts(serve, connect):  # A24
    opening, opened = asyncio.Event(), asyncio.Event()

    class Slow(Prompt):
        async def open(self, *args: str, **kwargs: str) -> None:
            opening.set()
            await opened.wait()
            super().open()

    timed = Timed(serve, connect, Slow)
    client, _ = await connect(timed.server)
    client.send_text(jwt_message(timed.jwt(60)))
    client.send_text(jwt_message(timed.jwt(900)))
    client.send_text("after")
    assert (await client.read_json())["expires_at"] == timed.clock.now + 60
    await opening.wait()
    opened.set()
    assert (await client.read_json())["expires_at"] == timed.clock.now + 900
    assert await client.read_frame() == (TEXT, b"after")
    assert Slow.events == ["open", "after"]
