"""The look at what an attack leaves behind sees each thing that can be left."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.hostile.scene import Answers, Baseline, Honest, target_of
from tests.support import frame
from tornado_wsauth.guard import Guard
from tornado_wsauth.testing.target import Intruder


async def refused_once(server) -> None:
    async with Intruder(target_of(server)) as intruder:
        line = await intruder.upgraded()
        line.send(frame(b"no JWT"))
        await line.closed(4400)


def forget_pending(guard: Guard) -> None:
    guard._timer.cancel()


def forget_timer(guard: Guard) -> None:
    guard.auth.pending.discard(guard)


@pytest.mark.gen_test
@pytest.mark.parametrize("forget", [forget_pending, forget_timer])
async def test_a_guard_that_forgets_to_release_something_is_noticed(serve, login, monkeypatch, forget):
    server = serve(Answers)
    await login(server)
    before = Baseline(server)
    monkeypatch.setattr(Guard, "_stop_waiting", forget)
    await refused_once(server)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(before.is_back(), 0.1)


@pytest.mark.gen_test
async def test_a_file_descriptor_and_a_task_that_are_left_are_noticed(serve):
    before = Baseline(serve(Answers))
    with socket.socket(), pytest.raises(TimeoutError):
        await asyncio.wait_for(before.is_back(), 0.1)
    task = asyncio.ensure_future(asyncio.Event().wait())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(before.is_back(), 0.1)
    task.cancel()


@pytest.mark.gen_test
async def test_a_handler_that_is_kept_alive_is_noticed(serve):
    kept = []

    class Kept(Answers):
        def on_auth_failed(self, reason):
            kept.append(self)

    server = serve(Kept)
    before = Baseline(server)
    await refused_once(server)
    with pytest.raises(AssertionError):
        await before.is_back()
    kept.clear()
    await before.is_back()


@pytest.mark.gen_test
async def test_an_honest_client_notices_what_it_did_not_ask_for(serve, login):
    class Tells(Answers):
        def on_auth_failed(self, reason):
            self.settings["wsauth"].connections.broadcast("somebody failed")

    server = serve(Tells)
    honest = Honest(await login(server, "bob"))
    await honest.is_served()
    await refused_once(server)
    with pytest.raises(AssertionError):
        await honest.is_served()
