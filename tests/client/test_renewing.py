"""A fresh JWT on the live connection."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.client.kit import Client, Scripted
from tests.lifetimes import Timed
from tests.support import Echo, make_jwt, settle, until
from tornado_wsauth.client import LoggedOut, Stopped, TryLater
from tornado_wsauth.errors import ConfigurationError

EXPIRING = '{"type": "auth_expiring", "expires_in": 30}'


class Other(Scripted):
    pass


@pytest.fixture
def other(serve, client):
    """Connect to a scripted server: ``one = await other(**options)``."""
    Other.script, Other.heard, Other.arguments, Other.live = [], [], [], []

    async def connected(**options: Any) -> Client:
        one = client(serve(Echo, routes=[(r"/other", Other)]), "/other", **options)
        await one.connection
        return one

    return connected


def answer(user: str = "alice", expires_at: int = 2_000_000_900) -> None:
    Other.live[-1].write_message({"type": "auth_ok", "user_id": user, "expires_at": expires_at})


@pytest.mark.gen_test
async def test_a_jwt_that_is_about_to_expire_is_renewed_and_the_connection_stays(serve, connect, client):
    timed = Timed(serve, connect)
    one = client(timed.server, jwt=lambda: timed.jwt(100))
    await one.connection
    (handler,) = timed.auth.connections
    for number in range(1, 4):
        before = one.connection.expires_at
        timed.clock.advance(70)
        await until(lambda number=number: one.steps.count("renewed") == number)
        assert one.connection.expires_at == before + 70
    await one.connection.send("hello")
    assert await one.connection.recv() == "hello"
    assert (list(timed.auth.connections), one.closes) == ([handler], [])


@pytest.mark.gen_test
async def test_renew_is_done_at_auth_ok_and_not_before(other):
    one = await other()
    renewing = asyncio.ensure_future(one.connection.renew())
    await until(lambda: len(Other.heard) == 2)
    assert json.loads(Other.heard[1]) == {"type": "jwt", "token": one.jwts[1]}
    Other.live[0].write_message("meanwhile")
    assert await one.connection.recv() == "meanwhile"
    assert not renewing.done()
    answer()
    await renewing
    assert (one.connection.expires_at, one.connection.state) == (2_000_000_900, "ready")


@pytest.mark.gen_test
async def test_renewals_at_the_same_time_are_one(other):
    one = await other()
    renewing = [asyncio.ensure_future(one.connection.renew()) for _ in range(3)]
    for _ in range(3):
        await Other.live[0].write_message(EXPIRING)
    await Other.live[0].write_message("after")
    assert await one.connection.recv() == "after"
    await until(lambda: len(Other.heard) == 2)
    answer()
    await asyncio.gather(*renewing)
    await settle()
    assert (len(one.jwts), len(Other.heard), one.steps.count("renewed")) == (2, 2, 1)


@pytest.mark.gen_test
async def test_one_who_gives_up_waiting_for_a_renewal_does_not_end_it_for_the_others(other):
    one = await other()
    impatient, patient = (asyncio.ensure_future(one.connection.renew()) for _ in range(2))
    await until(lambda: len(Other.heard) == 2)
    impatient.cancel()
    await settle()
    assert impatient.cancelled()
    answer()
    await patient


@pytest.mark.gen_test
async def test_an_auth_ok_of_another_user_or_without_need_is_the_applications(other):
    one = await other()
    answer()
    assert json.loads(await one.connection.recv())["type"] == "auth_ok"
    renewing = asyncio.ensure_future(one.connection.renew())
    await until(lambda: len(Other.heard) == 2)
    answer("mallory")
    assert json.loads(await one.connection.recv())["user_id"] == "mallory"
    assert (renewing.done(), one.connection.user_id) == (False, "alice")
    answer()
    await renewing
    answer()
    assert json.loads(await one.connection.recv())["type"] == "auth_ok"


@pytest.mark.gen_test
async def test_a_failed_fetch_is_tried_again_with_backoff_while_the_connection_lives(other):
    answers: list[Any] = [make_jwt(), OSError("no"), OSError("no"), TryLater("busy", 60), make_jwt()]

    def jwt() -> str:
        value = answers.pop(0)
        if isinstance(value, Exception):
            raise value
        return value

    one = await other(jwt=jwt, get_token=lambda jwt: "token")
    await Other.live[0].write_message(EXPIRING)
    await until(lambda: len(Other.heard) == 2)
    assert one.seams.pauses == [1, 2, 64]
    answer()
    await until(lambda: "renewed" in one.steps)
    assert (one.connection.state, one.closes) == ("ready", [])


@pytest.mark.gen_test
async def test_one_who_turns_out_to_be_logged_out_at_a_renewal_is_disconnected(other):
    asked = []

    def jwt() -> str:
        asked.append(1)
        if len(asked) > 1:
            raise LoggedOut("gone")
        return make_jwt()

    one = await other(jwt=jwt, get_token=lambda jwt: "token")
    await Other.live[0].write_message(EXPIRING)
    await until(lambda: one.connection.state == "stopped")
    assert one.ends == [(None, "jwt_unavailable", "stop")]
    assert (len(asked), one.seams.pauses, one.closes[0].during) == (2, [], "ready")


@pytest.mark.gen_test
async def test_retries_of_a_renewal_end_with_the_connection(other):
    answers = [make_jwt(), None, make_jwt()]
    one = await other(jwt=lambda: answers.pop(0), get_token=token_source())
    one.seams.holds_pauses = True
    await Other.live[0].write_message(EXPIRING)
    await until(lambda: len(one.seams.pauses) == 1)
    Other.live[0].close(1012)
    await until(lambda: one.connection.state == "waiting")
    one.connection.retry_now()
    await until(lambda: one.connection.state == "ready")
    await settle()
    assert (len(Other.heard), one.steps.count("renew")) == (2, 1)


def token_source() -> Any:
    tokens = iter("abcdefgh")
    return lambda jwt: next(tokens)


@pytest.mark.gen_test
async def test_a_renewal_without_an_answer_ends_the_connection_and_another_one_follows(other):
    one = await other()
    renewing = asyncio.ensure_future(one.connection.renew())
    await until(lambda: len(Other.heard) == 2)
    one.seams.expire()
    await renewing  # the auth_ok of the next one will do
    assert one.ends == [(None, "timeout", "retry")]
    assert (one.closes[0].during, one.steps.count("ready"), len(one.jwts)) == ("ready", 2, 3)


@pytest.mark.gen_test
async def test_an_answer_that_a_full_queue_hides_is_waited_for(other):
    one = await other(max_queue=1)
    for text in ("one", "two", "three"):
        await Other.live[0].write_message(text)
    await until(lambda: one.connection._inbox.is_full)
    renewing = asyncio.ensure_future(one.connection.renew())
    await until(lambda: len(Other.heard) == 2)
    answer()
    await settle()
    one.seams.expire()
    await settle()
    assert not renewing.done()
    assert [await one.connection.recv() for _ in range(3)] == ["one", "two", "three"]
    await renewing
    assert one.closes == []


@pytest.mark.gen_test
async def test_a_jwt_that_is_not_accepted_ends_the_connection_as_the_first_would_have(other):
    one = await other(retries=0)
    renewing = asyncio.ensure_future(one.connection.renew())
    await until(lambda: len(Other.heard) == 2)
    Other.live[0].close(4403, "user_mismatch")
    with pytest.raises(Stopped):
        await renewing
    assert one.ends == [(4403, "user_mismatch", "stop")]


@pytest.mark.gen_test
async def test_with_a_jwt_that_is_a_text_there_is_nothing_to_renew_with(other):
    one = await other(jwt=make_jwt())
    with pytest.raises(ConfigurationError, match="give connect"):
        await one.connection.renew()
    await Other.live[0].write_message(EXPIRING)
    await Other.live[0].write_message("after")
    assert await one.connection.recv() == "after"
    await settle()
    assert (len(Other.heard), "renew" in one.steps) == (1, False)


@pytest.mark.gen_test
async def test_renew_while_it_waits_is_done_at_the_next_auth_ok(other):
    one = await other()
    one.seams.holds_pauses = True
    Other.live[0].close(1012)
    await until(lambda: one.connection.state == "waiting")
    renewing = asyncio.ensure_future(one.connection.renew())
    await settle()
    assert not renewing.done()
    one.connection.retry_now()
    await renewing
    assert (len(one.jwts), "renew" in one.steps) == (2, False)
    await one.connection.close()
    with pytest.raises(Stopped):
        await one.connection.renew()


@pytest.mark.gen_test
async def test_a_renewal_that_cannot_be_had_raises_what_the_function_raised(other):
    answers: list[Any] = [make_jwt()]
    one = await other(jwt=lambda: answers.pop(), get_token=lambda jwt: "token")
    with pytest.raises(IndexError):
        await one.connection.renew()
    assert one.connection.state == "ready"
