"""What every backplane must do with messages: the promises of ``backplane/base.py`` as tests."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from tests.contracts.backplane_harness import BackplaneHarness, Process, Recorder, fence, join, join_all
from tornado_wsauth.backplane.base import EVERYONE, Backplane, group_channel, process_channel, user_channel
from tornado_wsauth.backplane.envelope import MOST_BYTES
from tornado_wsauth.errors import BackplaneError

NASTY_NAMES = [
    *("", " ", "  ", '"', "'", "\\", '"\\"', "\n", "\r\n", "\x00", "\x7f", "red", "Red", "réd", "re\u0301d"),
    *("*", "?", "[", "r*", "re?", "[r]ed", "*?[", "{red}", "$red", "a.b", "a:b", "$$NOW", '{"$ne":null}', "%s", "🎈"),
    *("\ud800", "\udfff", "\ud83c", "x" * 100_000, "x" * 100_001, "everyone", "group:", 'group:"red"', "null", "0"),
]

NOT_JSON: list[Callable[[], Any]] = [
    lambda: {"a": object()},
    lambda: {"a": b"bytes"},
    lambda: {"a": {1, 2}},
    lambda: {"a": float("nan")},
    lambda: {"a": [float("inf")]},
    lambda: {("a", "b"): 1},
    lambda: endless(),
    lambda: {"a": "x" * MOST_BYTES},
]

PAYLOADS: list[dict[str, Any]] = [
    {},
    {"": None, "a.b": True, "$where": False, "\x00": "\x00", "__proto__": {}},
    {"text": "zoë 🎈 \u2028 \ud800 \udfff \x7f \x00 \" ' \\ \r\n"},
    {"int": [0, -1, 2**31, 2**53 + 1, 2**64, -(2**200), 10**4000]},
    {"float": [0.1, -0.0, 1e308, 5e-324, 1.0]},
    {"deep": [[[[[[[[{"a": [{"b": [[]]}]}]]]]]]]]},
    {"v": 1, "from": "somebody else", "seq": -1, "messages": [["everyone", {}]]},
]


def endless() -> dict[str, Any]:
    """Return an object that contains itself."""
    message: dict[str, Any] = {}
    message["a"] = message
    return message


def numbers(process: Process) -> list[int]:
    """Return what ``{"n": …}`` has received, in order."""
    return [message["n"] for _, message in process.recorder.messages]


async def publish_all(process: Process, channels: list[str], count: int, at_once: int, **extra: Any) -> None:
    """Publish ``count`` numbered messages, in ``channels`` by turns; so many are on their way at the same time."""
    for first in range(0, count, at_once):
        batch = range(first, min(first + at_once, count))
        publish = process.backplane.publish
        await asyncio.gather(*(publish(channels[n % len(channels)], {"n": n, **extra}) for n in batch))


@pytest.mark.gen_test
class MessageContract:
    """Part of `BackplaneContract`."""

    async def test_a_message_reaches_who_listens_to_its_channel_and_nobody_else(
        self, harness: BackplaneHarness
    ) -> None:
        ann, bob, eve = await join(harness), await join(harness, "red", "blue"), await join(harness, "blue")
        await ann.backplane.publish("red", {"n": 1})
        await ann.backplane.publish("blue", {"n": 2})
        await ann.backplane.publish("green", {"n": 3})
        await fence(ann, bob, eve)
        assert bob.recorder.messages == [("red", {"n": 1}), ("blue", {"n": 2})]
        assert eve.recorder.messages == [("blue", {"n": 2})]

    async def test_everyone_is_listened_to_by_every_process_as_soon_as_it_has_started(
        self, harness: BackplaneHarness
    ) -> None:
        ann = await join(harness)
        for _ in range(5):
            backplane, recorder = await harness.make(), Recorder()
            await backplane.start(recorder)
            await ann.backplane.publish(EVERYONE, {"n": 1})
            assert await recorder.received(1) == [(EVERYONE, {"n": 1})]

    async def test_nothing_is_echoed_but_every_other_backplane_object_receives_it(
        self, harness: BackplaneHarness
    ) -> None:
        ann, bob, eve = await join_all(harness, 3, "red")
        await ann.backplane.publish("red", {"n": 1})
        await ann.backplane.publish(EVERYONE, {"n": 2})
        await fence(ann, bob, eve)
        await fence(bob, ann)
        assert ann.recorder.messages == []
        assert bob.recorder.messages == eve.recorder.messages == [("red", {"n": 1}), (EVERYONE, {"n": 2})]

    async def test_of_two_publishers_at_once_each_ones_500_messages_come_once_and_in_order_across_channels(
        self, harness: BackplaneHarness
    ) -> None:
        channels = ["red", "blue", EVERYONE, "green"]
        ann, bob, eve, zoe = await join_all(harness, 4, *channels)
        await asyncio.gather(
            publish_all(ann, channels, 500, at_once=50, by="ann"), publish_all(bob, channels, 500, at_once=7, by="bob")
        )
        await fence(ann, eve, zoe)
        await fence(bob, eve, zoe)
        for process in (eve, zoe):
            found = defaultdict(list)
            for channel, message in process.recorder.messages:
                found[message["by"]].append((channel, message["n"]))
            assert dict(found) == {by: [(channels[n % 4], n) for n in range(500)] for by in ("ann", "bob")}

    async def test_what_was_listened_to_before_start_is_received(self, harness: BackplaneHarness) -> None:
        ann, backplane, recorder = await join(harness), await harness.make(), Recorder()
        for channel in ("red", "blue", "green"):
            backplane.listen(channel)
        backplane.ignore("blue")
        await backplane.start(recorder)
        await backplane.listening()
        for channel in ("blue", "red", "green"):
            await ann.backplane.publish(channel, {"n": 1})
        await fence(ann, Process(backplane, recorder))
        assert recorder.messages == [("red", {"n": 1}), ("green", {"n": 1})]

    async def test_nothing_of_an_ignored_channel_comes_until_it_is_listened_to_again(
        self, harness: BackplaneHarness
    ) -> None:
        ann, bob = await join_all(harness, 2, "red", "blue")
        bob.backplane.listen("red")  # twice, and ignoring it once is enough all the same
        bob.backplane.ignore("red")
        bob.backplane.ignore("never listened to")
        await ann.backplane.publish("red", {"n": 1})
        await ann.backplane.publish("blue", {"n": 2})
        await fence(ann, bob)
        assert numbers(bob) == [2]
        await bob.listen("red")
        await ann.backplane.publish("red", {"n": 3})
        await fence(ann, bob)
        assert numbers(bob) == [2, 3]

    async def test_the_last_of_many_hasty_calls_of_listen_and_ignore_counts(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        for _ in range(20):
            bob.backplane.listen("in the end listened to")
            bob.backplane.ignore("in the end ignored")
            await asyncio.sleep(0)
            bob.backplane.ignore("in the end listened to")
            bob.backplane.listen("in the end ignored")
        bob.backplane.ignore("in the end ignored")
        await bob.listen("in the end listened to")
        await ann.backplane.publish("in the end ignored", {"n": 1})
        await ann.backplane.publish("in the end listened to", {"n": 2})
        await fence(ann, bob)
        assert numbers(bob) == [2]

    async def test_ignore_is_effective_at_once_even_for_what_has_come_already(self, harness: BackplaneHarness) -> None:
        """Of 50 messages that were sent together, the first one's receiver ignores the channel."""
        ann, bob = await join_all(harness, 2, "red", "blue")
        bob.recorder.on_message = lambda channel, message: bob.backplane.ignore("red")
        await publish_all(ann, ["red"], 50, at_once=50)
        await ann.backplane.publish("blue", {"n": 50})
        await fence(ann, bob)
        assert numbers(bob) == [0, 50]

    async def test_what_is_published_after_listening_has_returned_arrives(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        for number in range(20):
            await bob.listen(f"channel {number}")
            await ann.backplane.publish(f"channel {number}", {"n": number})
        await fence(ann, bob)
        assert numbers(bob) == [*range(20)]

    async def test_no_name_of_a_group_or_user_collides_with_another_or_means_anything_to_the_engine(
        self, harness: BackplaneHarness
    ) -> None:
        ann, bob = await join_all(harness, 2)
        channels = [make(name) for name in NASTY_NAMES for make in (group_channel, user_channel)]
        channels += [process_channel(process.backplane.process_id) for process in (ann, bob)]
        assert len(set(channels)) == len(channels)
        for half in (channels[::2], channels[1::2], channels[::3]):
            for channel in channels:
                bob.backplane.ignore(channel)
            await bob.listen(*half)
            await asyncio.gather(*(ann.backplane.publish(channel, {"is": channel}) for channel in channels))
            await fence(ann, bob)
            assert bob.recorder.messages == [(channel, {"is": channel}) for channel in half]
            bob.recorder.forget()

    @pytest.mark.parametrize("make", NOT_JSON, ids=range(len(NOT_JSON)))
    async def test_what_is_not_json_or_too_long_is_refused_and_what_follows_goes_on(
        self, harness: BackplaneHarness, make: Callable[[], Any]
    ) -> None:
        ann, bob = await join_all(harness, 2)
        publish = ann.backplane.publish
        first, refused, announced, last = await asyncio.gather(
            *(publish(EVERYONE, {"n": 1}), publish(EVERYONE, make()), ann.backplane.announce(make())),
            publish(EVERYONE, {"n": 2}),
            return_exceptions=True,
        )
        assert first is last is None
        assert isinstance(refused, (TypeError, ValueError))
        assert isinstance(announced, (TypeError, ValueError))
        await fence(ann, bob)
        assert numbers(bob) == [1, 2]

    async def test_a_message_comes_as_it_was_sent(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        for payload in PAYLOADS:
            await ann.backplane.publish(EVERYONE, payload)
        await fence(ann, bob)
        assert [message for _, message in bob.recorder.messages] == PAYLOADS
        assert repr([message for _, message in bob.recorder.messages]) == repr(PAYLOADS), "1 and 1.0 and True differ"

    async def test_a_message_is_what_it_was_at_the_call(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        await ann.backplane.publish(EVERYONE, message := {"n": [1]})
        message["n"].append(2)
        await fence(ann, bob)
        assert bob.recorder.messages == [(EVERYONE, {"n": [1]})]

    async def test_messages_of_a_mebibyte_and_of_the_most_that_is_allowed_arrive(
        self, harness: BackplaneHarness
    ) -> None:
        ann, bob = await join_all(harness, 2)
        most = "y" * (MOST_BYTES - len('{"n":""}'))
        await asyncio.gather(*(ann.backplane.publish(EVERYONE, {"n": text}) for text in ("x" * 2**20, most, "end")))
        await bob.recorder.received(3)
        assert [
            message["n"] == text
            for (_, message), text in zip(bob.recorder.messages, ("x" * 2**20, most, "end"), strict=True)
        ] == [True] * 3

    async def test_a_receiver_that_raises_misses_nothing_that_comes_later(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        bob.recorder.on_message = lambda channel, message: 1 // 0
        await publish_all(ann, [EVERYONE], 10, at_once=5)
        await bob.recorder.received(10)
        assert numbers(bob) == [*range(10)]

    async def test_announce_reaches_every_other_process_once(self, harness: BackplaneHarness) -> None:
        ann, bob, eve = await join_all(harness, 3)
        await asyncio.gather(*(ann.backplane.announce({"n": n}) for n in range(10)))
        await bob.backplane.announce({"n": 10})
        await eve.recorder.received(11)
        await bob.recorder.received(10)
        await ann.recorder.received(1)
        await fence(ann, bob, eve)
        await fence(bob, ann, eve)
        assert sorted(numbers(eve)) == [*range(11)]
        assert sorted(numbers(bob)) == [*range(10)]
        assert numbers(ann) == [10]
        assert {channel for channel, _ in eve.recorder.messages} == {EVERYONE}

    async def test_what_is_announced_after_start_comes_and_what_was_announced_before_does_not(
        self, harness: BackplaneHarness
    ) -> None:
        """A process receives "what arrives from now on"."""
        ann = await join(harness)
        await ann.backplane.announce({"n": 1})
        bob = await join(harness)
        await ann.backplane.announce({"n": 2})
        await bob.recorder.heard({"n": 2})
        await fence(ann, bob)
        assert numbers(bob) == [2]

    async def test_nobody_is_told_of_a_gap_or_forgotten_where_nothing_was_cut(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        await publish_all(ann, [EVERYONE], 20, at_once=5)
        await bob.listen("red")
        await bob.recorder.received(20)
        assert set(bob.recorder.events) == {"message"}


@pytest.mark.gen_test
class LifeContract:
    """Part of `BackplaneContract`."""

    async def test_every_backplane_object_is_another_process(self, harness: BackplaneHarness) -> None:
        made = [await harness.make() for _ in range(5)]
        assert len({backplane.process_id for backplane in made}) == 5

    async def test_it_is_connected_from_start_to_close(self, harness: BackplaneHarness) -> None:
        backplane = await harness.make()
        assert not backplane.is_connected
        await backplane.start(Recorder())
        assert backplane.is_connected
        await backplane.close()
        assert not backplane.is_connected

    async def test_on_gap_is_kept_for_whoever_is_to_call_it(self, harness: BackplaneHarness) -> None:
        calls: list[int] = []
        backplane = await harness.make(on_gap=lambda: calls.append(1))
        assert callable(backplane.on_gap)
        assert (await harness.make()).on_gap is None

    async def test_starting_twice_is_starting_once(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        await bob.backplane.start(bob.recorder)
        await ann.backplane.publish(EVERYONE, {"n": 1})
        await fence(ann, bob)
        assert numbers(bob) == [1]
        assert await ann.backplane.peers() == {bob.backplane.process_id}

    @pytest.mark.parametrize("when", ["before start", "after close"])
    async def test_nothing_is_done_before_start_and_after_close(self, harness: BackplaneHarness, when: str) -> None:
        ann, backplane = await join(harness), await harness.make()
        if when == "after close":
            await backplane.start(Recorder())
            await backplane.close()
        for call in calls(backplane):
            with pytest.raises(BackplaneError, match="start"):
                await call()
        await fence(await join(harness), ann)
        assert ann.recorder.messages == []
        assert (await ann.backplane.claim("ann", "other", most=1)).granted

    async def test_closing_what_was_closed_or_never_started_does_nothing(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        never = await harness.make()
        for _ in range(2):
            await never.close()
            await bob.backplane.close()
        assert await ann.backplane.peers() == frozenset()
        assert not bob.backplane.is_connected

    async def test_close_sends_what_is_waiting(self, harness: BackplaneHarness) -> None:
        ann, bob = await join_all(harness, 2)
        publishing = [asyncio.create_task(ann.backplane.publish(EVERYONE, {"n": n})) for n in range(100)]
        await asyncio.sleep(0)
        await ann.backplane.close()
        assert await asyncio.gather(*publishing) == [None] * 100
        await bob.recorder.received(100)
        assert numbers(bob) == [*range(100)]

    async def test_nothing_is_received_after_close(self, harness: BackplaneHarness) -> None:
        ann, bob, eve = await join_all(harness, 3)
        await publish_all(ann, [EVERYONE], 20, at_once=20)
        await bob.backplane.close()
        had = [*bob.recorder.events]
        await publish_all(ann, [EVERYONE], 20, at_once=20)
        await fence(ann, eve)
        assert bob.recorder.events == had

    async def test_peers_are_the_others_from_start_to_close(self, harness: BackplaneHarness) -> None:
        ann, made = await join(harness), await harness.make()
        assert await ann.backplane.peers() == frozenset()
        bob, eve = await join_all(harness, 2)
        ids = [process.backplane.process_id for process in (ann, bob, eve)]
        assert await ann.backplane.peers() == {ids[1], ids[2]}
        assert await bob.backplane.peers() == {ids[0], ids[2]}
        await eve.backplane.close()
        assert await ann.backplane.peers() == {ids[1]}
        await made.start(Recorder())
        assert await ann.backplane.peers() == {ids[1], made.process_id}


def calls(backplane: Backplane) -> list[Callable[[], Any]]:
    """Return a call of every method that needs the engine."""
    return [
        lambda: backplane.publish(EVERYONE, {"n": 1}),
        lambda: backplane.announce({"n": 1}),
        lambda: backplane.listening(),
        lambda: backplane.peers(),
        lambda: backplane.claim("ann", "first", most=1),
        lambda: backplane.release("ann", "first"),
    ]
