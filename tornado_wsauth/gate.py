"""The life of one connection as a pure object: it takes events and returns decisions.

No clock, socket, database or Tornado is in here, so every state can be met with every event in a test. `guard`
wires it to Tornado; others may take a decision's name from here, and nothing that decides::

    CONNECTING ──admitted, upgraded──▶ WAITING ──frame──▶ CHECKING ──identified, accepted──▶ OPEN
        └───────────────┴──────────────────┴── any refusal, the deadline, closed ──┴──▶ CLOSED

OPEN stays OPEN while a further JWT, which renews the session, is checked. CLOSED is terminal: whatever happens
afterwards, nothing is delivered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from tornado_wsauth.errors import CloseCode


class State(Enum):
    """Where a connection stands. Only OPEN lets anything through, in either direction."""

    CONNECTING = "connecting"
    WAITING = "waiting"
    CHECKING = "checking"
    OPEN = "open"
    CLOSED = "closed"


class Pass(Enum):
    """Decisions that carry nothing."""

    DELIVER = "deliver"  # give the frame to the application
    PROCEED = "proceed"  # take the next step
    IGNORE = "ignore"  # the connection is over; drop whatever this was


# By names of their own, because every message asks for two of them, and ``State.OPEN`` costs what a call costs.
CONNECTING, WAITING, CHECKING, OPEN, CLOSED = State
DELIVER, PROCEED, IGNORE = Pass


@dataclass(frozen=True, slots=True)
class Check:
    """Verify this JWT, the first or one that renews the session; then report `Gate.identified` or `Gate.refuse`."""

    jwt: str


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection. ``reason`` is a constant: it is sent to the client (RFC 6455 §7.1.6: at most 123 bytes)."""

    code: CloseCode
    reason: str


BAD_MESSAGE = Close(CloseCode.BAD_MESSAGE, "bad_message")
JWT_INVALID = Close(CloseCode.UNAUTHORIZED, "jwt_invalid")
JWT_EXPIRED = Close(CloseCode.UNAUTHORIZED, "jwt_expired")
TOKEN_INVALID = Close(CloseCode.UNAUTHORIZED, "token_invalid")
USER_MISMATCH = Close(CloseCode.FORBIDDEN, "user_mismatch")
REVOKED = Close(CloseCode.FORBIDDEN, "revoked")
FORBIDDEN = Close(CloseCode.FORBIDDEN, "forbidden")
AUTH_TIMEOUT = Close(CloseCode.AUTH_TIMEOUT, "auth_timeout")
REPLACED = Close(CloseCode.REPLACED, "replaced")
TOO_MANY = Close(CloseCode.TOO_MANY, "too_many")
INTERNAL = Close(CloseCode.INTERNAL_ERROR, "internal")
SLOW_READER = Close(CloseCode.TRY_AGAIN_LATER, "slow_reader")
SHUTDOWN = Close(CloseCode.GOING_AWAY, "shutdown")
RESTART = Close(CloseCode.SERVICE_RESTART, "restart")


_NOBODY: frozenset[str] = frozenset()  # one for all: CPython makes a new one of 216 bytes each time


class Gate:
    """One connection's way from CONNECTING to CLOSED.

    ``user_id`` is whom the connection token was issued to; from then on the connection can be nobody else's.
    ``ending`` is the decision to close, once there is one; None as well for a connection that ended by itself.
    """

    __slots__ = ("_barred", "_step", "ending", "max_first_message", "state", "user_id")

    def __init__(self, max_first_message: int) -> None:
        self.state: State = CONNECTING
        self.user_id: str | None = None
        self.ending: Close | None = None
        self.max_first_message: int = max_first_message  # characters; never more than the limit in bytes
        self._step: Literal["verify", "load"] | None = None  # of a JWT's check: next comes whose it is, or who that is
        self._barred = _NOBODY  # whose tokens were revoked while ours was being redeemed

    def admitted(self, user_id: str) -> Pass | Close:
        """The connection token was redeemed. IGNORE means that the client left meanwhile: do not upgrade."""
        if self.state is not CONNECTING:
            return IGNORE
        if user_id in self._barred:
            return self.refuse(REVOKED)
        self.user_id = user_id
        return PROCEED

    def rejected(self, close: Close) -> None:
        """The client is not let in, and is to learn why from a close frame: close as soon as the 101 was sent."""
        if self.state is CONNECTING:
            self.user_id = None
            self.ending = close

    def upgraded(self) -> Pass | Close:
        """The 101 was sent. An upgrade that nobody was admitted for is closed at once."""
        if self.state is not CONNECTING:
            return IGNORE
        if self.user_id is None:
            return self.refuse(self.ending or TOKEN_INVALID)
        self.state = WAITING
        return PROCEED

    def frame(self, message: str | bytes) -> Pass | Check | Close:
        """A data message came in."""
        if self.state is OPEN:
            # What cannot be ours is told from what can without parsing it: every message of the application comes by.
            if isinstance(message, str) and len(message) <= self.max_first_message and '"jwt"' in message:
                return self._maybe_refresh(message)
            return DELIVER
        if self.state is WAITING:
            jwt = parse_first_message(message, self.max_first_message)
            if jwt is None:
                return self.refuse(BAD_MESSAGE)
            self.state = CHECKING
            self._step = "verify"
            return Check(jwt)
        if self.state is CHECKING:
            # Tornado reads no further frame while one is being handled. Were that to change, dropping this one
            # would lose a message in silence, and delivering it would be worse.
            return self.refuse(INTERNAL)
        return IGNORE

    def _maybe_refresh(self, message: str) -> Pass | Check | Close:
        frame = _parse_object(message)
        if frame is None or frame.get("type") != "jwt":
            return DELIVER
        jwt = _jwt_in(frame)
        if jwt is None:
            return self.refuse(BAD_MESSAGE)
        self._step = "verify"
        return Check(jwt)

    def identified(self, user_id: str) -> Pass | Close:
        """The JWT is valid and names ``user_id``, who must be the one the token was issued to."""
        if self._step != "verify" or self.state is CLOSED:
            return IGNORE
        if user_id != self.user_id:
            return self.refuse(USER_MISMATCH)
        self._step = "load"
        return PROCEED

    def accepted(self) -> Pass:
        """The application knows the user. IGNORE means that the connection ended while it was asked."""
        if self._step != "load" or self.state is CLOSED:
            return IGNORE
        self._step = None
        self.state = OPEN
        return PROCEED

    def revoked(self, user_id: str) -> Pass | Close:
        """All that ``user_id`` was issued is void, a token that is just being redeemed included."""
        if self.user_id is None:
            self._barred |= {user_id}
            return IGNORE
        return self.refuse(REVOKED) if self.user_id == user_id else IGNORE

    def refuse(self, close: Close) -> Close | Pass:
        """We decided to end the connection, for whatever reason ``close`` gives. Only the first decision counts."""
        if self.state is CLOSED:
            return IGNORE
        self.state = CLOSED
        self.ending = close
        return close

    def deadline(self) -> Close | Pass:
        """The time for authenticating, counted from the 101, is over."""
        if self.state in (WAITING, CHECKING):
            return self.refuse(AUTH_TIMEOUT)
        return IGNORE

    def closed(self) -> None:
        """The client left, or the connection broke."""
        self.state = CLOSED


def parse_first_message(message: str | bytes, max_length: int) -> str | None:
    """Return the JWT of ``{"type":"jwt","token":"…"}``, or None for anything else whatsoever.

    Unknown members are allowed, so that the message can grow; a member given twice is not, because two readers
    could disagree on which one counts (RFC 8259 §4).
    """
    if not isinstance(message, str) or len(message) > max_length:
        return None
    frame = _parse_object(message)
    return None if frame is None or frame.get("type") != "jwt" else _jwt_in(frame)


def _parse_object(message: str) -> dict[str, Any] | None:
    try:
        frame = _JSON.decode(message)
    except (ValueError, RecursionError):  # not JSON, a number of too many digits, or nested too deep
        return None
    return frame if isinstance(frame, dict) else None


def _jwt_in(frame: Mapping[str, Any]) -> str | None:
    token = frame.get("token")
    return token if isinstance(token, str) and token and token.isascii() else None


def _object_without_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(members)
    if len(result) != len(members):
        raise ValueError("a member is given twice")
    return result


# One for all: json.loads() would make one for each message. NaN and Infinity are no JSON (RFC 8259 §6), nor integers.
_JSON = json.JSONDecoder(object_pairs_hook=_object_without_duplicates, parse_constant=int)
