"""What outlives one connection runs in no connection's context: frameworks keep there whose request it is."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import Echo, ManualClock, make_auth, settle
from tornado_wsauth.agenda import Agenda
from tornado_wsauth.clock import Clock
from tornado_wsauth.once import Once

current: ContextVar[str] = ContextVar("current", default="nobody")


class Framework(Echo):
    """A handler of a framework that remembers in the context whose request it is."""

    async def prepare(self) -> None:
        current.set(self.request.headers["X-User"])
        await super().prepare()


@pytest.mark.gen_test
async def test_what_the_first_who_needs_it_begins_is_not_begun_in_his_context():
    begun_by: list[str] = []

    async def begin() -> None:
        begun_by.append(current.get())

    current.set("alice")
    await Once(begin)()
    assert begun_by == ["nobody"]


@pytest.mark.gen_test
async def test_a_timer_that_serves_all_connections_is_not_in_the_context_of_the_one_that_set_it():
    woken: list[str] = []
    twice = asyncio.Event()

    def wake(item: Any) -> None:
        woken.append(current.get())
        if len(woken) == 1:
            agenda.put(item, clock.time())
        else:
            twice.set()

    clock = Clock()
    agenda: Agenda[Any] = Agenda(clock, wake)
    current.set("alice")
    agenda.put(SimpleNamespace(wake_at=0.0), clock.time())
    await twice.wait()
    assert woken == ["nobody", "nobody"]


@pytest.mark.gen_test
@pytest.mark.parametrize("woken_by", ["time", "a broadcast"])
async def test_still_valid_is_asked_in_the_context_of_no_other_connection(serve, login, woken_by):
    asked: list[tuple[str, str]] = []

    def still_valid(session: Any) -> bool:
        asked.append((session.user_id, current.get()))
        return True

    clock = ManualClock()
    auth = make_auth(clock=clock, still_valid=still_valid, recheck_interval=60, enforce_expiry=False)
    server = serve(Framework, auth=auth)
    await login(server, "alice", X_User="alice")
    await login(server, "bob", X_User="bob")
    current.set("mallory")
    if woken_by == "time":
        clock.advance(60)
    else:
        clock.now += 60  # and its timers are late
        auth.connections.broadcast("news")
    await settle()
    assert sorted(asked) == [("alice", "nobody"), ("bob", "nobody")]
