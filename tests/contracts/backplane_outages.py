"""What a backplane on a server must do when processes die and connections are cut: `Backplane`'s promises as tests."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from tests.contracts.backplane_harness import (
    MOST_SECONDS,
    Process,
    Recorder,
    ServerHarness,
    fence,
    join,
    join_all,
    until,
)
from tests.contracts.backplane_messages import calls, numbers, publish_all
from tests.contracts.backplane_places import GRANTED, REFUSED, all_places, claim, place
from tornado_wsauth.backplane.base import DEAD_AFTER, EVERYONE, HEARTBEAT
from tornado_wsauth.errors import BackplaneError

SOON = DEAD_AFTER - 2 * HEARTBEAT
"""Seconds: with a heartbeat missed, and the test's own time, still less than `DEAD_AFTER`."""

QUICK = 1.0
"""Seconds: the timeout of a backplane in whose test the engine does not answer."""


async def cut(harness: ServerHarness, process: Process, *, known: bool = False) -> None:
    """Cut ``process`` off; return when it knows. One with history may bridge a cut before it knows of it, and may here,
    unless it must be ``known``.
    """
    await harness.cut(process.backplane)
    if known or not harness.history:
        await until(lambda: not process.backplane.is_connected, "the cut to be noticed")


async def mend(harness: ServerHarness, process: Process) -> None:
    """Let ``process`` connect again; return when it has."""
    await harness.mend(process.backplane)
    await until(lambda: process.backplane.is_connected, "the connection to be made again")


@pytest.mark.gen_test
class DeathContract:
    """Part of `BackplaneContract`."""

    async def test_a_dead_process_is_a_peer_until_dead_after_and_not_longer(self, harness: ServerHarness) -> None:
        ann, dead = await join_all(harness, 2)
        await harness.die(dead.backplane)
        assert dead.backplane.process_id in await ann.backplane.peers()
        await harness.pass_time(SOON)
        assert dead.backplane.process_id in await (await join(harness)).backplane.peers()
        await harness.pass_time(DEAD_AFTER + 1)
        late = await join(harness)
        assert dead.backplane.process_id not in await late.backplane.peers()

    async def test_the_places_of_a_dead_process_are_free_after_dead_after_and_not_before(
        self, harness: ServerHarness
    ) -> None:
        dead = await join(harness)
        for user_id in ("ann", "zoe"):
            await claim(dead, "1", 2, user_id=user_id)
            await claim(dead, "2", 2, user_id=user_id)
        await harness.die(dead.backplane)
        assert await claim(await join(harness), "3", 2) == REFUSED
        await harness.pass_time(SOON)
        assert await claim(await join(harness), "3", 2) == REFUSED
        await harness.pass_time(DEAD_AFTER + 1)
        late = await join(harness)
        for user_id in ("ann", "zoe"):
            assert await claim(late, "3", 2, user_id=user_id) == GRANTED
            assert await claim(late, "4", 2, user_id=user_id) == GRANTED
            assert await claim(late, "5", 2, user_id=user_id) == REFUSED

    async def test_a_claim_that_evicts_gives_away_nothing_of_the_living_while_the_dead_have_places(
        self, harness: ServerHarness
    ) -> None:
        """The living process is older than the dead one: it is who would be evicted."""
        dead = await join(harness)
        await claim(dead, "1", 3)
        await harness.die(dead.backplane)
        await harness.pass_time(DEAD_AFTER + 1)
        living, late = await join_all(harness, 2)
        await claim(living, "2", 3)
        await claim(living, "3", 3)
        assert await claim(late, "4", 3, evict=True) == GRANTED
        assert await all_places(late) == [place(living, "2"), place(living, "3"), place(late, "4")]

    async def test_a_process_that_was_taken_for_dead_is_told_and_may_claim_its_places_again(
        self, harness: ServerHarness
    ) -> None:
        ann = await join(harness)
        await claim(ann, "1", 1)
        for _ in range(5):  # a heartbeat may come between the two
            await harness.pass_time(DEAD_AFTER + 1)
            bob = await join(harness)
            if await claim(bob, "1", 1) == GRANTED:
                break
        else:
            pytest.fail("the place was never free")
        await ann.recorder.told("forgotten")
        assert await claim(ann, "1", 1) == REFUSED
        assert await claim(ann, "1", 2) == GRANTED
        assert ann.backplane.process_id in await bob.backplane.peers()
        assert await all_places(bob) == [place(bob, "1"), place(ann, "1")]

    async def test_in_a_forked_process_nothing_is_done(
        self, harness: ServerHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ann, bob = await join_all(harness, 2)
        await claim(ann, "1", 1)
        parent = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: parent + 1)
        for call in calls(ann.backplane):
            with pytest.raises(BackplaneError, match="fork"):
                await call()
        with pytest.raises(BackplaneError, match="fork"):
            await ann.backplane.start(Recorder())
        monkeypatch.undo()
        assert await claim(bob, "1", 1) == REFUSED
        await fence(ann, bob)
        assert bob.recorder.messages == []


@pytest.mark.gen_test
class CutContract:
    """Part of `BackplaneContract`."""

    async def test_what_is_sent_while_a_process_is_cut_off_comes_late_or_is_told_of_by_one_gap(
        self, harness: ServerHarness
    ) -> None:
        # A37
        ann, bob = await join(harness), await join(harness, "red", timeout=QUICK)
        await publish_all(ann, ["red"], 10, at_once=5)
        await fence(ann, bob)
        for cuts in (1, 2):
            bob.recorder.forget()
            await cut(harness, bob, known=cuts == 1)
            await publish_all(ann, ["red"], 10, at_once=5, cuts=cuts)
            await mend(harness, bob)
            await ann.backplane.publish("red", {"n": 10, "cuts": cuts})
            await fence(ann, bob)
            assert {message["cuts"] for _, message in bob.recorder.messages} == {cuts}, "came a second time"
            if harness.history:
                assert numbers(bob) == [*range(11)]
                assert "gap" not in bob.recorder.events
            else:
                assert numbers(bob) == sorted(set(numbers(bob)))
                assert numbers(bob)[-1] == 10
                assert bob.recorder.events.count("gap") == 1
                assert bob.recorder.events.index("gap") <= numbers(bob).index(10), "of after it, something came before"

    async def test_what_was_announced_while_a_process_was_cut_off_comes_once_and_before_the_gap(
        self, harness: ServerHarness
    ) -> None:
        ann, bob, eve = await join_all(harness, 3)
        await ann.backplane.announce({"n": -1})
        await bob.recorder.received(1)
        await cut(harness, bob)
        for number in range(5):
            await ann.backplane.announce({"n": number})
        await eve.backplane.announce({"n": 5})
        await mend(harness, bob)
        await ann.backplane.announce({"n": 6})
        await bob.recorder.received(8)
        await fence(ann, bob)
        assert sorted(numbers(bob)) == [*range(-1, 7)]
        assert harness.history or bob.recorder.events.index("gap") >= 7

    async def test_a_second_cut_brings_no_announcement_again(self, harness: ServerHarness) -> None:
        ann, bob = await join_all(harness, 2)
        await ann.backplane.announce({"n": 1})
        await bob.recorder.received(1)
        for _ in range(2):
            await cut(harness, bob)
            await mend(harness, bob)
        await ann.backplane.announce({"n": 2})
        await bob.recorder.received(2)
        await fence(ann, bob)
        assert numbers(bob) == [1, 2]

    async def test_publish_fails_at_once_while_cut_off_and_works_afterwards(self, harness: ServerHarness) -> None:
        ann, bob = await join(harness, timeout=QUICK), await join(harness)
        await cut(harness, ann, known=True)
        publishing: Any = ann.backplane.publish(EVERYONE, {"n": 1})
        with pytest.raises(BackplaneError):
            publishing.send(None)  # it does not wait for anything, not even for a turn of the loop
        await mend(harness, ann)
        await ann.backplane.publish(EVERYONE, {"n": 2})
        await bob.recorder.received(1)
        assert numbers(bob) == [2]

    async def test_without_an_answer_nothing_is_granted_or_counted(self, harness: ServerHarness) -> None:
        ann = await join(harness, timeout=QUICK)
        await cut(harness, ann, known=True)
        async with asyncio.timeout(MOST_SECONDS):
            answers = await asyncio.gather(*(call() for call in calls(ann.backplane)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [BackplaneError] * len(answers)
        await mend(harness, ann)
        assert (await ann.backplane.claim("ann", "first", most=1)).granted

    async def test_what_was_listened_to_and_ignored_while_cut_off_is_in_effect_afterwards(
        self, harness: ServerHarness
    ) -> None:
        ann, bob = await join(harness), await join(harness, "before", "ignored")
        await cut(harness, bob)
        bob.backplane.listen("meanwhile")
        bob.backplane.ignore("ignored")
        await mend(harness, bob)
        await bob.listen()
        for number, channel in enumerate(("ignored", "before", "meanwhile")):
            await ann.backplane.publish(channel, {"n": number})
        await fence(ann, bob)
        assert numbers(bob) == [1, 2]

    async def test_the_places_of_a_process_outlast_a_cut(self, harness: ServerHarness) -> None:
        ann, bob = await join_all(harness, 2)
        await claim(ann, "1", 2)
        await cut(harness, ann)
        assert await claim(bob, "2", 2) == GRANTED
        assert await claim(bob, "3", 2) == REFUSED
        await mend(harness, ann)
        assert await claim(ann, "1", 2) == GRANTED
        assert "forgotten" not in ann.recorder.events
        assert await all_places(bob) == [place(ann, "1"), place(bob, "2")]

    async def test_of_a_publisher_who_is_cut_off_while_it_sends_nothing_comes_twice_or_out_of_order(
        self, harness: ServerHarness
    ) -> None:
        """What ``publish`` has returned for has come; of what it has raised for, some may have."""
        ann, bob = await join(harness, timeout=QUICK), await join(harness)
        outcomes: list[BaseException | None] = []
        for first in range(0, 300, 10):
            sending = [asyncio.create_task(ann.backplane.publish(EVERYONE, {"n": first + n})) for n in range(10)]
            if first == 100:
                await harness.cut(ann.backplane)
            outcomes += await asyncio.gather(*sending, return_exceptions=True)
            if first == 200:
                await mend(harness, ann)
        assert {type(outcome) for outcome in outcomes} <= {type(None), BackplaneError}
        await fence(ann, bob)
        came = numbers(bob)
        assert came == sorted(set(came))
        assert {n for n, outcome in enumerate(outcomes) if outcome is None} <= set(came)
        assert {*range(100), *range(210, 300)} <= set(came)

    async def test_a_start_that_failed_can_be_tried_again(self, harness: ServerHarness) -> None:
        ann, backplane, recorder = await join(harness), await harness.make(timeout=QUICK), Recorder()
        backplane.listen("red")
        await harness.cut(backplane)
        for _ in range(2):
            with pytest.raises(BackplaneError):
                await backplane.start(recorder)
            assert not backplane.is_connected
        await harness.mend(backplane)
        async with asyncio.timeout(MOST_SECONDS):
            while not backplane.is_connected:
                try:
                    await backplane.start(recorder)
                except BackplaneError:
                    await asyncio.sleep(0.01)  # the driver may not have looked again yet
        await backplane.listening()
        await ann.backplane.publish("red", {"n": 1})
        await fence(ann, Process(backplane, recorder))
        assert recorder.messages == [("red", {"n": 1})]
        assert set(recorder.events) == {"message"}

    async def test_closing_while_cut_off_ends_and_the_places_are_free_after_dead_after(
        self, harness: ServerHarness
    ) -> None:
        ann = await join(harness, timeout=QUICK)
        await claim(ann, "1", 1)
        await cut(harness, ann)
        async with asyncio.timeout(MOST_SECONDS):
            await ann.backplane.close()
        assert not ann.backplane.is_connected
        await harness.pass_time(DEAD_AFTER + 1)
        assert await claim(await join(harness), "1", 1) == GRANTED
