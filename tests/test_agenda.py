"""Items are woken when they are due: each once, in order, with one timer for all."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import AppError, ManualClock
from tornado_wsauth.agenda import Agenda


@dataclass(eq=False)
class Entry:
    name: object = ""
    wake_at: float = field(default=0.0)


class Desk:
    """An agenda, its clock, and whom it has woken, and when."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clock.now = 1000.0
        self.woken: list[object] = []
        self.times: list[float] = []
        self.agenda: Agenda[Entry] = Agenda(self.clock, self.wake)

    def wake(self, entry: Entry) -> None:
        self.woken.append(entry.name)
        self.times.append(self.clock.now)

    def put(self, seconds: float, name: object = None) -> Entry:
        entry = Entry(seconds if name is None else name)
        self.agenda.put(entry, self.clock.now + seconds)
        return entry


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_items_are_woken_at_their_time_and_in_its_order(desk):
    for seconds in (30, 10, 200, 20):
        desk.put(seconds)
    assert len(desk.agenda) == 4
    desk.clock.advance(500)
    assert desk.woken == [10, 20, 30, 200]
    assert desk.times == [1010, 1020, 1030, 1200]
    assert len(desk.agenda) == 0
    assert desk.clock.timers == []


def test_an_item_is_not_woken_a_moment_early_and_not_twice(desk):
    desk.put(10, "a")
    desk.clock.advance(9.999)
    assert desk.woken == []
    desk.clock.advance(0.001)
    assert desk.woken == ["a"]
    desk.agenda.run()
    desk.clock.advance(1000)
    assert desk.woken == ["a"]


@given(st.lists(st.integers(0, 300), max_size=30), st.data())
def test_whatever_was_put_and_not_removed_is_woken_once_and_in_order(delays, data):
    desk = Desk()
    entries = [desk.put(delay, number) for number, delay in enumerate(delays)]
    removed = data.draw(st.sets(st.sampled_from(range(len(delays))))) if delays else set()
    for number in removed:
        desk.agenda.remove(entries[number])
    assert len(desk.clock.timers) <= 1
    desk.clock.advance(301)
    stayed = [number for number in range(len(delays)) if number not in removed]
    assert sorted(desk.woken) == stayed
    assert [delays[number] for number in desk.woken] == sorted(delays[number] for number in stayed)
    assert desk.clock.timers == []


def test_items_of_the_same_time_are_all_woken_and_each_can_be_removed(desk):
    entries = [desk.put(10, number) for number in range(10)]
    for number in (0, 4, 9):
        desk.agenda.remove(entries[number])
    desk.clock.advance(10)
    assert sorted(desk.woken) == [1, 2, 3, 5, 6, 7, 8]


def test_removing_what_is_not_in_there_removes_nothing(desk):
    first = desk.put(10, "a")
    for seconds in (-1, 0, 1):
        desk.agenda.remove(Entry("stranger", first.wake_at + seconds))
    assert len(desk.agenda) == 1
    desk.agenda.remove(first)
    desk.agenda.remove(first)
    assert len(desk.agenda) == 0


def test_one_timer_does_for_all_and_none_for_nothing(desk):
    assert desk.clock.timers == []
    entries = [desk.put(seconds) for seconds in (50, 10, 30)]
    assert [timer.due for timer in desk.clock.timers] == [1010]
    desk.agenda.remove(entries[1])
    assert len(desk.clock.timers) == 1
    desk.clock.advance(20)
    assert desk.woken == []
    for entry in entries:
        desk.agenda.remove(entry)
    assert desk.clock.timers == []
    desk.put(5, "again")
    desk.clock.advance(5)
    assert desk.woken == ["again"]


def test_an_earlier_item_moves_the_timer_to_the_front(desk):
    desk.put(50, "late")
    desk.put(1, "early")
    desk.clock.advance(1)
    assert desk.woken == ["early"]
    assert len(desk.clock.timers) == 1


def test_an_item_may_be_put_back_by_its_own_wake(desk):
    def wake(entry: Entry) -> None:
        desk.wake(entry)
        if len(desk.woken) < 4:
            agenda.put(entry, desk.clock.now + 10)

    agenda: Agenda[Entry] = Agenda(desk.clock, wake)
    agenda.put(Entry("a"), desk.clock.now + 10)
    desk.clock.advance(100)
    assert desk.times == [1010, 1020, 1030, 1040]
    assert desk.clock.timers == []


def test_a_wake_may_put_and_remove_others(desk):
    others = [Entry("one"), Entry("two"), Entry("three")]

    def wake(entry: Entry) -> None:
        desk.wake(entry)
        if entry.name == "first":
            agenda.remove(others[0])
            agenda.put(others[2], desk.clock.now)

    agenda: Agenda[Entry] = Agenda(desk.clock, wake)
    agenda.put(Entry("first"), 1010)
    agenda.put(others[0], 1010.5)
    agenda.put(others[1], 1010.5)
    desk.clock.advance(11)
    assert desk.woken == ["first", "three", "two"]
    assert desk.clock.timers == []


def test_an_exception_in_a_wake_does_not_lose_the_others(desk):
    def wake(entry: Entry) -> None:
        desk.wake(entry)
        if entry.name == 1:
            raise AppError

    agenda: Agenda[Entry] = Agenda(desk.clock, wake)
    for number in range(4):
        agenda.put(Entry(number), 1010 + number / 10)
    with pytest.raises(AppError):
        desk.clock.advance(60)
    assert len(desk.clock.timers) == 1
    desk.clock.advance(60)
    assert desk.woken == [0, 1, 2, 3]
    assert desk.clock.timers == []


def test_what_is_due_is_woken_by_run_though_the_timer_is_late_and_the_rest_is_not(desk):
    for seconds in (10, 20, 30):
        desk.put(seconds)
    desk.clock.now += 20
    desk.agenda.run()
    assert desk.woken == [10, 20]
    assert len(desk.agenda) == len(desk.clock.timers) == 1
    desk.clock.advance(10)
    assert desk.woken == [10, 20, 30]


def test_what_is_put_for_a_time_that_has_passed_is_woken_without_delay_and_not_inside_of_put(desk):
    desk.put(-5, "past")
    assert desk.woken == []
    desk.clock.advance(0)
    assert desk.woken == ["past"]


class Skewed(ManualClock):
    """A clock that is set while its timers run on: what a daemon does to a machine's."""

    offset = 0.0

    def time(self) -> float:
        return self.now + self.offset


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_set_is_noticed_within_a_minute(hours):
    desk = Desk()
    clock = Skewed()
    agenda: Agenda[Entry] = Agenda(clock, desk.wake)
    agenda.put(Entry("a"), clock.time() + 2 * 3600)
    clock.offset = hours * 3600
    clock.advance((2 - hours) * 3600 - 1)
    assert desk.woken == []
    clock.advance(61)
    assert desk.woken == ["a"]
    assert clock.timers == []
    clock.offset = 0
    agenda.put(Entry("b"), clock.time() + 2 * 3600)
    clock.advance(10)
    clock.offset = 3 * 3600
    clock.advance(60)
    assert desk.woken == ["a", "b"]


def test_many_that_are_due_together_leave_the_loop_its_turns_and_run_waits_for_none(desk, monkeypatch):
    calls = 0

    def wake(entry: Entry) -> None:
        nonlocal calls
        calls += 1

    def fill() -> Agenda[Entry]:
        agenda: Agenda[Entry] = Agenda(desk.clock, wake)
        for number in range(10_000):
            agenda.put(Entry(number), 1010)
        return agenda

    seconds = iter(range(10**9))  # each look at the clock takes a millisecond of a turn
    monkeypatch.setattr("tornado_wsauth.agenda.perf_counter", lambda: next(seconds) / 1000)
    agenda = fill()
    desk.clock.now = 1010
    (timer,) = desk.clock.timers
    desk.clock.timers.clear()
    timer.callback()
    assert 1 <= calls <= 10
    (timer,) = desk.clock.timers
    assert timer.due == 1010, "the next turn of the loop"
    agenda.run()
    assert calls == 10_000
    assert len(agenda) == 0
    assert desk.clock.timers == []


def test_ten_thousand_are_put_and_woken_in_less_than_a_second(desk):
    started = time.perf_counter()
    for number in range(10_000):
        desk.put(number % 100, number)
    desk.clock.now += 100
    desk.agenda.run()
    assert len(desk.woken) == 10_000
    assert time.perf_counter() - started < 1
