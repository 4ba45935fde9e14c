"""A broadcaster in several processes: whoever holds the lease sends to the clients of all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tests.fanout import auth_of, complaints, handler_of, texts_until
from tests.processes import backplane_of, everywhere, processes
from tests.processes import to_the_end as to_the_end
from tests.support import INTERVAL_MS, Server, make_auth, settle, ticks, until
from tornado_wsauth import BackplaneError, Broadcaster, ConfigurationError, Lease
from tornado_wsauth import broadcaster as broadcaster_module


@pytest.fixture(autouse=True)
def never_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time stand still for the broadcaster: on a busy machine a tick may be late, and is dropped."""
    monkeypatch.setattr(broadcaster_module, "time", SimpleNamespace(monotonic=lambda: 1000.0))


class FakeLease(Lease):
    """Is held by whom ``holder`` names, and remembers what it was asked."""

    holder: FakeLease | None = None

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.intervals: list[float] = []
        self.error: BackplaneError | None = None
        self.start_error: BackplaneError | None = None
        self.answer = asyncio.Event()
        self.answer.set()

    async def start(self) -> None:
        self.calls.append("start")
        if self.start_error is not None:
            raise self.start_error

    async def claim(self, interval: float) -> bool:
        self.calls.append("claim")
        self.intervals.append(interval)
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return FakeLease.holder is self

    async def release(self) -> None:
        self.calls.append("release")
        if self.error is not None:
            raise self.error

    def count(self, what: str) -> int:
        return self.calls.count(what)


class Ticker:
    """A broadcaster, its lease, and how often its callback was called."""

    def __init__(self, server: Server, callback: Any, lease: bool = True, **options: Any) -> None:
        self.calls = 0
        self.lease = FakeLease()
        self._callback = callback
        self.broadcaster = Broadcaster(
            auth_of(server), self._call, INTERVAL_MS, lease=self.lease if lease else None, **options
        )

    def _call(self) -> Any:
        self.calls += 1
        return self._callback(self.calls) if callable(self._callback) else f"{self._callback} {self.calls}"

    def hold(self) -> None:
        """Be the holder from now on."""
        FakeLease.holder = self.lease

    async def claims(self, number: int = 3) -> None:
        """Wait until the lease was claimed that often from now on; what came of all but the last is over."""
        wanted = self.lease.count("claim") + number
        await until(lambda: self.lease.count("claim") >= wanted)


@pytest.fixture
def tick(io_loop: IOLoop) -> Iterator[Callable[..., list[Ticker]]]:
    """Start a broadcaster in each process: ``tick(servers, callback="tick", **options)``."""
    made: list[Ticker] = []

    def start(servers: list[Server], callback: Any = "tick", **options: Any) -> list[Ticker]:
        new = [Ticker(server, callback, **options) for server in servers]
        made.extend(new)
        for ticker in new:
            ticker.broadcaster.start()
        return new

    FakeLease.holder = None
    yield start

    async def stop() -> None:
        for ticker in made:
            ticker.broadcaster.stop()

    io_loop.run_sync(stop)


# --- one for all -----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_only_the_holder_is_asked_and_the_clients_of_all_get_each_message_once(serve, login, tick):
    servers = await processes(serve, 3)
    clients = await everywhere(login, servers)
    tickers = tick(servers)
    tickers[1].hold()
    for client in clients:
        assert await texts_until(client, "tick 4") == ["tick 1", "tick 2", "tick 3", "tick 4"]
    await tickers[0].claims()
    assert [ticker.calls > 0 for ticker in tickers] == [False, True, False]
    assert {*tickers[0].lease.intervals} == {INTERVAL_MS / 1000}, "in seconds"


@pytest.mark.gen_test
async def test_who_takes_over_goes_on(serve, login, tick):
    servers = await processes(serve)
    client = await login(servers[0])
    first, second = tick(servers, lambda number: {"n": number})
    first.hold()
    assert await client.read_json() == {"n": 1}
    await until(lambda: first.calls >= 2)
    second.hold()
    await until(lambda: second.calls >= 2)
    calls = first.calls
    await first.claims()
    assert first.calls == calls


@pytest.mark.gen_test
async def test_while_nobody_holds_the_lease_nobody_ticks(serve, login, tick):
    servers = await processes(serve)
    await everywhere(login, servers)
    for ticker in tick(servers):
        await ticker.claims()
        assert ticker.calls == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("slow", ["close", "drop", "latest"])
async def test_group_and_slow_are_those_of_the_broadcaster_in_all_processes(serve, login, tick, slow):
    # A32
    servers = await processes(serve)
    alices, bobs = await everywhere(login, servers), await everywhere(login, servers, "bob")
    for server in servers:
        handler_of(server, "alice").auth_session.join("red")
    (ticker,) = tick(servers[:1], group="red", slow=slow)
    ticker.hold()
    for client in alices:
        assert await client.read_frame() == (1, b"tick 1")
    ticker.broadcaster.stop()
    for server in servers:
        server.auth.connections.broadcast("end")
    for client in bobs:
        assert await texts_until(client, "end") == ["end"]
    assert {message["slow"] for _, message in backplane_of(servers[0]).published if "slow" in message} == {slow}


@pytest.mark.gen_test
async def test_a_lease_serves_where_there_is_one_process(serve, login, tick):
    server = serve(auth=make_auth())
    client = await login(server)
    (ticker,) = tick([server])
    await ticker.claims()
    assert ticker.calls == 0
    ticker.hold()
    assert (await client.read_frame())[1] == b"tick 1"


@pytest.mark.gen_test
async def test_an_exception_of_the_callback_is_logged_and_the_next_tick_runs(serve, login, tick, caplog):
    def callback(number: int) -> str:
        if number < 3:
            raise ZeroDivisionError
        return "third"

    servers = await processes(serve)
    clients = await everywhere(login, servers)
    (ticker,) = tick(servers[:1], callback)
    ticker.hold()
    for client in clients:
        assert (await client.read_frame())[1] == b"third"
    ticker.broadcaster.stop()
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError] * 2


# --- without a lease -------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_without_a_lease_each_process_ticks_for_its_own_clients(serve, login, tick):
    servers = await processes(serve)
    client = await login(servers[0])
    first, second = tick(servers, lease=False)
    assert await texts_until(client, "tick 3") == ["tick 1", "tick 2", "tick 3"]
    await ticks(3)
    assert second.calls == 0
    other = await login(servers[1])
    assert (await other.read_frame())[1] == b"tick 1"
    assert first.lease.calls == second.lease.calls == []
    assert all(backplane_of(server).published == [] for server in servers)


# --- while nobody would receive --------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_callback_is_called_for_clients_of_whichever_process_and_for_nobody_else(serve, connect, login, tick):
    servers = await processes(serve)
    ticker, _ = tick(servers)
    ticker.hold()
    await connect(servers[1])  # on its way, and not authenticated
    await ticker.claims()
    assert ticker.calls == 0
    client = await login(servers[1])
    assert (await client.read_frame())[1] == b"tick 1"
    client.abort()
    await until(lambda: len(servers[1].auth.connections) == 0)
    await ticker.claims(2)
    calls = ticker.calls
    await ticker.claims()
    assert ticker.calls == calls


@pytest.mark.gen_test
async def test_the_callback_of_a_group_is_called_for_members_in_whichever_process(serve, login, tick):
    servers = await processes(serve)
    clients = await everywhere(login, servers)
    (ticker,) = tick(servers[:1], group="red")
    ticker.hold()
    await ticker.claims()
    assert ticker.calls == 0
    handler_of(servers[1], "alice").auth_session.join("red")
    assert (await clients[1].read_frame())[1] == b"tick 1"


# --- when nobody knows who holds it ----------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("fails", ["claim", "start", "count"])
async def test_while_the_lease_cannot_be_had_nobody_ticks_and_that_is_logged_once(serve, login, tick, caplog, fails):
    servers = await processes(serve)
    client = await login(servers[1])
    (ticker,) = tick(servers[:1])
    ticker.hold()
    for outage in range(1, 2 if fails == "start" else 3):
        if fails == "count":
            backplane_of(servers[0]).failing = {"peers"}
        else:
            setattr(ticker.lease, "error" if fails == "claim" else "start_error", BackplaneError("down"))
        attempts = len(ticker.lease.calls)
        await until(lambda attempts=attempts: len(ticker.lease.calls) >= attempts + 5)
        await settle()
        calls = ticker.calls
        assert len(complaints(caplog)) == outage
        assert "nothing is broadcast" in complaints(caplog)[-1]
        if fails == "start":
            assert ticker.lease.count("claim") == 0
        attempts = len(ticker.lease.calls)
        await until(lambda attempts=attempts: len(ticker.lease.calls) >= attempts + 2)
        assert ticker.calls == calls
        ticker.lease.error = ticker.lease.start_error = None
        backplane_of(servers[0]).failing = set()
        await texts_until(client, f"tick {calls + 1}")
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.gen_test
async def test_the_lease_is_started_once_and_before_it_is_claimed(serve, login, tick):
    (server,) = await processes(serve, 1)
    await login(server)
    (ticker,) = tick([server])
    ticker.hold()
    await ticker.claims()
    ticker.broadcaster.stop()
    ticker.broadcaster.start()
    await ticker.claims()
    assert ticker.lease.calls[:2] == ["start", "claim"]
    assert ticker.lease.count("start") == 1


# --- too late --------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("intervals", [0.9, 1.01, 50])
async def test_a_message_that_is_late_by_an_interval_is_dropped_and_that_is_logged(
    serve, login, tick, caplog, monkeypatch, intervals
):
    """Another process may have sent one for this instant."""
    now = 1000.0
    monkeypatch.setattr(broadcaster_module, "time", SimpleNamespace(monotonic=lambda: now))

    def callback(number: int) -> str:
        nonlocal now
        if number == 2:
            now += intervals * INTERVAL_MS / 1000
        return f"tick {number}"

    servers = await processes(serve)
    clients = await everywhere(login, servers)
    tick(servers[:1], callback)[0].hold()
    expected = ["tick 1", "tick 2", "tick 3"] if intervals < 1 else ["tick 1", "tick 3"]
    for client in clients:
        assert await texts_until(client, "tick 3") == expected
    assert ["dropped" in said for said in complaints(caplog)] == [True] * (intervals >= 1)


@pytest.mark.gen_test
async def test_a_message_is_late_also_when_the_lease_took_its_time_to_answer(serve, login, tick, caplog, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(broadcaster_module, "time", SimpleNamespace(monotonic=lambda: now))
    servers = await processes(serve)
    client = await login(servers[1])
    (ticker,) = tick(servers[:1])
    ticker.hold()
    ticker.lease.answer.clear()
    await until(lambda: ticker.lease.count("claim") == 1)
    now += 1
    ticker.lease.answer.set()
    assert (await client.read_frame())[1] == b"tick 2"
    assert "dropped" in complaints(caplog)[0]


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("fails", [False, True])
async def test_stop_lets_another_process_act_next(serve, login, tick, caplog, fails):
    servers = await processes(serve)
    await everywhere(login, servers)
    (ticker,) = tick(servers[:1])
    ticker.hold()
    await until(lambda: ticker.calls >= 1)
    assert ticker.lease.count("release") == 0
    ticker.lease.error = BackplaneError("down") if fails else None
    ticker.broadcaster.stop()
    ticker.broadcaster.stop()
    await ticker.broadcaster._releasing
    assert ticker.lease.count("release") == 1
    calls = ticker.lease.count("claim")
    await ticks(3)
    assert ticker.lease.count("claim") == calls
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.gen_test
async def test_stopped_during_an_async_callback_it_sends_nothing_to_anybody(serve, login, tick):
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def callback(number: int) -> str:
        entered.set()
        await go_on.wait()
        return f"tick {number}"

    servers = await processes(serve)
    clients = await everywhere(login, servers)
    (ticker,) = tick(servers[:1], callback)
    ticker.hold()
    await entered.wait()
    await ticks(3)
    assert (ticker.calls, ticker.lease.count("claim")) == (1, 1), "it does not overlap itself"
    ticker.broadcaster.stop()
    go_on.set()
    await settle()
    await servers[0].auth.broadcast("end")
    for client in clients:
        assert await texts_until(client, "end") == ["end"]


@pytest.mark.gen_test
async def test_stopped_while_the_lease_is_claimed_it_does_not_call_the_callback(serve, login, tick):
    (server,) = await processes(serve, 1)
    await login(server)
    (ticker,) = tick([server])
    ticker.hold()
    ticker.lease.answer.clear()
    await until(lambda: ticker.lease.count("claim") == 1)
    ticker.broadcaster.stop()
    ticker.lease.answer.set()
    await settle()
    assert ticker.calls == 0


@pytest.mark.parametrize("lease", [object(), "news", FakeLease, 0, False], ids=repr)
def test_what_is_no_lease_is_a_configuration_error_that_says_what_to_write(lease):
    with pytest.raises(ConfigurationError) as raised:
        Broadcaster(make_auth(), lambda: "tick", 1000, lease=lease)
    assert str(raised.value) == (
        f'Broadcaster(lease=<{type(lease).__name__}>): must be a Lease, such as RedisLease(redis, "news"); '
        "left out, each process ticks for its own clients"
    )
