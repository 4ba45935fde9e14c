"""The inbox: no copies, no echoes, only what is listened to, and nothing makes it raise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.backplane_harness import Recorder
from tests.logs import Log
from tests.test_envelope import examples
from tornado_wsauth.backplane import inbox as inbox_module
from tornado_wsauth.backplane.envelope import seal, wrap
from tornado_wsauth.backplane.inbox import Inbox

OURS = "0123456789abcdef"
SECRET = "the-secret-that-no-log-may-have"


class Case:
    """An inbox, who it hands on to, and what it listens to."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.channels = {"everyone", "red"}
        self.inbox = Inbox(OURS, self.recorder, self.channels)

    def take(self, seq: int, *numbers: int, sender: str = "ann", channel: str = "red", **how: Any) -> None:
        self.inbox.take(seal(sender, seq, [wrap(channel, {"n": number}) for number in numbers]), **how)

    @property
    def numbers(self) -> list[int]:
        return [message["n"] for _, message in self.recorder.messages]


@pytest.fixture
def case() -> Case:
    return Case()


def test_messages_come_in_order_with_their_channels(case: Case) -> None:
    letters = [("red", {"n": 1}), ("everyone", {"n": 2}), ("red", {"n": 1})]
    case.inbox.take(seal("ann", 1, [wrap(*letter) for letter in letters]).encode())
    assert case.recorder.messages == letters


def test_what_is_not_listened_to_is_left_out_and_does_not_take_others_with_it(case: Case) -> None:
    letters = [("blue", {"n": 1}), ("red", {"n": 2}), ("", {"n": 3}), ("Red", {"n": 4})]
    case.inbox.take(seal("ann", 1, [wrap(*letter) for letter in letters]))
    assert case.numbers == [2]


def test_channels_may_change_even_while_messages_are_handed_on(case: Case) -> None:
    def change(channel: str, message: dict[str, Any]) -> None:
        case.channels.discard("red")
        case.channels.add("blue")

    case.recorder.on_message = change
    letters = [("blue", {"n": 1}), ("red", {"n": 2}), ("red", {"n": 3}), ("blue", {"n": 4})]
    case.inbox.take(seal("ann", 1, [wrap(*letter) for letter in letters]))
    assert case.numbers == [2, 4]


def test_a_copy_is_not_handed_on_however_late_it_comes(case: Case) -> None:
    # A37
    for seq in (0, 1, 1, 0, 2, 1, 7, 3, 7, 8):
        case.take(seq, seq)
    assert case.numbers == [0, 1, 2, 7, 8]


def test_copies_are_known_for_each_sender_by_itself(case: Case) -> None:
    for sender in ("ann", "bob", "ann", "bob"):
        case.take(5, 5, sender=sender)
    case.take(4, 4, sender="eve")
    assert case.numbers == [5, 5, 4]


def test_copies_are_known_for_each_way_by_itself(case: Case) -> None:
    case.take(5, 5)
    case.take(3, 3, way="announced")
    case.take(3, 3, way="announced")
    case.take(5, 5, way="published")
    case.take(6, 6, way="published")
    assert case.numbers == [5, 3, 6]


def test_nothing_of_our_own_is_handed_on(case: Case) -> None:
    for seq in range(3):
        case.take(seq, seq, sender=OURS)
        case.take(seq, seq, sender=OURS, way="announced")
    assert case.recorder.events == []


def test_what_nobody_here_listened_to_counts_as_seen(case: Case) -> None:
    case.take(1, 1, channel="blue")
    case.channels.add("blue")
    case.take(1, 1, channel="blue")
    assert case.numbers == []


def test_a_receiver_that_raises_gets_the_rest_and_the_log_names_the_channel_and_not_the_message(
    case: Case, logged: Log
) -> None:
    case.recorder.on_message = lambda channel, message: 1 // 0
    letters = [wrap("red", {"n": n, "text": SECRET}) for n in range(3)]
    case.inbox.take(seal("ann", 1, letters))
    case.take(2, 3)
    assert case.numbers == [0, 1, 2, 3]
    assert [record.levelname for record in logged.records] == ["ERROR"] * 4
    assert all("'red'" in record.getMessage() and SECRET not in record.getMessage() for record in logged.records)


@pytest.mark.parametrize(
    "text",
    [
        *(SECRET, SECRET.encode(), b"\xff" + SECRET.encode(), "[" * 100_000 + SECRET, "", json.dumps(SECRET)),
        json.dumps({"v": 2, "from": SECRET, "seq": 1, "messages": []}),
        json.dumps({"v": 1, "from": "ann", "seq": 1, "messages": [["red", SECRET]]}),
        f'{{"v":1,"from":"{SECRET}","seq":{"1" * 5000},"messages":[]}}',
    ],
    ids=range(9),
)
def test_what_is_none_of_ours_is_one_warning_without_a_quote(case: Case, logged: Log, text: str | bytes) -> None:
    # A37, A38
    case.inbox.take(text)
    case.take(1, 1)
    assert case.numbers == [1]
    (record,) = logged.records
    assert record.levelname == "WARNING"
    assert str(len(text)) in record.getMessage()
    assert "\n" not in record.getMessage()
    assert SECRET not in record.getMessage()
    assert record.exc_info is None


@examples(200)
@given(
    st.binary(max_size=40)
    | st.text(max_size=40)
    | st.builds(
        lambda sender, seq, pairs: json.dumps({"v": 1, "from": sender, "seq": seq, "messages": pairs}),
        st.none() | st.text(max_size=3),
        st.none() | st.integers() | st.floats(),
        st.lists(st.lists(st.text(max_size=3) | st.just({}), max_size=3), max_size=3),
    )
)
def test_nothing_makes_it_raise(text: str | bytes) -> None:
    case = Case()
    case.inbox.take(text)
    case.take(1, 1, sender="somebody whom no example names")
    assert case.numbers[-1] == 1


def test_what_it_remembers_of_senders_is_bounded_and_it_forgets_the_most_silent(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "_MOST_SENDERS", 10)
    case.take(5, 0, sender="regular")
    case.take(5, 0, sender="silent")
    for number in range(1, 30):
        case.take(5, number, sender=f"passing {number}")
        case.take(5 + number, number, sender="regular")
    case.recorder.forget()
    case.take(6, 1, sender="regular")
    assert case.numbers == [], "a copy of one that was heard of lately"
    case.take(5, 2, sender="silent")
    assert case.numbers == [2]
    assert max(len(held) for held in vars(case.inbox).values() if isinstance(held, dict)) == 10
