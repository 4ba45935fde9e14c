"""Logging in and out, JWTs, tokens and keys."""

from __future__ import annotations

import json

import jwt
import pytest

from example_app.accounts import ALGORITHM, JWT_LIFETIME, USERS
from tests.example.site import FAST, SECRET, how_it_ends, present, read, read_kinds, refused_with, say


@pytest.mark.gen_test
@pytest.mark.parametrize("username", USERS)
async def test_the_right_password_earns_a_login_and_the_login_earns_jwts_of_a_minute(visit, username):
    site = visit()
    body = json.dumps({"username": username, "password": USERS[username]})
    response = await site.fetch("/login", method="POST", body=body)
    assert response.code == 200
    assert response.headers["Cache-Control"] == "no-store"
    login = json.loads(response.body)
    assert login["user_id"] == username
    response = await site.post("/jwt", login["session"])
    assert response.headers["Cache-Control"] == "no-store"
    answer = json.loads(response.body)
    assert answer["expires_in"] == JWT_LIFETIME
    assert jwt.get_unverified_header(answer["jwt"])["kid"] == "key-1"
    claims = jwt.decode(answer["jwt"], SECRET, algorithms=[ALGORITHM])
    assert (claims["sub"], claims["sid"]) == (username, login["session_id"])
    assert claims["exp"] == int(claims["iat"] + JWT_LIFETIME)


@pytest.mark.gen_test
async def test_the_secret_of_a_login_is_not_in_its_jwts(visit):
    site = visit()
    session = await site.log_in()
    claims = jwt.decode(await site.jwt(session), SECRET, algorithms=[ALGORITHM])
    assert session not in claims.values()
    assert (await site.post("/jwt", claims["sid"])).code == 401


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "body",
    [
        '{"username": "alice", "password": "builder"}',
        '{"username": "alice", "password": ""}',
        '{"username": "mallory", "password": "wonderland"}',
        '{"username": "alice"}',
        '{"username": ["alice"], "password": "wonderland"}',
        '{"username": "alice", "password": {"$ne": null}}',
        '{"username": "alice", "password": "\\ud800"}',
        '["alice", "wonderland"]',
        "null",
        "",
        "username=alice&password=wonderland",
        "\xff",
        "[" * 100_000,
    ],
    ids=lambda body: body[:24] or "nothing",
)
async def test_any_other_body_is_401_and_earns_nothing(visit, body):
    response = await visit().fetch("/login", method="POST", body=body.encode("latin1"))
    assert response.code == 401
    assert json.loads(response.body) == {"error": "wrong_login"}


@pytest.mark.gen_test
@pytest.mark.parametrize("bearer", [None, "", "x", "None"])
@pytest.mark.parametrize(
    "path", ["/jwt", "/logout", "/logout/here", "/demo/expired-jwt", "/demo/rotate-keys", "/demo/restart"]
)
async def test_only_a_login_gets_in_here(visit, path, bearer):
    site = visit()
    await site.log_in()
    response = await site.post(path, bearer)
    assert response.code == 401
    assert json.loads(response.body) == {"error": "unauthorized"}
    assert await site.key_id() == "key-1"
    assert not site.app.settings["restart"].is_set()


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws/token", "/demo/expired-token"])
async def test_a_token_is_had_for_the_jwt_of_a_login_and_not_without(visit, path):
    site = visit()
    assert (await site.post(path)).code == 401
    assert len(await site.token(await site.jwt_of(), path)) == 43


@pytest.mark.gen_test
async def test_logging_out_ends_all_sockets_of_the_user_at_once_and_nobody_elses(visit):  # A25
    site = visit()
    session = await site.log_in()
    early = await site.token(await site.jwt(session))
    first, second, other = await site.enter(), await site.enter(session=session), await site.enter("bob")
    assert (await site.post("/logout", session)).code == 204
    assert await how_it_ends(first) == await how_it_ends(second) == (4403, "revoked")
    assert await refused_with(site.connect(early)) == 401
    await other.write_message("still here")
    assert await read(other) == {"type": "echo", "message": "still here"}


@pytest.mark.gen_test
async def test_logging_out_here_ends_the_sockets_of_this_login_and_not_of_the_users_others(visit):
    site = visit()
    here, elsewhere = await site.log_in(), await site.log_in()
    ends, stays = await site.enter(session=here), await site.enter(session=elsewhere)
    assert (await site.post("/logout/here", here)).code == 204
    assert await how_it_ends(ends) == (4403, "revoked")
    await say(stays, type="ping", id=1)
    assert (await read(stays))["type"] == "pong"
    assert (await site.post("/jwt", here)).code == 401
    assert (await site.post("/jwt", elsewhere)).code == 200


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/logout", "/logout/here"])
async def test_a_jwt_of_before_the_logout_is_good_for_nothing_and_the_next_login_is_good(visit, path):  # A25
    site = visit()
    session = await site.log_in()
    jwt = await site.jwt(session)
    assert (await site.post(path, session)).code == 204
    assert (await site.post(path, session)).code == 401
    assert (await site.post("/ws/token", jwt)).code == 401
    ws = await site.connect(await site.app.settings["wsauth"].issue_token("alice"))
    await present(ws, jwt)
    assert await how_it_ends(ws) == (4401, "jwt_invalid")
    await site.enter()


@pytest.mark.gen_test
async def test_another_jwt_renews_the_connection_and_its_ticker_counts_on(visit):  # A24
    site = visit(tick_interval_ms=FAST)
    ws = await site.enter()
    (tick,) = await read_kinds(ws, {"tick"})
    await present(ws, await site.jwt_of())
    *ticks, auth_ok = await read_kinds(ws, {"auth_ok"})
    assert auth_ok["user_id"] == "alice"
    ticks += await read_kinds(ws, {"tick"})
    numbers = [message["number"] for message in [tick, *ticks] if message["type"] == "tick"]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.gen_test
async def test_new_keys_leave_live_connections_alone_and_refuse_the_jwts_of_the_key_before_last(visit):
    site = visit()
    session = await site.log_in()
    live = await site.enter(session=session)
    first = await site.jwt(session)
    assert (await site.post("/demo/rotate-keys", session)).code == 204
    assert jwt.get_unverified_header(await site.jwt(session))["kid"] == "key-2"
    token = await site.token(first)  # the key before is still good
    assert (await site.post("/demo/rotate-keys", session)).code == 204
    assert (await site.post("/ws/token", first)).code == 401
    ws = await site.connect(token)
    await present(ws, first)
    assert await how_it_ends(ws) == (4401, "jwt_invalid")
    await site.enter(session=session)
    await say(live, type="ping", id=1)
    assert (await read(live))["type"] == "pong"
    await present(live, await site.jwt(session))
    assert (await read(live))["type"] == "auth_ok"


@pytest.mark.gen_test
async def test_an_expired_token_is_had_for_a_jwt_of_the_new_key_too(visit):
    site = visit()
    session = await site.log_in()
    for _ in range(2):
        await site.post("/demo/rotate-keys", session)
    assert await site.token(await site.jwt(session), "/demo/expired-token")


@pytest.mark.gen_test
async def test_whoever_is_logged_in_can_ask_for_a_restart(visit):
    site = visit()
    assert not site.app.settings["restart"].is_set()
    assert (await site.post("/demo/restart", await site.log_in())).code == 202
    assert site.app.settings["restart"].is_set()
