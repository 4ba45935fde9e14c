"""What the tests of the token route share: an application with cookies, one with a base handler, and their clients."""

from __future__ import annotations

import re
from typing import Any

import tornado.web
from tornado.web import create_signed_value

from tests.support import Echo, Response, Server, make_auth, make_jwt
from tornado_wsauth import (
    MemoryTokenStore,
    TokenHandler,
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


def cors_auth(*origins: str | None, **options: Any) -> WSAuth:
    return make_auth(allowed_origins=origins or [APP, "http://localhost:3000"], **options)


def assert_may_read(response: Response, origin: str = APP) -> None:
    assert response.headers["access-control-allow-origin"] == origin
    assert response.headers["access-control-allow-credentials"] == "true"
    assert "origin" in [name.strip().lower() for name in response.headers["vary"].split(",")]


def assert_may_not_read(response: Response) -> None:
    assert [name for name in response.headers if name.startswith("access-control-allow")] == []


class Store(MemoryTokenStore):
    error: Exception | None = None

    async def issue(self, *args: Any, **kwargs: Any) -> str:
        if self.error is not None:
            raise self.error
        return await super().issue(*args, **kwargs)
