"""Findings about routes: what is missing among them, and what stands there without the gate."""

from __future__ import annotations

from collections.abc import Iterator

from tornado_wsauth.doctor.findings import Finding
from tornado_wsauth.doctor.subject import Subject, auth_of, named, setting_of
from tornado_wsauth.mixin import WebSocketAuthMixin


def no_wsauth(subject: Subject) -> Iterator[Finding]:
    """Handlers that answer 500 to everybody."""
    for route in [*subject.guarded, *subject.token_routes]:
        if auth_of(route) is None:
            setting = setting_of(route)
            yield Finding(
                "no-wsauth",
                "error",
                f"Application({setting}=…)",
                f"{route.where} finds no WSAuth there, and answers 500 to everybody",
                f"write Application(handlers, {setting}=WSAuth(JWTVerifier(…)))",
            )


def unguarded_route(subject: Subject) -> Iterator[Finding]:
    """WebSockets without the gate beside WebSockets with it: forgotten, more often than meant."""
    for route in subject.sockets:
        if not issubclass(route.handler, WebSocketAuthMixin) and subject.guarded:
            yield Finding(
                "unguarded-route",
                "warning",
                route.where,
                f"is a WebSocket without WebSocketAuthMixin, beside {named(subject.guarded)}, which has it: anybody "
                "may connect, unless the handler itself sees to that",
                f"write class {route.handler.__name__}(WebSocketAuthMixin, WebSocketHandler); if it is open to all on "
                "purpose, accept it with --ignore unguarded-route",
            )


def no_token_route(subject: Subject) -> Iterator[Finding]:
    """Nobody can get the token that everybody needs."""
    stores = [auth.tokens for route in subject.token_routes if (auth := auth_of(route)) is not None]
    for policy in subject.policies:
        routes = subject.guarded_by(policy.auth)
        if routes and not any(policy.auth.tokens is store for store in stores):
            yield Finding(
                "no-token-route",
                "warning",
                f"Application(handlers, {policy.setting}=…)",
                f"no TokenHandler issues the tokens that {named(routes)} asks for: nobody can connect, unless a "
                "handler of your own calls issue_token(), or another application on the same store does",
                'add the route (r"/ws/token", TokenHandler)',
            )


def no_guarded_route(subject: Subject) -> Iterator[Finding]:
    """There is nothing of ours to look at."""
    if not subject.guarded:
        looked_at = f"{len(subject.routes)} routes, {len(subject.sockets)} of them of WebSockets"
        yield Finding(
            "no-guarded-route",
            "warning",
            "Application(handlers)",
            f"no route has WebSocketAuthMixin ({looked_at})",
            "put the mixin in front of WebSocketHandler, or name the application that has it",
        )


def opaque_routing(subject: Subject) -> Iterator[Finding]:
    """Parts of the application that cannot be read."""
    if subject.opaque:
        yield Finding(
            "opaque-routing",
            "note",
            ", ".join(subject.opaque),
            "decides by itself where a request goes: what is behind it was not looked at",
            "look there yourself; the doctor reads Applications and RuleRouters",
        )
