"""Who can log in, who is logged in, and the JWTs that say so: what your application has already, in its own way.

`app` puts the routes of this module beside the WebSocket. Nothing here knows of sockets but `LogOut`, which ends them.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from tornado.web import RequestHandler

from tornado_wsauth import AuthError, JWTVerifier, WSAuth

USERS = {"alice": "wonderland", "bob": "builder"}
"""Who can log in. The page shows these passwords, so that there is something to try; yours are hashed."""

JWT_LIFETIME = 60
"""Seconds after which a JWT expires. So short that one can watch a live connection being renewed."""

ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class Login:
    """A user who logged in once. ``session_id`` is no secret; what proves the login is the one it is kept under."""

    user_id: str
    session_id: str = field(default_factory=lambda: secrets.token_hex(8))


class Accounts:
    """The logins there are, and the keys that JWTs are signed with. It outlives a restart of the application.

    Left out, ``jwt_secret`` is a new random one. Raises `ConfigurationError` for one that is too short.
    """

    def __init__(self, jwt_secret: str | None = None) -> None:
        self._logins: dict[str, Login] = {}  # by the secret; yours would be in your database
        self._keys = {"key-1": secrets.token_urlsafe(32) if jwt_secret is None else jwt_secret}
        self._rotations = 0
        self.verifier = LoginVerifier(self)

    # Logins -----------------------------------------------------------------------------------------------------

    def log_in(self, username: str, password: str) -> tuple[str, Login] | None:
        """Return the secret of a new login and the login, or None if that is not the user's password."""
        # A user who does not exist is compared too, with a password nobody has: the answer takes as long.
        expected = USERS.get(username, secrets.token_urlsafe())
        if not hmac.compare_digest(password.encode(), expected.encode()):
            return None
        secret = secrets.token_urlsafe(32)
        self._logins[secret] = login = Login(username)
        return secret, login

    def login_of(self, secret: str) -> Login | None:
        return self._logins.get(secret)

    def is_logged_in(self, session_id: str) -> bool:
        return any(login.session_id == session_id for login in self._logins.values())

    def log_out(self, login: Login, *, everywhere: bool) -> None:
        """Forget this login, or all of its user's."""
        self._logins = {
            secret: other
            for secret, other in self._logins.items()
            if other != login and not (everywhere and other.user_id == login.user_id)
        }

    # JWTs -------------------------------------------------------------------------------------------------------

    def issue_jwt(self, login: Login, lifetime: float = JWT_LIFETIME) -> str:
        """Return a JWT for this login, signed with the newest key. A negative lifetime makes one that has expired."""
        now = time.time()
        issued_at = min(now, now + lifetime)
        claims = {"sub": login.user_id, "sid": login.session_id, "iat": issued_at, "exp": int(now + lifetime)}
        return jwt.encode(claims, self._keys[self.key_id], algorithm=ALGORITHM, headers={"kid": self.key_id})

    @property
    def key_id(self) -> str:
        """The ``kid`` of the newest key."""
        return list(self._keys)[-1]

    @property
    def keys(self) -> dict[str, str]:
        """The keys a JWT may be signed with, by their ``kid``: the newest, and the one before it."""
        return dict(self._keys)

    def rotate_keys(self) -> None:
        """Sign with a new key from now on. The key before stays good for the JWTs that are out, older ones do not."""
        self._rotations += 1
        self._keys = {self.key_id: self._keys[self.key_id], f"key-{self._rotations + 1}": secrets.token_urlsafe(32)}
        self.verifier = self.verifier.with_key(self._keys, [ALGORITHM])


class LoginVerifier(JWTVerifier):
    """Accepts the JWTs of `Accounts` until their login ends. A JWT cannot be called back, so this is where it ends."""

    def __init__(self, accounts: Accounts) -> None:
        super().__init__(accounts.keys, [ALGORITHM])
        self._accounts = accounts

    async def verify(self, token: str) -> dict[str, Any]:
        claims = await super().verify(token)
        if not self._accounts.is_logged_in(claims.get("sid", "")):
            raise AuthError("jwt_invalid", "this login has ended")
        return claims


class AccountHandler(RequestHandler):
    """Knows who asks, by ``Authorization: Bearer <secret of the login>``.

    Yours is an HttpOnly cookie, which no script can read. Here two users share one page, and cookies are the browser's,
    not a pane's.
    """

    @property
    def accounts(self) -> Accounts:
        accounts: Accounts = self.settings["accounts"]
        return accounts

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")

    def get_current_user(self) -> Login | None:
        return self.accounts.login_of(self.request.headers.get("Authorization", "").removeprefix("Bearer "))

    def refuse(self, error: str) -> None:
        self.set_status(401)
        self.finish({"error": error})


class MembersHandler(AccountHandler):
    """Answers 401 to whoever is not logged in."""

    current_user: Login

    def prepare(self) -> None:
        if self.current_user is None:
            self.refuse("unauthorized")


class LogIn(AccountHandler):
    """``POST {"username": …, "password": …}`` answers ``{"user_id": …, "session": …, "session_id": …}``, or 401."""

    def post(self) -> None:
        try:
            body = json.loads(self.request.body)
            found = self.accounts.log_in(body["username"], body["password"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            found = None  # no login, whatever else it may be
        if found is None:
            self.refuse("wrong_login")
            return
        secret, login = found
        self.finish({"user_id": login.user_id, "session": secret, "session_id": login.session_id})


class FreshJWT(MembersHandler):
    """``POST`` answers ``{"jwt": …, "expires_in": 60}``, or 401 once the login has ended."""

    def post(self) -> None:
        self.finish({"jwt": self.accounts.issue_jwt(self.current_user), "expires_in": JWT_LIFETIME})


class LogOut(MembersHandler):
    """``POST /logout`` ends all logins of the user, and ``POST /logout/here`` this one: 204, or 401.

    Sockets that are open end at once.
    """

    async def post(self, here: str | None) -> None:
        auth: WSAuth = self.settings["wsauth"]
        login = self.current_user
        self.accounts.log_out(login, everywhere=here is None)  # first, so that nobody comes back in between
        if here is None:
            await auth.disconnect_user(login.user_id)
        else:
            await auth.disconnect_session(login.session_id)
        self.set_status(204)
