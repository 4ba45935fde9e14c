"""What each end of a connection means, in words and for what comes next.

It is the client's column of the table in ``docs/protocol.md`` §5. Pure: it knows no socket and no clock. `errors` and
`connection` use it, and `terminal` shows its words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

State = Literal["connecting", "authenticating", "ready", "waiting", "stopped"]
"""Where a connection stands. ``ready`` begins with the server's ``auth_ok``; only ``stopped`` is final."""

Step = Literal["jwt", "token", "upgrade", "authenticate", "ready", "renew", "renewed"]
"""What a connection is doing: ``jwt`` and ``token`` fetch credentials, ``upgrade`` opens the socket, ``authenticate``
sends the JWT, ``ready`` has its ``auth_ok``, ``renew`` and ``renewed`` are a JWT for the live connection."""

Reaction = Literal["stop", "retry"]
Usual = Literal["stop", "retry", "now", "once"]

NORMAL_CLOSURE, ABNORMAL_CLOSURE = 1000, 1006  # RFC 6455 §7.4.1
UNAUTHORIZED = 4401


@dataclass(frozen=True, slots=True)
class Close:
    """How an attempt to connect, or a connection that was ready, ended, and what is done about it."""

    code: int | None
    """The close code (RFC 6455 §7.4). 1006: the upgrade was refused, nobody was there, or the connection broke.
    None: it was this side that gave up, or credentials could not be had."""
    reason: str
    """The server's reason string; or one of ours: ``jwt_unavailable``, ``token_unavailable``, ``spent_token``,
    ``timeout``, ``bad_server``, ``unreachable``, ``upgrade_refused``, ``client_error``, ``disconnected``."""
    words: str
    """A sentence for a person."""
    during: State
    """Where the connection stood."""
    reaction: Reaction
    retry_in: float | None
    """Seconds until the next attempt, or None if there is none."""
    error: BaseException | None = field(default=None, repr=False)
    """What went wrong, where there is an exception. The application's own may hold credentials, so no repr shows it."""


_WORDS = {
    1000: "The server closed the connection.",
    1001: "The server is shutting down.",
    1002: "The server saw a violation of the WebSocket protocol.",
    1003: "The server cannot take this kind of data.",
    1005: "The connection was closed without a word.",
    1006: "The connection broke off.",
    1007: "A message was not what it said it was.",
    1008: "The server refused a message.",
    1009: "A message was larger than the server allows.",
    1010: "The server lacks an extension that this client asked for.",
    1011: "Something went wrong in the server.",
    1012: "The server is restarting.",
    1013: "More was queued for this client than it read.",
    4400: "The server did not understand the first message, or a JWT message later.",
    4401: "The credentials are not valid.",
    4403: "This user is not allowed here.",
    4408: "The server waited too long for the JWT.",
    4409: "A newer connection of the same user took this one's place.",
    4429: "More was sent, or opened, than the server allows.",
}

_WORDS_OF_REASONS = {
    "jwt_expired": "The JWT has expired.",
    "jwt_invalid": "The JWT is not valid.",
    "token_invalid": "The connection token is not valid.",
    "user_mismatch": "The JWT is another user's than the token, or the connection.",
    "revoked": "The user was logged out.",
    "origin_not_allowed": "The server does not take connections from here (Origin).",
    "jwt_unavailable": "No JWT could be had.",
    "token_unavailable": "No connection token could be had.",
    "spent_token": "The token was used before; each attempt needs a new one.",
    "timeout": "The server did not answer in time.",
    "bad_server": "The server's first message was not auth_ok: it does not speak this protocol.",
    "upgrade_refused": "The server did not upgrade to a WebSocket.",
    "unreachable": "Nobody could be reached at this URL.",
    "client_error": "Something went wrong in this client.",
    "disconnected": "Disconnected.",
}

_STATUS_WORDS = {
    400: "the server took it for no WebSocket handshake; is the URL right?",
    401: "the connection token was not accepted",
    403: "this client is not allowed here",
    404: "there is nothing at this URL",
    405: "there is no WebSocket at this URL",
    426: "there is no WebSocket of version 13 at this URL",
    429: "too many connections",
    503: "the server cannot take it now",
}

_STOPPING_CODES = {1002, 1003, 1007, 1008, 1009, 1010, 4400, 4403, 4409}
_STOPPING_REASONS = {"bad_server", "client_error"}  # of ours: they have no code
_STOPPING_STATUSES = {400, 403, 404, 405, 426}


def describe_close(code: int | None, reason: str = "") -> str:
    """Return a sentence for a person about a close code and its reason; for no code, see `Close.code`."""
    if reason in _WORDS_OF_REASONS:
        return _WORDS_OF_REASONS[reason]
    if code in _WORDS:
        return _WORDS[code]
    named = " ".join(str(part) for part in (code, reason) if part) or "no code"
    return f"The connection was closed with {named}."


def describe_refusal(status: int) -> str:
    """Return a sentence for a person about an upgrade that was answered with this HTTP status."""
    hint = f": {_STATUS_WORDS[status]}" if status in _STATUS_WORDS else ""
    return f"The upgrade was refused with HTTP status {status}{hint}."


def usual_reaction(
    code: int | None, reason: str, during: State, *, status: int | None = None, can_renew: bool = True
) -> Usual:
    """Return what is usual: to ``stop``, to ``retry`` with backoff, ``now`` without, or ``once``, with backoff.

    ``status`` is that of a refused upgrade. ``can_renew`` says whether another JWT than the last one can be had.
    """
    if status in _STOPPING_STATUSES or (reason in _STOPPING_REASONS if code is None else code in _STOPPING_CODES):
        return "stop"
    if code != UNAUTHORIZED:
        return "retry"
    if reason != "token_invalid" and not can_renew:
        return "stop"
    if reason != "jwt_expired":
        return "once"
    return "now" if during == "ready" else "retry"
