"""`LastFailures`: why each user's last connection came to nothing, for a while, and for so many users."""

from __future__ import annotations

import pytest

from tests.support import ManualClock
from tornado_wsauth import failures
from tornado_wsauth.failures import LastFailures


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def last(clock: ManualClock) -> LastFailures:
    return LastFailures(clock)


def test_the_last_reason_of_each_user_is_told(last):
    last.note("ann", "token_expired")
    last.note("bob", "auth_timeout")
    last.note("ann", "jwt_expired")
    assert [last.of(user) for user in ("ann", "bob", "eve")] == ["jwt_expired", "auth_timeout", None]
    assert last.of("ann") == "jwt_expired", "asking does not forget"


def test_what_is_forgotten_is_not_told_and_others_are(last):
    last.note("ann", "token_expired")
    last.note("bob", "auth_timeout")
    last.forget("ann")
    last.forget("eve")
    assert [last.of("ann"), last.of("bob"), len(last)] == [None, "auth_timeout", 1]


def test_a_failure_is_told_for_600_seconds_and_not_after(last, clock):
    last.note("ann", "token_expired")
    clock.advance(599)
    assert last.of("ann") == "token_expired"
    clock.advance(2)
    assert last.of("ann") is None


def test_a_new_failure_begins_its_600_seconds_anew(last, clock):
    last.note("ann", "token_expired")
    clock.advance(500)
    last.note("ann", "token_replayed")
    clock.advance(500)
    assert last.of("ann") == "token_replayed"


def test_beyond_most_users_the_longest_ago_is_forgotten(last, monkeypatch):
    monkeypatch.setattr(failures, "MOST_USERS", 3)
    for user in ("ann", "bob", "eve"):
        last.note(user, "x")
    last.note("ann", "y")
    last.note("dan", "x")
    assert len(last) == 3
    assert [last.of(user) for user in ("ann", "bob", "eve", "dan")] == ["y", None, "x", "x"]


def test_a_flood_of_users_is_bounded(last):
    for number in range(failures.MOST_USERS + 100):
        last.note(f"user {number}", "x")
    assert len(last) == failures.MOST_USERS
