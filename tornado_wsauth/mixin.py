"""`WebSocketAuthMixin`: what an application puts in front of its `WebSocketHandler`.

It is the public face of `guard`, which does the work, so that the mixin adds no more than three public names to
the handlers it is put in front of.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from tornado.websocket import WebSocketHandler

from tornado_wsauth import wire
from tornado_wsauth.admission import GUARDED
from tornado_wsauth.auth import find_auth
from tornado_wsauth.errors import ConfigurationError
from tornado_wsauth.guard import Guard
from tornado_wsauth.redaction import take_query_argument

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest
    from tornado.web import Application

    from tornado_wsauth.session import AuthSession

    _Handler = WebSocketHandler
else:
    _Handler = object


class WebSocketAuthMixin(_Handler):
    """Two-step authentication for a `WebSocketHandler`. It must stand before it among the bases::

        class Chat(WebSocketAuthMixin, WebSocketHandler): ...

    ``open``, ``on_message``, ``on_close``, ``on_ping`` and ``on_pong`` keep their names and meanings and are called
    for authenticated clients only; ``on_close`` only if ``open`` completed. An exception in any of the first two,
    sync or async, is logged once and closes the connection with 1011.

    The class attribute ``wsauth_setting`` names the application setting that holds the `WSAuth`: ``"wsauth"`` where
    a handler does not say otherwise.
    """

    __slots__ = (wire.CURRENT_USER, "_wsauth_guard")

    _wsauth_guard: Guard

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        bases = cls.__mro__
        if WebSocketHandler in bases and bases.index(WebSocketHandler) < bases.index(WebSocketAuthMixin):
            raise TypeError(
                f"{cls.__name__}: WebSocketAuthMixin must stand before WebSocketHandler among the bases; "
                f"write class {cls.__name__}(WebSocketAuthMixin, WebSocketHandler)"
            )
        # These stand on the instance, and there are two ways of looking a callback up that go past it.
        for name in GUARDED:
            if hasattr(type(inspect.getattr_static(cls, name, None)), "__set__"):
                raise TypeError(f"{cls.__name__}.{name} must be a method: the gate cannot stand before a property")
        if cls.__getattribute__ is not object.__getattribute__:
            raise TypeError(f"{cls.__name__} must not override __getattribute__: the gate cannot stand before it")

    def __new__(cls, application: Application, request: HTTPServerRequest, **kwargs: Any) -> Self:
        # Not in __init__, which a subclass may replace: the gate is shut before any of its code runs.
        handler = super().__new__(cls)
        try:
            auth = find_auth(application.settings, cls)
        except ConfigurationError as error:
            take_query_argument(request, "token")
            for name in ("prepare", "get"):
                object.__setattr__(handler, name, partial(_fail, error))
        else:
            handler._wsauth_guard = Guard(handler, request, auth)
        return handler

    def prepare(self) -> Any:  # an application's own may be typed to return None, and this stands before it
        """Check the request and redeem its connection token, in this order: method, ``Upgrade``, version and key
        (RFC 6455 §4.2.1), Origin, limits, token.

        A request that is refused gets its answer here; what follows ``await super().prepare()`` in an override
        runs for admitted clients only. An override that does not call it is no way around it: the same check
        is then made right before the upgrade.
        """
        return self._wsauth_guard.prepare(super().prepare)

    def on_connection_close(self) -> None:
        """Keep from ``on_close()`` what ends before the 101: there was no ``open()``."""
        if not self._wsauth_guard.left():
            super().on_connection_close()

    @property
    def auth_session(self) -> AuthSession:
        """Who this connection belongs to. It is there from ``open()`` on and stays readable in ``on_close()``.

        Raises `RuntimeError` before the client is authenticated.
        """
        session = self._wsauth_guard.session
        if session is None:
            raise RuntimeError("auth_session: this client is not authenticated yet; it is there from open() on")
        return session

    def load_auth_user(self, claims: dict[str, Any]) -> Any | Awaitable[Any]:
        """Override to say who the bearer of a valid JWT is to the application; the result becomes ``current_user``.

        Called when a JWT was verified and found to be the token's user: before ``open()``, and again for each JWT that
        renews the connection. May be async and slow: only this connection waits, within ``auth_timeout`` or, later,
        until the JWT before has expired. Return None to turn the user away (4403 ``forbidden``). An exception closes
        the connection with 1011. The default returns the user id.
        """
        return self._wsauth_guard.gate.user_id

    def on_auth_failed(self, reason: str) -> None:
        """Override to be told that this client was refused, at whichever step, and why.

        ``reason`` is the one in the log (``token_expired``, ``user_mismatch``, ``auth_timeout`` …). The answer is
        decided and cannot be changed here; an exception is logged and goes no further. The default does nothing.
        """


def _fail(error: ConfigurationError, *args: object, **kwargs: object) -> None:
    """Answer 500: without a `WSAuth` nobody gets in."""
    raise error
