"""The outbox: in order, one batch at a time, bounded, and nobody who put something in is left waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tornado_wsauth.backplane.envelope import MOST_BYTES, Parcel
from tornado_wsauth.backplane.outbox import MOST_IN_BATCH, Outbox
from tornado_wsauth.errors import BackplaneError

pytestmark = pytest.mark.gen_test


class Post:
    """Sends batches when it is let; the first ``failures`` of them raise."""

    def __init__(self, *failures: Exception) -> None:
        self.batches: list[list[str]] = []
        """The texts of each, in the order in which they were begun."""
        self.on_the_way = 0
        self.most_on_the_way = 0
        self.open = asyncio.Event()
        self.open.set()
        self.outbox = Outbox(self._send)
        self._failures = list(failures)

    async def _send(self, parcels: Sequence[Parcel]) -> None:
        self.batches.append([parcel.text for parcel in parcels])
        self.on_the_way += 1
        self.most_on_the_way = max(self.most_on_the_way, self.on_the_way)
        try:
            await self.open.wait()
            if self._failures:
                raise self._failures.pop(0)
        finally:
            self.on_the_way -= 1

    def put(self, *texts: str) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.outbox.put(Parcel("red", text))) for text in texts]


async def settle() -> None:
    """Let everything run that needs nothing but turns of the loop."""
    for _ in range(10):
        await asyncio.sleep(0)


async def outcomes(tasks: list[asyncio.Task[None]]) -> list[str]:
    """Return "sent", or the name of the exception, of each; a task that does not end within a second is "waiting"."""
    await asyncio.wait(tasks, timeout=1)
    names = ["waiting" if not t.done() else type(t.exception()).__name__ if t.exception() else "sent" for t in tasks]
    for task in tasks:
        task.cancel()
    return names


async def test_what_is_put_while_a_batch_is_on_its_way_goes_together_in_the_next() -> None:
    post = Post()
    post.open.clear()
    tasks = post.put("1")
    await settle()
    tasks += post.put("2", "3", "4")
    await settle()
    assert post.batches == [["1"]]
    assert not any(task.done() for task in tasks)
    post.open.set()
    assert await outcomes(tasks) == ["sent"] * 4
    assert post.batches == [["1"], ["2", "3", "4"]]
    assert post.most_on_the_way == 1


async def test_put_returns_when_its_batch_was_sent_and_not_before() -> None:
    post = Post()
    post.open.clear()
    (task,) = post.put("1")
    await settle()
    assert not task.done()
    post.open.set()
    await task
    await post.outbox.put(Parcel("red", "2"))
    assert post.batches == [["1"], ["2"]]


async def test_order_holds_whatever_is_put_when() -> None:
    post, tasks = Post(), []
    for number in range(300):
        tasks += post.put(str(number))
        if number % 7 == 0:
            await asyncio.sleep(0)
    assert await outcomes(tasks) == ["sent"] * 300
    assert [text for batch in post.batches for text in batch] == [str(number) for number in range(300)]
    assert len(post.batches) < 300


async def test_a_batch_that_fails_fails_its_own_and_what_follows_is_sent() -> None:
    post = Post(BackplaneError("no answer"))
    post.open.clear()
    tasks = post.put("1", "2")
    await settle()
    tasks += post.put("3", "4")
    await settle()
    post.open.set()
    assert await outcomes(tasks) == ["BackplaneError"] * 2 + ["sent"] * 2
    assert post.batches == [["1", "2"], ["3", "4"]], "nothing is sent again by itself"


async def test_whatever_send_raises_nobody_is_left_waiting() -> None:
    """Not those of the batch, and not those behind it."""
    post = Post(RuntimeError("a mistake of ours"))
    post.open.clear()
    tasks = post.put("1")
    await settle()
    tasks += post.put("2")
    await settle()
    post.open.set()
    first, second = await outcomes(tasks)
    assert first != "sent"
    assert second != "waiting"
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # where it is told of
    assert await outcomes(post.put("3")) == ["sent"]


async def test_who_left_takes_nothing_back_and_disturbs_nobody() -> None:
    post = Post()
    post.open.clear()
    tasks = post.put("1")
    await settle()
    tasks += post.put("2", "3")
    await settle()
    tasks[0].cancel()
    tasks[1].cancel()
    await settle()
    post.open.set()
    await tasks[2]
    assert post.batches == [["1"], ["2", "3"]]
    assert await outcomes(post.put("4")) == ["sent"]


async def test_no_batch_has_more_than_the_most_messages() -> None:
    post = Post()
    tasks = post.put(*map(str, range(2 * MOST_IN_BATCH + 5)))
    assert await outcomes(tasks) == ["sent"] * len(tasks)
    assert max(map(len, post.batches)) == MOST_IN_BATCH
    assert [text for batch in post.batches for text in batch] == [str(n) for n in range(2 * MOST_IN_BATCH + 5)]


async def test_no_batch_of_several_is_longer_than_one_message_may_be() -> None:
    post = Post()
    post.open.clear()
    third = "x" * (MOST_BYTES // 3)
    tasks = post.put("small", third, third, third, third, "y" * MOST_BYTES, "small")
    await settle()
    post.open.set()
    assert await outcomes(tasks) == ["sent"] * 7
    assert all(sum(map(len, batch)) <= MOST_BYTES for batch in post.batches)
    assert [len(text) for batch in post.batches for text in batch] == [5, *[MOST_BYTES // 3] * 4, MOST_BYTES, 5]
    assert len(post.batches) == 4


async def test_the_names_of_channels_count_for_the_length_of_a_batch() -> None:
    """MongoDB takes no document beyond 16 MiB, whatever of it is long."""
    sizes: list[int] = []

    async def send(parcels: Sequence[Parcel]) -> None:
        sizes.append(sum(len(parcel.channel) + len(parcel.text) for parcel in parcels))

    outbox = Outbox(send)
    await asyncio.gather(*(outbox.put(Parcel("c" * 100_000, "{}")) for _ in range(200)))
    assert max(sizes) <= 1.5 * MOST_BYTES


async def test_what_waits_is_bounded_and_there_is_room_again_when_it_was_sent() -> None:
    post = Post()
    post.open.clear()
    text = "x" * (MOST_BYTES // 2 - 100)  # with its channel, a little less than half
    on_the_way = post.put("first")
    await settle()
    tasks = post.put(*[text] * 8, text, text)
    await settle()
    assert [task.done() for task in tasks] == [False] * 8 + [True] * 2
    assert await outcomes(tasks[8:]) == ["BackplaneError"] * 2
    post.open.set()
    assert await outcomes(on_the_way + tasks[:8]) == ["sent"] * 9
    assert await outcomes(post.put(text)) == ["sent"]
    assert sum(map(len, post.batches)) == 10


async def test_closing_waits_for_all_that_waits_and_for_nothing_otherwise() -> None:
    post = Post()
    await post.outbox.close(5)
    post.open.clear()
    tasks = post.put("1")
    await settle()
    tasks += post.put("2")
    flushing = asyncio.create_task(post.outbox.close(5))
    await settle()
    assert not flushing.done()
    post.open.set()
    await flushing
    assert post.batches == [["1"], ["2"]]
    assert await outcomes(tasks) == ["sent"] * 2
    await post.outbox.close(5)


async def test_closing_raises_nothing_where_sending_fails() -> None:
    post = Post(BackplaneError("no answer"))
    tasks = post.put("1")
    await settle()
    await post.outbox.close(5)
    assert await outcomes(tasks) == ["BackplaneError"]


async def test_closing_does_not_wait_for_ever_and_nobody_is_left_waiting() -> None:
    post = Post()
    post.open.clear()
    tasks = post.put("1")
    await settle()
    tasks += post.put("2")
    await settle()
    await post.outbox.close(0.01)
    assert await outcomes(tasks) == ["BackplaneError"] * 2
