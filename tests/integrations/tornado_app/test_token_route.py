"""The token route behind the application's own login: its cookie, its XSRF protection."""

from __future__ import annotations

import json

import pytest


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws/token", "/ws/jwt", "/logout"])
async def test_a_post_without_the_xsrf_token_is_refused(visitor, path):
    alice = await visitor().log_in("alice")
    alice.sends_xsrf = False
    assert (await alice.post(path)).code == 403
    alice.sends_xsrf = True
    assert (await alice.post(path)).code == 200


@pytest.mark.gen_test
async def test_the_refusal_for_a_missing_xsrf_token_says_what_it_is(visitor):
    alice = await visitor().log_in("alice")
    alice.sends_xsrf = False
    answer = await alice.post("/ws/token")
    assert json.loads(answer.body) == {"error": "xsrf_failed"}
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.gen_test
async def test_nobody_gets_neither_token_nor_jwt(visitor):
    nobody = visitor()
    await nobody.ask("GET", "/login")  # for the XSRF cookie
    answer = await nobody.post("/ws/token")
    assert (answer.code, json.loads(answer.body)) == (401, {"error": "unauthorized"})
    assert (await nobody.post("/ws/jwt")).code == 403


@pytest.mark.gen_test
async def test_a_cookie_that_was_not_signed_here_is_nobodys(visitor):
    mallory = visitor()
    await mallory.ask("GET", "/login")
    mallory.cookies["member"] = "alice"
    assert (await mallory.post("/ws/token")).code == 401


@pytest.mark.gen_test
async def test_a_get_is_refused_in_the_librarys_words(visitor):
    answer = await (await visitor().log_in("alice")).ask("GET", "/ws/token")
    assert (answer.code, json.loads(answer.body)) == (405, {"error": "method_not_allowed"})


@pytest.mark.gen_test
async def test_a_page_of_another_origin_gets_no_token_in_spite_of_the_cookie(visitor):
    alice = await visitor().log_in("alice")
    answer = await alice.post("/ws/token", Origin="https://evil.example")
    assert (answer.code, json.loads(answer.body)) == (403, {"error": "origin_not_allowed"})


@pytest.mark.gen_test
async def test_a_bearer_jwt_is_no_way_around_the_login(visitor):
    alice = await visitor().log_in("alice")
    jwt = await alice.get_jwt()
    assert (await visitor().post("/ws/token", Authorization=f"Bearer {jwt}")).code == 401
