"""The gate meets its events in any order."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tornado_wsauth.gate import FORBIDDEN, REVOKED, Check, Gate, Pass, State

FIRST = '{"type":"jwt","token":"a.b.c"}'


class AnyOrderOfEvents(RuleBasedStateMachine):
    """Whatever order events come in, a frame reaches the application only after each step was taken (A11)."""

    @initialize()
    def connect(self) -> None:
        self.gate = Gate(1000)
        self.steps: list[str] = []
        self.void: set[str] = set()  # whose tokens were revoked before any was redeemed
        self.checking: list[str] = []

    @rule(user=st.sampled_from(["alice", "bob"]))
    def admitted(self, user: str) -> None:
        if self.gate.admitted(user) is Pass.PROCEED:
            assert user not in self.void
            self.steps.append("admitted")

    @rule()
    def upgraded(self) -> None:
        if self.gate.upgraded() is Pass.PROCEED:
            self.steps.append("upgraded")

    @rule(message=st.sampled_from([FIRST, "hello", b"\x00", '{"text":"jwt"}', FIRST.encode()]))
    def frame(self, message: str | bytes) -> None:
        decision = self.gate.frame(message)
        if isinstance(decision, Check):
            assert message == FIRST
            self.checking = ["frame"]  # each JWT goes through each step again
            self.steps.append("checked")
        if decision is Pass.DELIVER:
            assert {"admitted", "upgraded", "checked", "identified", "accepted"} <= set(self.steps)
            assert "ended" not in self.steps

    @rule(user=st.sampled_from(["alice", "bob"]))
    def identified(self, user: str) -> None:
        if self.gate.identified(user) is Pass.PROCEED:
            assert user == self.gate.user_id
            assert self.checking == ["frame"]
            self.checking.append("identified")
            self.steps.append("identified")

    @rule()
    def accepted(self) -> None:
        if self.gate.accepted() is Pass.PROCEED:
            assert self.checking == ["frame", "identified"]
            assert "ended" not in self.steps
            self.checking = []
            self.steps.append("accepted")

    @rule(user=st.sampled_from(["alice", "bob"]))
    def revoked(self, user: str) -> None:
        before = self.gate.state, self.gate.user_id
        decision = self.gate.revoked(user)
        if decision == REVOKED:
            assert before[0] is not State.CLOSED
            assert before[1] == user
            self.steps.append("ended")
        else:
            assert self.gate.state is before[0]
            if before[1] is None:
                self.void.add(user)

    @rule()
    def rejected(self) -> None:
        before = self.gate.state
        self.gate.rejected(FORBIDDEN)
        assert self.gate.state is before
        if before is State.CONNECTING:
            self.steps = [step for step in self.steps if step != "admitted"]

    @rule(event=st.sampled_from(["deadline", "refuse", "closed"]))
    def end(self, event: str) -> None:
        if event == "closed":
            self.gate.closed()
        elif event == "refuse":
            self.gate.refuse(FORBIDDEN)
        else:
            self.gate.deadline()
        if self.gate.state is State.CLOSED:
            self.steps.append("ended")

    @invariant()
    def closed_is_terminal(self) -> None:
        if hasattr(self, "steps") and "ended" in self.steps:
            assert self.gate.state is State.CLOSED


TestAnyOrderOfEvents = AnyOrderOfEvents.TestCase
TestAnyOrderOfEvents.settings = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
