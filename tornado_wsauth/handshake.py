"""What an upgrade request must look like, and the HTTP answer it gets when it does not.

`mixin` imports it. Everything here is settled before a connection token is redeemed: a request that could not
become a WebSocket never burns one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tornado_wsauth import wire

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders
    from tornado.websocket import WebSocketHandler

    from tornado_wsauth.auth import WSAuth


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer that ends the handshake. The client is told ``error``, never more."""

    status: int
    error: str
    headers: Mapping[str, str] = field(default_factory=dict)


METHOD = Refusal(405, "method_not_allowed", {"Allow": "GET"})
# RFC 9110 §15.5.22 wants the 426 to name the protocol, RFC 6455 §4.4 the version.
NO_UPGRADE = Refusal(426, "upgrade_required", {"Upgrade": "websocket", "Connection": "Upgrade"})
VERSION = Refusal(426, "upgrade_required", {**NO_UPGRADE.headers, "Sec-WebSocket-Version": "13"})
MALFORMED = Refusal(400, "malformed_handshake")
ORIGIN = Refusal(403, "origin_not_allowed")
CLOSING = Refusal(503, "closing", {"Retry-After": "5"})
TOO_MANY_PENDING = Refusal(503, "too_many_pending", {"Retry-After": "1"})
STORE_UNAVAILABLE = Refusal(503, "store_unavailable", {"Retry-After": "5"})
# One answer for a token that is missing, malformed, unknown, expired or used: it tells a guesser nothing.
TOKEN = Refusal(401, "token_invalid", {"WWW-Authenticate": 'Bearer realm="websocket"'})
# Nobody reads this one; 499 is what proxies write in their logs for a client that left before the answer.
CLIENT_LEFT = Refusal(499, "client_left")


def refusal_of(handler: WebSocketHandler, auth: WSAuth) -> Refusal | None:
    """Return why this request cannot become a WebSocket now, or None. The order is part of the protocol."""
    request = handler.request
    if request.method != "GET":
        return METHOD
    malformed = _handshake_refusal(request.headers)
    if malformed is not None:
        return malformed
    if auth.allowed_origins is None:
        if wire.refuses_origin(handler):
            return ORIGIN
    elif not auth.allows_origin(request.headers.get("Origin")):
        return ORIGIN
    if auth.closing:
        return CLOSING
    if len(auth.pending) >= auth.max_pending:
        return TOO_MANY_PENDING
    return None


def _handshake_refusal(headers: HTTPHeaders) -> Refusal | None:
    """Check the client's opening handshake (RFC 6455 §4.2.1), item by item."""
    if headers.get("Upgrade", "").lower() != "websocket":
        return NO_UPGRADE
    if "upgrade" not in [option.strip().lower() for option in headers.get("Connection", "").split(",")]:
        return MALFORMED
    if headers.get("Sec-WebSocket-Version") != "13":
        return VERSION
    if not headers.get("Host") or not _is_handshake_key(headers.get("Sec-WebSocket-Key", "")):
        return MALFORMED
    return None


def _is_handshake_key(key: str) -> bool:
    """Say whether ``key`` is 16 bytes in base64, as RFC 6455 §4.1 wants it; Tornado takes any string."""
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
