"""Who gets a connection token, and what the answer looks like."""

from __future__ import annotations

import asyncio
import re

import pytest
import tornado.web
from tornado.web import create_signed_value

from tests.support import SECRET, http, jwt_message, make_auth, make_jwt
from tests.token_routes import BROWSER_ROUTES, TOKEN, assert_refused, bearer, login_cookie, start, user_of
from tornado_wsauth import (
    MemoryTokenStore,
    TokenHandler,
)


@pytest.mark.gen_test
async def test_the_answer_is_a_token_and_how_long_it_lives(serve):  # A1, A2
    server = start(serve)
    response = await http(server, Authorization=bearer())
    assert response.status == 200
    assert set(response.json()) == {"token", "expires_in"}
    assert TOKEN.fullmatch(response.json()["token"])
    assert response.json()["expires_in"] == 30
    assert response.headers["content-type"].startswith("application/json")


@pytest.mark.gen_test
@pytest.mark.parametrize("ttl", [45, 2.5, 86400])
async def test_expires_in_is_the_tokens_time_to_live(serve, ttl):  # A2
    response = await http(start(serve, make_auth(token_ttl=ttl)), Authorization=bearer())
    assert response.json()["expires_in"] == ttl


@pytest.mark.gen_test
async def test_each_request_gets_a_token_of_its_own(serve):  # A2
    server = start(serve)
    responses = await asyncio.gather(*(http(server, Authorization=bearer()) for _ in range(10)))
    assert len({response.json()["token"] for response in responses}) == 10


@pytest.mark.gen_test
async def test_a_dump_of_the_store_does_not_contain_the_token(serve):  # A2
    store = MemoryTokenStore()
    server = start(serve, make_auth(tokens=store))
    token = (await http(server, Authorization=bearer())).json()["token"]
    dump = repr([getattr(store, name) for name in dir(store) if not name.startswith("__")])
    assert token not in dump


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws/token", *BROWSER_ROUTES])
async def test_no_answer_may_be_stored(serve, path):  # A3
    server = start(serve)
    answers = [
        await http(server, path, Authorization=bearer()),
        await http(server, path),
        await http(server, path, method="GET"),
        await http(server, path, method="OPTIONS"),
        await http(server, path, Authorization="Bearer x"),
        await http(server, path, Cookie=login_cookie(), Origin="https://evil.example"),
    ]
    assert [answer.status for answer in answers] == [200, 401, 405, answers[3].status, 401, 403]
    assert [answer.headers["cache-control"] for answer in answers] == ["no-store"] * 6
    assert all("etag" not in answer.headers for answer in answers)


@pytest.mark.gen_test
async def test_a_token_from_the_route_opens_a_connection_for_its_user_only(serve, connect):  # A1, A22
    server = start(serve)
    token = (await http(server, Authorization=bearer("alice"))).json()["token"]
    client, response = await connect(server, path=f"/ws?token={token}")
    assert response.status == 101
    client.send_text(jwt_message(make_jwt("alice")))
    assert (await client.read_json())["user_id"] == "alice"
    _, again = await connect(server, path=f"/ws?token={token}")
    assert again.status == 401
    token = (await http(server, "/cookie", Cookie=login_cookie("bob"))).json()["token"]
    client, _ = await connect(server, path=f"/ws?token={token}")
    client.send_text(jwt_message(make_jwt("alice")))
    assert await client.read_close() == (4403, "user_mismatch")


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws/token", *BROWSER_ROUTES])
async def test_nobody_gets_no_token(serve, path):  # A1
    response = await http(start(serve), path)
    assert_refused(response, 401, "unauthorized")
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.gen_test
@pytest.mark.parametrize("path", BROWSER_ROUTES)
async def test_a_logged_in_user_gets_a_token(serve, path):  # A1
    server = start(serve)
    assert await user_of(server, await http(server, path, Cookie=login_cookie("bob"))) == "bob"


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws/token", *BROWSER_ROUTES])
async def test_a_bearer_jwt_gets_a_token_whatever_the_base_handler(serve, path):  # A1
    server = start(serve)
    assert await user_of(server, await http(server, path, Authorization=bearer("carol"))) == "carol"


@pytest.mark.gen_test
async def test_a_forged_cookie_is_nobody(serve):  # A1
    forged = create_signed_value("another secret", "user", "alice").decode()
    assert_refused(await http(start(serve), "/cookie", Cookie=f'user="{forged}"'), 401, "unauthorized")


@pytest.mark.gen_test
@pytest.mark.parametrize("path", BROWSER_ROUTES)
async def test_an_invalid_bearer_is_refused_even_beside_a_valid_cookie(serve, path):  # A3
    server = start(serve)
    for value in ("Bearer", "Bearer ", "Bearer x", "bearer x", "BEARER x", bearer("bob", expires_in=-60)):
        response = await http(server, path, Authorization=value, Cookie=login_cookie())
        assert_refused(response, 401, "unauthorized")
        assert "www-authenticate" in response.headers


@pytest.mark.gen_test
async def test_a_bearer_jwt_wins_over_the_cookie(serve):  # A3
    server = start(serve)
    response = await http(server, "/cookie", Authorization=bearer("bob"), Cookie=login_cookie("alice"))
    assert await user_of(server, response) == "bob"


@pytest.mark.gen_test
@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
async def test_the_scheme_is_compared_without_case(serve, scheme):  # RFC 7235 §2.1
    server = start(serve)
    assert await user_of(server, await http(server, Authorization=f"{scheme} {make_jwt('bob')}")) == "bob"


@pytest.mark.gen_test
async def test_another_scheme_neither_helps_nor_harms(serve):  # A1
    server = start(serve)
    for value in ("Basic YWxpY2U6cGFzcw==", "Digest x", "Bearerx", "x Bearer y", "Token x", ""):
        assert_refused(await http(server, Authorization=value), 401, "unauthorized")
        response = await http(server, "/cookie", Authorization=value, Cookie=login_cookie())
        assert await user_of(server, response) == "alice"


HOSTILE = {
    "no credentials": "Bearer",
    "blank": "Bearer  ",
    "a word": "Bearer x",
    "two words": "Bearer x y",
    "two dots": "Bearer ..",
    "dots and dots": "Bearer " + "." * 5000,
    "not ascii": "Bearer \xe9\xff\xfe.\xe9.\xe9",
    "utf-8": "Bearer " + "żółw".encode().decode("latin1"),
    "tab": "Bearer\t" + "x",
    "huge": "Bearer " + "A" * 40_000,
    "huge with dots": "Bearer " + "A" * 10_000 + "." + "A" * 10_000 + "." + "A" * 10_000,
    "none": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.",
    "quoted": 'Bearer "x"',
    "template": "Bearer {{7*7}}%s%n",
}


@pytest.mark.gen_test
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_bearer_is_a_plain_401(serve, caplog, name):  # A1, A16, A20
    response = await http(start(serve), Authorization=HOSTILE[name])
    assert_refused(response, 401, "unauthorized")
    assert "www-authenticate" in response.headers
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "jwt",
    [
        lambda: make_jwt(expires_in=-1),
        lambda: make_jwt(secret=SECRET + "!"),
        lambda: make_jwt(None),
        lambda: make_jwt(""),
        lambda: make_jwt(sub=[1]),
        lambda: make_jwt(aud="somebody else"),
        lambda: make_jwt(nbf=99999999999),
    ],
    ids=["expired", "wrong key", "no user", "empty user", "odd user", "audience", "not yet"],
)
async def test_a_jwt_that_would_not_open_a_connection_gets_no_token(serve, jwt):  # A1, A20
    assert_refused(await http(start(serve), Authorization=f"Bearer {jwt()}"), 401, "unauthorized")


@pytest.mark.gen_test
async def test_every_refusal_of_a_credential_looks_the_same(serve):  # A1
    server = start(serve)
    values = [None, "Bearer x", bearer(expires_in=-1), bearer(secret=SECRET + "!")]
    answers = [await http(server, Authorization=value) for value in values]
    assert len({answer.body for answer in answers}) == 1
    assert len({re.sub(rb"Date: [^\r]*", b"", answer.head) for answer in answers}) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("content_type", [None, "application/json", "application/x-www-form-urlencoded", "text/plain"])
async def test_the_body_says_nothing_about_who_asks(serve, content_type):  # A1
    server = start(serve)
    for body in (b"", b"{", b"\xff\x00" * 100, b'{"user_id": "mallory"}', b"user_id=mallory&user=mallory"):
        response = await http(server, body=body, Content_Type=content_type, Authorization=bearer("alice"))
        assert await user_of(server, response) == "alice"
        assert_refused(await http(server, body=body, Content_Type=content_type), 401, "unauthorized")


@pytest.mark.gen_test
async def test_the_query_says_nothing_about_who_asks(serve):  # A1
    server = start(serve)
    jwt = make_jwt()
    assert_refused(await http(server, f"/ws/token?token={jwt}&access_token={jwt}&user=alice"), 401, "unauthorized")


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
async def test_only_post_gets_a_token(serve, method):  # A1
    server = start(serve)
    for path in ("/ws/token", "/cookie", "/in-front"):
        response = await http(server, path, method=method, Authorization=bearer(), Cookie=login_cookie())
        assert response.status == 405
        assert {allowed.strip() for allowed in response.headers["allow"].split(",")} == {"POST", "OPTIONS"}
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["content-type"].startswith("application/json")
        if method == "HEAD":
            assert response.body == b""
        else:
            assert response.json() == {"error": "method_not_allowed"}
    response = await http(server, "/behind", method=method, Authorization=bearer(), Cookie=login_cookie())
    assert (response.status, response.headers["cache-control"]) == (405, "no-store")


@pytest.mark.gen_test
async def test_a_get_of_a_base_handler_is_no_way_to_a_token(serve):  # A1
    class Page(tornado.web.RequestHandler):
        def get(self) -> None:
            self.write("a page")

    class Token(TokenHandler, Page):
        pass

    response = await http(start(serve, routes=[(r"/page", Token)]), "/page", method="GET", Authorization=bearer())
    assert_refused(response, 405, "method_not_allowed")
