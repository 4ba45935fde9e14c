"""What is looked at: routes, the `WSAuth` objects they use, the server. Every check is given it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tornado.httpserver import HTTPServer
from tornado.routing import Router
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from tornado_wsauth.auth import WSAuth, find_auth
from tornado_wsauth.doctor.routes import Route, find_routes
from tornado_wsauth.errors import ConfigurationError
from tornado_wsauth.mixin import WebSocketAuthMixin
from tornado_wsauth.token_handler import TokenHandler

_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class Policy:
    """A `WSAuth` that a handler uses, and the setting it stands in."""

    auth: WSAuth
    setting: str
    application: Application

    def at(self, option: str = "…") -> str:
        """Return where one of its options is written, such as ``wsauth=WSAuth(tokens=…)``."""
        return f"{self.setting}=WSAuth({option})"


@dataclass(frozen=True, slots=True)
class Subject:
    """An application, as the checks see it.

    ``root`` is what a server is given, and ``server`` that server, where it is known. ``opaque`` names what the
    application routes to without saying where it leads. ``processes``: how many there will be, None if nobody said.
    ``connect``: whether anything may be asked that the application would have to ask its servers for.
    """

    root: object
    routes: tuple[Route, ...]
    opaque: tuple[str, ...] = ()
    server: HTTPServer | None = None
    processes: int | None = None
    connect: bool = True

    @property
    def sockets(self) -> list[Route]:
        """The routes of WebSockets, of whatever kind."""
        return [route for route in self.routes if issubclass(route.handler, WebSocketHandler)]

    @property
    def guarded(self) -> list[Route]:
        """The routes of WebSockets that have the mixin."""
        return [route for route in self.sockets if issubclass(route.handler, WebSocketAuthMixin)]

    @property
    def token_routes(self) -> list[Route]:
        """The routes of `TokenHandler` and what is made of it."""
        return [route for route in self.routes if issubclass(route.handler, TokenHandler)]

    @property
    def policies(self) -> list[Policy]:
        """Every `WSAuth` that a handler of these routes uses, once."""
        found: list[Policy] = []
        for route in [*self.guarded, *self.token_routes]:
            auth = auth_of(route)
            if auth is not None and not any(policy.auth is auth for policy in found):
                found.append(Policy(auth, setting_of(route), route.application))
        return found

    @property
    def applications(self) -> list[Application]:
        """The applications that have a handler of this library."""
        found: list[Application] = []
        for route in [*self.guarded, *self.token_routes]:
            if not any(route.application is application for application in found):
                found.append(route.application)
        return found

    def guarded_by(self, auth: WSAuth) -> list[Route]:
        """Return the routes of the WebSockets that use ``auth``."""
        return [route for route in self.guarded if auth_of(route) is auth]


def subject_of(
    target: Application | Router | HTTPServer, *, processes: int | None = None, connect: bool = True
) -> Subject:
    """Return ``target`` as the checks see it; the options are those of `Subject`."""
    server = target if isinstance(target, HTTPServer) else None
    root = target.request_callback if isinstance(target, HTTPServer) else target
    routing = find_routes(root)
    return Subject(root, tuple(routing.routes), tuple(routing.opaque), server, processes, connect)


def setting_of(route: Route) -> str:
    """Return the name of the application setting that the route's handler finds its `WSAuth` in."""
    return str(getattr(route.handler, "wsauth_setting", "wsauth"))


def auth_of(route: Route) -> WSAuth | None:
    """Return the `WSAuth` that the route's handler uses, None if there is none."""
    try:
        return find_auth(route.application.settings, route.handler)
    except ConfigurationError:
        return None


def named(routes: Iterable[Route]) -> str:
    """Return the routes in one line; of many, the first."""
    names = [route.where for route in routes]
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def cookie_secrets(application: Application) -> list[bytes]:
    """Return what the application signs its cookies with; several, where they are rotated."""
    given = application.settings.get("cookie_secret")
    values = given.values() if isinstance(given, dict) else [given]
    return [value.encode() if isinstance(value, str) else value for value in values if isinstance(value, (str, bytes))]
