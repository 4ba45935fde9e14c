"""Several processes while the engine between them is cut off, hangs, is slow, or is killed: what their clients see."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.engines import ENGINES, Engine, new_prefix
from tests.mongod import Member, ReplicaSet, require_mongod
from tests.proxy import Proxy
from tests.redis_server import RedisServer, require_redis
from tests.support import Echo, Server, make_auth, until
from tests.viewers import Viewer
from tornado_wsauth import BackplaneError, TokenRejected, TokenStoreError, WSAuth

pytestmark = [
    pytest.mark.outages,
    # Drivers leave a socket to the collector when they give up a connection to a server that was killed.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


class EngineServer:
    """A server of this test's own, to stop, kill and start again."""

    def __init__(self, kind: str, server: RedisServer | ReplicaSet) -> None:
        self.kind = kind
        self.server = server

    @property
    def _process(self) -> RedisServer | Member:
        return self.server if isinstance(self.server, RedisServer) else self.server.members[0]

    @property
    def port(self) -> int:
        return self._process.port

    def url(self, port: int | None = None) -> str:
        port = port or self.port
        if self.kind == "redis":
            return f"redis://127.0.0.1:{port}/0"
        return f"mongodb://127.0.0.1:{port}/?directConnection=true"

    def signal(self, number: signal.Signals) -> None:
        self._process.signal(number)

    def kill(self) -> None:
        self._process.kill()

    def start(self) -> None:
        self._process.start()
        if isinstance(self.server, ReplicaSet):
            self.server.wait_until_all_serve()


@pytest.fixture(params=ENGINES)
def engine_server(request: pytest.FixtureRequest) -> Iterator[EngineServer]:
    if request.param == "redis":
        require_redis()
        redis_server = RedisServer()
        redis_server.start()
        yield EngineServer("redis", redis_server)
        redis_server.close()
    else:
        require_mongod()
        with ReplicaSet() as replica_set:
            yield EngineServer("mongo", replica_set)


@pytest.fixture
def proxy(io_loop: Any, engine_server: EngineServer) -> Iterator[Proxy]:
    """A way to the engine that can be cut. It outlives the processes, which say goodbye through it."""
    proxy = Proxy(engine_server.port)
    io_loop.run_sync(proxy.open)
    yield proxy
    io_loop.run_sync(proxy.cut)


@pytest.fixture
def three_members() -> Iterator[ReplicaSet]:
    require_mongod()
    with ReplicaSet(3) as replica_set:
        yield replica_set


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect what the drivers left here, where it may be, and not in the next module's tests."""
    yield
    gc.collect()


class Process:
    """Stands for a process of the application: a `WSAuth` and a server of its own, in the test's loop."""

    def __init__(self, auth: WSAuth, server: Server, engine: Engine, gaps: list[float]) -> None:
        self.auth = auth
        self.server = server
        self.engine = engine
        self.gaps = gaps
        """When `on_gap` was called."""

    async def broadcast(self, n: int) -> None:
        await self.auth.broadcast({"n": n, "from": self.server.port})


@pytest.fixture
def start(io_loop: Any, serve: Callable[..., Server]) -> Iterator[Callable[..., Any]]:
    """Start a process: ``process = await start("redis", url, prefix)``."""
    processes: list[Process] = []

    async def start_one(kind: str, url: str, prefix: str, *, answers_within: float = 2.0, **options: Any) -> Process:
        class Chat(Echo):
            pass

        gaps: list[float] = []
        engine = Engine(kind, url, prefix)
        backplane = engine.backplane(timeout=answers_within, on_gap=lambda: gaps.append(time.monotonic()))
        auth = make_auth(backplane=backplane, max_tokens_per_user=10_000, **options)
        await auth.start()
        processes.append(Process(auth, serve(Chat, auth), engine, gaps))
        return processes[-1]

    yield start_one

    async def close() -> None:
        for process in processes:
            await process.auth.close(grace=0)
            await process.engine.close()

    io_loop.run_sync(close)


@contextlib.asynccontextmanager
async def watching(process: Process, *users: str) -> AsyncIterator[list[Viewer]]:
    """Have clients of ``users`` watch ``process``."""
    viewers = [Viewer(user, [process.server.port], process.auth.issue_token) for user in users]
    tasks = [asyncio.ensure_future(viewer.watch()) for viewer in viewers]
    await until(lambda: all(viewer.is_ready for viewer in viewers))
    try:
        yield viewers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Publisher:
    """Broadcasts numbers from one process at a steady pace, until it is stopped."""

    def __init__(self, process: Process, pause: float = 0.05) -> None:
        self.sent: list[tuple[int, float]] = []
        """Each number, and when its broadcast began."""
        self._process = process
        self._pause = pause
        self._stopping = False
        self._task = asyncio.ensure_future(self._publish())
        self._publishing: set[asyncio.Future[None]] = set()

    async def _publish(self) -> None:
        while not self._stopping:
            n = len(self.sent)
            self.sent.append((n, time.monotonic()))
            # Not awaited: a ticker does not wait for an engine either.
            publishing = asyncio.ensure_future(self._process.broadcast(n))
            self._publishing.add(publishing)
            publishing.add_done_callback(self._publishing.discard)
            await asyncio.sleep(self._pause)

    async def stop(self) -> int:
        """Return the last number, once everything has been handed over or given up."""
        self._stopping = True
        await self._task
        if self._publishing:
            await asyncio.wait(self._publishing)
        return self.sent[-1][0]


def of(process: Process, viewer: Viewer) -> list[int]:
    """Return the numbers of ``process`` that ``viewer`` saw, in order."""
    return [m["n"] for seen in viewer.seen for m in seen if m.get("from") == process.server.port]


def check_order(numbers: list[int]) -> None:
    assert numbers == sorted(set(numbers)), "in order, and none twice"


async def seen_by(process: Process, viewer: Viewer, number: int) -> None:
    await until(lambda: number in of(process, viewer))


@pytest.mark.gen_test(timeout=60)
async def test_a_process_that_is_cut_off_for_ten_seconds_goes_on_and_catches_up(engine_server, proxy, start):
    # A25, A37
    kind, prefix = engine_server.kind, new_prefix()
    here = await start(kind, engine_server.url(), prefix)
    there = await start(kind, engine_server.url(proxy.port), prefix)
    async with watching(here, "alice") as [alice], watching(there, "bob", "carol") as [bob, carol]:
        publishers = [Publisher(process) for process in (here, there)]
        await seen_by(here, bob, 5)
        await seen_by(there, alice, 5)
        proxy.part()
        cut_at = time.monotonic()
        await until(lambda: time.monotonic() > cut_at + 1)
        assert await here.auth.disconnect_user("carol") == 0
        await until(lambda: not there.auth.backplane.is_connected)
        noticed = time.monotonic() - cut_at
        await until(lambda: time.monotonic() > cut_at + 10)
        assert carol.is_ready, "nobody could tell it"
        with pytest.raises(BackplaneError):
            await there.auth.disconnect_user("nobody")
        # Local delivery went on: bob saw what his own process sent meanwhile, at once.
        number = publishers[1].sent[-1][0]
        await seen_by(there, bob, number)
        assert time.monotonic() - publishers[1].sent[number][1] < 1
        proxy.join()
        joined_at = time.monotonic()
        await until(lambda: there.auth.backplane.is_connected)
        await until(lambda: len(carol.seen) > 1 or not carol.is_ready)
        assert time.monotonic() - joined_at < 10
        last_here, last_there = [await publisher.stop() for publisher in publishers]
        for process in (here, there):
            await process.broadcast(10**6)
        await seen_by(here, bob, 10**6)
        await seen_by(there, alice, 10**6)
        assert noticed < 8
        for process, viewer in ((here, alice), (here, bob), (there, alice), (there, bob)):
            check_order(of(process, viewer))
        assert of(there, bob) == [*range(last_there + 1), 10**6]
        assert of(here, alice) == [*range(last_here + 1), 10**6]
        if kind == "mongo":
            assert of(here, bob) == [*range(last_here + 1), 10**6], "late, and complete"
        else:
            await until(lambda: there.gaps)
            assert len(there.gaps) == 1
        await until(lambda: here.gaps)
        assert len(here.gaps) == 1, "what the other could not send is told of"


@pytest.mark.gen_test(timeout=60)
async def test_an_engine_that_is_killed_and_started_again_is_found_again(engine_server, start):
    # A37
    kind, prefix = engine_server.kind, new_prefix()
    first, second = [await start(kind, engine_server.url(), prefix) for _ in range(2)]
    async with watching(first, "alice") as [alice], watching(second, "bob") as [bob]:
        publisher = Publisher(first)
        await seen_by(first, bob, 5)
        engine_server.kill()
        await until(lambda: not any(process.auth.backplane.is_connected for process in (first, second)))
        number = publisher.sent[-1][0] + 5
        await seen_by(first, alice, number)
        engine_server.start()
        await until(lambda: all(process.auth.backplane.is_connected for process in (first, second)))
        last = await publisher.stop()
        await first.broadcast(10**6)
        await seen_by(first, bob, 10**6)
        check_order(of(first, bob))
        assert of(first, alice) == [*range(last + 1), 10**6]
        await until(lambda: second.gaps)  # what could not be sent is told of


@pytest.mark.gen_test(timeout=60)
async def test_an_engine_that_hangs_stops_nobody_and_nothing_comes_twice(engine_server, start):
    # A37
    kind, prefix = engine_server.kind, new_prefix()
    first, second = [await start(kind, engine_server.url(), prefix) for _ in range(2)]
    async with watching(first, "alice") as [alice], watching(second, "bob") as [bob]:
        publisher = Publisher(first)
        await seen_by(first, bob, 5)
        engine_server.signal(signal.SIGSTOP)
        hung_at = time.monotonic()
        while time.monotonic() < hung_at + 3:
            number = publisher.sent[-1][0]
            await seen_by(first, alice, number)
            assert time.monotonic() - publisher.sent[number][1] < 1
            await asyncio.sleep(0.01)
        engine_server.signal(signal.SIGCONT)
        await publisher.stop()
        await until(lambda: all(process.auth.backplane.is_connected for process in (first, second)))
        while 10**6 not in of(first, bob):  # a first try may come while the last connection is given up
            await first.broadcast(10**6)
            await asyncio.sleep(0.1)
        numbers = of(first, bob)
        check_order(numbers[: numbers.index(10**6) + 1])


@pytest.mark.gen_test(timeout=60)
async def test_a_slow_engine_delays_other_processes_and_not_ones_own(engine_server, proxy, start):
    # A37
    kind, prefix = engine_server.kind, new_prefix()
    # Longer than a new connection takes, which the driver makes when those it has are all in use.
    first, second = [await start(kind, engine_server.url(proxy.port), prefix, answers_within=20.0) for _ in range(2)]
    async with watching(first, "alice") as [alice], watching(second, "bob") as [bob]:
        proxy.delay = 0.5
        publisher = Publisher(first, pause=0.02)
        for number in (10, 20, 30):
            await seen_by(first, alice, number)
            assert number not in of(first, bob), "sooner than the engine could"
        last = await publisher.stop()
        await seen_by(first, bob, last)
        assert of(first, bob) == of(first, alice) == [*range(last + 1)], "all of them, in order"
        assert first.gaps == second.gaps == []
        proxy.delay = 0.0  # they say goodbye through it


@pytest.mark.gen_test(timeout=90)
async def test_a_primary_of_three_that_is_killed_costs_no_broadcast_and_spends_no_token_twice(three_members, start):
    # A35, A37
    prefix = new_prefix()
    first, second = [await start("mongo", three_members.uri, prefix) for _ in range(2)]
    store = first.engine.tokens(timeout=10)
    await store.start()
    async with watching(first, "alice") as [alice], watching(second, "bob") as [bob]:
        publisher = Publisher(first)
        await seen_by(first, bob, 5)
        wins: list[str] = []
        redeeming = asyncio.ensure_future(_redeem_all(store, wins))
        await until(lambda: len(wins) > 20)
        three_members.primary().kill()
        await asyncio.to_thread(three_members.primary)
        enough = len(wins) + 50
        await until(lambda: len(wins) > enough)
        redeeming.cancel()
        await asyncio.gather(redeeming, return_exceptions=True)
        await publisher.stop()
        await first.broadcast(10**6)
        await seen_by(first, bob, 10**6)
    assert len(wins) == len(set(wins))
    check_order(of(first, bob))
    if set(of(first, alice)) - set(of(first, bob)):
        await until(lambda: second.gaps)  # what is lost is told of


async def _redeem_all(store: Any, wins: list[str]) -> None:
    """Issue tokens, and redeem each four times at once; note each success."""
    while True:
        with contextlib.suppress(TokenStoreError):
            token = await store.issue("ann", 60)
            results = await asyncio.gather(*(store.redeem(token) for _ in range(4)), return_exceptions=True)
            for result in results:
                if not isinstance(result, BaseException):
                    wins.append(token)
                elif not isinstance(result, (TokenRejected, TokenStoreError)):
                    raise result
