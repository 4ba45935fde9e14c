"""What every backplane on a server has in common, on an engine that fails as no real one can be made to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contracts.backplane_harness import Recorder, until
from tests.fake_engine import SECRET, DriverError, Fake, reconnected, started
from tests.logs import Log
from tornado_wsauth.backplane.base import EVERYONE
from tornado_wsauth.backplane.envelope import MOST_BYTES, seal, wrap
from tornado_wsauth.backplane.outbox import MOST_IN_BATCH
from tornado_wsauth.errors import BackplaneError, ConfigurationError

pytestmark = pytest.mark.gen_test


@pytest.fixture(autouse=True)
def stop_all(io_loop: Any) -> Iterator[None]:
    yield
    io_loop.run_sync(Fake.stop_all)


# Options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), True, "5", None], ids=repr)
async def test_a_timeout_that_is_no_positive_number_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Fake\(timeout={wrong!r}\).*5\.0"):
        Fake(timeout=wrong)


async def test_an_on_gap_that_cannot_be_called_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"Fake\(on_gap=5\).*function"):
        Fake(on_gap=5)


# Connecting -----------------------------------------------------------------------------------------------------------


async def test_it_connects_again_for_ever_after_random_waits_up_to_a_limit_that_doubles() -> None:
    # A37
    fake, _ = await started()
    await reconnected(fake, *[DriverError(SECRET)] * 9)
    assert fake.hand.limits == [0.25, 0.5, 1, 2, 4, 5, 5, 5, 5, 5]


async def test_once_connected_it_begins_with_short_waits_again() -> None:
    fake, _ = await started()
    await reconnected(fake, *[DriverError(SECRET)] * 3)
    del fake.hand.limits[:]
    await reconnected(fake)
    await reconnected(fake, DriverError(SECRET))
    assert fake.hand.limits == [0.25, 0.25, 0.5]


@pytest.mark.parametrize("error", [DriverError(SECRET), BackplaneError("no"), OSError("no"), RuntimeError("a mistake")])
async def test_whatever_ends_receiving_it_connects_again(error: Exception) -> None:
    fake, recorder = await started()
    fake.cut(error)
    await recorder.told("gap")
    assert fake.is_connected


async def test_gap_is_told_once_for_each_cut_that_lost_something() -> None:
    fake, recorder = await started()
    assert recorder.events == []
    await reconnected(fake, DriverError(SECRET), DriverError(SECRET))
    assert recorder.events == ["gap"]
    fake.lost = False
    await reconnected(fake)
    assert recorder.events == ["gap"]
    fake.lost = True
    await reconnected(fake)
    assert recorder.events == ["gap", "gap"]


async def test_a_cut_is_two_lines_in_the_log_however_many_attempts_it_takes_and_none_quotes_the_driver(
    logged: Log,
) -> None:
    # A38
    fake, _ = await started()
    assert logged.records == []
    await reconnected(fake, *[DriverError(SECRET)] * 5)
    cut, again = [record.getMessage() for record in logged.records]
    assert "cut off" in cut
    assert "the server is away" in cut
    assert "connected again" in again
    assert {record.levelname for record in logged.records} == {"WARNING"}
    assert SECRET not in cut + again
    assert logged.errors == []


async def test_a_receiver_that_raises_when_told_of_a_gap_is_logged_and_receives_what_comes(logged: Log) -> None:
    fake, recorder = await started()
    recorder.gap = lambda: 1 // 0  # type: ignore[assignment, method-assign]
    await reconnected(fake)
    assert fake._inbox is not None
    fake._inbox.take(seal("another", 1, [wrap(EVERYONE, {"n": 1})]))
    assert recorder.messages == [(EVERYONE, {"n": 1})]
    assert len(logged.errors) == 1


async def test_while_cut_off_nothing_is_published_and_nobody_is_counted() -> None:
    fake, _ = await started()
    fake.hanging.add("receive")
    fake.cut()
    await until(lambda: not fake.is_connected, "the cut")
    for call in (fake.publish(EVERYONE, {}), fake.peers()):
        with pytest.raises(BackplaneError, match="cut off"):
            await call
    assert fake.delivered == []


# Starting and closing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["open", "beat", "receive"])
@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_a_start_that_failed_leaves_nothing_running_and_can_be_tried_again(what: str, how: str) -> None:
    fake, recorder, before = Fake(timeout=0.1), Recorder(), asyncio.all_tasks()
    if how == "hangs":
        fake.hanging.add(what)
    for _ in range(2):
        fake.failing[what] = DriverError(SECRET)
        with pytest.raises(BackplaneError) as caught:
            await fake.start(recorder)
        assert SECRET not in repr(caught.value)
        assert asyncio.all_tasks() == before
        with pytest.raises(BackplaneError, match="not started"):
            await fake.publish(EVERYONE, {})
        assert not fake.is_connected
    fake.failing.clear()
    fake.hanging.clear()
    await fake.start(recorder)
    await fake.publish(EVERYONE, {})
    assert recorder.events == [], "nothing was lost of what was never received"


async def test_a_start_that_was_cancelled_can_be_tried_again() -> None:
    fake, recorder, before = Fake(), Recorder(), asyncio.all_tasks()
    fake.hanging.add("receive")
    starting = asyncio.create_task(fake.start(recorder))
    await until(lambda: "receive" in fake.called, "the attempt")
    starting.cancel()
    await asyncio.wait({starting})
    assert asyncio.all_tasks() == before
    fake.hanging.clear()
    await fake.start(recorder)
    assert fake.is_connected


async def test_starting_twice_at_once_is_starting_once() -> None:
    fake, recorder, before = Fake(), Recorder(), asyncio.all_tasks()
    await asyncio.gather(fake.start(recorder), fake.start(recorder))
    await asyncio.sleep(0)
    assert fake.called.count("receive") == 1
    await fake.close()
    assert asyncio.all_tasks() == before


async def test_close_ends_everything_and_leaves_the_engine_once() -> None:
    before = asyncio.all_tasks()
    fake, _ = await started()
    await fake.publish(EVERYONE, {"n": 1})
    await asyncio.gather(fake.close(), fake.close())
    await fake.close()
    assert asyncio.all_tasks() == before
    assert fake.called.count("leave") == 1


async def test_close_raises_nothing_when_the_engine_is_away() -> None:
    fake, _ = await started()
    fake.failures["leave"] = [DriverError(SECRET)]
    await fake.close()
    assert not fake.is_connected


async def test_close_asks_an_engine_that_hangs_for_no_more_than_one_timeout_each_to_send_and_to_leave() -> None:
    """Whatever waits: five batches here."""
    fake, _ = await started(timeout=0.2)
    fake.hanging |= {"deliver", "leave"}
    publishing = [asyncio.create_task(fake.publish(EVERYONE, {"n": n})) for n in range(5 * MOST_IN_BATCH)]
    await until(lambda: "deliver" in fake.called, "the first batch")
    await fake.close()
    assert fake.called.count("deliver") <= 2
    outcomes = await asyncio.gather(*publishing, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {BackplaneError}


async def test_close_ends_while_others_go_on_publishing() -> None:
    fake, _ = await started()
    endless = [asyncio.create_task(publish_for_ever(fake, turns)) for turns in (1, 2, 3, 5)]
    await until(lambda: len(fake.delivered) > 10, "the first batches")
    async with asyncio.timeout(2):
        await fake.close()
    await asyncio.gather(*endless)


async def publish_for_ever(fake: Fake, turns: int) -> None:
    """Publish until it raises, now and then."""
    while True:
        try:
            await fake.publish(EVERYONE, {})
        except BackplaneError:
            return
        for _ in range(turns):
            await asyncio.sleep(0)


async def test_in_a_forked_process_close_takes_nothing_off_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is the parent's, and the parent lives."""
    fake, _ = await started()
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    await fake.close()
    assert "leave" not in fake.called


# Beating --------------------------------------------------------------------------------------------------------------


async def test_a_process_that_the_engine_did_not_know_any_more_is_told(logged: Log) -> None:
    fake, recorder = await started()
    fake.beat()
    await until(lambda: fake.called.count("beat") == 2, "a heartbeat")
    assert recorder.events == []
    fake.knows_us = False
    fake.beat()
    await recorder.told("forgotten")
    fake.knows_us = True
    fake.beat()
    await until(lambda: fake.called.count("beat") == 4, "a heartbeat")
    assert recorder.events == ["forgotten"]
    assert len(logged.records) == 1


async def test_the_first_sign_of_life_is_not_taken_for_having_been_forgotten() -> None:
    fake, recorder = Fake(), Recorder()
    fake.knows_us = False
    await fake.start(recorder)
    await asyncio.sleep(0)
    assert recorder.events == []


@pytest.mark.parametrize("error", [DriverError(SECRET), BackplaneError("no"), RuntimeError("a mistake")])
async def test_a_heartbeat_that_fails_is_not_the_last(error: Exception) -> None:
    fake, recorder = await started()
    fake.failures["beat"] = [error] * 3
    for number in range(5):
        fake.beat()
        await until(lambda number=number: fake.called.count("beat") == number + 2, "another heartbeat")  # type: ignore[misc]
    assert recorder.events == []


async def test_a_heartbeat_that_hangs_is_not_the_last() -> None:
    fake, _ = await started(timeout=0.05)
    fake.hanging.add("beat")
    for _ in range(3):
        fake.beat()
    await until(lambda: fake.called.count("beat") == 4, "the heartbeats")


async def test_a_receiver_that_raises_when_it_was_forgotten_ends_no_heartbeat(logged: Log) -> None:
    fake, recorder = await started()
    recorder.forgotten = lambda: 1 // 0  # type: ignore[assignment, method-assign]
    fake.knows_us = False
    for _ in range(3):
        fake.beat()
    await until(lambda: fake.called.count("beat") == 4, "the heartbeats")
    await until(lambda: len(logged.errors) == 3, "the log")


# Asking ---------------------------------------------------------------------------------------------------------------


async def test_an_engine_that_does_not_answer_in_time_is_an_error() -> None:
    fake, _ = await started(timeout=0.05)
    fake.hanging |= {"deliver", "peers", "claim", "release"}
    answers = [fake.publish(EVERYONE, {}), fake.announce({}), fake.peers()]
    for answer in (*answers, fake.claim("ann", "1", most=1), fake.release("ann", "1")):
        with pytest.raises(BackplaneError, match=r"within 0\.05 s"):
            await answer


async def test_an_error_of_the_driver_becomes_one_of_ours_that_does_not_carry_it() -> None:
    # A38
    fake, _ = await started()
    for what in ("deliver", "peers", "claim", "release"):
        fake.failures[what] = [DriverError(SECRET)] * 2
    answers = [fake.publish(EVERYONE, {}), fake.announce({}), fake.peers()]
    for answer in (*answers, fake.claim("ann", "1", most=1), fake.release("ann", "1")):
        with pytest.raises(BackplaneError, match="the server is away") as caught:
            await answer
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


async def test_a_mistake_of_ours_reaches_the_caller_and_the_next_call_works() -> None:
    fake, _ = await started()
    for what in ("peers", "claim", "release"):
        fake.failures[what] = [RuntimeError("a mistake")]
    for answer in (fake.peers(), fake.claim("ann", "1", most=1), fake.release("ann", "1")):
        with pytest.raises(RuntimeError, match="a mistake"):
            await answer
    assert await fake.peers() == {"another"}
    assert (await fake.claim("ann", "1", most=1)).granted


async def test_peers_are_without_this_process() -> None:
    fake, _ = await started()
    assert await fake.peers() == {"another"}


async def test_messages_that_are_published_together_cost_one_trip_and_keep_their_order() -> None:
    fake, _ = await started()
    await asyncio.gather(*(fake.publish(EVERYONE, {"n": n}) for n in range(100)))
    assert [text for batch in fake.delivered for text in batch] == [f'{{"n":{n}}}' for n in range(100)]
    assert len(fake.delivered) <= 2


async def test_what_waits_for_an_engine_that_does_not_keep_up_is_bounded() -> None:
    fake, _ = await started(timeout=0.2)
    fake.hanging.add("deliver")
    text = "x" * (MOST_BYTES - 100)
    publishing = [asyncio.create_task(fake.publish(EVERYONE, {"n": text}))]
    await until(lambda: "deliver" in fake.called, "the first one's departure")
    publishing += [asyncio.create_task(fake.publish(EVERYONE, {"n": text})) for _ in range(5)]
    await until(lambda: publishing[5].done(), "the last one to be refused")
    assert [task.done() for task in publishing] == [False] * 5 + [True]
    with pytest.raises(BackplaneError, match="wait for the backplane"):
        await publishing[5]
    for task in publishing:
        task.cancel()
    await asyncio.gather(*publishing, return_exceptions=True)
