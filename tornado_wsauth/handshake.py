"""The handshake: what an upgrade request must look like, its connection token, and the answers to all others.

`guard` imports it. Whether a request can become a WebSocket is settled before its token is redeemed, so that one
that cannot never burns a token.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tornado_wsauth import binding, wire
from tornado_wsauth.errors import BackplaneError, TokenRejected, TokenStoreError
from tornado_wsauth.gate import RESTART, SHUTDOWN, TOKEN_INVALID, TOO_MANY, Close
from tornado_wsauth.tokens import TokenRecord, TokenReplay, is_well_formed

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders, HTTPServerRequest
    from tornado.websocket import WebSocketHandler

    from tornado_wsauth.admission import Admission
    from tornado_wsauth.auth import WSAuth


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that ends the handshake. The client is told ``error``, never more.

    ``close`` is what it is told instead where `WSAuth` says ``refuse="close"``.
    """

    status: int
    error: str
    headers: Mapping[str, str] = field(default_factory=dict)
    close: Close | None = None

    @property
    def phrase(self) -> str:
        """The reason phrase of the status line (RFC 9112 §4)."""
        return self.error.replace("_", " ").capitalize()


class Refused(Exception):
    """This request does not become a WebSocket. Beside the answer it carries what the log is told."""

    def __init__(
        self,
        answer: Answer,
        *,
        reason: str | None = None,
        user_id: str | None = None,
        detail: str = "",
        **more: object,
    ) -> None:
        super().__init__(answer.error)
        self.answer = answer
        self.reason: str = reason or answer.error
        self.user_id = user_id
        self.detail = detail
        self.more = more  # for the log's record


METHOD = Answer(405, "method_not_allowed", {"Allow": "GET"})
# RFC 9110 §15.5.22 wants the 426 to name the protocol, RFC 6455 §4.4 the version.
NO_UPGRADE = Answer(426, "upgrade_required", {"Upgrade": "websocket", "Connection": "Upgrade"})
VERSION = Answer(426, "upgrade_required", {**NO_UPGRADE.headers, "Sec-WebSocket-Version": "13"})
MALFORMED = Answer(400, "malformed_handshake")
ORIGIN = Answer(403, "origin_not_allowed")
CLOSING = Answer(503, "closing", {"Retry-After": "5"})
TOO_MANY_PENDING = Answer(503, "too_many_pending", {"Retry-After": "1"})
STORE_UNAVAILABLE = Answer(503, "store_unavailable", {"Retry-After": "5"})
BACKPLANE_UNAVAILABLE = Answer(503, "backplane_unavailable", {"Retry-After": "5"})
# One answer for a token that is missing, malformed, unknown, expired or used: it tells a guesser nothing.
TOKEN = Answer(401, "token_invalid", {"WWW-Authenticate": 'Bearer realm="websocket"'}, TOKEN_INVALID)
TOO_MANY_CONNECTIONS = Answer(429, "too_many_connections", {"Retry-After": "5"}, TOO_MANY)
# Nobody reads this one; 499 is what proxies write in their logs for a client that left before the answer.
CLIENT_LEFT = Answer(499, "client_left")


def check(handler: WebSocketHandler, auth: WSAuth) -> None:
    """Raise `Refused` unless this request can become a WebSocket now. The order is part of the protocol."""
    request = handler.request
    if request.method != "GET":
        raise Refused(METHOD)
    malformed = MALFORMED if request.version == "HTTP/1.0" else _malformed(request.headers)
    if malformed is not None:
        raise Refused(malformed)
    if wire.refuses_extensions(handler):
        raise Refused(MALFORMED)
    if auth.allowed_origins is None:
        foreign = wire.refuses_origin(handler)
    else:
        foreign = not auth.allows_origin(request.headers.get("Origin"))
    if foreign:
        raise Refused(ORIGIN)
    if auth.closing:
        raise Refused(CLOSING)
    if len(auth.pending) >= auth.max_pending:
        raise Refused(TOO_MANY_PENDING)


def answer_to(ending: Close | None) -> Answer:
    """Return the answer to a request that was overtaken by its end: our decision, or None if the client left."""
    if ending is None:
        return CLIENT_LEFT
    return CLOSING if ending in (RESTART, SHUTDOWN) else TOKEN


async def redeem(admission: Admission, values: Sequence[bytes]) -> str:
    """Spend the connection token, given as all values of its query argument; return whom it was issued to.

    Raises `Refused`. A store is asked about nothing that could not be a token.
    """
    auth, request = admission.auth, admission.handler.request
    token = values[0].decode("ascii", "replace") if len(values) == 1 else ""
    if not is_well_formed(token):
        raise Refused(TOKEN, reason="token_malformed" if values else "token_missing")
    try:
        if auth.max_connections_per_user is not None and auth.over_limit == "refuse":
            # Before it is spent, so that whoever is over the limit can use it when it is their turn.
            record = await auth.look_at_token(token)
            if not _broken_bonds(auth, request, record):  # else it is refused and spent below
                await _take_place(admission, record.user_id)
        record = await auth.redeem_token(token, spender=request.remote_ip)
    except TokenRejected as rejected:
        raise _rejected(auth, request, rejected) from None
    except TokenStoreError as error:
        raise Refused(STORE_UNAVAILABLE, detail=str(error)) from error
    except BackplaneError as error:
        raise Refused(BACKPLANE_UNAVAILABLE, detail=str(error)) from error
    broken = _broken_bonds(auth, request, record)
    if broken:
        detail = f"it was issued for another {' and '.join(sorted(broken))}"
        raise Refused(TOKEN, reason="token_elsewhere", user_id=record.user_id, detail=detail)
    return record.user_id


async def _take_place(admission: Admission, user_id: str) -> None:
    """Raise `Refused` if ``user_id`` has as many connections as it may, those on their way included."""
    auth = admission.auth
    assert auth.max_connections_per_user is not None
    pending = sum(other.expected == user_id for other in auth.pending)
    if pending + len(auth.connections.for_user(user_id)) >= auth.max_connections_per_user:
        raise Refused(TOO_MANY_CONNECTIONS, user_id=user_id)
    admission.expected = user_id  # nothing awaited since they were counted
    if auth.places is not None and not await auth.places.claim(admission, user_id):
        raise Refused(TOO_MANY_CONNECTIONS, user_id=user_id)


def _broken_bonds(auth: WSAuth, request: HTTPServerRequest, record: TokenRecord) -> list[str]:
    if not auth.bind_tokens:
        return []
    found = binding.place(auth.bind_tokens, request, request.path, auth.client_address)
    return binding.broken_bonds(record.context, found)


def _rejected(auth: WSAuth, request: HTTPServerRequest, rejected: TokenRejected) -> Refused:
    reason = f"token_{rejected.reason}"
    if rejected.reason != "replayed":
        return Refused(TOKEN, reason=reason, user_id=rejected.user_id)
    auth.replayed(TokenReplay(rejected.user_id, rejected.spent_by, request.remote_ip, request.path))
    detail = f"used first from {rejected.spent_by}"
    return Refused(TOKEN, reason=reason, user_id=rejected.user_id, detail=detail, spent_by=rejected.spent_by)


def _malformed(headers: HTTPHeaders) -> Answer | None:
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
