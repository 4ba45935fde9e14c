"""How every backplane must count places: the promises of `Backplane.claim` and `Backplane.release` as tests."""

from __future__ import annotations

import asyncio

import pytest

from tests.contracts.backplane_harness import BackplaneHarness, Process, join_all
from tornado_wsauth.backplane.base import Claim, Place

ODD_USERS = [
    *("", " ", "ann", "Ann", "ann ", "anna", "7", "$admin", "$$NOW", "a.b", "a:b", "a", "b", "*", "?", "[a]", "{a}"),
    *('{"$ne": null}', '"', "\\", "zoë", "zoe\u0308", "🎈", "\n", "\x7f", "x" * 2000, "x" * 2001, "__proto__", "null"),
]

REFUSED = Claim(granted=False)
GRANTED = Claim(granted=True)


async def claim(process: Process, name: str, most: int, *, evict: bool = False, user_id: str = "ann") -> Claim:
    return await process.backplane.claim(user_id, name, most=most, evict=evict)


def place(process: Process, name: str) -> Place:
    return Place(process.backplane.process_id, name)


async def all_places(process: Process, user_id: str = "ann") -> list[Place]:
    """Return the places of a user, oldest first, by giving them all away."""
    taken = await process.backplane.claim(user_id, "asks who is there", most=1, evict=True)
    await process.backplane.release(user_id, "asks who is there")
    return [*taken.evicted]


@pytest.mark.gen_test
class PlaceContract:
    """Part of `BackplaneContract`."""

    async def test_a_user_has_as_many_places_as_allowed_in_all_processes_together(
        self, harness: BackplaneHarness
    ) -> None:
        ann, bob, eve = await join_all(harness, 3)
        assert await claim(ann, "1", 3) == GRANTED
        assert await claim(bob, "2", 3) == GRANTED
        assert await claim(bob, "3", 3) == GRANTED
        for process in (ann, bob, eve):
            assert await claim(process, "4", 3) == REFUSED
        assert await claim(eve, "4", 4) == GRANTED
        assert await all_places(ann) == [place(ann, "1"), place(bob, "2"), place(bob, "3"), place(eve, "4")]

    async def test_of_50_racing_claims_exactly_as_many_as_allowed_are_granted(self, harness: BackplaneHarness) -> None:
        processes = await join_all(harness, 3)
        for most in (1, 7):
            racing = [(processes[n % 3], str(n)) for n in range(50)]
            answers = await asyncio.gather(*(claim(process, name, most) for process, name in racing))
            assert sorted(answers) == [REFUSED] * (50 - most) + [GRANTED] * most
            granted = {place(*who) for who, answer in zip(racing, answers, strict=True) if answer.granted}
            held = await all_places(processes[0])
            assert len(held) == most
            assert set(held) == granted

    async def test_of_50_racing_claims_that_evict_all_are_granted_and_nobody_is_evicted_twice(
        self, harness: BackplaneHarness
    ) -> None:
        processes = await join_all(harness, 3)
        racing = [(processes[n % 3], str(n)) for n in range(50)]
        answers = await asyncio.gather(*(claim(process, name, 5, evict=True) for process, name in racing))
        assert all(answer.granted for answer in answers)
        assert sorted(len(answer.evicted) for answer in answers) == [0] * 5 + [1] * 45
        left = await all_places(processes[0])
        assert len(left) == 5
        gone = [one for answer in answers for one in answer.evicted]
        assert sorted(gone + left) == sorted(place(*who) for who in racing)

    async def test_evicting_gives_the_oldest_place_away_whosever_it_is(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        order = [(ann, "z"), (bob, "y"), (ann, "x"), (bob, "z"), (bob, "a"), (ann, "b")]
        for process, name in order[:3]:
            assert await claim(process, name, 3, evict=True) == GRANTED
        for oldest, (process, name) in zip(order, order[3:], strict=False):
            assert await claim(process, name, 3, evict=True) == Claim(True, (place(*oldest),))
        assert await all_places(bob) == [place(*who) for who in order[3:]]

    async def test_a_limit_that_was_lowered_evicts_several_oldest_first(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        order = [((ann, bob)[n % 2], str(9 - n)) for n in range(7)]
        for process, name in order:
            await claim(process, name, 7)
        assert await claim(bob, "one more", 3) == REFUSED
        assert await claim(bob, "one more", 3, evict=True) == Claim(True, tuple(place(*who) for who in order[:5]))
        assert await claim(ann, "last", 1, evict=True) == Claim(
            True, (*(place(*who) for who in order[5:]), place(bob, "one more"))
        )
        assert await all_places(ann) == [place(ann, "last")]

    async def test_claiming_what_one_has_changes_nothing(self, harness: BackplaneHarness) -> None:
        """It is not counted twice, evicts nobody, however low the limit, and grows no younger."""
        ann, bob = await join_all(harness, 2)
        for process, name in ((ann, "1"), (bob, "1"), (ann, "2")):
            await claim(process, name, 3)
        for most in (4, 3, 2, 1):
            for evict in (False, True):
                assert await claim(ann, "1", most, evict=evict) == GRANTED
        assert await claim(bob, "2", 4) == GRANTED
        assert await all_places(bob) == [place(ann, "1"), place(bob, "1"), place(ann, "2"), place(bob, "2")]

    async def test_a_race_of_claims_for_one_place_takes_it_once(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        answers = await asyncio.gather(*(claim(ann, "1", 2) for _ in range(10)))
        assert answers == [GRANTED] * 10
        assert await claim(bob, "1", 2) == GRANTED
        assert await all_places(ann) == [place(ann, "1"), place(bob, "1")]

    async def test_a_claim_that_was_refused_leaves_nothing_behind(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        await claim(ann, "1", 1)
        for _ in range(3):
            assert await claim(bob, "2", 1) == REFUSED
        await bob.backplane.release("ann", "2")
        assert await claim(bob, "3", 1) == REFUSED
        assert await all_places(bob) == [place(ann, "1")]

    async def test_a_released_place_is_free_at_once_and_releasing_it_again_frees_no_other(
        self, harness: BackplaneHarness
    ) -> None:
        ann, bob = await join_all(harness, 2)
        await claim(ann, "1", 2)
        await claim(ann, "2", 2)
        for _ in range(3):
            await ann.backplane.release("ann", "1")
        assert await claim(bob, "3", 2) == GRANTED
        assert await claim(bob, "4", 2) == REFUSED
        assert await claim(ann, "1", 3) == GRANTED
        assert await all_places(bob) == [place(ann, "2"), place(bob, "3"), place(ann, "1")], (
            "taken anew, it is youngest"
        )

    async def test_a_process_releases_only_what_is_its_own(self, harness: BackplaneHarness) -> None:
        """Neither another's place of the same name, nor another user's, nor one that was given away."""
        ann, bob = await join_all(harness, 2)
        await claim(ann, "1", 1)
        await bob.backplane.release("ann", "1")
        await ann.backplane.release("anna", "1")
        await ann.backplane.release("nobody", "")
        assert await claim(bob, "1", 1) == REFUSED
        assert await claim(bob, "1", 1, evict=True) == Claim(True, (place(ann, "1"),))
        await ann.backplane.release("ann", "1")
        assert await claim(ann, "1", 1) == REFUSED
        assert await all_places(ann) == [place(bob, "1")]

    async def test_the_places_of_a_closed_process_are_free_at_once_and_those_of_others_are_not(
        self, harness: BackplaneHarness
    ) -> None:
        ann, bob = await join_all(harness, 2)
        for user_id in ("ann", "zoe"):
            await claim(ann, "1", 2, user_id=user_id)
            await claim(bob, "1", 2, user_id=user_id)
        await ann.backplane.close()
        for user_id in ("ann", "zoe"):
            assert await claim(bob, "2", 2, user_id=user_id) == GRANTED
            assert await claim(bob, "3", 2, user_id=user_id) == REFUSED
            assert await all_places(bob, user_id) == [place(bob, "1"), place(bob, "2")]

    async def test_users_do_not_mix_whatever_they_are_called(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        answers = await asyncio.gather(*(claim(ann, "1", 1, user_id=user_id) for user_id in ODD_USERS))
        assert answers == [GRANTED] * len(ODD_USERS)
        await ann.backplane.release("ann", "1")
        for user_id in ODD_USERS:
            expected = [] if user_id == "ann" else [place(ann, "1")]
            assert await all_places(bob, user_id) == expected, user_id

    async def test_names_of_places_do_not_mix_whatever_they_are_called(self, harness: BackplaneHarness) -> None:
        """Nor does the end of a user's name with the beginning of a place's."""
        ann, bob = await join_all(harness, 2)
        for name in ODD_USERS:
            await claim(ann, name, 100)
        assert await all_places(bob) == [place(ann, name) for name in ODD_USERS]
        for user_id, name in (("a:b", "c"), ("a", "b:c"), ("a.b", "c"), ("a", "b.c"), ("a|b", "c"), ("a", "b|c")):
            assert await claim(ann, name, 1, user_id=user_id, evict=False) == GRANTED
            assert await all_places(bob, user_id) == [place(ann, name)]

    async def test_a_user_id_with_half_a_surrogate_pair_is_a_user_id(self, harness: BackplaneHarness) -> None:
        """``"sub": "\\ud800"`` is valid JSON, so a JWT may carry one."""
        ann, bob = await join_all(harness, 2)
        for user_id in ("\ud800", "\udfff"):
            assert await claim(ann, "1", 1, user_id=user_id) == GRANTED
            assert await claim(bob, "1", 1, user_id=user_id) == REFUSED
        await ann.backplane.release("\ud800", "1")
        assert await all_places(bob, "\ud800") == []
        assert await all_places(bob, "\udfff") == [place(ann, "1")]
