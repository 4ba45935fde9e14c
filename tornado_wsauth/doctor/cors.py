"""Findings about what foreign pages may read of the token route, by asking it as a foreign page would.

The application is served for that, on a port of the loopback interface that is open for a moment.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

from tornado.httpclient import HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.websocket import WebSocketHandler

from tornado_wsauth.doctor.findings import Finding
from tornado_wsauth.doctor.routes import Route
from tornado_wsauth.doctor.specimen import FOREIGN_ORIGIN
from tornado_wsauth.doctor.subject import Subject
from tornado_wsauth.token_handler import TokenHandler

PATIENCE = 5.0
"""Seconds for one answer."""

_PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


async def wildcard_cors(subject: Subject) -> list[Finding]:
    """Foreign pages may read a user's token.

    A ``POST`` with a foreign Origin is refused by `TokenHandler` before it asks who it is from: no token comes of it.
    It is not sent without ``connect``, since what stands before `TokenHandler` may ask a server. Routes that seem to
    issue tokens without `TokenHandler` are asked by ``OPTIONS`` alone, which changes nothing (RFC 9110 §9.2.1).
    """
    findings: list[Finding] = []
    ours, foreign = subject.token_routes, _token_routes_of_their_own(subject)
    if not ours and not foreign:
        return findings
    async with _served(subject.root) as port:
        for route in [*ours, *foreign]:
            methods = ("OPTIONS", "POST") if route in ours and subject.connect else ("OPTIONS",)
            answers = [await _ask(port, route, method) for method in methods]
            if route in ours and all(answer is None or answer.code in (404, 599) for answer in answers):
                findings.append(_unanswered(route))
            permissions = {_permission(answer) for answer in answers if answer is not None}
            findings += [_wildcard(route, origin) for origin in ("*", FOREIGN_ORIGIN) if origin in permissions]
    return findings


def _token_routes_of_their_own(subject: Subject) -> list[Route]:
    ours = (TokenHandler, WebSocketHandler)
    return [r for r in subject.routes if "token" in r.pattern.lower() and not issubclass(r.handler, ours)]


def _wildcard(route: Route, origin: str) -> Finding:
    allows = "any page" if origin == "*" else "any page by echoing its Origin"
    return Finding(
        "wildcard-cors",
        "error",
        route.where,
        f"answers a foreign page with Access-Control-Allow-Origin for {allows}: a page that the user visits can read "
        "the token",
        "take the header out of the handler's finish() and the application's transforms, and list your pages' origins "
        "in WSAuth(allowed_origins=[…]): TokenHandler then answers CORS for exactly those",
    )


def _unanswered(route: Route) -> Finding:
    return Finding(
        "token-route-not-asked",
        "note",
        route.where,
        "could not be asked which foreign pages may read its answers: no path that leads there is known, or nothing "
        "answered",
        f"ask it yourself: curl -i -X OPTIONS -H 'Origin: {FOREIGN_ORIGIN}' with its address, and look for "
        "Access-Control-Allow-Origin",
    )


def _permission(answer: HTTPResponse) -> str:
    return str(answer.headers.get("Access-Control-Allow-Origin", "")).strip()


async def _ask(port: int, route: Route, method: str) -> HTTPResponse | None:
    if route.path is None:
        return None
    headers = {"Host": _host(route), "Origin": FOREIGN_ORIGIN, **(_PREFLIGHT if method == "OPTIONS" else {})}
    client = SimpleAsyncHTTPClient(force_instance=True)
    try:
        return await client.fetch(
            f"http://127.0.0.1:{port}{route.path}",
            method=method,
            headers=headers,
            body=b"" if method == "POST" else None,
            raise_error=False,
            follow_redirects=False,
            connect_timeout=PATIENCE,
            request_timeout=PATIENCE,
        )
    except (OSError, ValueError):  # a path that is none, once it was turned round
        return None
    finally:
        client.close()


def _host(route: Route) -> str:
    """Return a host that the route is for, as far as its pattern is a plain name."""
    name = (route.host or "localhost").removesuffix("$").replace("\\.", ".").replace(".*", "any")
    return name if re.fullmatch(r"[\w.-]+", name) and re.match(route.host or "", name) else "localhost"


@contextlib.asynccontextmanager
async def _served(root: Any) -> AsyncIterator[int]:
    server = HTTPServer(root)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield sockets[0].getsockname()[1]
    finally:
        server.stop()
        await server.close_all_connections()
