"""`TokenHandler`: the HTTP route where a logged-in user gets a connection token. Applications route to it."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Awaitable, Mapping
from typing import Any, NoReturn

from tornado.concurrent import Future
from tornado.web import Finish, HTTPError, RequestHandler

from tornado_wsauth import binding, log
from tornado_wsauth.auth import WSAuth, find_auth
from tornado_wsauth.errors import (
    AuthError,
    BackplaneError,
    ConfigurationError,
    KeySourceError,
    TokenLimitReached,
    TokenStoreError,
)
from tornado_wsauth.tokens import as_user_id

_RETRY_SOON = {"Retry-After": "5"}
_CORS_HEADERS = ("Allow-Origin", "Allow-Credentials", "Allow-Methods", "Allow-Headers", "Expose-Headers", "Max-Age")


class TokenHandler(RequestHandler):
    """``POST`` answers ``200 {"token": "…", "expires_in": 30}`` to a user it knows, and a JSON error to others.

    Used as it is, it knows a user by ``Authorization: Bearer <JWT>``. In an application with logins of its own,
    put it in front of the application's base handler, and whoever that knows as ``current_user`` gets a token::

        class SocketToken(TokenHandler, BaseHandler): ...

    The user of a request with a Bearer JWT is the JWT's: an invalid one is 401 even beside a valid cookie. Any other
    request is judged by its cookies, and Tornado's XSRF check applies to it where ``xsrf_cookies`` is set. Neither
    may come from a foreign page: an ``Origin`` must be the server's own, or, where `WSAuth` has
    ``allowed_origins``, exactly one of those.

    Errors are ``{"error": "<code>"}``: 401 ``unauthorized``, 403 ``origin_not_allowed`` or ``xsrf_failed``, 405
    ``method_not_allowed``, 429 ``too_many_tokens``, 503 ``store_unavailable``, ``backplane_unavailable``,
    ``keys_unavailable`` or ``closing``; 400 ``path_required`` where tokens are bound to a path and
    ``?path=/ws/chat`` does not name one.

    Asked with ``?explain=1``, the answer has ``last_failure`` as well: the reason why the user's last connection to
    this process was refused in the last ten minutes, as it stands in the log, or null. It tells a user nothing about
    others.

    With ``allowed_origins``, the route answers CORS for exactly those, preflight included; it never sends ``*``.
    """

    SUPPORTED_METHODS: tuple[str, ...] = ("POST", "OPTIONS")

    def get_user_id(self) -> Awaitable[object] | object:
        """Override to say who asks: a `str`, `bytes` or `int`, or None for nobody. May be async.

        It must be the id that the user's JWTs carry. Called once for each ``POST``. The default returns the user of
        the Bearer JWT if there is one, and else ``current_user``.
        """
        # Whatever is false is nobody, as it is to tornado.web.authenticated.
        return self._bearer_user_id() if self._bearer() is not None else self.current_user or None

    async def post(self) -> None:
        auth = self._auth
        if auth.closing:
            self._refuse(503, "closing", _RETRY_SOON)
        if self._comes_from_foreign_page(auth):
            self._refuse(403, "origin_not_allowed")
        user_id = await self._require_user_id()
        try:
            token = await auth.issue_token(user_id, bound_to=self._bound_to(auth))
        except TokenLimitReached:
            retry_after = {"Retry-After": str(math.ceil(auth.token_ttl))}
            self._refuse(429, "too_many_tokens", retry_after, user_id=user_id)
        except TokenStoreError as error:
            self._refuse(503, "store_unavailable", _RETRY_SOON, user_id=user_id, detail=str(error))
        except BackplaneError as error:
            self._refuse(503, "backplane_unavailable", _RETRY_SOON, user_id=user_id, detail=str(error))
        answer: dict[str, Any] = {"token": token, "expires_in": auth.token_ttl}
        if self.get_argument("explain", "") == "1":
            answer["last_failure"] = auth.failures.of(user_id)
        self.finish(answer)  # not awaited: a client that has left is no error

    def _bound_to(self, auth: WSAuth) -> dict[str, str | None] | None:
        """Return what the token is good for, as far as tokens are bound to anything."""
        path = self.get_argument("path", None)
        if "path" in auth.bind_tokens and not path:
            self._refuse(400, "path_required")
        return binding.place(auth.bind_tokens, self.request, path, auth.client_address) or None

    def options(self) -> None:
        """Answer a CORS preflight (Fetch standard, §4.8); an origin that is not allowed gets no permission."""
        self.set_header("Allow", "POST, OPTIONS")
        self.set_status(204)

    # Who asks ---------------------------------------------------------------------------------------------------

    async def _require_user_id(self) -> str:
        try:
            user_id = self.get_user_id()
            if inspect.isawaitable(user_id):
                user_id = await user_id
        except AuthError as error:
            self._unauthorized(error.reason, error.detail)
        except KeySourceError as error:
            self._refuse(503, "keys_unavailable", _RETRY_SOON, detail=str(error))
        if user_id is None:
            self._unauthorized("anonymous")
        try:
            return as_user_id(user_id)
        except ValueError as error:
            raise ConfigurationError(f"{type(self).__name__}: {error}; override get_user_id() to return one") from error

    async def _bearer_user_id(self) -> str:
        user_id, _ = await self._auth.verify_jwt(self._bearer() or "")
        return user_id

    def _bearer(self) -> str | None:
        """Return the credentials of ``Authorization: Bearer …`` (RFC 6750 §2.1), None without such a header."""
        scheme, _, credentials = self.request.headers.get("Authorization", "").partition(" ")
        return credentials.strip() if scheme.lower() == "bearer" else None

    # Where it comes from ----------------------------------------------------------------------------------------

    def check_xsrf_cookie(self) -> None:
        """Apply Tornado's check unless a Bearer JWT decides: no foreign page can make a browser send that."""
        if self._bearer() is not None:
            return
        try:
            super().check_xsrf_cookie()
        except HTTPError as error:
            self._refuse(403, "xsrf_failed", detail=str(error.log_message))

    def check_trusted_origin(self, origin: str) -> bool:
        """Answer Tornado's own ``cross_origin_protection`` (6.6) from the list that decides everything else here."""
        if self._auth.allowed_origins is None:
            return super().check_trusted_origin(origin)
        return self._auth.allows_origin(origin)

    def _comes_from_foreign_page(self, auth: WSAuth) -> bool:
        """Say whether a page of an origin that is not allowed made a browser send this.

        Browsers put ``Origin`` on every POST (Fetch standard, §3.2) and ``Sec-Fetch-Site`` beside it; what comes
        without either is no page.
        """
        origin = self.request.headers.get("Origin")
        if origin is None:
            return self.request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none")
        if auth.allowed_origins is not None:
            return not auth.allows_origin(origin)
        # A proxy that ends TLS may not say so, and then a page with TLS is our own all the same. The other way round
        # it never is: whoever sits on the line writes a page that came without.
        schemes = ("https",) if self.request.protocol == "https" else ("https", "http")
        host = self.request.headers.get("Host", "").lower()
        return origin.lower() not in [f"{scheme}://{host}" for scheme in schemes]

    # The answer -------------------------------------------------------------------------------------------------

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        """Set what every answer of this route must carry, whatever a base handler has set before."""
        self.set_header("Cache-Control", "no-store")
        for name in _CORS_HEADERS:
            self.clear_header(f"Access-Control-{name}")
        with contextlib.suppress(ConfigurationError):  # without a WSAuth, this is the 500 that says so
            self._permit_origin(self._auth)
        return super().finish(chunk)

    def _permit_origin(self, auth: WSAuth) -> None:
        """Let a page of an allowed origin read the answer, errors included (Fetch standard, §3.3)."""
        origin = self.request.headers.get("Origin")
        if auth.allowed_origins is not None:
            self.add_header("Vary", "Origin")
        if origin is not None and auth.allows_origin(origin):
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Access-Control-Allow-Credentials", "true")
            self.set_header("Access-Control-Expose-Headers", "Retry-After")
            if self.request.method == "OPTIONS":
                self.set_header("Access-Control-Allow-Methods", "POST")
                self.set_header("Access-Control-Allow-Headers", "Authorization, Content-Type, X-XSRFToken, X-CSRFToken")
                self.set_header("Access-Control-Max-Age", "600")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer errors that Tornado or a base handler raises with a JSON body too."""
        if status_code == 405:
            self.set_header("Allow", "POST, OPTIONS")
        error = self._error_of(status_code)
        self._record(error, None, status_code)
        self.finish({"error": error})

    def _error_of(self, status_code: int) -> str:
        if status_code >= 500:
            return "internal"
        if status_code == 405:
            return "method_not_allowed"
        if status_code == 403:  # Tornado 6.6's cross_origin_protection, or a base handler's own reasons
            return "origin_not_allowed" if self._comes_from_foreign_page(self._auth) else "forbidden"
        return "bad_request"

    def _unauthorized(self, reason: str, detail: str = "") -> NoReturn:
        self._refuse(401, "unauthorized", {"WWW-Authenticate": "Bearer"}, reason=reason, detail=detail)

    def _refuse(
        self,
        status: int,
        error: str,
        headers: Mapping[str, str] | None = None,
        *,
        reason: str | None = None,
        user_id: str | None = None,
        detail: str = "",
    ) -> NoReturn:
        """Log why, and answer; the client learns ``error`` alone."""
        self._record(reason or error, user_id, status, detail)
        self.set_status(status)
        for name, value in (headers or {}).items():
            self.set_header(name, value)
        raise Finish({"error": error})

    def _record(self, reason: str, user_id: str | None, status: int, detail: str = "") -> None:
        log.record("refused", self.request, reason=reason, user_id=user_id, code=status, detail=detail)
        with contextlib.suppress(ConfigurationError):  # without a WSAuth, this is the 500 that says so
            if self._auth.metrics is not None:
                self._auth.metrics.token_refused(reason)

    @property
    def _auth(self) -> WSAuth:
        return find_auth(self.settings, type(self))
