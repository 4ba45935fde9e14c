"""The ledger of the soak can see each of the breaches that it is there for: each check fails when it should."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks.soak_ledger import Ledger, Record

NOW = 1_700_000_000.0
EXPIRES_AT = NOW + 30
BOOT = "cafe"


def auth_ok(user: str = "alice", expires_at: float = EXPIRES_AT) -> bytes:
    return json.dumps({"type": "auth_ok", "user_id": user, "expires_at": expires_at}).encode()


def broadcast(number: int, made_at: float = NOW) -> bytes:
    return f"b {BOOT} {number} {made_at:.6f}".encode()


def in_group(number: int, made_at: float = NOW, group: str = "g1") -> bytes:
    return f"g {group} {number} {made_at:.6f}".encode()


def echo(number: int, made_at: float = NOW) -> bytes:
    return f"e {number} {made_at:.6f}".encode()


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger(15)
    ledger.issued("token", "alice", NOW - 1, NOW - 1)
    return ledger


def opened(ledger: Ledger, *, at: float = NOW, honest: bool = False, server: str = "A") -> Record:
    record = ledger.attempt("token", server, at, honest=honest)
    record.answered(101, at)
    return record


@pytest.fixture
def record(ledger: Ledger) -> Record:
    """An authenticated connection of an honest client that has joined a group."""
    record = opened(ledger, honest=True)
    record.sent_jwt("alice")
    record.data(auth_ok(), NOW)
    record.data(f"hello {BOOT} 7".encode(), NOW)
    record.data(b"joined g1 3", NOW)
    assert not ledger.broken
    return record


def test_a_connection_as_it_should_be_is_no_breach(ledger: Ledger, record: Record) -> None:
    record.data(broadcast(8), NOW)
    record.data(in_group(4), NOW)
    record.sent_echo(NOW)
    record.data(echo(1), NOW)
    record.data(b'{"type": "auth_expiring", "expires_in": 8}', NOW + 22)
    record.sent_refresh(NOW + 22)
    record.data(auth_ok(expires_at=EXPIRES_AT + 30), NOW + 22)
    record.data(broadcast(9, EXPIRES_AT + 1), EXPIRES_AT + 1)
    record.data(b'{"type": "auth_expiring", "expires_in": 8}', EXPIRES_AT + 22)
    ledger.look(EXPIRES_AT + 29)
    record.closed(4401, "jwt_expired", EXPIRES_AT + 30.1)
    ledger.look(EXPIRES_AT + 1000)
    assert not ledger.broken
    assert ledger.counts["refreshes"] == 1
    assert ledger.latest_expiry == pytest.approx(0.1)
    assert not ledger.live


# A5


def test_a_token_that_opens_a_second_connection_on_another_server_is_a_breach(ledger: Ledger) -> None:
    opened(ledger).over()
    opened(ledger, server="B")
    assert ledger.broken == {"A5 one token, one connection": 1}


@pytest.mark.parametrize(
    ("statuses", "breach"),
    [
        ([101, 401, 401], False),
        ([101, 101, 401], True),
        ([401, 401], True),
        ([401, 503], False),
        ([0, 401], False),
    ],
)
def test_a_race_that_all_were_answered_in_has_one_winner(ledger: Ledger, statuses: list[int], breach: bool) -> None:
    ledger.raced(statuses)
    assert bool(ledger.broken) is breach


def test_a_token_issued_twice_is_a_breach(ledger: Ledger) -> None:
    ledger.issued("token", "bob", NOW, NOW)
    assert ledger.broken == {"A5 one token, one connection": 1}


def test_a_101_after_a_503_is_a_breach(ledger: Ledger) -> None:
    record = ledger.attempt("token", "A", NOW)
    record.answered(503, NOW)
    assert not ledger.broken
    record.answered(101, NOW)
    assert ledger.broken == {"late 101": 1}


def test_an_honest_client_whose_fresh_token_is_refused_is_a_breach(ledger: Ledger) -> None:
    ledger.attempt("token", "A", NOW, honest=True).answered(401, NOW + 13)
    assert ledger.broken == {"good token refused": 1}


def test_a_token_that_may_have_expired_or_been_revoked_may_be_refused(ledger: Ledger) -> None:
    ledger.attempt("token", "A", NOW, honest=True).answered(401, NOW + 15)
    ledger.revoking("alice")
    ledger.attempt("token", "A", NOW, honest=True).answered(401, NOW)
    assert not ledger.broken


# A12, A22


@pytest.mark.parametrize("message", [broadcast(1), echo(1), b'{"type": "auth_expiring"}', b"hello cafe 1", b"{"])
def test_anything_before_auth_ok_is_a_breach(ledger: Ledger, message: bytes) -> None:
    record = opened(ledger)
    record.sent_jwt("alice")
    record.data(message, NOW)
    assert ledger.broken == {"A12 nothing before auth_ok": 1}


def test_auth_ok_for_a_client_that_sent_no_jwt_is_a_breach(ledger: Ledger) -> None:
    opened(ledger).data(auth_ok(), NOW)
    assert ledger.broken == {"A12 nothing before auth_ok": 1}


def test_a_message_after_a_foreign_jwt_is_a_breach(ledger: Ledger) -> None:
    record = opened(ledger)
    record.sent_jwt("bob")
    record.data(auth_ok(), NOW)
    assert ledger.broken == {"A22 same user": 1}


def test_a_foreign_jwt_that_is_closed_for_another_reason_is_a_breach(ledger: Ledger) -> None:
    record = opened(ledger)
    record.sent_jwt("bob")
    record.closed(1000, "", NOW)
    assert ledger.broken == {"A22 same user": 1}


def test_auth_ok_that_names_another_user_is_a_breach(ledger: Ledger) -> None:
    record = opened(ledger)
    record.sent_jwt("alice")
    record.data(auth_ok("bob"), NOW)
    assert ledger.broken == {"A22 same user": 1}


# A24, A31


@pytest.mark.parametrize("message", [broadcast(8, EXPIRES_AT), in_group(4, EXPIRES_AT), echo(1, EXPIRES_AT + 1)])
def test_what_was_made_after_the_jwt_expired_is_a_breach(ledger: Ledger, record: Record, message: bytes) -> None:
    record.sent_echo(NOW)
    record.data(message, EXPIRES_AT + 2)
    assert ledger.broken == {"A31 never unauthenticated": 1}


def test_what_was_made_before_that_may_come_after_it(ledger: Ledger, record: Record) -> None:
    record.data(broadcast(8, EXPIRES_AT - 0.001), EXPIRES_AT + 2)
    assert not ledger.broken


def test_a_message_after_the_close_frame_is_a_breach(ledger: Ledger, record: Record) -> None:
    record.closed(1012, "restart", NOW)
    record.data(broadcast(8), NOW)
    assert ledger.broken == {"A31 never unauthenticated": 1}


def test_a_connection_that_outlives_its_jwt_is_a_breach_told_once(ledger: Ledger, record: Record) -> None:
    for seconds in (4.9, 5.1, 7):
        ledger.look(EXPIRES_AT + seconds)
    assert ledger.broken == {"A24 expiry": 1}


def test_a_connection_that_nobody_warned_is_a_breach_when_it_expires(ledger: Ledger, record: Record) -> None:
    record.closed(4401, "jwt_expired", EXPIRES_AT + 0.1)
    assert ledger.broken == {"A24 expiry": 1}


def test_a_close_before_the_expiry_it_names_is_a_breach(ledger: Ledger, record: Record) -> None:
    record.data(b'{"type": "auth_expiring", "expires_in": 8}', NOW + 22)
    record.closed(4401, "jwt_expired", EXPIRES_AT - 0.1)
    assert ledger.broken == {"A24 expiry": 1}


def test_a_refresh_that_was_lost_is_a_breach(ledger: Ledger, record: Record) -> None:
    record.data(b'{"type": "auth_expiring", "expires_in": 8}', NOW + 22)
    record.sent_refresh(NOW + 22)
    record.closed(4401, "jwt_expired", EXPIRES_AT + 0.1)
    assert ledger.broken == {"A24 expiry": 1}


# A25


def test_what_was_made_after_the_revocation_is_a_breach(ledger: Ledger, record: Record) -> None:
    ledger.revoking("alice")
    ledger.revoked("alice", "A", NOW + 1, NOW + 2, tokens_too=True)
    record.data(broadcast(8, NOW + 1.9), NOW + 3)
    assert not ledger.broken
    record.data(broadcast(9, NOW + 2.1), NOW + 3)
    assert ledger.broken == {"A25 revoked": 1}


def test_a_connection_that_outlives_the_revocation_is_a_breach(ledger: Ledger, record: Record) -> None:
    ledger.revoked("alice", "A", NOW + 1, NOW + 2, tokens_too=True)
    ledger.look(NOW + 7.1)
    assert ledger.broken == {"A25 revoked": 1}


def test_a_connection_to_a_server_that_was_not_told_is_no_breach(ledger: Ledger, record: Record) -> None:
    ledger.revoked("alice", "B", NOW + 1, NOW + 2, tokens_too=True)
    record.data(broadcast(8, NOW + 3), NOW + 3)
    ledger.look(NOW + 10)
    assert not ledger.broken


@pytest.mark.parametrize(("tokens_too", "sent_at", "breach"), [(True, 3, True), (True, 1, False), (False, 3, False)])
def test_a_token_that_was_revoked_opens_nothing(ledger: Ledger, tokens_too: bool, sent_at: float, breach: bool) -> None:
    ledger.revoked("alice", "A", NOW + 1, NOW + 2, tokens_too=tokens_too)
    opened(ledger, at=NOW + sent_at)
    assert bool(ledger.broken) is breach


def test_a_revocation_that_nobody_asked_for_is_a_breach(ledger: Ledger, record: Record) -> None:
    record.closed(4403, "revoked", NOW)
    assert ledger.broken == {"honest client blamed": 1}


@pytest.mark.parametrize(("code", "reason"), [(4400, "bad_message"), (4401, "jwt_invalid"), (1011, "internal")])
def test_an_honest_client_that_is_blamed_is_a_breach(ledger: Ledger, record: Record, code: int, reason: str) -> None:
    record.closed(code, reason, NOW)
    assert ledger.broken == {"honest client blamed": 1}


# Order


@pytest.mark.parametrize("number", [7, 9, 6])
def test_a_broadcast_that_comes_twice_or_too_early_is_a_breach(ledger: Ledger, record: Record, number: int) -> None:
    record.data(broadcast(number), NOW)
    assert ledger.broken == {"broadcasts in order, none lost": 1}


@pytest.mark.parametrize("message", [in_group(3), in_group(5), in_group(1, group="g2")])
def test_a_group_is_heard_in_order_and_by_members_alone(ledger: Ledger, record: Record, message: bytes) -> None:
    record.data(message, NOW)
    assert ledger.broken == {"broadcasts in order, none lost": 1}


@pytest.mark.parametrize("numbers", [[2], [1, 1], [1, 3], [1, 2, 3, 4]])
def test_an_echo_that_is_lost_doubled_or_made_up_is_a_breach(
    ledger: Ledger, record: Record, numbers: list[int]
) -> None:
    for _ in range(3):
        record.sent_echo(NOW)
    for number in numbers:
        record.data(echo(number), NOW)
    assert ledger.broken == {"echoes once, in order": 1}


def test_an_echo_that_never_comes_is_a_breach(ledger: Ledger, record: Record) -> None:
    record.expires_at = math.inf
    record.sent_echo(NOW)
    ledger.look(NOW + 29)
    assert not ledger.broken
    ledger.look(NOW + 31)
    assert ledger.broken == {"echoes once, in order": 1}


def test_a_message_nobody_knows_is_a_breach(ledger: Ledger, record: Record) -> None:
    record.data(b'{"type": "surprise"}', NOW)
    assert ledger.broken == {"unknown message": 1}
