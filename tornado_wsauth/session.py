"""`AuthSession`: who one live connection belongs to, and what its handler may do with that.

`guard` makes one when the first JWT is accepted, and renews it with each further one; a handler meets it as
``self.auth_session``.
"""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from tornado.ioloop import PeriodicCallback
from tornado.websocket import WebSocketClosedError

if TYPE_CHECKING:
    from tornado_wsauth.connections import Connections
    from tornado_wsauth.mixin import WebSocketAuthMixin
    from tornado_wsauth.wire import Writer


class AuthSession:
    """An authenticated connection, from the accepted JWT to the close.

    It stays readable afterwards, so that ``on_close`` can still ask whose connection that was.
    """

    __slots__ = (
        "_connections",
        "_groups",
        "_tickers",
        "claims",
        "expires_at",
        "handler",
        "session_id",
        "user_id",
        "writer",
    )

    def __init__(
        self,
        handler: WebSocketAuthMixin,
        writer: Writer,
        connections: Connections,
        *,
        user_id: str,
        claims: Mapping[str, Any],
    ) -> None:
        self.handler: WebSocketAuthMixin = handler
        """The handler of this connection; it is gone once the connection is over."""
        self.writer: Writer = writer  # for `connections`; it is gone with the handler
        self.user_id: str = user_id
        """The user both the connection token and the JWT were issued to."""
        self.session_id: str = session_id_of(claims) or secrets.token_hex(8)
        """The login this connection belongs to: the JWT's ``sid`` claim, or an id of its own for want of one."""
        self.claims: Mapping[str, Any] = claims
        """The claims of the JWT that was accepted last."""
        self.expires_at: float | None = claims.get("exp")
        """When that JWT expires, in Unix seconds."""
        self._connections = connections
        self._groups: set[str] | None = None
        self._tickers: list[PeriodicCallback] | None = None

    def renew(self, claims: Mapping[str, Any]) -> None:
        """Go on with the claims of another JWT of the same user. The guard calls it; groups and all else stay."""
        self.claims = claims
        self.expires_at = claims.get("exp")
        self.session_id = session_id_of(claims) or self.session_id

    @property
    def groups(self) -> frozenset[str]:
        """The groups this connection has joined."""
        return frozenset(self._groups or ())

    def join(self, group: str) -> None:
        """Receive what is broadcast to ``group`` from now on. Closing leaves every group; closed, this does nothing."""
        if self._connections.join(self, group):
            self._groups = self._groups or set()
            self._groups.add(group)

    def leave(self, group: str) -> None:
        """Receive no more of what is broadcast to ``group``. Leaving a group one is not in does nothing."""
        if self._groups and group in self._groups:
            self._groups.remove(group)
            self._connections.leave(self, group)

    def call_every(self, callback: Callable[[], Awaitable[None] | None], interval_ms: float) -> PeriodicCallback:
        """Call ``callback`` every ``interval_ms`` milliseconds for as long as the connection lives.

        The first call comes one interval from now. ``callback`` may be sync or async and never overlaps itself. An
        exception it raises is logged and the next call is made all the same; a `WebSocketClosedError`, which is
        how ``write_message`` says that the client has just gone, ends all calls of this session. Returns the running
        `PeriodicCallback`; its ``stop()`` ends them earlier. Raises `ValueError` unless ``interval_ms`` is positive.
        """

        async def tick() -> None:
            try:
                result = callback()
                if inspect.isawaitable(result):
                    await result
            except WebSocketClosedError:
                self._stop_tickers()

        ticker = PeriodicCallback(tick, interval_ms)
        if self in self._connections:
            ticker.start()
            self._tickers = self._tickers or []
            self._tickers.append(ticker)
        return ticker

    def end(self) -> None:
        """Leave the registry and every group, and stop what `call_every` started. The guard calls it at the close."""
        self._connections.remove(self)
        self._groups = None
        if hasattr(self, "handler"):
            del self.handler  # it has a way back to this session
            self.writer.discard()
            del self.writer
        self._stop_tickers()

    def _stop_tickers(self) -> None:
        for ticker in self._tickers or ():
            ticker.stop()
        self._tickers = None


def session_id_of(claims: Mapping[str, Any]) -> str | None:
    """Return the ``sid`` claim (OpenID Connect Front-Channel Logout §3), None where there is none to speak of."""
    sid = claims.get("sid")
    return sid if isinstance(sid, str) and sid else None
