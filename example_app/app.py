"""A Tornado application with two-step WebSocket authentication, and a page that shows each step as it happens.

What an application of your own needs of this are `WSAuth`, `TokenHandler`, `Demo` and three lines of `make_app`; the
rest is a login and the page in ``static/``. ``__main__`` runs it.
"""

from __future__ import annotations

import hmac
import json
import mimetypes
import secrets
import time
from pathlib import Path
from typing import Any

import jwt
from tornado.web import Application, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketHandler

from tornado_wsauth import AuthError, Broadcaster, JWTVerifier, TokenHandler, TokenStore, WebSocketAuthMixin, WSAuth

STATIC = Path(__file__).parent / "static"

USERS = {"alice": "wonderland", "bob": "builder"}
"""Who can log in. The page shows these passwords, so that there is something to try; yours are hashed."""

JWT_LIFETIME = 15 * 60
"""Seconds after which a JWT expires and its user must log in again."""

# Windows may have "text/plain" for it in its registry, and with nosniff a browser then runs no script at all.
mimetypes.add_type("text/javascript", ".js")


def make_app(
    *,
    jwt_secret: str | None = None,
    tokens: TokenStore | None = None,
    auth_timeout: float = 10,
    tick_interval_ms: float = 5000,
    broadcast_interval_ms: float = 3000,
) -> Application:
    """Return the application. Start ``settings["broadcaster"]`` once the event loop runs.

    Left out, ``jwt_secret`` is a new random one and ``tokens`` a `MemoryTokenStore`. Raises `ConfigurationError` for
    a secret that is too short.
    """
    key = secrets.token_urlsafe(32) if jwt_secret is None else jwt_secret
    logouts = Logouts()
    verifier = LoginVerifier(key, logouts)
    auth = WSAuth(verifier, tokens, auth_timeout=auth_timeout)

    def news() -> dict[str, Any]:
        return {"type": "broadcast", "now": int(time.time()), "online": len(auth.connections)}

    return Application(
        [
            (r"/login", Login),
            (r"/logout", Logout),
            (r"/ws/token", TokenHandler),
            (r"/demo", Demo),
            (r"/demo/expired-token", ExpiredToken),
            (r"/config.json", Config),
            (r"/(.*)", Page, {"path": STATIC, "default_filename": "index.html"}),
        ],
        wsauth=auth,
        logouts=logouts,
        wsauth_expired=WSAuth(verifier, auth.tokens, token_ttl=1e-6),
        broadcaster=Broadcaster(auth, news, broadcast_interval_ms, slow="latest"),
        tick_interval_ms=tick_interval_ms,
        jwt_key=key,
        websocket_ping_interval=30,
        websocket_max_message_size=16 * 1024,
    )


class Demo(WebSocketAuthMixin, WebSocketHandler):
    """The WebSocket. None of its methods ever meets a client that is not authenticated."""

    number = 0

    def open(self, *args: str, **kwargs: str) -> None:
        # A ticker of this connection's own; it ends with the connection.
        self.auth_session.call_every(self.tick, self.settings["tick_interval_ms"])

    async def tick(self) -> None:
        self.number += 1
        await self.write_message({"type": "tick", "number": self.number})

    def on_message(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            message = message.decode(errors="replace")
        self.write_message({"type": "echo", "message": message})


class Login(RequestHandler):
    """``POST {"username": …, "password": …}`` answers ``{"user_id": …, "jwt": …, "expires_in": …}``, or 401."""

    def post(self) -> None:
        self.set_header("Cache-Control", "no-store")
        user_id = self.authenticate()
        if user_id is None:
            self.set_status(401)
            self.finish({"error": "wrong_login"})
            return
        now = time.time()
        claims = {"sub": user_id, "iat": now, "exp": int(now) + JWT_LIFETIME}
        token = jwt.encode(claims, self.settings["jwt_key"], algorithm="HS256")
        self.finish({"user_id": user_id, "jwt": token, "expires_in": JWT_LIFETIME})

    def authenticate(self) -> str | None:
        """Return who this is, or None if the body is no login, whatever else it may be."""
        try:
            body = json.loads(self.request.body)
            username, password = body["username"], body["password"]
            # A user who does not exist is compared too, with a password nobody has: the answer takes as long.
            expected = USERS.get(username, secrets.token_urlsafe())
            is_right = hmac.compare_digest(password.encode(), expected.encode())
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        return username if is_right else None


class Logouts:
    """Who logged out when, since the server started. Yours would be in the database that your logins are in."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def note(self, user_id: str) -> None:
        self._at[user_id] = time.time()

    def came_after(self, claims: dict[str, Any]) -> bool:
        """Say whether the user has logged out since this JWT was issued."""
        return self._at.get(claims["sub"], 0.0) >= float(claims["iat"])


class LoginVerifier(JWTVerifier):
    """Accepts the JWTs of `Login`, until their user logs out. A JWT cannot be called back, so this is where it ends."""

    def __init__(self, key: str, logouts: Logouts) -> None:
        super().__init__(key, algorithms=["HS256"])
        self._logouts = logouts

    async def verify(self, token: str) -> dict[str, Any]:
        claims = await super().verify(token)
        if self._logouts.came_after(claims):
            raise AuthError("jwt_invalid", "the user has logged out since")
        return claims


class Logout(RequestHandler):
    """``POST`` with ``Authorization: Bearer <JWT>`` logs the user out, everywhere and at once: 204, or 401."""

    async def post(self) -> None:
        auth: WSAuth = self.settings["wsauth"]
        try:
            user_id, _ = await auth.verify_jwt(self.request.headers.get("Authorization", "").removeprefix("Bearer "))
        except AuthError:
            self.set_status(401)
            self.finish({"error": "unauthorized"})
            return
        self.settings["logouts"].note(user_id)  # first, so that nobody comes back in between
        await auth.disconnect_user(user_id)
        self.set_status(204)


class ExpiredToken(TokenHandler):
    """For the page to show what becomes of an expired token without a wait: those from here live a microsecond."""

    wsauth_setting = "wsauth_expired"


class Config(RequestHandler):
    """What the page has to know about this server. The passwords are there for the demonstration only."""

    def get(self) -> None:
        auth: WSAuth = self.settings["wsauth"]
        self.set_header("Cache-Control", "no-store")
        self.finish({"users": USERS, "auth_timeout": auth.auth_timeout, "token_store": type(auth.tokens).__name__})


class Page(StaticFileHandler):
    """The page and its files, with headers that leave a stranger's script, style or frame nothing to do there."""

    def set_default_headers(self) -> None:
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Referrer-Policy", "no-referrer")

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")  # asked for again each time, so that an edit shows at once
