"""`MemoryBackplane`: the contract, and what only one in memory can get wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.backplane import LocalBackplaneContract, Recorder
from tornado_wsauth.backplane.base import EVERYONE
from tornado_wsauth.backplane.memory import Hub, MemoryBackplane


class Harness:
    """Backplanes of one hub. There is nothing to close: the hub goes with the test."""

    def __init__(self) -> None:
        self.hub = Hub()

    async def make(self, **options: Any) -> MemoryBackplane:
        return MemoryBackplane(self.hub, **options)


@pytest.fixture
def harness() -> Harness:
    return Harness()


class TestMemoryBackplane(LocalBackplaneContract):
    pass


@pytest.mark.gen_test
async def test_two_hubs_do_not_reach_each_other() -> None:
    ann, bob, recorder = MemoryBackplane(Hub()), MemoryBackplane(Hub()), Recorder()
    await ann.start(Recorder())
    await bob.start(recorder)
    await ann.publish(EVERYONE, {"n": 1})
    assert await ann.peers() == await bob.peers() == frozenset()
    assert (await ann.claim("ann", "1", most=1)).granted
    assert (await bob.claim("ann", "1", most=1)).granted
    assert recorder.events == []


@pytest.mark.gen_test
async def test_a_hub_keeps_nothing_of_what_was_released_or_closed(harness: Harness) -> None:
    ann, bob = await harness.make(), await harness.make()
    for backplane in (ann, bob):
        await backplane.start(Recorder())
        for number in range(20):
            await backplane.claim(f"user {number}", "1", most=2)
    for number in range(20):
        await ann.release(f"user {number}", "1")
    await bob.close()
    await ann.close()
    assert harness.hub.places == {}
    assert harness.hub.members == {}


@pytest.mark.gen_test
async def test_one_that_was_closed_can_be_started_again(harness: Harness) -> None:
    ann, bob, recorder = await harness.make(), await harness.make(), Recorder()
    await ann.start(Recorder())
    await bob.start(recorder)
    await ann.publish(EVERYONE, {"n": 1})
    await recorder.received(1)
    await ann.close()
    await ann.start(Recorder())
    await ann.publish(EVERYONE, {"n": 2})
    await recorder.received(2)
    assert [message["n"] for _, message in recorder.messages] == [1, 2]
