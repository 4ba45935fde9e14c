"""Which pages get a connection token: foreign ones, XSRF, CORS."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import Server, http
from tests.token_routes import (
    APP,
    BROWSER_ROUTES,
    Store,
    assert_may_not_read,
    assert_may_read,
    assert_refused,
    bearer,
    cors_auth,
    login_cookie,
    origin_of,
    start,
    user_of,
)
from tornado_wsauth import (
    TokenStoreError,
)

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
