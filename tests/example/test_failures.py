"""The failures that the page provokes."""

from __future__ import annotations

import pytest

from example_app.failures import REASONS
from tests.example.site import how_it_ends, present, read, refused_with, say


@pytest.mark.gen_test
async def test_without_a_token_there_is_no_upgrade(visit):
    assert await refused_with(visit().connect(None)) == 401


@pytest.mark.gen_test
async def test_an_expired_token_opens_nothing(visit):
    site = visit()
    token = await site.token(await site.jwt_of(), "/demo/expired-token")
    assert await refused_with(site.connect(token)) == 401


@pytest.mark.gen_test
async def test_a_token_opens_one_connection_and_no_second(visit):
    site = visit()
    token = await site.token(await site.jwt_of())
    await site.connect(token)
    assert await refused_with(site.connect(token)) == 401


@pytest.mark.gen_test
async def test_a_jwt_with_a_changed_signature_closes_4401(visit):
    site = visit()
    jwt = await site.jwt_of()
    ws = await site.connect(await site.token(jwt))
    head, _, signature = jwt.rpartition(".")
    await present(ws, f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}")
    assert await how_it_ends(ws) == (4401, "jwt_invalid")


@pytest.mark.gen_test
async def test_an_expired_jwt_closes_4401_and_has_no_other_fault(visit):
    site = visit()
    session = await site.log_in()
    ws = await site.connect(await site.token(await site.jwt(session)))
    await present(ws, await site.jwt(session, "/demo/expired-jwt"))
    assert await how_it_ends(ws) == (4401, "jwt_expired")


@pytest.mark.gen_test
async def test_the_jwt_of_another_user_closes_4403(visit):
    site = visit()
    ws = await site.connect(await site.token(await site.jwt_of("alice")))
    await present(ws, await site.jwt_of("bob"))
    assert await how_it_ends(ws) == (4403, "user_mismatch")


@pytest.mark.gen_test
async def test_a_first_message_that_is_no_json_closes_4400(visit):
    site = visit()
    ws = await site.connect(await site.token(await site.jwt_of()))
    await ws.write_message("hello")
    assert await how_it_ends(ws) == (4400, "bad_message")


@pytest.mark.gen_test
async def test_silence_closes_4408(visit):
    site = visit(auth_timeout=0.05)
    ws = await site.connect(await site.token(await site.jwt_of()))
    assert await how_it_ends(ws) == (4408, "auth_timeout")


@pytest.mark.gen_test
async def test_a_lost_connection_ends_without_a_close_frame(visit):
    ws = await visit().enter()
    await say(ws, type="fail", how="lose")
    assert await how_it_ends(ws) == (None, None)


@pytest.mark.gen_test
async def test_an_exception_in_the_handler_closes_1011(visit):
    ws = await visit().enter()
    await say(ws, type="fail", how="error")
    assert await how_it_ends(ws) == (1011, "internal")


@pytest.mark.gen_test
@pytest.mark.parametrize(("code", "reason"), REASONS.items())
async def test_a_code_that_is_asked_for_is_what_the_server_closes_with(visit, code, reason):
    ws = await visit().enter()
    await say(ws, type="fail", how="close", code=code)
    assert await how_it_ends(ws) == (code, reason)


@pytest.mark.gen_test
@pytest.mark.parametrize("wanted", [{"how": "close", "code": 4409}, {"how": "close"}, {"how": "else"}])
async def test_a_failure_that_nobody_offers_ends_nothing(visit, wanted):
    ws = await visit().enter()
    await say(ws, type="fail", **wanted)
    await say(ws, type="ping", id=1)
    assert (await read(ws))["type"] == "pong"


@pytest.mark.gen_test
async def test_a_failure_ends_the_connection_that_asked_for_it_and_no_other_of_the_user(visit):
    site = visit()
    session = await site.log_in()
    failing, other = await site.enter(session=session), await site.enter(session=session)
    await say(failing, type="fail", how="error")
    assert (await how_it_ends(failing))[0] == 1011
    await say(other, type="ping", id=1)
    assert (await read(other))["type"] == "pong"


@pytest.mark.gen_test
async def test_a_hundred_messages_at_once_close_4429(visit):
    ws = await visit().enter()
    for number in range(100):
        ws.write_message(str(number))
    echoes = 0
    while await ws.read_message() is not None:
        echoes += 1
    assert (ws.close_code, ws.close_reason) == (4429, "too_many")
    assert 50 <= echoes < 100


@pytest.mark.gen_test
async def test_a_fifth_connection_takes_the_place_of_the_first(visit):
    site = visit()
    first, *others = [await site.enter() for _ in range(5)]
    assert await how_it_ends(first) == (4409, "replaced")
    for ws in others:
        await say(ws, type="ping", id=1)
        assert (await read(ws))["type"] == "pong"
