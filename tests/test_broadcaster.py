"""A message to everyone at a steady interval."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tornado.ioloop import PeriodicCallback

from tests.support import INTERVAL_MS, Server, make_auth, ticks, until
from tornado_wsauth import Broadcaster, ConfigurationError


class Callback:
    """A callback that counts its calls and returns what it is told to, in turn; then the last of it again."""

    def __init__(self, *returned: Any) -> None:
        self.returned = returned
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        value = self.returned[min(self.calls, len(self.returned)) - 1]
        if isinstance(value, Exception):
            raise value
        return value


class Slow:
    """An async callback that waits to be let go, and notices when it overlaps itself."""

    def __init__(self) -> None:
        self.calls = 0
        self.running = 0
        self.most = 0
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self) -> str:
        self.calls += 1
        call = self.calls
        self.running += 1
        self.most = max(self.most, self.running)
        self.entered.set()
        await self.go_on.wait()
        self.running -= 1
        return f"call {call}"


@pytest.fixture
def broadcaster() -> Iterator[Callable[..., Broadcaster]]:
    """Make broadcasters that are stopped at the end."""
    made: list[Broadcaster] = []

    def make(server: Server, callback: Any, interval_ms: float = INTERVAL_MS, **options: Any) -> Broadcaster:
        assert server.auth is not None
        made.append(Broadcaster(server.auth, callback, interval_ms, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.mark.gen_test
async def test_everybody_gets_what_the_callback_returns_again_and_again(serve, login, broadcaster):
    server = serve()
    clients = [await login(server, user) for user in ("alice", "bob")]
    broadcaster(server, Callback("one", b"two", {"n": 3}, "four")).start()
    for client in clients:
        assert [(await client.read_frame())[1] for _ in range(3)] == [b"one", b"two", b'{"n": 3}']


@pytest.mark.gen_test
async def test_an_async_callback_is_awaited(serve, login, broadcaster):
    async def callback() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"n": 1}

    server = serve()
    client = await login(server)
    broadcaster(server, callback).start()
    assert await client.read_json() == {"n": 1}
    assert await client.read_json() == {"n": 1}


@pytest.mark.gen_test
async def test_none_skips_this_time_only(serve, login, broadcaster):
    server = serve()
    client = await login(server)
    callback = Callback(None, None, "third", None, "fifth")
    broadcaster(server, callback).start()
    assert (await client.read_frame())[1] == b"third"
    assert (await client.read_frame())[1] == b"fifth"


@pytest.mark.gen_test
async def test_an_empty_message_is_not_skipped(serve, login, broadcaster):
    server = serve()
    client = await login(server)
    broadcaster(server, Callback("", b"", {}, "end")).start()
    assert [(await client.read_frame())[1] for _ in range(4)] == [b"", b"", b"{}", b"end"]


@pytest.mark.gen_test
async def test_nothing_happens_before_start_or_after_stop(serve, login, broadcaster):
    server = serve()
    await login(server)
    callback = Callback("tick")
    one = broadcaster(server, callback)
    assert not one.is_running()
    one.stop()
    await ticks(3)
    assert callback.calls == 0
    one.start()
    assert one.is_running()
    assert callback.calls == 0, "the first message goes out one interval from now"
    await until(lambda: callback.calls >= 2)
    one.stop()
    one.stop()
    assert not one.is_running()
    calls = callback.calls
    await ticks(4)
    assert callback.calls == calls


@pytest.mark.gen_test
async def test_starting_twice_does_not_tick_twice(serve, login, broadcaster, monkeypatch):
    started = []
    start = PeriodicCallback.start
    monkeypatch.setattr(PeriodicCallback, "start", lambda self: (started.append(self), start(self))[1])
    server = serve()
    one = broadcaster(server, Callback("tick"))
    one.start()
    one.start()
    assert len(started) == 1
    one.stop()
    one.start()
    assert one.is_running()
    assert sum(timer.is_running() for timer in started) == 1


@pytest.mark.gen_test
async def test_the_callback_is_not_called_while_nobody_would_receive(serve, connect, login, broadcaster):
    server = serve()
    callback = Callback("tick")
    broadcaster(server, callback).start()
    await ticks(4)
    assert callback.calls == 0
    await connect(server)  # on its way, and not authenticated
    await ticks(4)
    assert callback.calls == 0
    client = await login(server)
    assert (await client.read_frame())[1] == b"tick"
    client.abort()
    await until(lambda: len(server.auth.connections) == 0)
    calls = callback.calls
    await ticks(4)
    assert callback.calls == calls


@pytest.mark.gen_test
async def test_the_callback_of_a_group_is_not_called_while_the_group_is_empty(serve, login, broadcaster):
    server = serve()
    client = await login(server)
    (handler,) = server.auth.connections
    callback = Callback("tick")
    broadcaster(server, callback, group="red").start()
    handler.auth_session.join("blue")
    await ticks(4)
    assert callback.calls == 0
    handler.auth_session.join("red")
    assert (await client.read_frame())[1] == b"tick"
    handler.auth_session.leave("red")
    calls = callback.calls
    await ticks(4)
    assert callback.calls == calls


@pytest.mark.gen_test
async def test_only_the_group_receives(serve, login, broadcaster):
    server = serve()
    alice, bob = await login(server, "alice"), await login(server, "bob")
    (handler,) = server.auth.connections.for_user("alice")
    handler.auth_session.join("red")
    one = broadcaster(server, Callback("to red"), group="red")
    one.start()
    assert (await alice.read_frame())[1] == b"to red"
    one.stop()
    server.auth.connections.broadcast("to all")
    assert (await bob.read_frame())[1] == b"to all"


@pytest.mark.gen_test
@pytest.mark.parametrize("bad", [ZeroDivisionError("a bug"), 7, ["a"]], ids=["raises", "int", "list"])
async def test_an_exception_is_logged_and_the_next_tick_runs(serve, login, broadcaster, caplog, bad):
    server = serve()
    client = await login(server)
    one = broadcaster(server, Callback(bad, bad, "third"))
    one.start()
    assert (await client.read_frame())[1] == b"third"
    one.stop()
    expected = type(bad) if isinstance(bad, Exception) else TypeError
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [expected] * 2


@pytest.mark.gen_test
async def test_an_exception_in_an_async_callback_is_logged_and_the_next_tick_runs(serve, login, broadcaster, caplog):
    calls = 0

    async def callback() -> str:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls == 1:
            raise ZeroDivisionError
        return "second"

    server = serve()
    client = await login(server)
    broadcaster(server, callback).start()
    assert (await client.read_frame())[1] == b"second"
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


@pytest.mark.gen_test
async def test_a_tick_that_comes_due_while_the_callback_runs_is_skipped(serve, login, broadcaster):
    server = serve()
    client = await login(server)
    callback = Slow()
    broadcaster(server, callback).start()
    await callback.entered.wait()
    await ticks(5)
    assert (callback.calls, callback.most) == (1, 1)
    callback.go_on.set()
    assert (await client.read_frame())[1] == b"call 1"
    assert (await client.read_frame())[1] == b"call 2"


@pytest.mark.gen_test
async def test_stopped_during_an_async_callback_it_sends_nothing(serve, login, broadcaster):
    server = serve()
    client = await login(server)
    callback = Slow()
    one = broadcaster(server, callback)
    one.start()
    await callback.entered.wait()
    one.stop()
    callback.go_on.set()
    await until(lambda: callback.running == 0)
    await ticks(4)
    server.auth.connections.broadcast("end")
    assert (await client.read_frame())[1] == b"end"
    assert callback.calls == 1


@pytest.mark.gen_test
async def test_restarted_during_an_async_callback_it_neither_overlaps_nor_doubles(serve, login, broadcaster):
    server = serve()
    client = await login(server)
    callback = Slow()
    one = broadcaster(server, callback)
    one.start()
    await callback.entered.wait()
    one.stop()
    one.start()
    await ticks(4)
    assert (callback.calls, callback.most) == (1, 1), "the new start waits for what the old one left running"
    callback.go_on.set()
    assert (await client.read_frame())[1] == b"call 2", "what the old start was about to send is not sent"
    assert (await client.read_frame())[1] == b"call 3"
    one.stop()
    calls = callback.calls
    await ticks(4)
    assert (callback.calls, callback.most) == (calls, 1)


@pytest.mark.gen_test
async def test_restarted_during_an_async_callback_it_goes_on_at_its_own_pace(serve, login, broadcaster, monkeypatch):
    """One `PeriodicCallback` restarted in the middle of its callback would go on twice as often."""
    server = serve()
    await login(server)
    callback = Slow()
    one = broadcaster(server, callback)
    running = []
    start = PeriodicCallback.start
    monkeypatch.setattr(PeriodicCallback, "start", lambda self: (running.append(self), start(self))[1])
    for _ in range(3):
        one.start()
        await callback.entered.wait()
        one.stop()
    one.start()
    callback.go_on.set()
    await until(lambda: callback.calls >= 4)
    assert len({id(timer) for timer in running}) == 4, "a new timer for each start"
    assert [timer.is_running() for timer in running] == [False] * 3 + [True]


@pytest.mark.gen_test
async def test_the_last_receiver_may_leave_while_the_callback_runs(serve, login, broadcaster, caplog):
    server = serve()
    client = await login(server)
    callback = Slow()
    broadcaster(server, callback).start()
    await callback.entered.wait()
    client.abort()
    await until(lambda: len(server.auth.connections) == 0)
    callback.go_on.set()
    await until(lambda: callback.running == 0)
    await ticks(3)
    assert callback.calls == 1
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.gen_test
@pytest.mark.parametrize("jitter", [0, 0.5, 1])
async def test_jitter_spreads_the_interval(serve, login, broadcaster, monkeypatch, jitter):
    made = []
    init = PeriodicCallback.__init__

    def remember(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        made.append((self.callback_time, self.jitter))

    monkeypatch.setattr(PeriodicCallback, "__init__", remember)
    server = serve()
    client = await login(server)
    broadcaster(server, Callback("tick"), jitter=jitter).start()
    assert (await client.read_frame())[1] == b"tick"
    assert made[-1] == (INTERVAL_MS, jitter)


@pytest.mark.parametrize(
    ("option", "arguments", "options"),
    [
        ("callback", (None, 1000), {}),
        ("callback", ("a message", 1000), {}),
        ("callback", ({"a": 1}, 1000), {}),
        ("interval_ms", (Callback("tick"), 0), {}),
        ("interval_ms", (Callback("tick"), -3000), {}),
        ("interval_ms", (Callback("tick"), float("nan")), {}),
        ("interval_ms", (Callback("tick"), float("inf")), {}),
        ("interval_ms", (Callback("tick"), "3000"), {}),
        ("interval_ms", (Callback("tick"), None), {}),
        ("jitter", (Callback("tick"), 1000), {"jitter": -0.1}),
        ("jitter", (Callback("tick"), 1000), {"jitter": 1.1}),
        ("jitter", (Callback("tick"), 1000), {"jitter": 30}),
        ("jitter", (Callback("tick"), 1000), {"jitter": float("nan")}),
        ("jitter", (Callback("tick"), 1000), {"jitter": "0.1"}),
        ("jitter", (Callback("tick"), 1000), {"jitter": None}),
        ("slow", (Callback("tick"), 1000), {"slow": "later"}),
        ("slow", (Callback("tick"), 1000), {"slow": None}),
    ],
)
def test_an_option_that_cannot_be_right_is_a_configuration_error_that_says_what_to_do(option, arguments, options):
    with pytest.raises(ConfigurationError) as raised:
        Broadcaster(make_auth(), *arguments, **options)
    value = options.get(option, arguments[["callback", "interval_ms", None].index(option)] if not options else None)
    assert str(raised.value).startswith(f"Broadcaster({option}={value!r}): must be ")
    assert isinstance(raised.value, ValueError)


@pytest.mark.gen_test
@pytest.mark.parametrize("slow", ["close", "drop", "latest"])
async def test_what_becomes_of_slow_readers_is_what_the_broadcaster_was_told(serve, login, monkeypatch, slow):
    # A32
    told: list[str] = []
    server = serve()
    await login(server)
    broadcast = server.auth.connections.broadcast
    monkeypatch.setattr(
        server.auth.connections, "broadcast", lambda *args, **kw: (told.append(kw["slow"]), broadcast(*args, **kw))
    )
    broadcaster = Broadcaster(server.auth, Callback("tick"), INTERVAL_MS, slow=slow)
    broadcaster.start()
    await until(lambda: bool(told))
    broadcaster.stop()
    assert set(told) == {slow}
