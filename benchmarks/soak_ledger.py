"""What the soak's clients saw, and what of it must never have been. Pure: it is told events and times, and keeps count.

Nothing here takes the server's word. The messages of `benchmarks.soak_server` carry a number and the time at which
they were made; both servers and all clients run on one machine, so their times compare. ``soak_clients`` and
``soak_hostile`` report; ``soak`` asks for the breaches. Times are Unix seconds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

ENOUGH = 5.0  # seconds within which a close that is due must have been seen, on a machine that has much to do
ECHO_WITHIN = 30.0  # seconds
MOST_KEPT = 200  # breaches whose details are kept; all are counted

# What an honest client must never be closed with: each means that it did something wrong, or that the server did.
NEVER_HONEST = {1002, 1007, 1009, 1011, 4400, 4409, 4429}
BLAMES = {"jwt_invalid", "user_mismatch", "forbidden"}
WHILE_FAULTY = {1012, 4408}  # closes that may come before the one that a hostile client has earned


class Breach(NamedTuple):
    """Something that must not be."""

    check: str
    """Which promise: a number of the acceptance list where there is one."""
    what: str


class Token:
    """A connection token that a client holds."""

    __slots__ = ("asked_at", "dead_from", "issued_at", "opened", "user")

    def __init__(self, user: str, asked_at: float, issued_at: float) -> None:
        self.user = user
        self.asked_at = asked_at
        self.issued_at = issued_at
        self.opened = 0
        self.dead_from: float | None = None


class Ledger:
    """All connections and tokens of one run. ``token_ttl``: seconds."""

    def __init__(self, token_ttl: float) -> None:
        self.token_ttl = token_ttl
        self.breaches: list[Breach] = []
        self.broken: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.latest_expiry = 0.0
        """The longest time from a JWT's expiry to the close frame, in seconds."""
        self.live: set[Record] = set()
        """The connections that were opened and are not over."""
        self._tokens: dict[str, Token] = {}
        self._tokens_of: dict[str, list[Token]] = {}
        self._revoked_users: set[str] = set()

    def breach(self, check: str, what: str) -> None:
        """Write down something that must not be."""
        self.broken[check] += 1
        if len(self.breaches) < MOST_KEPT:
            self.breaches.append(Breach(check, what))

    def issued(self, token: str, user: str, asked_at: float, issued_at: float) -> None:
        """A client got a token."""
        self.counts["tokens"] += 1
        if token in self._tokens:
            self.breach("A5 one token, one connection", f"a token of {user} was issued twice")
        self._tokens[token] = Token(user, asked_at, issued_at)
        self._tokens_of.setdefault(user, []).append(self._tokens[token])

    def attempt(self, token: str, server: str, now: float, *, honest: bool = False) -> Record:
        """A client asks ``server`` for an upgrade with ``token``."""
        return Record(self, self._tokens[token], server, now, honest)

    def raced(self, statuses: Sequence[int]) -> None:
        """Several upgrades with one token, which nobody had used before, were answered (0: not at all)."""
        winners = statuses.count(101)
        if winners != 1 and set(statuses) <= {101, 401}:
            self.breach("A5 one token, one connection", f"of {len(statuses)} racing upgrades {winners} got through")

    def revoking(self, user: str) -> None:
        """A server is about to be told to disconnect ``user``."""
        self._revoked_users.add(user)

    def revoked(self, user: str, server: str, began: float, done: float, *, tokens_too: bool) -> None:
        """``server`` has said that it disconnected ``user``; without ``tokens_too``, the store did not answer."""
        self.counts["revocations"] += 1
        for record in self.live:
            if record.user == user and record.server == server and record.opened_at < began:
                record.dead_after = done if record.dead_after is None else min(done, record.dead_after)
        for token in self._tokens_of.get(user, ()):
            if tokens_too and token.issued_at < began and token.dead_from is None:
                token.dead_from = done

    def was_revoked(self, user: str) -> bool:
        """Say whether anybody asked for ``user`` to be disconnected."""
        return user in self._revoked_users

    def look(self, now: float) -> None:
        """Look for what should have happened by now."""
        for record in [*self.live]:
            record.look(now)


class Record:
    """One attempt to connect, and the connection that came of it."""

    __slots__ = (
        "accepted",
        "boot",
        "close_code",
        "dead_after",
        "echo_waits_since",
        "echoes_back",
        "echoes_sent",
        "expires_at",
        "groups",
        "honest",
        "jwt_user",
        "ledger",
        "opened_at",
        "refresh_sent_at",
        "sent_at",
        "sequence",
        "server",
        "stalled",
        "status",
        "token",
        "user",
        "warned",
    )

    def __init__(self, ledger: Ledger, token: Token, server: str, now: float, honest: bool) -> None:
        self.ledger = ledger
        self.token = token
        self.user = token.user
        self.server = server
        self.honest = honest
        self.sent_at = now
        self.status: int | None = None
        self.opened_at = 0.0
        self.jwt_user: str | None = None  # whose JWT was sent; None for none so far
        self.accepted = False
        self.expires_at = float("inf")
        self.warned = False
        self.refresh_sent_at: float | None = None  # None when it was answered, too
        self.boot = b""  # which start of which server the numbers belong to
        self.sequence: int | None = None
        self.groups: dict[bytes, int] = {}
        self.echoes_sent = self.echoes_back = 0
        self.echo_waits_since: float | None = None
        self.dead_after: float | None = None  # when a server said that the user is disconnected
        self.close_code: int | None = None
        self.stalled = False  # it reads nothing, on purpose

    # What the client did ------------------------------------------------------------------------------------------

    def sent_jwt(self, user: str) -> None:
        """The client is about to send its first JWT, which is ``user``'s."""
        self.jwt_user = user

    def sent_refresh(self, now: float) -> None:
        """The client is about to send a further JWT of the same user."""
        self.refresh_sent_at = now

    def sent_echo(self, now: float) -> int:
        """The client is about to send a message; return its number."""
        self.echoes_sent += 1
        if self.echo_waits_since is None:
            self.echo_waits_since = now
        return self.echoes_sent

    # What the client saw ------------------------------------------------------------------------------------------

    def answered(self, status: int, now: float) -> None:
        """The upgrade was answered."""
        token = self.token
        if self.status is not None:
            self._breach("late 101", f"after its answer {self.status} came another one, {status}")
        self.status = status
        if status == 101:
            self.opened_at = now
            self.ledger.live.add(self)
            token.opened += 1
            if token.opened > 1:
                self._breach("A5 one token, one connection", f"its token opened {token.opened} connections")
            if token.dead_from is not None and self.sent_at > token.dead_from:
                self._breach("A25 revoked", "a token of before the revocation opened a connection")
            return
        age = now - token.asked_at
        if status == 401 and self.honest and age < self.ledger.token_ttl and not self.ledger.was_revoked(self.user):
            self._breach("good token refused", f"401 after {age:.1f} s")

    def data(self, payload: bytes, now: float) -> str:
        """A text message came. Return what it is by its first word, or by its type if it is one of the protocol."""
        if self.close_code is not None:
            self._breach("A31 never unauthenticated", f"a message after the close frame: {payload[:40]!r}")
        if not self.accepted:
            return self._first_message(payload)
        word = payload[:2]
        if word == b"b ":
            self._broadcast(payload)
            return "b"
        if word == b"g ":
            self._group(payload)
            return "g"
        if word == b"e ":
            self._echo(payload, now)
            return "e"
        return self._message(payload)

    def closed(self, code: int, reason: str, now: float) -> None:
        """A close frame came."""
        self.close_code = code
        if self.honest and (code in NEVER_HONEST or reason in BLAMES):
            self._breach("honest client blamed", f"closed {code} {reason}")
        if reason == "revoked" and not self.ledger.was_revoked(self.user):
            self._breach("honest client blamed", "closed as revoked, which nobody asked for")
        if self.jwt_user not in (None, self.user) and code not in (4403, *WHILE_FAULTY):
            self._breach("A22 same user", f"a foreign JWT was closed {code} {reason}")
        if reason == "jwt_expired" and self.accepted:
            self._expired(now)
        self.over()

    def over(self) -> None:
        """The connection is gone."""
        self.ledger.live.discard(self)

    def look(self, now: float) -> None:
        """Look for what should have happened by now to a connection that is still there."""
        if self.stalled:
            return
        if self.dead_after is not None and now > self.dead_after + ENOUGH:
            self._breach("A25 revoked", f"still open {ENOUGH} s after the revocation")
            self.dead_after = None  # told once
        if now > self.expires_at + ENOUGH:
            self._breach("A24 expiry", f"still open {ENOUGH} s after its JWT expired")
            self.expires_at = float("inf")
        if self.echo_waits_since is not None and now > self.echo_waits_since + ECHO_WITHIN:
            self._breach("echoes once, in order", f"no echo for {ECHO_WITHIN} s")
            self.echo_waits_since = None

    # What the messages say ----------------------------------------------------------------------------------------

    def _first_message(self, payload: bytes) -> str:
        if self.jwt_user is None:
            self._breach("A12 nothing before auth_ok", f"a message without a JWT: {payload[:40]!r}")
        elif self.jwt_user != self.user:
            self._breach("A22 same user", f"a message after a foreign JWT: {payload[:40]!r}")
        message = _parse(payload)
        if message.get("type") != "auth_ok":
            self._breach("A12 nothing before auth_ok", f"the first message is {payload[:40]!r}")
            return "?"
        self.accepted = True
        self._begin(message)
        self.ledger.counts["authentications"] += 1
        return "auth_ok"

    def _message(self, payload: bytes) -> str:
        """Take what is neither a broadcast nor an echo."""
        if payload.startswith(b"hello "):
            if self.sequence is None:  # what was broadcast before is nothing to us, what follows is
                _, self.boot, sequence = payload.split(b" ")
                self.sequence = int(sequence)
            return "hello"
        if payload.startswith(b"joined "):
            _, group, sequence = payload.split(b" ")
            self.groups[group] = int(sequence)
            return "joined"
        message = _parse(payload)
        kind = str(message.get("type", "?"))
        if kind == "auth_ok":
            self.refresh_sent_at = None
            self.warned = False
            self._begin(message)
            self.ledger.counts["refreshes"] += 1
        elif kind == "auth_expiring":
            self.warned = True
            self.ledger.counts["warnings"] += 1
        else:
            self._breach("unknown message", repr(payload[:40]))
        return kind

    def _begin(self, message: dict[str, Any]) -> None:
        if message.get("user_id") != self.user:
            self._breach("A22 same user", f"auth_ok for {message.get('user_id')}")
        self.expires_at = float(message["expires_at"])

    def _broadcast(self, payload: bytes) -> None:
        _, boot, number, made_at = payload.split(b" ")
        sequence = int(number)
        self.ledger.counts["broadcasts"] += 1
        self._made_at(float(made_at), "a broadcast", 0)
        if self.sequence is not None and (sequence != self.sequence + 1 or boot != self.boot):
            self._breach("broadcasts in order, none lost", f"{sequence} after {self.sequence}")
        self.boot = boot
        self.sequence = sequence

    def _group(self, payload: bytes) -> None:
        _, group, number, made_at = payload.split(b" ", 4)[:4]
        sequence = int(number)
        self.ledger.counts["group broadcasts"] += 1
        self._made_at(float(made_at), "a broadcast to a group", 0)
        before = self.groups.get(group)
        if before is None:
            self._breach("broadcasts in order, none lost", f"a message to {group!r}, which it has not joined")
        elif sequence != before + 1:
            self._breach("broadcasts in order, none lost", f"{sequence} after {before} in {group!r}")
        self.groups[group] = sequence

    def _echo(self, payload: bytes, now: float) -> None:
        _, number, made_at = payload.split(b" ")
        self.ledger.counts["echoes"] += 1
        # One second is what a timer may be late; only a broadcast looks at the clock itself.
        self._made_at(float(made_at), "an echo", 1)
        if int(number) != self.echoes_back + 1 or int(number) > self.echoes_sent:
            self._breach("echoes once, in order", f"{int(number)} after {self.echoes_back}")
        self.echoes_back = int(number)
        self.echo_waits_since = now if self.echoes_back < self.echoes_sent else None

    def _made_at(self, made_at: float, what: str, tolerance: float) -> None:
        if made_at >= self.expires_at + tolerance:
            late = made_at - self.expires_at
            self._breach("A31 never unauthenticated", f"{what} made {late:.3f} s after the JWT had expired")
        if self.dead_after is not None and made_at > self.dead_after:
            late = made_at - self.dead_after
            self._breach("A25 revoked", f"{what} made {late:.3f} s after the revocation")

    def _expired(self, now: float) -> None:
        late = now - self.expires_at
        self.ledger.latest_expiry = max(self.ledger.latest_expiry, late)
        if late < 0:
            self._breach("A24 expiry", f"closed {-late:.3f} s before its JWT expired")
        if not self.warned:
            self._breach("A24 expiry", "closed as expired without auth_expiring")
        if self.refresh_sent_at is not None and self.refresh_sent_at < self.expires_at - ENOUGH:
            self._breach("A24 expiry", "closed as expired although it had sent a new JWT")

    def _breach(self, check: str, what: str) -> None:
        self.ledger.breach(check, f"{self.user} on {self.server}: {what}")


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        message = json.loads(payload)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
