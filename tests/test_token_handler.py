"""The token route: who gets a token, who does not, and what a foreign page can make of it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import tornado.web
from tornado.web import create_signed_value

from tests.support import SECRET, Echo, Response, Server, http, jwt_message, make_auth, make_jwt, until
from tornado_wsauth import (
    JWTVerifier,
    KeySourceError,
    MemoryTokenStore,
    TokenHandler,
    TokenStoreError,
    WSAuth,
)

COOKIE_SECRET = "the tests' cookie secret"
APP = "https://app.example"
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class BaseHandler(tornado.web.RequestHandler):
    """What many applications have: a login by signed cookie, and headers of their own on every answer."""

    def set_default_headers(self) -> None:
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Access-Control-Allow-Headers", "*")
        self.set_header("Cache-Control", "public, max-age=3600")
        self.set_header("Vary", "Accept-Language")

    def get_current_user(self) -> Any:
        return self.get_signed_cookie("user")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.finish(f"<html>{status_code}</html>")


class CookieToken(TokenHandler):
    def get_current_user(self) -> Any:
        return self.get_signed_cookie("user")


class InFront(TokenHandler, BaseHandler):
    pass


class Behind(BaseHandler, TokenHandler):
    pass


ROUTES = [(r"/cookie", CookieToken), (r"/in-front", InFront), (r"/behind", Behind)]
BROWSER_ROUTES = ["/cookie", "/in-front", "/behind"]


def start(serve: Any, auth: WSAuth | None = None, routes: Any = (), **settings: Any) -> Server:
    return serve(Echo, auth, routes=[*ROUTES, *routes], cookie_secret=COOKIE_SECRET, **settings)


def login_cookie(user: str = "alice", xsrf: str | None = None) -> str:
    signed = create_signed_value(COOKIE_SECRET, "user", user).decode()
    return f'user="{signed}"' + (f"; _xsrf={xsrf}" if xsrf else "")


def bearer(*args: Any, **kwargs: Any) -> str:
    return f"Bearer {make_jwt(*args, **kwargs)}"


def origin_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def assert_refused(response: Response, status: int, error: str) -> None:
    assert (response.status, response.json()) == (status, {"error": error})
    assert response.headers["content-type"].startswith("application/json")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers.get("access-control-allow-origin") != "*"


async def user_of(server: Server, response: Response) -> str:
    """Return whose token that is; it is spent by looking."""
    assert response.status == 200, response
    assert server.auth is not None
    return (await server.auth.redeem_token(response.json()["token"])).user_id


# --- the answer ------------------------------------------------------------------------------------------------------


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


# --- who asks --------------------------------------------------------------------------------------------------------


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


# --- methods ---------------------------------------------------------------------------------------------------------


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


# --- foreign pages ---------------------------------------------------------------------------------------------------


FOREIGN = {
    "another site": {"Origin": "https://evil.example"},
    "null": {"Origin": "null"},
    "empty": {"Origin": ""},
    "no scheme": {"Origin": "127.0.0.1"},
    "another port": {"Origin": "http://127.0.0.1:1"},
    "says so": {"Sec_Fetch_Site": "cross-site"},
    "a sister": {"Sec_Fetch_Site": "same-site"},
    "says so, no origin of its own": {"Origin": "null", "Sec_Fetch_Site": "cross-site"},
    "garbage": {"Sec_Fetch_Site": "yes"},
}


@pytest.mark.gen_test
@pytest.mark.parametrize("xsrf_cookies", [False, True])
@pytest.mark.parametrize("name", FOREIGN)
async def test_a_foreign_page_gets_no_token_with_the_users_cookie(serve, name, xsrf_cookies):  # A3
    headers = {"Cookie": login_cookie(xsrf="12345678"), "X_Xsrftoken": "12345678", **FOREIGN[name]}
    server = start(serve, xsrf_cookies=xsrf_cookies)
    for path in BROWSER_ROUTES:
        response = await http(server, path, **headers)
        assert_refused(response, 403, "origin_not_allowed")
        assert "access-control-allow-origin" not in response.headers


OWN = {
    "an old browser": {"Origin": None},
    "fetch": {"Sec_Fetch_Site": "same-origin"},
    "the user himself": {"Origin": None, "Sec_Fetch_Site": "none"},
}


@pytest.mark.gen_test
@pytest.mark.parametrize("path", BROWSER_ROUTES)
@pytest.mark.parametrize("name", OWN)
async def test_the_servers_own_page_gets_a_token_with_the_users_cookie(serve, path, name):  # A3
    server = start(serve)
    headers = {"Origin": origin_of(server), **OWN[name]}
    assert await user_of(server, await http(server, path, Cookie=login_cookie(), **headers)) == "alice"


@pytest.fixture
def behind_tls(serve: Any) -> Server:
    """A server behind a proxy that speaks TLS and says so."""
    server = start(serve)
    server._server.xheaders = True
    return server


TLS = {"Host": "chat.example", "X_Forwarded_Proto": "https"}


@pytest.mark.gen_test
async def test_behind_a_proxy_that_speaks_tls_the_servers_own_page_is_still_its_own(behind_tls):  # A3
    headers = {**TLS, "Cookie": login_cookie(), "Origin": "https://chat.example"}
    assert await user_of(behind_tls, await http(behind_tls, "/cookie", **headers)) == "alice"
    del headers["X_Forwarded_Proto"]  # a proxy that does not say so
    assert await user_of(behind_tls, await http(behind_tls, "/cookie", **headers)) == "alice"


@pytest.mark.gen_test
async def test_a_page_that_came_without_tls_is_foreign_to_a_server_with_it(behind_tls):  # A3
    """Whoever sits on the line writes that page; Tornado compares hosts only."""
    headers = {**TLS, "Cookie": login_cookie(), "Origin": "http://chat.example"}
    assert_refused(await http(behind_tls, "/cookie", **headers), 403, "origin_not_allowed")


@pytest.mark.gen_test
async def test_a_bearer_jwt_is_no_way_around_the_origin(serve):  # A3
    for auth in (None, cors_auth()):
        server = start(serve, auth)
        response = await http(server, Authorization=bearer("bob"), Origin="https://evil.example")
        assert_refused(response, 403, "origin_not_allowed")
        assert_may_not_read(response)


# --- Tornado's XSRF check --------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("path", BROWSER_ROUTES)
async def test_with_xsrf_cookies_a_post_without_the_xsrf_token_is_refused(serve, path):  # A3
    server = start(serve, xsrf_cookies=True)
    for headers in ({}, {"X_Xsrftoken": "87654321"}, {"X_Xsrftoken": ""}):
        cookie = login_cookie(xsrf="12345678")
        response = await http(server, path, Cookie=cookie, Origin=origin_of(server), **headers)
        assert_refused(response, 403, "xsrf_failed")


@pytest.mark.gen_test
@pytest.mark.parametrize("path", BROWSER_ROUTES)
async def test_with_xsrf_cookies_a_post_with_the_xsrf_token_passes(serve, path):  # A3
    server = start(serve, xsrf_cookies=True)
    headers = {"Cookie": login_cookie(xsrf="12345678"), "Origin": origin_of(server)}
    assert await user_of(server, await http(server, path, X_Xsrftoken="12345678", **headers)) == "alice"
    form = {"body": b"_xsrf=12345678", "Content_Type": "application/x-www-form-urlencoded"}
    assert await user_of(server, await http(server, path, **form, **headers)) == "alice"


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws/token", *BROWSER_ROUTES])
async def test_a_bearer_jwt_needs_no_xsrf_token(serve, path):  # A3
    server = start(serve, xsrf_cookies=True)
    assert await user_of(server, await http(server, path, Authorization=bearer("bob"))) == "bob"
    response = await http(server, path, Authorization="Bearer x", Cookie=login_cookie(xsrf="12345678"))
    assert_refused(response, 401, "unauthorized")


@pytest.mark.gen_test
@pytest.mark.parametrize("path", BROWSER_ROUTES)
async def test_another_scheme_is_no_way_around_the_xsrf_check(serve, path):  # A3
    server = start(serve, xsrf_cookies=True)
    for authorization in ("Basic x", "Bearerx y", "", "x Bearer y"):
        response = await http(server, path, Authorization=authorization, Cookie=login_cookie(xsrf="12345678"))
        assert_refused(response, 403, "xsrf_failed")


# --- CORS ------------------------------------------------------------------------------------------------------------


def cors_auth(*origins: str | None, **options: Any) -> WSAuth:
    return make_auth(allowed_origins=origins or [APP, "http://localhost:3000"], **options)


def assert_may_read(response: Response, origin: str = APP) -> None:
    assert response.headers["access-control-allow-origin"] == origin
    assert response.headers["access-control-allow-credentials"] == "true"
    assert "origin" in [name.strip().lower() for name in response.headers["vary"].split(",")]


def assert_may_not_read(response: Response) -> None:
    assert [name for name in response.headers if name.startswith("access-control-allow")] == []


@pytest.mark.gen_test
@pytest.mark.parametrize("path", BROWSER_ROUTES)
@pytest.mark.parametrize("origin", [APP, "http://localhost:3000"])
async def test_a_page_of_an_allowed_origin_gets_a_token_and_may_read_it(serve, path, origin):  # A3
    server = start(serve, cors_auth())
    fetched = {"Origin": origin, "Sec_Fetch_Site": "cross-site"}
    by_cookie = await http(server, path, Cookie=login_cookie(), **fetched)
    assert_may_read(by_cookie, origin)
    assert await user_of(server, by_cookie) == "alice"
    by_bearer = await http(server, path, Authorization=bearer("bob"), **fetched)
    assert_may_read(by_bearer, origin)
    assert await user_of(server, by_bearer) == "bob"


NOT_ALLOWED = [
    "https://evil.example",
    "null",
    "*",
    "https://app.example.evil.example",
    "https://app.example:8443",
    "http://app.example",
    "https://xapp.example",
    "https://app.exampl",
    "https://app.example/",
    "HTTPS://APP.EXAMPLE",
    "https://app.example, https://evil.example",
]


@pytest.mark.gen_test
@pytest.mark.parametrize("path", BROWSER_ROUTES)
async def test_a_page_of_any_other_origin_gets_neither_token_nor_permission(serve, path):  # A3
    server = start(serve, cors_auth())
    for origin in NOT_ALLOWED:
        response = await http(server, path, Cookie=login_cookie(), Origin=origin)
        assert_refused(response, 403, "origin_not_allowed")
        assert_may_not_read(response)


@pytest.mark.gen_test
async def test_with_allowed_origins_the_servers_own_page_must_be_listed_too(serve):  # A3
    """The socket would not let it in either; and a ``Host`` can be the attacker's (DNS rebinding)."""
    auth = cors_auth()
    server = start(serve, auth)
    own = {"Cookie": login_cookie(), "Origin": origin_of(server), "Sec_Fetch_Site": "same-origin"}
    assert_refused(await http(server, "/cookie", **own), 403, "origin_not_allowed")
    auth.allowed_origins |= {origin_of(server)}
    assert await user_of(server, await http(server, "/cookie", **own)) == "alice"


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws/token", *BROWSER_ROUTES])
async def test_a_preflight_from_an_allowed_origin_gets_permission(serve, path):  # A3
    server = start(serve, cors_auth(), xsrf_cookies=True)
    response = await http(
        server,
        path,
        method="OPTIONS",
        Origin=APP,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization,content-type,x-xsrftoken",
    )
    assert response.status in (200, 204)
    assert response.body == b""
    assert_may_read(response)
    methods = {name.strip() for name in response.headers["access-control-allow-methods"].split(",")}
    assert methods == {"POST"}
    headers = {name.strip().lower() for name in response.headers["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type", "x-xsrftoken"} <= headers
    assert "*" not in headers, "with credentials * means a header of that name (Fetch standard, §3.2.5)"


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws/token", *BROWSER_ROUTES])
async def test_a_preflight_from_any_other_origin_gets_none(serve, path):  # A3
    server = start(serve, cors_auth())
    for origin in [*NOT_ALLOWED, None]:
        response = await http(server, path, method="OPTIONS", Origin=origin, Access_Control_Request_Method="POST")
        assert_may_not_read(response)
        assert "origin" in response.headers["vary"].lower(), "a cache must not serve this to an allowed origin"


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws/token", *BROWSER_ROUTES])
async def test_without_allowed_origins_no_preflight_gets_permission(serve, path):  # A3
    response = await http(start(serve), path, method="OPTIONS", Origin=APP, Access_Control_Request_Method="POST")
    assert_may_not_read(response)


@pytest.mark.gen_test
async def test_allowing_clients_without_an_origin_allows_no_origin_called_none_or_null(serve):  # A3
    server = start(serve, cors_auth(APP, None))
    assert await user_of(server, await http(server, "/cookie", Cookie=login_cookie())) == "alice"
    for origin in ("None", "null", ""):
        response = await http(server, "/cookie", Cookie=login_cookie(), Origin=origin)
        assert_refused(response, 403, "origin_not_allowed")
        assert_may_not_read(response)


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws/token", "/cookie", "/in-front"])
async def test_a_page_of_an_allowed_origin_may_read_every_refusal(serve, path):  # A3
    auth = cors_auth(max_tokens_per_user=1, tokens=Store())
    server = start(serve, auth, xsrf_cookies=True)
    page = {"Origin": APP, "Sec_Fetch_Site": "cross-site"}

    response = await http(server, path, Authorization="Bearer x", **page)
    assert_refused(response, 401, "unauthorized")
    assert_may_read(response)

    response = await http(server, path, method="GET", **page)
    assert_refused(response, 405, "method_not_allowed")
    assert_may_read(response)

    response = await http(server, path, Cookie=login_cookie(), **page)
    assert_refused(response, 403, "xsrf_failed")
    assert_may_read(response)

    await http(server, path, Authorization=bearer("bob"), **page)
    response = await http(server, path, Authorization=bearer("bob"), **page)
    assert_refused(response, 429, "too_many_tokens")
    assert_may_read(response)

    auth.tokens.error = TokenStoreError("down")
    response = await http(server, path, Authorization=bearer("bob"), **page)
    assert_refused(response, 503, "store_unavailable")
    assert_may_read(response)

    auth.tokens.error = RuntimeError("a bug")
    response = await http(server, path, Authorization=bearer("bob"), **page)
    assert response.status == 500
    assert response.headers["cache-control"] == "no-store"
    assert_may_read(response)


@pytest.mark.gen_test
async def test_what_a_base_handler_says_about_caches_stays_beside_the_origin(serve):  # A3
    response = await http(start(serve, cors_auth()), "/in-front", Authorization=bearer(), Origin=APP)
    assert {name.strip() for name in response.headers["vary"].split(",")} == {"Accept-Language", "Origin"}


@pytest.mark.gen_test
async def test_a_page_may_read_how_long_to_wait(serve):  # A4
    """Retry-After is not among the headers a page of another origin sees by itself (Fetch standard, §2.2.2)."""
    server = start(serve, cors_auth(max_tokens_per_user=1))
    await http(server, Authorization=bearer(), Origin=APP)
    response = await http(server, Authorization=bearer(), Origin=APP)
    assert response.status == 429
    assert "retry-after" in response.headers["access-control-expose-headers"].lower()


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws/token", *BROWSER_ROUTES])
async def test_with_tornados_own_cross_origin_protection_the_same_pages_get_a_token(serve, path):  # A3
    """A setting of Tornado 6.6; the ones before it ignore it."""
    server = start(serve, cors_auth(), cross_origin_protection=True)
    page = {"Origin": APP, "Sec_Fetch_Site": "cross-site"}
    response = await http(server, path, Authorization=bearer("bob"), **page)
    assert_may_read(response)
    assert await user_of(server, response) == "bob"
    if path != "/ws/token":
        assert await user_of(server, await http(server, path, Cookie=login_cookie(), **page)) == "alice"
    foreign = {"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"}
    response = await http(server, path, Cookie=login_cookie(), **foreign)
    assert response.status == 403
    assert b"token" not in response.body
    assert response.headers["cache-control"] == "no-store"
    assert_may_not_read(response)


# --- limits and failures ---------------------------------------------------------------------------------------------


class Store(MemoryTokenStore):
    error: Exception | None = None

    async def issue(self, *args: Any, **kwargs: Any) -> str:
        if self.error is not None:
            raise self.error
        return await super().issue(*args, **kwargs)


def assert_retry_later(response: Response, status: int, error: str) -> None:
    assert_refused(response, status, error)
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.gen_test
async def test_beyond_the_limit_there_is_no_further_token(serve):  # A4
    server = start(serve)
    tokens = [(await http(server, Authorization=bearer())).json()["token"] for _ in range(10)]
    response = await http(server, Authorization=bearer())
    assert_retry_later(response, 429, "too_many_tokens")
    assert await user_of(server, await http(server, Authorization=bearer("bob"))) == "bob"
    await server.auth.redeem_token(tokens[0])
    assert (await http(server, Authorization=bearer())).status == 200
    assert (await http(server, Authorization=bearer())).status == 429


@pytest.mark.gen_test
async def test_an_expired_token_frees_its_place(serve):  # A4
    now = [1000.0]
    server = start(serve, make_auth(tokens=MemoryTokenStore(clock=lambda: now[0]), max_tokens_per_user=1))
    assert (await http(server, Authorization=bearer())).status == 200
    assert (await http(server, Authorization=bearer())).status == 429
    now[0] += 30
    assert (await http(server, Authorization=bearer())).status == 200


@pytest.mark.gen_test
async def test_parallel_requests_do_not_get_past_the_limit(serve):  # A4
    server = start(serve, make_auth(max_tokens_per_user=3))
    answers = await asyncio.gather(*(http(server, Authorization=bearer()) for _ in range(12)))
    assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 9


@pytest.mark.gen_test
async def test_retry_after_is_no_longer_than_a_token_lives(serve):  # A4
    server = start(serve, make_auth(max_tokens_per_user=1, token_ttl=45))
    await http(server, Authorization=bearer())
    response = await http(server, Authorization=bearer())
    assert 1 <= int(response.headers["retry-after"]) <= 45


@pytest.mark.gen_test
async def test_a_store_that_cannot_answer_is_a_503(serve):  # A34
    store = Store()
    server = start(serve, make_auth(tokens=store))
    store.error = TokenStoreError("down")
    assert_retry_later(await http(server, Authorization=bearer()), 503, "store_unavailable")
    store.error = None
    assert (await http(server, Authorization=bearer())).status == 200


@pytest.mark.gen_test
async def test_a_store_that_cannot_be_started_is_a_503_until_it_can(serve):  # A34
    class Late(MemoryTokenStore):
        failures = 2

        async def start(self) -> None:
            self.failures -= 1
            if self.failures >= 0:
                raise TokenStoreError("not there yet")

    server = start(serve, make_auth(tokens=Late()))
    assert_retry_later(await http(server, Authorization=bearer()), 503, "store_unavailable")
    assert_retry_later(await http(server, Authorization=bearer()), 503, "store_unavailable")
    assert (await http(server, Authorization=bearer())).status == 200


@pytest.mark.gen_test
async def test_a_bug_in_the_store_is_a_500_and_json(serve, caplog):
    store = Store()
    store.error = ZeroDivisionError("a bug")
    response = await http(start(serve, make_auth(tokens=store)), Authorization=bearer())
    assert_refused(response, 500, "internal")
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


@pytest.mark.gen_test
async def test_without_keys_to_verify_a_jwt_with_it_is_a_503(serve):  # A21
    class Keyless:
        async def key_for(self, kid: str | None, alg: str) -> Any:
            raise KeySourceError("the JWKS server is down")

    auth = WSAuth(JWTVerifier(Keyless(), algorithms=["RS256"]))
    jwt = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJhIn0.AAAA"
    server = start(serve, auth)
    assert_retry_later(await http(server, Authorization=f"Bearer {jwt}"), 503, "keys_unavailable")
    assert await user_of(server, await http(server, "/cookie", Cookie=login_cookie())) == "alice"


@pytest.mark.gen_test
async def test_while_closing_there_are_no_tokens(serve):  # A27
    server = start(serve, cors_auth())
    await server.auth.close()
    response = await http(server, Authorization=bearer(), Origin=APP)
    assert_retry_later(response, 503, "closing")
    assert_may_read(response)
    assert_retry_later(await http(server, "/cookie", Cookie=login_cookie()), 503, "closing")


@pytest.mark.gen_test
async def test_without_a_wsauth_there_is_no_token_and_the_log_says_what_to_do(serve, caplog):
    class Lost(TokenHandler):
        wsauth_setting = "elsewhere"

    response = await http(start(serve, routes=[(r"/lost", Lost)]), "/lost", Authorization=bearer())
    assert response.status == 500
    assert "token" not in response.json()
    assert response.headers["cache-control"] == "no-store"
    assert "Application(elsewhere=None)" in caplog.text
    assert "elsewhere=WSAuth(" in caplog.text


@pytest.mark.gen_test
async def test_a_second_wsauth_is_used_where_a_handler_names_it(serve):
    other = make_auth(token_ttl=99)

    class Other(TokenHandler):
        wsauth_setting = "other"

    server = start(serve, routes=[(r"/other", Other)], other=other)
    token = (await http(server, "/other", Authorization=bearer())).json()
    assert token["expires_in"] == 99
    assert (await other.redeem_token(token["token"])).user_id == "alice"


# --- get_user_id -----------------------------------------------------------------------------------------------------


def token_for(user_id: Any, *, is_async: bool) -> type[TokenHandler]:
    if is_async:

        class Token(TokenHandler):
            async def get_user_id(self) -> Any:
                await asyncio.sleep(0)
                return user_id

    else:

        class Token(TokenHandler):  # type: ignore[no-redef]
            def get_user_id(self) -> Any:
                return user_id

    return Token


@pytest.mark.gen_test
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("given", "user_id"), [("alice", "alice"), (b"alice", "alice"), (7, "7"), (0, "0"), ("zoë", "zoë")]
)
async def test_an_override_says_who_asks(serve, given, user_id, is_async):  # A1
    server = start(serve, routes=[(r"/own", token_for(given, is_async=is_async))])
    assert await user_of(server, await http(server, "/own")) == user_id


@pytest.mark.gen_test
@pytest.mark.parametrize("is_async", [False, True])
async def test_an_override_that_knows_nobody_is_a_401(serve, is_async):  # A1
    server = start(serve, routes=[(r"/own", token_for(None, is_async=is_async))])
    response = await http(server, "/own", Authorization=bearer())
    assert_refused(response, 401, "unauthorized")
    assert "www-authenticate" in response.headers


@pytest.mark.gen_test
@pytest.mark.parametrize("garbage", ["", b"", b"\xff", "\ud800", True, False, 1.5, {"id": 7}, ["alice"], object()])
async def test_an_override_that_returns_no_user_id_is_told_what_to_return(serve, caplog, garbage):
    server = start(serve, routes=[(r"/own", token_for(garbage, is_async=False))])
    response = await http(server, "/own")
    assert response.status == 500
    assert set(response.json()) == {"error"}
    errors = [record for record in caplog.records if record.exc_info]
    assert len(errors) == 1
    assert errors[0].exc_info[0].__name__ == "ConfigurationError"
    message = str(errors[0].exc_info[1])
    assert "get_user_id" in message
    assert re.search(r"\bstr\b", message), "it says what to return"


@pytest.mark.gen_test
@pytest.mark.parametrize("user", [{"id": 7}, object()])
async def test_a_current_user_that_is_no_user_id_is_told_to_override_get_user_id(serve, caplog, user):
    class Token(TokenHandler):
        def get_current_user(self) -> Any:
            return user

    response = await http(start(serve, routes=[(r"/own", Token)]), "/own")
    assert response.status == 500
    assert "get_user_id" in caplog.text
    assert "ConfigurationError" in caplog.text


@pytest.mark.gen_test
@pytest.mark.parametrize("nobody", [None, "", b"", False, 0])
async def test_a_current_user_that_tornado_takes_for_nobody_is_nobody(serve, nobody):  # A1
    """``authenticated`` looks whether ``current_user`` is true; an anonymous user must not become user 0 or ''."""

    class Token(TokenHandler):
        def get_current_user(self) -> Any:
            return nobody

    assert_refused(await http(start(serve, routes=[(r"/own", Token)]), "/own"), 401, "unauthorized")


@pytest.mark.gen_test
async def test_a_current_user_set_in_an_async_prepare_is_honoured(serve):  # A1
    class Token(TokenHandler):
        async def prepare(self) -> None:
            await asyncio.sleep(0)
            self.current_user = "dave"

    server = start(serve, routes=[(r"/own", Token)])
    assert await user_of(server, await http(server, "/own")) == "dave"


@pytest.mark.gen_test
async def test_an_override_is_asked_once_for_each_post_and_for_nothing_else(serve):
    asked: list[str] = []

    class Token(TokenHandler):
        def get_user_id(self) -> Any:
            asked.append(self.request.method)
            return "alice"

    server = start(serve, cors_auth(), routes=[(r"/own", Token)])
    for method in ("POST", "GET", "HEAD", "OPTIONS", "POST"):
        await http(server, "/own", method=method, Origin=APP)
    assert asked == ["POST", "POST"]


@pytest.mark.gen_test
async def test_an_override_is_never_asked_on_behalf_of_a_foreign_page(serve):  # A3
    asked: list[str] = []

    class Token(TokenHandler):
        def get_user_id(self) -> Any:
            asked.append("asked")
            return "alice"

    server = start(serve, routes=[(r"/own", Token)])
    assert_refused(await http(server, "/own", Origin="https://evil.example"), 403, "origin_not_allowed")
    assert asked == []


@pytest.mark.gen_test
async def test_an_override_that_raises_an_http_error_answers_with_it(serve):
    class Token(TokenHandler):
        def get_user_id(self) -> Any:
            raise tornado.web.HTTPError(418)

    response = await http(start(serve, routes=[(r"/own", Token)]), "/own")
    assert response.status == 418
    assert set(response.json()) == {"error"}


@pytest.mark.gen_test
async def test_an_override_may_await_super(serve):
    class Token(TokenHandler):
        async def get_user_id(self) -> Any:
            user_id = super().get_user_id()
            return await user_id if asyncio.iscoroutine(user_id) else user_id  # type: ignore[misc]

    server = start(serve, routes=[(r"/own", Token)])
    assert await user_of(server, await http(server, "/own", Authorization=bearer("bob"))) == "bob"


@pytest.mark.gen_test
async def test_a_client_that_hangs_up_while_the_store_thinks_harms_nobody(serve, caplog):
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Slow(MemoryTokenStore):
        async def issue(self, *args: Any, **kwargs: Any) -> str:
            entered.set()
            await go_on.wait()
            return await super().issue(*args, **kwargs)

    store = Slow()
    server = start(serve, make_auth(tokens=store))
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        f"POST /ws/token HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    await entered.wait()
    writer.transport.abort()
    await asyncio.sleep(0)
    go_on.set()
    await until(lambda: len(store) == 1)
    assert (await http(server, Authorization=bearer())).status == 200
    assert [record for record in caplog.records if record.exc_info] == []
