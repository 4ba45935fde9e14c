"""Before its JWT expires, a client is told, once."""

from __future__ import annotations

import json
import logging

import pytest

from tests.fanout import Narrow, clog, complaints, handler_of, queued, slice_by, stall
from tests.lifetimes import Timed, is_served
from tests.support import jwt_message, settle, until
from tornado_wsauth import ConfigurationError, JWTVerifier, WSAuth


@pytest.mark.gen_test
@pytest.mark.parametrize("leeway", [0, 20])
@pytest.mark.parametrize("warning", [30, 60])
async def test_the_warning_comes_once_and_as_long_before_the_close_as_it_is_told_to(serve, connect, leeway, warning):
    # A24
    timed = Timed(serve, connect, leeway=leeway, expiry_warning=warning)
    client = await timed.enter(600)
    timed.clock.advance(600 + leeway - warning - 0.001)
    assert await is_served(client)
    timed.clock.advance(0.001)
    assert await client.read_json() == {"type": "auth_expiring", "expires_in": warning}
    timed.clock.advance(warning - 0.001)
    assert await is_served(client)
    timed.clock.advance(0.001)
    assert await client.read_close() == (4401, "jwt_expired")


@pytest.mark.gen_test
@pytest.mark.parametrize("life", [60, 59, 40, 10, 2])
async def test_a_short_jwt_is_warned_of_at_half_of_its_life(serve, connect, life):  # A24
    timed = Timed(serve, connect)
    client = await timed.enter(life)
    timed.clock.advance(life / 2 - 0.001)
    assert await is_served(client)
    timed.clock.advance(0.001)
    warning = await client.read_json()
    assert warning["type"] == "auth_expiring"
    assert abs(warning["expires_in"] - life / 2) <= 0.5
    assert isinstance(warning["expires_in"], int)
    timed.clock.advance(life / 2 - 0.001)
    assert await is_served(client)
    timed.clock.advance(0.001)
    assert await client.read_close() == (4401, "jwt_expired")


@pytest.mark.gen_test
async def test_a_jwt_that_is_old_when_it_is_accepted_is_warned_of_at_half_of_what_is_left(serve, connect):  # A24
    timed = Timed(serve, connect)
    token = timed.jwt(600)
    timed.clock.advance(580)
    client, _ = await connect(timed.server)
    client.send_text(jwt_message(token))
    await client.read_json()
    timed.clock.advance(9.99)
    assert await is_served(client)
    timed.clock.advance(0.01)
    assert await client.read_json() == {"type": "auth_expiring", "expires_in": 10}


@pytest.mark.gen_test
async def test_a_late_warning_tells_the_seconds_that_are_left(serve, connect):  # A24
    timed = Timed(serve, connect)
    client = await timed.enter(600)
    timed.clock.now += 588
    timed.clock.advance(0)
    assert await client.read_json() == {"type": "auth_expiring", "expires_in": 12}


@pytest.mark.gen_test
async def test_a_clock_that_jumps_over_both_closes_without_a_warning_that_is_no_longer_true(serve, connect):  # A24
    timed = Timed(serve, connect)
    client = await timed.enter(600)
    timed.clock.now += 700
    timed.clock.advance(0)
    assert await client.read_close() == (4401, "jwt_expired")


@pytest.mark.gen_test
async def test_without_a_warning_nothing_comes_before_the_close(serve, connect):  # A24
    timed = Timed(serve, connect, expiry_warning=0)
    client = await timed.enter(600)
    timed.clock.advance(600)
    assert await client.read_close() == (4401, "jwt_expired")


@pytest.mark.gen_test
async def test_the_warning_stands_in_line_with_the_broadcasts_around_it(serve, connect, monkeypatch):  # A24, A33
    slice_by(monkeypatch)
    timed = Timed(serve, connect)
    for number in range(3):
        await timed.enter(9000, f"user {number}")
    client = await timed.enter(600)
    timed.auth.connections.broadcast("before")
    timed.clock.advance(570)
    timed.auth.connections.broadcast("after")
    texts = [(await client.read_frame())[1] for _ in range(3)]
    assert texts[::2] == [b"before", b"after"]
    assert json.loads(texts[1]) == {"type": "auth_expiring", "expires_in": 30}


@pytest.mark.gen_test
async def test_a_warning_to_a_client_that_has_just_gone_disturbs_nobody(serve, connect, caplog):  # A24
    caplog.set_level(logging.DEBUG)
    timed = Timed(serve, connect)
    gone = await timed.enter(600)
    stays = await timed.enter(600, "bob")
    gone.abort()
    timed.clock.advance(570)
    assert await stays.read_json() == {"type": "auth_expiring", "expires_in": 30}
    await until(lambda: len(timed.auth.connections) == 1)
    timed.clock.advance(30)
    assert await stays.read_close() == (4401, "jwt_expired")
    assert complaints(caplog) == []


@pytest.mark.gen_test
async def test_a_reader_who_is_too_slow_for_the_warning_is_ended_and_forgotten_at_once(serve, connect):  # A24
    timed = Timed(serve, connect, Narrow, max_buffer_bytes=300_000)
    client = await timed.enter(600, "slow")
    stall(client)
    await clog(timed.server, "slow")
    handler = handler_of(timed.server, "slow")
    while queued(handler) <= 600_000:
        handler.write_message(b"x" * 16_000)
    timed.clock.advance(570)
    assert len(timed.auth.connections) == 0
    timed.clock.advance(1)  # then it is cut off
    await timed.gone()
    await settle()
    assert timed.clock.timers == []


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "30", None, True, [30]])
def test_a_warning_that_is_no_number_of_seconds_is_refused(value):
    with pytest.raises(ConfigurationError, match=r"expiry_warning"):
        WSAuth(JWTVerifier("k" * 32, algorithms=["HS256"]), expiry_warning=value)


@pytest.mark.parametrize("value", [1, 0, None, "yes"])
def test_an_enforce_expiry_that_is_neither_true_nor_false_is_refused(value):
    with pytest.raises(ConfigurationError, match=r"enforce_expiry"):
        WSAuth(JWTVerifier("k" * 32, algorithms=["HS256"]), enforce_expiry=value)
