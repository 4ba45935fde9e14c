"""What every lease must do: the promises of ``leases/base.py`` as tests.

A lease's own test module subclasses `LeaseContract` and gives it a fixture ``harness``.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest

from tornado_wsauth.errors import BackplaneError
from tornado_wsauth.leases.base import Lease

INTERVAL = 100.0
"""Seconds; so long that the time the test itself takes does not matter."""


class LeaseHarness(Protocol):
    """Makes leases on one engine, in a name space of the test's own."""

    async def make(self, name: str = "ticker") -> Lease:
        """Return another process's lease of that name, started."""

    async def make_unreachable(self) -> Lease:
        """Return a lease, not started, on an engine that does not answer within a second."""

    async def pass_time(self, seconds: float) -> None:
        """Make whatever the engine remembers of leases that much older."""


@pytest.mark.gen_test
class LeaseContract:
    """Inherit it as ``class TestMyLease(LeaseContract)``."""

    async def test_of_racing_claims_exactly_one_is_answered_true(self, harness: LeaseHarness) -> None:
        ann, bob = await harness.make(), await harness.make()
        for _ in range(2):
            answers = await asyncio.gather(*(lease.claim(INTERVAL) for _ in range(20) for lease in (ann, bob)))
            assert sorted(answers) == [False] * 39 + [True]
            await harness.pass_time(INTERVAL + 1)

    async def test_whoever_holds_it_keeps_it_as_long_as_it_claims(self, harness: LeaseHarness) -> None:
        ann, bob = await harness.make(), await harness.make()
        assert await ann.claim(INTERVAL)
        for _ in range(4):
            assert not await bob.claim(INTERVAL)
            await harness.pass_time(INTERVAL * 0.9)
            assert not await bob.claim(INTERVAL)
            assert await ann.claim(INTERVAL), "a timer that is a little early must not lose it"

    async def test_whoever_claims_first_after_an_interval_without_the_holder_takes_it_over(
        self, harness: LeaseHarness
    ) -> None:
        ann, bob, eve = [await harness.make() for _ in range(3)]
        assert await ann.claim(INTERVAL)
        await harness.pass_time(INTERVAL * 0.98)
        assert not await bob.claim(INTERVAL), "a refusal must not put off the takeover"
        await harness.pass_time(INTERVAL * 0.03)
        assert await bob.claim(INTERVAL)
        assert not await eve.claim(INTERVAL)
        assert not await ann.claim(INTERVAL)

    async def test_the_holder_is_not_answered_true_twice_in_half_an_interval(self, harness: LeaseHarness) -> None:
        ann = await harness.make()
        assert await ann.claim(INTERVAL)
        assert not await ann.claim(INTERVAL)
        await harness.pass_time(INTERVAL * 0.45)
        assert not await ann.claim(INTERVAL)
        await harness.pass_time(INTERVAL * 0.1)
        assert await ann.claim(INTERVAL)
        await harness.pass_time(INTERVAL * 0.45)
        assert not await ann.claim(INTERVAL)

    async def test_a_paused_holder_that_goes_on_does_not_act_for_an_instant_that_another_acted_for(
        self, harness: LeaseHarness
    ) -> None:
        ann, bob = await harness.make(), await harness.make()
        assert await ann.claim(INTERVAL)
        await harness.pass_time(INTERVAL * 1.5)
        assert await bob.claim(INTERVAL)
        for _ in range(3):
            assert not await ann.claim(INTERVAL)
            await harness.pass_time(INTERVAL * 0.3)
        assert not await ann.claim(INTERVAL), "bob holds it for an interval"
        assert await bob.claim(INTERVAL)
        await harness.pass_time(INTERVAL * 50)
        assert await ann.claim(INTERVAL)
        assert not await bob.claim(INTERVAL)

    async def test_whoever_was_released_by_lets_another_act_at_the_next_instant_and_not_at_the_same(
        self, harness: LeaseHarness
    ) -> None:
        ann, bob = await harness.make(), await harness.make()
        assert await ann.claim(INTERVAL)
        await ann.release()
        assert not await bob.claim(INTERVAL)
        assert not await ann.claim(INTERVAL)
        await harness.pass_time(INTERVAL * 0.45)
        assert not await bob.claim(INTERVAL)
        await harness.pass_time(INTERVAL * 0.1)
        assert await bob.claim(INTERVAL)
        assert not await ann.claim(INTERVAL)
        await harness.pass_time(INTERVAL * 0.9)
        assert not await ann.claim(INTERVAL), "bob holds it now"

    async def test_releasing_what_one_does_not_hold_does_nothing(self, harness: LeaseHarness) -> None:
        ann, bob, eve = [await harness.make() for _ in range(3)]
        await eve.release()
        assert await ann.claim(INTERVAL)
        for _ in range(2):
            await bob.release()
            assert not await bob.claim(INTERVAL)
            await bob.release()
        await harness.pass_time(INTERVAL * 0.6)
        assert not await bob.claim(INTERVAL)
        assert await ann.claim(INTERVAL)
        await harness.pass_time(INTERVAL * 1.1)
        assert await bob.claim(INTERVAL)
        await ann.release()  # which it held before
        await harness.pass_time(INTERVAL * 0.6)
        assert not await ann.claim(INTERVAL)

    async def test_names_do_not_mix_whatever_they_are_called(self, harness: LeaseHarness) -> None:
        names = [" ", "a", "A", "a:b", "a.b", "$a", "*", "zoë", "🎈", "\n", "x" * 500, "x" * 501]
        for name in names:
            assert await (await harness.make(name)).claim(INTERVAL), name
        for name in names:
            assert not await (await harness.make(name)).claim(INTERVAL), name
        await (first := await harness.make("other")).claim(INTERVAL)
        await first.release()
        await harness.pass_time(INTERVAL * 0.6)
        assert not await (await harness.make("a")).claim(INTERVAL)
        assert await (await harness.make("other")).claim(INTERVAL)

    async def test_starting_again_changes_nothing(self, harness: LeaseHarness) -> None:
        ann, bob = await harness.make(), await harness.make()
        assert await ann.claim(INTERVAL)
        await ann.start()
        await bob.start()
        assert not await bob.claim(INTERVAL)
        await harness.pass_time(INTERVAL)
        assert await ann.claim(INTERVAL)

    async def test_no_answer_is_an_error_and_not_a_yes_or_no(self, harness: LeaseHarness) -> None:
        lease = await harness.make_unreachable()
        with pytest.raises(BackplaneError):
            await lease.claim(INTERVAL)
        with pytest.raises(BackplaneError):
            await lease.release()
