"""Every state of the gate meets every event, without a socket."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_wsauth.errors import CloseCode
from tornado_wsauth.gate import (
    AUTH_TIMEOUT,
    BAD_MESSAGE,
    FORBIDDEN,
    INTERNAL,
    JWT_INVALID,
    RESTART,
    REVOKED,
    TOKEN_INVALID,
    USER_MISMATCH,
    Check,
    Close,
    Gate,
    Pass,
    State,
    parse_first_message,
)

FIRST = '{"type":"jwt","token":"a.b.c"}'


def gate_in(state: State) -> Gate:
    """Return a gate that came to ``state`` the way a client comes there."""
    gate = Gate(1000)
    if state is State.CONNECTING:
        return gate
    gate.admitted("alice")
    gate.upgraded()
    if state is State.WAITING:
        return gate
    gate.frame(FIRST)
    if state is State.CHECKING:
        return gate
    gate.identified("alice")
    gate.accepted()
    if state is State.OPEN:
        return gate
    gate.closed()
    return gate


@pytest.mark.parametrize("state", State)
def test_a_gate_is_where_its_events_took_it(state: State) -> None:
    assert gate_in(state).state is state


# A16: whatever else a first message may be, it is refused, and refusing it raises nothing.
HOSTILE = {
    "empty": "",
    "binary": FIRST.encode(),
    "not JSON": "hello",
    "an array": '["jwt"]',
    "null": "null",
    "a number": "1",
    "a string": '"jwt"',
    "no type": '{"token":"a.b.c"}',
    "another type": '{"type":"JWT","token":"a.b.c"}',
    "a type that is no string": '{"type":["jwt"],"token":"a.b.c"}',
    "no token": '{"type":"jwt"}',
    "an empty token": '{"type":"jwt","token":""}',
    "an operator": '{"type":"jwt","token":{"$ne":null}}',
    "a token that is a number": '{"type":"jwt","token":1}',
    "a token that is null": '{"type":"jwt","token":null}',
    "a type given twice": '{"type":"jwt","type":"jwt","token":"a.b.c"}',
    "a token given twice": '{"type":"jwt","token":"a.b.c","token":"d.e.f"}',
    "a member given twice deep inside": '{"type":"jwt","token":"a.b.c","x":{"y":1,"y":2}}',
    "nesting": "[" * 100_000,
    "nesting in a member": '{"type":"jwt","token":"a.b.c","x":' + '{"x":' * 100_000,
    "a lone surrogate": '{"type":"jwt","token":"\\ud800"}',
    "a digit that is no ASCII": '{"type":"jwt","token":"٣.٣.٣"}',
    "an integer of 5000 digits": '{"type":"jwt","token":"a.b.c","n":' + "9" * 5000 + "}",
    "a second document": FIRST + FIRST,
    "a byte order mark": "\ufeff" + FIRST,
}


Event = Callable[[Gate], object]
EVENTS: dict[str, Event] = {
    "admitted": lambda gate: gate.admitted("alice"),
    "upgraded": lambda gate: gate.upgraded(),
    "frame": lambda gate: gate.frame(FIRST),
    "identified": lambda gate: gate.identified("alice"),
    "accepted": lambda gate: gate.accepted(),
    "deadline": lambda gate: gate.deadline(),
    "refuse": lambda gate: gate.refuse(FORBIDDEN),
    "rejected": lambda gate: gate.rejected(TOKEN_INVALID),
    "revoked": lambda gate: gate.revoked("alice"),
    "another revoked": lambda gate: gate.revoked("bob"),
    "a chat about jwt": lambda gate: gate.frame('{"text":"jwt"}'),
    "half a jwt": lambda gate: gate.frame('{"type":"jwt"}'),
}

C, W, K, P, X = State.CONNECTING, State.WAITING, State.CHECKING, State.OPEN, State.CLOSED
PROCEED, IGNORE, DELIVER = Pass.PROCEED, Pass.IGNORE, Pass.DELIVER

# For each state and event: what the gate decides, and where it stands afterwards.
TABLE = {
    (C, "admitted"): (PROCEED, C),
    (C, "upgraded"): (TOKEN_INVALID, X),  # A11: nobody was admitted
    (C, "frame"): (IGNORE, C),
    (C, "identified"): (IGNORE, C),
    (C, "accepted"): (IGNORE, C),
    (C, "deadline"): (IGNORE, C),
    (C, "refuse"): (FORBIDDEN, X),
    (C, "rejected"): (None, C),
    (C, "revoked"): (IGNORE, C),  # A25: only who is admitted later is barred
    (C, "another revoked"): (IGNORE, C),
    (C, "a chat about jwt"): (IGNORE, C),
    (C, "half a jwt"): (IGNORE, C),
    (W, "admitted"): (IGNORE, W),
    (W, "upgraded"): (IGNORE, W),
    (W, "frame"): (Check("a.b.c"), K),
    (W, "identified"): (IGNORE, W),
    (W, "accepted"): (IGNORE, W),
    (W, "deadline"): (AUTH_TIMEOUT, X),  # A15
    (W, "refuse"): (FORBIDDEN, X),
    (W, "rejected"): (None, W),
    (W, "revoked"): (REVOKED, X),  # A25
    (W, "another revoked"): (IGNORE, W),
    (W, "a chat about jwt"): (BAD_MESSAGE, X),  # A16
    (W, "half a jwt"): (BAD_MESSAGE, X),  # A16
    (K, "admitted"): (IGNORE, K),
    (K, "upgraded"): (IGNORE, K),
    (K, "frame"): (INTERNAL, X),
    (K, "identified"): (PROCEED, K),
    (K, "accepted"): (IGNORE, K),  # nobody was identified
    (K, "deadline"): (AUTH_TIMEOUT, X),
    (K, "refuse"): (FORBIDDEN, X),
    (K, "rejected"): (None, K),
    (K, "revoked"): (REVOKED, X),  # A25
    (K, "another revoked"): (IGNORE, K),
    (K, "a chat about jwt"): (INTERNAL, X),
    (K, "half a jwt"): (INTERNAL, X),
    (P, "admitted"): (IGNORE, P),
    (P, "upgraded"): (IGNORE, P),
    (P, "frame"): (Check("a.b.c"), P),  # A24: it renews the session
    (P, "identified"): (IGNORE, P),  # nothing is being checked
    (P, "accepted"): (IGNORE, P),
    (P, "deadline"): (IGNORE, P),
    (P, "refuse"): (FORBIDDEN, X),
    (P, "rejected"): (None, P),
    (P, "revoked"): (REVOKED, X),  # A25
    (P, "another revoked"): (IGNORE, P),
    (P, "a chat about jwt"): (DELIVER, P),
    (P, "half a jwt"): (BAD_MESSAGE, X),  # A24
    **{(X, name): (IGNORE, X) for name in EVENTS},  # terminal
    (X, "rejected"): (None, X),
}


@pytest.mark.parametrize(("state", "event"), [(state, event) for state in State for event in EVENTS])
def test_every_state_answers_every_event_as_the_table_says(state: State, event: str) -> None:
    gate = gate_in(state)
    decision, after = TABLE[state, event]
    assert EVENTS[event](gate) == decision
    assert gate.state is after


@pytest.mark.parametrize("state", State)
def test_a_client_that_leaves_ends_any_state(state: State) -> None:
    gate = gate_in(state)
    gate.closed()
    assert gate.state is State.CLOSED


def test_a_client_that_left_is_not_upgraded() -> None:  # A10
    gate = Gate(1000)
    gate.closed()
    assert gate.admitted("alice") is Pass.IGNORE
    assert gate.upgraded() is Pass.IGNORE


def test_a_token_of_one_user_with_the_jwt_of_another_is_refused() -> None:  # A22
    gate = gate_in(State.CHECKING)
    assert gate.identified("bob") == USER_MISMATCH
    assert gate.accepted() is Pass.IGNORE
    assert gate.state is State.CLOSED


def test_only_an_identified_user_is_accepted() -> None:  # A22
    gate = gate_in(State.CHECKING)
    assert gate.accepted() is Pass.IGNORE
    assert gate.identified("alice") is Pass.PROCEED
    assert gate.accepted() is Pass.PROCEED
    assert gate.state is State.OPEN


ENDS: dict[str, Event] = {
    "revoked": lambda gate: gate.revoked("alice"),
    "refuse": lambda gate: gate.refuse(RESTART),
    "closed": lambda gate: gate.closed(),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_new_jwt_that_was_being_checked_when_the_end_came_is_not_accepted(end: str) -> None:  # A24, A25
    for steps in range(2):
        gate = gate_in(State.OPEN)
        gate.frame(FIRST)
        if steps:
            assert gate.identified("alice") is Pass.PROCEED
        ENDS[end](gate)
        assert gate.identified("alice") is Pass.IGNORE
        assert gate.accepted() is Pass.IGNORE
        assert gate.state is State.CLOSED


def test_a_new_jwt_of_the_same_user_is_accepted_once() -> None:  # A24
    gate = gate_in(State.OPEN)
    for _ in range(2):
        assert gate.frame(FIRST) == Check("a.b.c")
        assert gate.accepted() is Pass.IGNORE, "nobody was identified"
        assert gate.identified("alice") is Pass.PROCEED
        assert gate.identified("alice") is Pass.IGNORE
        assert gate.accepted() is Pass.PROCEED
        assert gate.accepted() is Pass.IGNORE
        assert gate.frame("hello") is Pass.DELIVER


def test_a_new_jwt_of_another_user_ends_the_connection() -> None:  # A24, A22
    gate = gate_in(State.OPEN)
    gate.frame(FIRST)
    assert gate.identified("bob") == USER_MISMATCH
    assert gate.accepted() is Pass.IGNORE
    assert gate.state is State.CLOSED


def test_a_second_new_jwt_starts_the_check_anew() -> None:  # A24
    gate = gate_in(State.OPEN)
    gate.frame(FIRST)
    gate.identified("alice")
    gate.frame(FIRST)
    assert gate.accepted() is Pass.IGNORE


def test_what_is_revoked_while_the_token_is_redeemed_bars_its_user_and_nobody_else() -> None:  # A25
    for user, decision in (("alice", REVOKED), ("carol", REVOKED), ("bob", Pass.PROCEED)):
        gate = Gate(1000)
        assert gate.revoked("alice") is Pass.IGNORE
        assert gate.revoked("carol") is Pass.IGNORE
        assert gate.admitted(user) == decision
        assert (gate.state is State.CLOSED) is (decision is REVOKED)
        assert gate.ending == (REVOKED if decision is REVOKED else None)


def test_a_request_between_its_token_and_the_101_is_revoked() -> None:  # A25
    gate = Gate(1000)
    gate.admitted("alice")
    assert gate.revoked("bob") is Pass.IGNORE
    assert gate.revoked("alice") == REVOKED
    assert gate.upgraded() is Pass.IGNORE
    assert gate.ending == REVOKED


def test_a_client_that_is_rejected_is_upgraded_to_learn_why_and_for_nothing_else() -> None:  # A11
    gate = Gate(1000)
    gate.admitted("alice")
    gate.rejected(FORBIDDEN)
    assert gate.state is State.CONNECTING
    assert gate.revoked("alice") is Pass.IGNORE
    assert gate.upgraded() == FORBIDDEN
    assert gate.state is State.CLOSED
    assert gate.frame(FIRST) is Pass.IGNORE


LOOK_ALIKE = ["a type that is no string", "another type", "no type", "nesting in a member", "a second document"]


@pytest.mark.parametrize("name", [*LOOK_ALIKE, "an array", "a string", "a byte order mark", "a type given twice"])
def test_what_is_no_jwt_message_at_all_is_the_applications_on_a_live_connection(name: str) -> None:  # A24
    gate = Gate(10_000_000)
    gate.admitted("alice")
    gate.upgraded()
    gate.frame(FIRST)
    gate.identified("alice")
    gate.accepted()
    assert gate.frame(HOSTILE[name]) is Pass.DELIVER
    assert gate.state is State.OPEN


def test_a_binary_message_and_one_over_the_limit_are_never_a_new_jwt() -> None:  # A24, A17
    gate = gate_in(State.OPEN)
    assert gate.frame(FIRST.encode()) is Pass.DELIVER
    assert gate.frame(FIRST.ljust(1001)) is Pass.DELIVER
    assert gate.frame(FIRST.ljust(1000)) == Check("a.b.c")


def test_only_the_first_reason_to_close_counts() -> None:
    gate = gate_in(State.OPEN)
    assert gate.refuse(RESTART) == RESTART
    assert gate.refuse(INTERNAL) is Pass.IGNORE


def test_every_reason_fits_into_a_close_frame() -> None:
    for close in (AUTH_TIMEOUT, BAD_MESSAGE, FORBIDDEN, INTERNAL, JWT_INVALID, RESTART, TOKEN_INVALID, USER_MISMATCH):
        assert isinstance(close, Close)
        assert close.code in set(CloseCode)
        assert len(close.reason.encode()) <= 123


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_first_message_closes_4400(message: str | bytes) -> None:  # A16
    gate = Gate(10_000_000)
    gate.admitted("alice")
    gate.upgraded()
    assert gate.frame(message) == BAD_MESSAGE
    assert gate.state is State.CLOSED


def test_a_first_message_over_the_limit_is_not_even_parsed() -> None:  # A17
    assert parse_first_message(FIRST, len(FIRST)) == "a.b.c"
    assert parse_first_message(FIRST, len(FIRST) - 1) is None


def test_unknown_members_leave_room_for_the_protocol_to_grow() -> None:
    assert parse_first_message('{"v":2,"token":"a.b.c","type":"jwt","x":[1]}', 1000) == "a.b.c"


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.text(), st.lists).map(json.dumps)))
def test_no_other_message_is_taken_for_a_first_message(message: str | bytes) -> None:  # A16
    assert parse_first_message(message, 16384) is None


@given(st.text(st.characters(codec="ascii"), min_size=1))
def test_any_ascii_token_comes_out_as_it_went_in(token: str) -> None:
    assert parse_first_message(json.dumps({"type": "jwt", "token": token}), 16384) == token
