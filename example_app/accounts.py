"""Who can log in, who is logged in, and the JWTs that say so: what your application has already, in its own way.

`app` puts the routes of this module beside the WebSocket. Nothing here knows of sockets but `LogOut`, which ends them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import time
from typing import Any

import jwt
from tornado.web import RequestHandler

from example_app.ledger import Ledger, Login
from tornado_wsauth import AuthError, JWTVerifier, WSAuth, WSAuthError

USERS = {"alice": "wonderland", "bob": "builder"}
"""Who can log in. The page shows these passwords, so that there is something to try; yours are hashed."""

JWT_LIFETIME = 60
"""Seconds after which a JWT expires. So short that one can watch a live connection being renewed."""

ALGORITHM = "HS256"


class Accounts:
    """Logs users in and out, and gives them JWTs. What it knows is in ``ledger``, for all processes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.verifier = LoginVerifier(ledger)

    async def log_in(self, username: str, password: str) -> tuple[str, Login] | None:
        """Return the secret of a new login and the login, or None if that is not the user's password."""
        # A user who does not exist is compared too, with a password nobody has: the answer takes as long.
        expected = USERS.get(username, secrets.token_urlsafe())
        if not hmac.compare_digest(password.encode(), expected.encode()):
            return None
        secret = secrets.token_urlsafe(32)
        login = Login(username, _digest(secret))
        await self._ledger.add(login)
        return secret, login

    async def login_of(self, secret: str) -> Login | None:
        session_id = _digest(secret)
        user_id = await self._ledger.user_of(session_id)
        return None if user_id is None else Login(user_id, session_id)

    async def log_out(self, login: Login, *, everywhere: bool) -> None:
        """End this login, or all of its user's."""
        await (self._ledger.end_all(login.user_id) if everywhere else self._ledger.end(login))

    async def issue_jwt(self, login: Login, lifetime: float = JWT_LIFETIME) -> str:
        """Return a JWT for this login, signed with the newest key. A negative lifetime makes one that has expired."""
        now = time.time()
        issued_at = min(now, now + lifetime)
        claims = {"sub": login.user_id, "sid": login.session_id, "iat": issued_at, "exp": int(now + lifetime)}
        keys = await self._ledger.keys()
        return jwt.encode(claims, keys.newest, algorithm=ALGORITHM, headers={"kid": keys.newest_id})

    async def key_id(self) -> str:
        """Return the ``kid`` of the newest key."""
        return (await self._ledger.keys()).newest_id

    async def rotate_keys(self) -> None:
        """Sign with a new key from now on. The key before stays good for the JWTs that are out, older ones do not."""
        await self._ledger.rotate(secrets.token_urlsafe(32))


def _digest(secret: str) -> str:
    """Return the id of the session that ``secret`` proves: whoever reads the ledger, or a JWT, cannot log in."""
    return hashlib.sha256(secret.encode()).hexdigest()[:32]


class LoginVerifier(JWTVerifier):
    """Accepts the JWTs of `Accounts` until their login ends. A JWT cannot be called back, so this is where it ends."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(secrets.token_bytes(32), [ALGORITHM])  # nobody's: the keys are the ledger's
        self._ledger = ledger

    async def verify(self, token: str) -> dict[str, Any]:
        keys = await self._ledger.keys()  # for each JWT: another process may have rotated them
        claims = await JWTVerifier(keys.by_id, [ALGORITHM]).verify(token)
        if await self._ledger.user_of(claims.get("sid", "")) != claims["sub"]:
            raise AuthError("jwt_invalid", "this login has ended")
        return claims


class AccountHandler(RequestHandler):
    """Answers 503 while the ledger, or what a logout has to reach, cannot be had."""

    @property
    def accounts(self) -> Accounts:
        accounts: Accounts = self.settings["accounts"]
        return accounts

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")

    def refuse(self, error: str) -> None:
        self.set_status(401)
        self.finish({"error": error})

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if isinstance(kwargs.get("exc_info", (None, None))[1], WSAuthError):
            self.set_status(503)
            self.finish({"error": "unavailable"})
        else:
            super().write_error(status_code, **kwargs)

    def log_exception(self, *exc_info: Any) -> None:
        if isinstance(exc_info[1], WSAuthError):
            logging.getLogger("example_app").warning("%s", exc_info[1])  # a traceback would say no more
        else:
            super().log_exception(*exc_info)


class MembersHandler(AccountHandler):
    """Answers 401 to whoever is not logged in, which one proves by ``Authorization: Bearer <secret of the login>``.

    Yours is an HttpOnly cookie, which no script can read. Here two users share one page, and cookies are the browser's,
    not a pane's.
    """

    current_user: Login

    async def prepare(self) -> None:
        login = await self.accounts.login_of(self.request.headers.get("Authorization", "").removeprefix("Bearer "))
        if login is None:
            self.refuse("unauthorized")
        else:
            self.current_user = login


class LogIn(AccountHandler):
    """``POST {"username": …, "password": …}`` answers ``{"user_id": …, "session": …, "session_id": …}``, or 401."""

    async def post(self) -> None:
        try:
            body = json.loads(self.request.body)
            found = await self.accounts.log_in(body["username"], body["password"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            found = None  # no login, whatever else it may be
        if found is None:
            self.refuse("wrong_login")
            return
        secret, login = found
        self.finish({"user_id": login.user_id, "session": secret, "session_id": login.session_id})


class FreshJWT(MembersHandler):
    """``POST`` answers ``{"jwt": …, "expires_in": 60}``, or 401 once the login has ended."""

    async def post(self) -> None:
        self.finish({"jwt": await self.accounts.issue_jwt(self.current_user), "expires_in": JWT_LIFETIME})


class LogOut(MembersHandler):
    """``POST /logout`` ends all logins of the user, and ``POST /logout/here`` this one: 204, or 401.

    Sockets that are open end at once.
    """

    async def post(self, here: str | None) -> None:
        auth: WSAuth = self.settings["wsauth"]
        login = self.current_user
        await self.accounts.log_out(login, everywhere=here is None)  # first, so that nobody comes back in between
        if here is None:
            await auth.disconnect_user(login.user_id)
        else:
            await auth.disconnect_session(login.session_id)
        self.set_status(204)
