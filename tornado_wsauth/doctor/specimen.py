"""A handler without a client, to be asked what it would answer. Checks of the doctor import this module."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.websocket import WebSocketHandler

from tornado_wsauth import wire
from tornado_wsauth.doctor.routes import Route

FOREIGN_ORIGIN = "https://doctor.invalid"
"""An origin that nobody has (RFC 6761 §6.4)."""

PEER, CLAIMED, BELIEVED = "192.0.2.1", "198.51.100.1", "203.0.113.1"
"""Where a request comes from, where its headers say it does, and what Tornado made of that (RFC 5737)."""

T = TypeVar("T")


def proxied_request(path: str = "/") -> HTTPServerRequest:
    """Return a request of a foreign page, as a server with ``xheaders`` hands it to an application."""
    context = SimpleNamespace(address=(PEER, 1), protocol="https", remote_ip=BELIEVED)
    connection: Any = SimpleNamespace(context=context)
    names = ("X-Real-Ip", "X-Forwarded-For", "X-Client-Ip", "Cf-Connecting-Ip", "True-Client-Ip")
    headers = HTTPHeaders({"Host": "localhost", "Origin": FOREIGN_ORIGIN, **dict.fromkeys(names, CLAIMED)})
    start_line = RequestStartLine("GET", path, "HTTP/1.1")
    return HTTPServerRequest(start_line=start_line, headers=headers, connection=connection)


def ask(route: Route, question: Callable[[WebSocketHandler], T]) -> T | None:
    """Return what a handler of this route answers; None if it cannot tell, because it needs a real client for that.

    No code of the handler runs to make it, ``initialize()`` included: that may do anything.
    """
    handler: Any = object.__new__(route.handler)
    handler.application = route.application
    handler.request = proxied_request(route.path or "/")
    try:
        return question(handler)
    except Exception:  # whatever it misses
        return None


def ping_seconds(route: Route) -> float | None:
    """Return how often its clients are pinged, in seconds; 0 for never, None if it cannot tell."""
    return ask(route, wire.seconds_between_pings)


def message_bytes(route: Route) -> int | None:
    """Return the size of the largest message it reads, in bytes; None if it cannot tell."""
    return ask(route, wire.largest_message)


def compresses(route: Route) -> bool:
    """Say whether it offers compression."""
    return bool(ask(route, lambda handler: handler.get_compression_options() is not None))


def admits_anybody(route: Route) -> bool:
    """Say whether its ``check_origin`` admits an origin that nobody has."""
    return bool(ask(route, lambda handler: handler.check_origin(FOREIGN_ORIGIN)))
