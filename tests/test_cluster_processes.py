"""Several real processes of one application: they are killed and paused, and what clients saw is looked at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.engines import ENGINES, Engine, new_prefix
from tests.support import RawClient, jwt_message, make_auth, make_jwt, until
from tests.viewers import Viewer
from tornado_wsauth import TokenStore, WSAuth

pytestmark = [pytest.mark.outages, pytest.mark.parametrize("kind", ENGINES)]

INTERVAL = 0.5  # seconds between two ticks


class Process:
    """A `tests.cluster_process`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.pid = process.pid
        self.port = port

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    async def end(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
            await self._process.communicate(b"")
            assert self._process.returncode == 0


@contextlib.asynccontextmanager
async def processes(engine: Engine, count: int, **options: Any) -> AsyncIterator[list[Process]]:
    """Start ``count`` processes on ``engine``, and end those that are left."""
    options = {"kind": engine.kind, "url": engine.url, "prefix": engine.prefix, **options}
    command = [sys.executable, "-m", "tests.cluster_process", json.dumps(options)]
    started: list[Process] = []
    try:
        children = [
            await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(count)
        ]
        for child in children:
            assert child.stdout is not None
            started.append(Process(child, int(await child.stdout.readline())))
        yield started
    finally:
        for process in started:
            await process.end()


@pytest.fixture
def engine(kind: str, request: pytest.FixtureRequest, io_loop: Any) -> Any:
    url = request.getfixturevalue("redis_url" if kind == "redis" else "mongodb_uri")
    engine = Engine(kind, url, new_prefix())
    yield engine
    io_loop.run_sync(engine.forget_everything)
    io_loop.run_sync(engine.close)


@contextlib.asynccontextmanager
async def watching(
    store: TokenStore, users: list[str], ports: Callable[[int], list[int]]
) -> AsyncIterator[list[Viewer]]:
    """Have clients watch; ``ports`` says where the one with this number goes to."""

    async def new_token(user: str) -> str:
        return await store.issue(user, 30)

    viewers = [Viewer(user, ports(number), new_token) for number, user in enumerate(users)]
    tasks = [asyncio.ensure_future(viewer.watch()) for viewer in viewers]
    try:
        await until(lambda: all(viewer.is_ready for viewer in viewers))
        yield viewers
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [result for result in results if not isinstance(result, asyncio.CancelledError)]


@contextlib.asynccontextmanager
async def our_auth(engine: Engine) -> AsyncIterator[WSAuth]:
    """Be one more process, without clients."""
    auth = make_auth(tokens=engine.tokens(), backplane=engine.backplane())
    await auth.start()
    yield auth
    await auth.close()


@pytest.mark.gen_test(timeout=100)
async def test_what_a_thousand_clients_saw_when_their_process_was_killed(kind, engine):
    # A31, A37
    async with processes(engine, 2) as (killed, left), our_auth(engine) as auth:
        users = [f"user-{number}" for number in range(1000)]

        def ports(number: int) -> list[int]:
            return [killed.port, left.port] if number % 2 else [left.port, killed.port]

        async with watching(auth.tokens, users, ports) as viewers:
            assert await auth.count() == 1000
            last = 0

            async def publish() -> None:
                nonlocal last
                while True:
                    last += 1
                    await auth.broadcast({"n": last})
                    await asyncio.sleep(0.05)

            publishing = asyncio.ensure_future(publish())
            await until(lambda: all(viewer.numbers() for viewer in viewers))
            await killed.kill()
            await until(lambda: all(viewer.is_ready and viewer.at_port == left.port for viewer in viewers))
            after = last + 1
            await until(lambda: all(after in viewer.numbers() for viewer in viewers))
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            await auth.broadcast({"n": 10**6})
            await until(lambda: all(10**6 in viewer.numbers() for viewer in viewers))
            presence = await auth.presence()
    assert set(presence) == set(users)
    assert set(presence.values()) == {1}, "nobody of the killed process is left"
    for number, viewer in enumerate(viewers):
        assert len(viewer.seen) == (2 if number % 2 else 1), "who was on the killed one came back, nobody else had to"
        before = 0
        for connection in range(len(viewer.seen)):
            numbers = [n for n in viewer.numbers(connection) if n != 10**6]
            assert numbers == list(range(numbers[0], numbers[-1] + 1)), "in order, none missing, none twice"
            assert numbers[0] > before, "none that it had seen before"
            before = numbers[-1]
        assert before == last


@pytest.mark.gen_test(timeout=60)
async def test_one_of_three_processes_ticks_and_another_takes_over_when_it_is_killed(kind, engine):
    # A37
    async with processes(engine, 3, tick_ms=INTERVAL * 1000) as started:
        store = engine.tokens()
        async with watching(store, ["alice"] * 3, lambda number: [started[number].port]) as viewers:
            await until(lambda: all(len(ticks(viewer)) > 5 for viewer in viewers))
            holder = next(process for process in started if process.pid == ticks(viewers[0])[-1][1])
            elsewhere = next(viewer for viewer in viewers if viewer.at_port != holder.port)
            killed_at = time.monotonic()
            await holder.kill()
            await until(lambda: ticks(elsewhere)[-1][1] != holder.pid)
            assert ticks(elsewhere)[-1][0] - killed_at < 2 * INTERVAL + 0.25  # the last is for a busy machine
            count = len(ticks(elsewhere))
            await until(lambda: len(ticks(elsewhere)) > count + 5)
    check_spacing(ticks(elsewhere))


@pytest.mark.gen_test(timeout=60)
async def test_a_holder_that_was_paused_beyond_its_lease_ticks_for_no_instant_of_another(kind, engine):
    # A37
    async with processes(engine, 2, tick_ms=INTERVAL * 1000) as started:
        store = engine.tokens()
        async with watching(store, ["alice"] * 2, lambda number: [started[number].port]) as viewers:
            await until(lambda: all(len(ticks(viewer)) > 3 for viewer in viewers))
            for _ in range(2):
                holder = next(process for process in started if process.pid == ticks(viewers[0])[-1][1])
                elsewhere = next(viewer for viewer in viewers if viewer.at_port != holder.port)
                holder.signal(signal.SIGSTOP)
                count = len(ticks(elsewhere))
                await until(lambda: len(ticks(elsewhere)) > count + 4)  # noqa: B023 - awaited in the loop
                assert ticks(elsewhere)[-1][1] != holder.pid
                holder.signal(signal.SIGCONT)
                count = len(ticks(elsewhere))
                await until(lambda: len(ticks(elsewhere)) > count + 4)  # noqa: B023
            everybodys = {tick for viewer in viewers for tick in ticks(viewer)}
    check_spacing(sorted(everybodys))


def ticks(viewer: Viewer) -> list[tuple[float, int]]:
    """Return when each tick that a client saw was made, and by which process."""
    return [(message["tick"], message["process"]) for message in viewer.seen[-1] if "tick" in message]


def check_spacing(made: list[tuple[float, int]]) -> None:
    assert made == sorted(made)
    for (before, _), (after, _) in pairwise(made):
        assert after - before > INTERVAL / 2 - 0.05, "one tick for each instant"


@pytest.mark.gen_test(timeout=60)
async def test_logging_out_reaches_every_process_within_two_seconds(kind, engine):
    # A25
    async with processes(engine, 3) as started, our_auth(engine) as auth:
        clients = []
        for process in started * 2:
            client = await RawClient.connect(process.port)
            clients.append(client)
            await client.upgrade(f"/ws?token={await auth.issue_token('alice')}")
        for client in clients[:3]:  # the others have not sent their JWT yet
            client.send_text(jwt_message(make_jwt("alice")))
            assert (await client.read_json())["type"] == "auth_ok"
        unused = await auth.issue_token("alice")
        bystander = await RawClient.connect(started[0].port)
        await bystander.upgrade(f"/ws?token={await auth.issue_token('bob')}")
        bystander.send_text(jwt_message(make_jwt("bob")))
        assert (await bystander.read_json())["type"] == "auth_ok"

        before = time.monotonic()
        await auth.disconnect_user("alice")
        for client in clients:
            assert await client.read_close() == (4403, "revoked")
        assert time.monotonic() - before < 2
        late = await RawClient.connect(started[1].port)
        assert (await late.upgrade(f"/ws?token={unused}")).status == 401
        assert await auth.presence() == {"bob": 1}
        for client in (*clients, bystander, late):
            await client.close()


@pytest.mark.gen_test(timeout=60)
async def test_the_limit_on_connections_holds_in_a_race_over_three_processes(kind, engine):
    # A26
    async with processes(engine, 3, limit=4) as started:
        store = engine.tokens()
        clients = [await RawClient.connect(process.port) for process in started for _ in range(6)]
        tokens = [await store.issue("alice", 30) for _ in clients]
        answers = await asyncio.gather(
            *(client.upgrade(f"/ws?token={token}") for client, token in zip(clients, tokens, strict=True))
        )
        assert sorted(answer.status for answer in answers) == [101] * 4 + [429] * 14
        refused = next(token for token, answer in zip(tokens, answers, strict=True) if answer.status == 429)
        for client in clients:
            await client.close()

        async def upgraded() -> int:
            client = await RawClient.connect(started[1].port)
            try:
                return (await client.upgrade(f"/ws?token={refused}")).status
            finally:
                await client.close()

        while (status := await upgraded()) == 429:  # until its places were given back; then the token is still good
            await asyncio.sleep(0.01)
        assert status == 101
