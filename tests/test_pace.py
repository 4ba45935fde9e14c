"""`Pace`: so many at once, and on average so many in a time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import ManualClock
from tornado_wsauth.pace import Pace


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def allowed(pace: Pace, tries: int, client: object = "a") -> int:
    return [pace.allows(client) for _ in range(tries)].count(True)


def test_so_many_are_allowed_at_once_and_not_one_more(clock):
    assert allowed(Pace(5, 10, clock), 20) == 5


def test_as_many_as_the_time_is_worth_are_allowed_again(clock):
    pace = Pace(5, 10, clock)
    allowed(pace, 5)
    clock.advance(1.9)
    assert allowed(pace, 3) == 0
    clock.advance(0.2)
    assert allowed(pace, 3) == 1
    clock.advance(6.0)
    assert allowed(pace, 9) == 3


def test_a_long_silence_saves_up_no_more_than_the_burst(clock):
    pace = Pace(5, 10, clock)
    allowed(pace, 5)
    clock.advance(100_000)
    assert allowed(pace, 20) == 5


def test_each_client_has_a_pace_of_its_own(clock):
    pace = Pace(2, 10, clock)
    assert [allowed(pace, 5, client) for client in ("a", "b", "a", "c")] == [2, 2, 0, 2]


def test_refused_ones_cost_nothing(clock):
    pace = Pace(2, 10, clock)
    allowed(pace, 1000)
    clock.advance(5.1)
    assert allowed(pace, 5) == 1


def test_a_clock_set_back_locks_nobody_out(clock):
    pace = Pace(5, 10, clock)
    allowed(pace, 5)
    clock.now -= 86_400
    pace.allows("a")
    clock.advance(10.1)
    assert allowed(pace, 20) == 5


def test_a_clock_set_back_gives_nobody_more_than_the_burst(clock):
    pace = Pace(5, 10, clock)
    clock.now -= 86_400
    assert allowed(pace, 20) == 5
    clock.now -= 86_400
    assert allowed(pace, 20) <= 5


def test_what_is_forgotten_takes_no_memory_and_begins_anew(clock):
    pace = Pace(2, 10, clock)
    for client in range(100):
        allowed(pace, 5, client)
    for client in range(99):
        pace.forget(client)
    pace.forget("never seen")
    assert len(pace) == 1
    assert allowed(pace, 5, 0) == 2
    assert allowed(pace, 5, 99) == 0


@settings(max_examples=60, deadline=None)
@given(
    messages=st.integers(1, 20),
    seconds=st.floats(0.1, 1000),
    pauses=st.lists(st.floats(0, 500), max_size=60),
)
def test_no_sequence_gets_more_than_burst_and_average_and_the_patient_are_never_refused(messages, seconds, pauses):
    clock = ManualClock()
    clock.now = 0.0  # big numbers would round what small pauses add
    greedy, patient = Pace(messages, seconds, clock), Pace(messages, seconds, clock)
    granted = greedy.allows("a")
    elapsed = 0.0
    for pause in pauses:
        clock.advance(pause)
        elapsed += pause
        granted += greedy.allows("a")
        assert granted <= messages + elapsed * messages / seconds + 1e-6
    for _ in range(3 * messages):
        clock.advance(seconds / messages * 1.0001)
        assert patient.allows("a")
