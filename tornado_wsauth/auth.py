"""`WSAuth`: one application's authentication. It holds the options, the token store and the live connections.

Applications make one and put it into ``Application(wsauth=…)``; `mixin`, `token_handler` and `broadcaster` find
everything they need in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from tornado.web import RequestHandler

from tornado_wsauth.backplane.base import Backplane
from tornado_wsauth.backplane.memory import MemoryBackplane
from tornado_wsauth.binding import BONDS, Bond, ClientAddress, peer_address
from tornado_wsauth.clock import Clock
from tornado_wsauth.cluster import Cluster
from tornado_wsauth.connections import Connections
from tornado_wsauth.credentials import Credentials
from tornado_wsauth.drain import drain
from tornado_wsauth.errors import ConfigurationError
from tornado_wsauth.failures import LastFailures
from tornado_wsauth.gate import CONNECTING, RESTART, SHUTDOWN
from tornado_wsauth.lifetime import Lifetimes, RecheckFailure, StillValid
from tornado_wsauth.log import logger
from tornado_wsauth.observer import Observer, State, timed
from tornado_wsauth.once import Once
from tornado_wsauth.options import (
    checked_origins,
    checked_rate,
    checked_set,
    require,
    require_bool,
    require_callable,
    require_not_negative,
    require_one_of,
    require_positive,
    require_positive_int,
)
from tornado_wsauth.pace import Pace
from tornado_wsauth.places import Places
from tornado_wsauth.reach import Reach, guards_of
from tornado_wsauth.readiness import Readiness
from tornado_wsauth.redaction import redact_in_tornado_logs
from tornado_wsauth.stores.base import TokenStore
from tornado_wsauth.stores.memory import MemoryTokenStore
from tornado_wsauth.tokens import TokenReplay
from tornado_wsauth.verifier import JWTVerifier, is_number

if TYPE_CHECKING:
    from tornado_wsauth.admission import Admission
    from tornado_wsauth.guard import Guard


class WSAuth(Credentials, Reach):
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
    :param max_connections_per_user: how many connections one user may have, in all processes that ``backplane`` joins;
        None for any number.
    :param over_limit: what becomes of one more: ``"refuse"`` answers its upgrade with 429 and leaves its token unspent;
        ``"evict_oldest"`` closes the user's oldest connection with 4409 ``replaced`` when it is let in.
    :param enforce_expiry: end a connection when its JWT expires, with 4401 ``jwt_expired``; if False, it goes on.
    :param expiry_warning: how long before that the client is told, in seconds; for a JWT that lives less than twice as
        long, when half of its time is over. 0: never.
    :param still_valid: asked about each session every ``recheck_interval`` seconds, for applications that know more
        than the JWT says. Takes the `AuthSession` and returns whether it may go on, sync or async; if not, it is closed
        with 4403 ``revoked``.
    :param recheck_failure: what becomes of a session when ``still_valid`` raises, or takes longer than
        ``recheck_interval``: ``"close"`` closes it with 1011, ``"keep"`` asks again an interval later.
    :param max_buffer_bytes: how many bytes may be queued for a connection when a broadcast comes; one with more is a
        slow reader, and what becomes of it is said by the broadcast's ``slow``. When a handler's own message comes, or
        a pong is due, twice as many may be queued; with more, the connection is closed with 1013 ``slow_reader``.
    :param message_rate: ``(messages, seconds)``: a client may send so many messages and pings at once, and on average
        as many in so many seconds; one that sends more is closed with 4429 ``too_many``. None for no limit.
    :param bind_tokens: what a token must be used for as it was issued for, of ``"origin"``, ``"path"`` and
        ``"address"``. A client then names the path when it asks for the token: ``POST /ws/token?path=/ws/chat``.
    :param client_address: says where a request comes from, for ``bind_tokens``. Left out, the other end of the TCP
        connection, which nobody can forge; behind a proxy that is the proxy's, and one that overwrites ``X-Real-Ip``
        allows for ``lambda request: request.remote_ip``.
    :param on_replay: called with a `TokenReplay` when a token is used a second time, sync or async, in the background.
    :param refuse: how a client whose token is refused learns of it: ``"http"`` answers with 401 or 429, of which a
        browser tells its page nothing; ``"close"`` upgrades first and closes with 4401 or 4429.
    :param allowed_origins: the exact ``Origin`` values that may connect and ask for tokens, such as
        ``["https://app.example"]``; None among them admits clients that send no Origin. Left out, a handler's
        ``check_origin`` decides, and the token route answers same-origin pages only.
    :param backplane: joins the processes of this application, such as ``RedisBackplane(redis)``: what is sent by
        `broadcast` and `send_to_user`, who is disconnected, and how many connections a user has, then concerns all of
        them. Each process has one of its own. Left out, there is one process.
    :param metrics: is told what happens, such as a `tornado_wsauth.metrics.Metrics`, which makes Prometheus' numbers of
        it. Each `WSAuth` has one of its own. Left out, nothing is measured.
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
        max_connections_per_user: int | None = None,
        over_limit: Literal["refuse", "evict_oldest"] = "refuse",
        enforce_expiry: bool = True,
        expiry_warning: float = 30,
        still_valid: StillValid | None = None,
        recheck_interval: float = 60,
        recheck_failure: RecheckFailure = "close",
        max_buffer_bytes: int = 2**20,
        message_rate: tuple[int, float] | None = None,
        allowed_origins: Iterable[str | None] | None = None,
        bind_tokens: Iterable[Bond] = (),
        client_address: ClientAddress = peer_address,
        on_replay: Callable[[TokenReplay], object] | None = None,
        refuse: Literal["http", "close"] = "http",
        backplane: Backplane | None = None,
        metrics: Observer | None = None,
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
            clock is None or isinstance(clock, Clock),
            f"WSAuth(clock={clock!r})",
            "must be an instance of a Clock; left out, the system's",
        )
        require(
            backplane is None or isinstance(backplane, Backplane),
            f"WSAuth(backplane=<{type(backplane).__name__}>)",
            "must be a Backplane, such as RedisBackplane(redis); left out, there is one process",
        )
        require(
            metrics is None or isinstance(metrics, Observer),
            f"WSAuth(metrics=<{type(metrics).__name__}>)",
            "must be an Observer, such as tornado_wsauth.metrics.Metrics(); left out, nothing is measured",
        )
        require_bool("WSAuth", "single_use", single_use, "True is the default")
        require_bool("WSAuth", "enforce_expiry", enforce_expiry, "True is the default")
        require_positive("WSAuth", "token_ttl", token_ttl, "in seconds; 30 is the default")
        require_positive("WSAuth", "auth_timeout", auth_timeout, "in seconds; 10 is the default")
        require_positive("WSAuth", "recheck_interval", recheck_interval, "in seconds; 60 is the default")
        require_not_negative("WSAuth", "expiry_warning", expiry_warning, "in seconds; 30 is the default, 0 for never")
        require_positive_int("WSAuth", "max_tokens_per_user", max_tokens_per_user, "10 is the default")
        require_positive_int("WSAuth", "max_preauth_bytes", max_preauth_bytes, "16384 is the default")
        require_positive_int("WSAuth", "max_pending", max_pending, "1000 is the default")
        require_positive_int("WSAuth", "max_buffer_bytes", max_buffer_bytes, "1048576, 1 MiB, is the default")
        if max_connections_per_user is not None:
            hint = "None, the default, is for any number"
            require_positive_int("WSAuth", "max_connections_per_user", max_connections_per_user, hint)
        require_one_of("WSAuth", "over_limit", over_limit, ("refuse", "evict_oldest"))
        require_one_of("WSAuth", "recheck_failure", recheck_failure, get_args(RecheckFailure))
        require_one_of("WSAuth", "refuse", refuse, ("http", "close"))
        if still_valid is not None:
            require_callable("WSAuth", "still_valid", still_valid, "takes an AuthSession, returns a bool")
        if on_replay is not None:
            require_callable("WSAuth", "on_replay", on_replay, "takes a TokenReplay")
        require_callable("WSAuth", "client_address", client_address, "takes a request, returns a str")

        self.jwt = jwt
        self.tokens: TokenStore = MemoryTokenStore() if tokens is None else tokens
        self.token_ttl = token_ttl
        self.single_use = single_use
        self.token_param = token_param
        self.max_tokens_per_user = max_tokens_per_user
        self.auth_timeout = auth_timeout
        self.max_preauth_bytes = max_preauth_bytes
        self.max_pending = max_pending
        self.max_buffer_bytes = max_buffer_bytes
        self.max_connections_per_user = max_connections_per_user
        self.over_limit = over_limit
        self.allowed_origins: frozenset[str | None] | None = (
            None if allowed_origins is None else checked_origins("WSAuth", "allowed_origins", allowed_origins)
        )
        self.bind_tokens: frozenset[Bond] = checked_set("WSAuth", "bind_tokens", bind_tokens, BONDS)
        self.client_address = client_address
        self.on_replay = on_replay
        self.refuse = refuse
        self.metrics = metrics
        clock = clock or Clock()
        self.pace: Pace | None = None if message_rate is None else Pace(*checked_rate("WSAuth", message_rate), clock)
        """How fast a client may send; None for as fast as it likes."""
        self.failures: LastFailures = LastFailures(clock)
        """Why each user's last connection was refused."""
        self.lifetimes: Lifetimes = Lifetimes(
            clock,
            leeway=jwt.leeway,
            enforce_expiry=enforce_expiry,
            expiry_warning=expiry_warning,
            still_valid=still_valid,
            recheck_interval=recheck_interval,
            recheck_failure=recheck_failure,
        )
        """How long each session lasts."""
        self.connections: Connections = Connections(max_buffer_bytes, self.lifetimes.run, backplane, metrics)
        """The authenticated connections of this process."""
        self.backplane = backplane
        self.places: Places | None = None
        """The user's places among all processes, where there is a limit and more than one process."""
        if backplane is not None and max_connections_per_user is not None:
            evict = over_limit == "evict_oldest"
            self.places = Places(backplane, max_connections_per_user, evict=evict, metrics=metrics)
        if isinstance(self.tokens, MemoryTokenStore) and not isinstance(backplane, MemoryBackplane | None):
            logger.warning(
                "tokens are kept in memory, where the other processes of this backplane cannot redeem them; "
                "use MongoTokenStore or RedisTokenStore"
            )
        self._cluster = None if backplane is None else Cluster(backplane, self, self.places, metrics)
        self.closing: bool = False
        """Whether `close` was called: no upgrade and no token from then on."""
        self.pending: set[Admission] = set()
        """The connections on their way from the handshake to an accepted JWT. The guard keeps it."""
        self.ending: set[Guard] = set()
        """The connections that we have closed and whose clients have not left yet. The guard keeps it."""
        self._background: set[asyncio.Future[Any]] = set()
        self._start_tokens = Once(lambda: timed(self.metrics, "store", "start", self.tokens.start()))
        self._warned_of_pings = False
        self.readiness: Readiness = Readiness(self)
        """Whether clients can be served."""
        if metrics is not None:
            metrics.attach(self.look)
        redact_in_tornado_logs(token_param)

    @property
    def clock(self) -> Clock:
        """What deadlines, expiry and limits go by."""
        return self.lifetimes.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self.lifetimes.clock = self.failures.clock = clock
        if self.pace is not None:
            self.pace.clock = clock

    async def start(self) -> None:
        """Prepare the token store: its indexes, its server; and join the other processes. Safe to call again, and from
        many places at once.

        Call it before the server listens to learn of an unreachable server early; otherwise the first use does.
        Raises `TokenStoreError` or `BackplaneError` when one cannot be reached; the next call tries again.
        """
        await self._start_tokens()
        if self._cluster is not None:
            await self._cluster.start()

    async def close(self, *, grace: float = 10, restart: bool = True) -> None:
        """End every connection, within ``grace`` seconds. From now on, upgrades and tokens are refused with 503.

        Connections that are not authenticated yet are closed at once, the others in batches of 100 during the first
        half of ``grace``, so that their clients do not all reconnect at the same instant. The code is 1012
        ``restart``, or 1001 ``shutdown`` if ``restart`` is False. What is left when ``grace`` is over, clients that
        have not answered, is aborted: when this returns, no connection is left. Where there are no more than 100 it
        takes no longer than their answers do. With ``grace=0``, all are closed at once and no answer is waited for;
        Tornado then aborts after 5 s.

        Called again while it runs, with a shorter ``grace``, it comes to its end sooner. Raises `ValueError` for a
        ``grace`` that is not a number of seconds, 0 or more.
        """
        if not is_number(grace) or grace < 0:
            raise ValueError(f"close(grace={grace!r}): seconds, 0 or more; 10 is the default")
        self.closing = True
        reason = RESTART if restart else SHUTDOWN
        for guard in [*self.pending]:
            guard.close(reason)

        def still_there() -> list[Guard]:
            return [*self.ending, *guards_of(self.connections)]

        await drain(still_there(), lambda guard: guard.close(reason), still_there, self.clock, grace)
        self.lifetimes.cancel()
        if self._cluster is not None:
            await self._cluster.close()

    def look(self) -> State:
        """Return how things stand in this process."""
        handshaking = sum(guard.gate.state is CONNECTING for guard in self.pending)
        return State(
            handshaking=handshaking,
            authenticating=len(self.pending) - handshaking,
            open=len(self.connections),
            closing=len(self.ending),
            buffered_bytes=self.connections.dispatcher.buffered(),
            draining=self.closing,
            connected=None if self.backplane is None else self.backplane.is_connected,
        )

    def warn_if_never_pinged(self, ping_interval: float) -> None:
        """Warn, once, when pings every so many seconds, or none, leave half-open connections unnoticed."""
        if not self._warned_of_pings and not ping_interval:
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
