"""The parent of several processes: it replaces who dies, leaves nobody behind, and says what it cannot start with."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tornado.httpclient import HTTPError

from tests.example.several import PATIENCE, USERS, Several, is_alive, option_for
from tests.example.site import Visitor
from tests.example.test_process import failing
from tests.mongod import is_stopped
from tornado_wsauth.client import TryLater, connect
from tornado_wsauth.cluster import ANSWER_WITHIN

INTERVAL = 1.2  # seconds


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., Several]]:
    """Start the example in two processes: ``two = start("redis", grace=0.5)``."""
    cleanups: list[Callable[[], object]] = []

    def begin(engine: str, *, grace: float = 0.5) -> Several:
        option = option_for(engine, lambda: request.getfixturevalue("mongodb_uri"))
        cleanups.append(lambda: option.__exit__(None, None, None))
        options = [option.__enter__(), f"--grace={grace}"]
        started = Several(*options, processes=2, broadcast_interval_ms=INTERVAL * 1000)
        cleanups.append(started.close)
        return started

    yield begin
    for cleanup in reversed(cleanups):
        cleanup()


class Watcher:
    """A client that comes back by itself, and what it has heard on the connection that it has."""

    def __init__(self, visitor: Visitor, session: str) -> None:
        self.process: int | None = None
        """Which process it is connected to."""
        self.heard: list[tuple[int, float]] = []
        """Who said each broadcast, and when."""
        self._visitor = visitor
        self._session = session

    async def watch(self) -> None:
        origin = f"127.0.0.1:{self._visitor.port}"
        async with connect(
            f"ws://{origin}/demo",
            token_url=f"http://{origin}/ws/token",
            jwt=self._jwt,
            retry_interval=0.1,
            on_close=lambda _: self._forget(),
        ) as connection:
            async for text in connection:
                match json.loads(text):
                    case {"type": "session", "process": process}:
                        self.process = process
                    case {"type": "broadcast", "process": process, "uptime": uptime}:
                        self.heard.append((process, uptime))

    def _forget(self) -> None:
        self.process = None
        self.heard = []

    async def _jwt(self) -> str:
        try:
            return await self._visitor.jwt(self._session)
        except (AssertionError, HTTPError, OSError):  # it asked the process that has just died
            raise TryLater("no JWT") from None


async def until(condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        await asyncio.sleep(0.02)


@pytest.mark.gen_test
@pytest.mark.parametrize("engine", ["redis", "mongo"])
async def test_who_is_killed_is_replaced_its_clients_come_back_and_the_broadcasts_go_on(start, visitor_of, engine):
    two = start(engine)
    visitor = visitor_of(two.port)
    watchers = [Watcher(visitor, await visitor.log_in(username)) for username in [*USERS, *USERS[:4]]]
    watching = [asyncio.ensure_future(watcher.watch()) for watcher in watchers]
    await until(lambda: all(watcher.heard for watcher in watchers), "a broadcast to each")
    assert {watcher.process for watcher in watchers} == {1, 2}
    speaker, _ = watchers[0].heard[-1]
    others = [watcher for watcher in watchers if watcher.process != speaker]
    before = {id(watcher): len(watcher.heard) for watcher in others}

    killed = two.pids[speaker - 1]
    os.kill(killed, signal.SIGKILL)
    # Whoever takes over asks how many are online, and for a while the dead one is asked, too.
    within = 2 * INTERVAL + 2 * ANSWER_WITHIN
    await until(lambda: all(len(w.heard) > before[id(w)] for w in others), "a broadcast by another", within)
    await until(lambda: all(watcher.heard for watcher in watchers), "a broadcast to those who had to come back")

    assert f"Process {speaker} (pid {killed}) was ended by SIGKILL; another takes its place.\n" in two.said
    assert len(two.children()) == 2
    assert all(len(set(watcher.heard)) == len(watcher.heard) for watcher in watchers), "each broadcast once"
    with two.lines() as lines:
        assert set(lines) == {1, 2}
    for one in watching:
        one.cancel()
    await asyncio.gather(*watching, return_exceptions=True)


@pytest.mark.gen_test
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_all_with_1012_for_their_clients_and_leaves_nobody_behind(start, visitor_of, number):  # A27
    two = start("redis")
    visitor = visitor_of(two.port)
    sockets = [await visitor.enter(username) for username in USERS]
    children = two.children()
    for pid in children:  # a terminal, or a supervisor, sends it to all of them
        os.kill(pid, number)
    stopping = asyncio.get_running_loop().run_in_executor(None, two.stop, number)
    for ws in sockets:
        while await ws.read_message() is not None:
            pass
        assert (ws.close_code, ws.close_reason) == (1012, "restart")
    assert await stopping == 0
    assert not any(map(is_alive, children))
    assert len(two.said) == 1


def test_processes_whose_parent_is_killed_end_by_themselves(start):
    two = start("redis")
    children = two.children()
    assert len(children) == 2
    two.stop(signal.SIGKILL)
    two.wait_until(lambda: not any(map(is_alive, children)), "their end")


def test_a_second_signal_ends_all_at_once(start):
    two = start("redis", grace=60)
    for pid in (children := two.children()):
        os.kill(pid, signal.SIGSTOP)
    two.wait_until(lambda: all(map(has_stopped, children)), "the stop")  # else SIGTERM may come before it
    two.parent.send_signal(signal.SIGTERM)
    two.wait_until(lambda: all(map(is_told, children)), "the first signal")
    assert two.stop() == 0
    assert not any(map(is_alive, children))


def has_stopped(pid: int) -> bool:
    return all(map(is_stopped, Path(f"/proc/{pid}/task").iterdir()))


def is_told(pid: int) -> bool:
    """Say whether SIGTERM waits for a process that is stopped (``ShdPnd`` in proc(5))."""
    (pending,) = re.findall(r"ShdPnd:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(pending, 16) & 1 << signal.SIGTERM - 1)


def test_a_process_that_hangs_does_not_keep_the_others_from_ending(start):
    two = start("redis")
    children = two.children()
    os.kill(max(children), signal.SIGSTOP)
    assert two.stop() == 0
    assert not any(map(is_alive, children))


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (["--processes", "2"], "--redis-url=redis://localhost"),
        (["--processes=0", "--redis-url=redis://localhost"], "from 1 to 64"),
        (["--processes=65", "--redis-url=redis://localhost"], "from 1 to 64"),
        (["--processes=many"], "--help"),
        (["--redis-url=redis://localhost", "--mongodb-uri=mongodb://localhost"], "choose one"),
    ],
    ids=" ".join,
)
def test_options_that_cannot_be_are_exit_status_2_with_one_line_of_advice(options, advice):
    status, said = failing(*options)
    assert status == 2
    assert said.count("\n") == 1
    assert advice in said
