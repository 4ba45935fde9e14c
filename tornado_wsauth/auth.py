"""`WSAuth`: one application's authentication. It holds the options, the token store and the live connections.

Applications make one and put it into ``Application(wsauth=…)``; `mixin`, `token_handler` and `broadcaster` find
everything they need in it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tornado.web import RequestHandler

from tornado_wsauth.clock import Clock
from tornado_wsauth.connections import Connections
from tornado_wsauth.errors import AuthError, ConfigurationError
from tornado_wsauth.gate import RESTART
from tornado_wsauth.log import logger
from tornado_wsauth.options import checked_origins, require, require_positive, require_positive_int
from tornado_wsauth.redaction import redact_in_tornado_logs
from tornado_wsauth.stores.base import TokenStore
from tornado_wsauth.stores.memory import MemoryTokenStore
from tornado_wsauth.tokens import TokenRecord, as_user_id
from tornado_wsauth.verifier import JWTVerifier

if TYPE_CHECKING:
    from tornado_wsauth.guard import Guard


class WSAuth:
    """One application's WebSocket authentication; ``Application(wsauth=WSAuth(…))``.

    :param jwt: verifies the JWT of the first message, and the one a client asks for a token with.
    :param tokens: where connection tokens wait to be redeemed; left out, a `MemoryTokenStore`, for one process.
    :param token_ttl: how long a connection token can be redeemed, in seconds.
    :param single_use: a token opens one connection; if False, any number until it expires.
    :param token_param: the query argument that carries the token.
    :param max_tokens_per_user: how many unspent, unexpired tokens one user may hold; further requests get 429.
    :param auth_timeout: how long a client may take from the 101 until its JWT is accepted, in seconds.
    :param max_preauth_bytes: the largest message read before that, in bytes.
    :param max_pending: how many connections may be on their way to authentication; further upgrades get 503.
    :param max_buffer_bytes: how many bytes may be queued for a connection when a broadcast comes; one with more is a
        slow reader, and what becomes of it is said by the broadcast's ``slow``.
    :param allowed_origins: the exact ``Origin`` values that may connect and ask for tokens, such as
        ``["https://app.example"]``; None among them admits clients that send no Origin. Left out, a handler's
        ``check_origin`` decides, and the token route answers same-origin pages only.
    :param clock: where time comes from; a seam for tests.

    Raises `ConfigurationError` for an option that cannot be right. Tornado's three loggers never show a token from
    here on. Two policies in one application are two `WSAuth` objects under two settings; a handler picks one with
    its class attribute ``wsauth_setting``.
    """

    def __init__(
        self,
        jwt: JWTVerifier,
        tokens: TokenStore | None = None,
        *,
        token_ttl: float = 30,
        single_use: bool = True,
        token_param: str = "token",
        max_tokens_per_user: int = 10,
        auth_timeout: float = 10,
        max_preauth_bytes: int = 16384,
        max_pending: int = 1000,
        max_buffer_bytes: int = 2**20,
        allowed_origins: Iterable[str | None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        # Of what should have been a verifier only the type is shown: it may be the key itself.
        require(
            isinstance(jwt, JWTVerifier),
            f"WSAuth(jwt=<{type(jwt).__name__}>)",
            'must be a JWTVerifier; write WSAuth(JWTVerifier(key, algorithms=["HS256"]))',
        )
        require(
            tokens is None or isinstance(tokens, TokenStore),
            f"WSAuth(tokens={tokens!r})",
            "must be a TokenStore, such as MongoTokenStore(collection); left out, a MemoryTokenStore()",
        )
        require(
            isinstance(token_param, str) and token_param.isidentifier() and token_param.isascii(),
            f"WSAuth(token_param={token_param!r})",
            "must be a plain name; 'token' is the default",
        )
        require(
            isinstance(single_use, bool), f"WSAuth(single_use={single_use!r})", "must be True, the default, or False"
        )
        require(
            clock is None or isinstance(clock, Clock),
            f"WSAuth(clock={clock!r})",
            "must be an instance of a Clock; left out, the system's",
        )
        require_positive("WSAuth", "token_ttl", token_ttl, "in seconds; 30 is the default")
        require_positive("WSAuth", "auth_timeout", auth_timeout, "in seconds; 10 is the default")
        require_positive_int("WSAuth", "max_tokens_per_user", max_tokens_per_user, "10 is the default")
        require_positive_int("WSAuth", "max_preauth_bytes", max_preauth_bytes, "16384 is the default")
        require_positive_int("WSAuth", "max_pending", max_pending, "1000 is the default")
        require_positive_int("WSAuth", "max_buffer_bytes", max_buffer_bytes, "1048576, 1 MiB, is the default")

        self.jwt = jwt
        self.tokens = MemoryTokenStore() if tokens is None else tokens
        self.token_ttl = token_ttl
        self.single_use = single_use
        self.token_param = token_param
        self.max_tokens_per_user = max_tokens_per_user
        self.auth_timeout = auth_timeout
        self.max_preauth_bytes = max_preauth_bytes
        self.max_pending = max_pending
        self.max_buffer_bytes = max_buffer_bytes
        self.allowed_origins = (
            None if allowed_origins is None else checked_origins("WSAuth", "allowed_origins", allowed_origins)
        )
        self.clock = clock or Clock()
        self.connections = Connections(max_buffer_bytes)
        """The authenticated connections of this process."""
        self.closing = False
        """Whether `close` was called: no upgrade and no token from then on."""
        self.pending: set[Guard] = set()
        """The connections on their way from the handshake to an accepted JWT. The mixin keeps it."""
        self._started = False
        self._warned_of_pings = False
        self._starting = asyncio.Lock()
        redact_in_tornado_logs(token_param)

    async def start(self) -> None:
        """Prepare the token store: its indexes, its server. Safe to call again, and from many places at once.

        Call it before the server listens to learn of an unreachable store early; otherwise the first use does.
        Raises `TokenStoreError` when the store cannot be reached; the next call tries again.
        """
        if self._started:
            return
        async with self._starting:
            if not self._started:
                await self.tokens.start()
                self._started = True

    async def close(self) -> None:
        """Refuse new upgrades and tokens with 503, and close every connection with 1012 ``restart``."""
        self.closing = True
        for guard in [*self.pending, *(handler._wsauth_guard for handler in self.connections)]:
            guard.close(RESTART)

    async def issue_token(self, user_id: str | bytes | int, *, context: Mapping[str, Any] | None = None) -> str:
        """Return a new connection token for ``user_id``, the id that the user's JWTs carry.

        Raises `ValueError` for what is no user id, `TokenLimitReached` when the user holds ``max_tokens_per_user``
        live tokens, `TokenStoreError` when the store cannot answer.
        """
        user = as_user_id(user_id)
        await self.start()
        return await self.tokens.issue(user, self.token_ttl, context=context, max_live=self.max_tokens_per_user)

    async def redeem_token(self, token: str) -> TokenRecord:
        """Spend ``token`` as ``single_use`` says; raises `TokenRejected` or `TokenStoreError`."""
        await self.start()
        return await self.tokens.redeem(token, consume=self.single_use)

    async def verify_jwt(self, jwt: str) -> tuple[str, dict[str, Any]]:
        """Return the user id and the claims of ``jwt``; raises `AuthError`, or `KeySourceError` without keys."""
        claims = await self.jwt.verify(jwt)
        try:
            return as_user_id(claims[self.jwt.user_claim]), claims
        except (KeyError, ValueError) as error:
            raise AuthError("jwt_invalid", f"its {self.jwt.user_claim!r} claim is not a user id") from error

    def warn_if_never_pinged(self, settings: Mapping[str, Any]) -> None:
        """Warn, once, when the application's settings leave half-open connections unnoticed."""
        if not self._warned_of_pings and not settings.get("websocket_ping_interval"):
            self._warned_of_pings = True
            logger.warning(
                "pings are off, so a client that vanishes without a word stays connected for ever; "
                "set Application(websocket_ping_interval=30)"
            )

    def allows_origin(self, origin: str | None) -> bool:
        """Say whether ``allowed_origins`` holds exactly ``origin``; None stands for a request without one."""
        return self.allowed_origins is not None and origin in self.allowed_origins


def find_auth(settings: Mapping[str, Any], handler_class: type[RequestHandler]) -> WSAuth:
    """Return the `WSAuth` for handlers of ``handler_class`` among an application's ``settings``.

    Raises `ConfigurationError` when there is none under the class's ``wsauth_setting`` (``"wsauth"`` by default).
    """
    setting = getattr(handler_class, "wsauth_setting", "wsauth")
    auth = settings.get(setting)
    if not isinstance(auth, WSAuth):
        raise ConfigurationError(
            f"Application({setting}={auth!r}): {handler_class.__name__} needs a WSAuth there; "
            f"write Application(handlers, {setting}=WSAuth(jwt=…))"
        )
    return auth


def new_session_id(claims: Mapping[str, Any]) -> str:
    """Return the ``sid`` claim (OpenID Connect Front-Channel Logout §3), or a new id where there is none."""
    sid = claims.get("sid")
    return sid if isinstance(sid, str) and sid else secrets.token_hex(8)
