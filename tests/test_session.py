"""What a handler knows about its connection, and what it may do with it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from tornado.ioloop import PeriodicCallback
from tornado.websocket import WebSocketClosedError

from tests.support import CLOSE, INTERVAL_MS, Echo, Server, frame, jwt_message, make_jwt, ticks, until
from tornado_wsauth import AuthSession, FanOut


async def session_of(server: Server, login: Any, user: str = "alice") -> tuple[Any, AuthSession]:
    """Log one client in; return it and its connection's session."""
    client = await login(server, user)
    return client, list(server.auth.connections)[-1].auth_session


async def leave(server: Server, client: Any) -> None:
    client.abort()
    await until(lambda: len(server.auth.connections) == 0)


# --- who -------------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_session_says_who_until_when_and_on_which_grounds(serve, connect):
    server = serve()
    client, _ = await connect(server)
    client.send_text(jwt_message(make_jwt("alice", exp=99999999999, role="admin")))
    auth_ok = await client.read_json()
    (handler,) = server.auth.connections
    session = handler.auth_session
    assert isinstance(session, AuthSession)
    assert session.user_id == auth_ok["user_id"] == "alice"
    assert session.expires_at == auth_ok["expires_at"] == 99999999999
    assert dict(session.claims) == {"sub": "alice", "exp": 99999999999, "role": "admin"}
    assert session.handler is handler
    assert session.groups == frozenset()


@pytest.mark.gen_test
async def test_the_session_id_is_the_sid_claim(serve, connect):
    server = serve()
    for _ in range(2):
        client, _ = await connect(server)
        client.send_text(jwt_message(make_jwt("alice", sid="login 7")))
        await client.read_json()
    assert [handler.auth_session.session_id for handler in server.auth.connections] == ["login 7", "login 7"]


@pytest.mark.gen_test
@pytest.mark.parametrize("sid", [None, "", 7, ["a"], {"a": 1}, True])
async def test_without_a_usable_sid_claim_each_connection_gets_an_id_of_its_own(serve, connect, sid):
    server = serve()
    for _ in range(3):
        client, _ = await connect(server)
        client.send_text(jwt_message(make_jwt("alice", sid=sid)))
        assert (await client.read_json())["type"] == "auth_ok"
    ids = [handler.auth_session.session_id for handler in server.auth.connections]
    assert len(set(ids)) == 3
    assert all(isinstance(session_id, str) and len(session_id) >= 16 for session_id in ids)


@pytest.mark.gen_test
async def test_there_is_no_session_before_the_jwt_was_accepted(serve, connect):
    asked: list[str] = []

    class Chat(Echo):
        async def prepare(self) -> None:
            await super().prepare()
            self.ask()

        def load_auth_user(self, claims: dict[str, Any]) -> Any:
            self.ask()
            return "alice"

        def ask(self) -> None:
            with pytest.raises(RuntimeError, match="auth_session"):
                _ = self.auth_session
            asked.append("asked")

    client, _ = await connect(serve(Chat))
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_json())["type"] == "auth_ok"
    assert asked == ["asked", "asked"]


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["client", "server"])
async def test_a_session_is_still_readable_in_on_close(serve, login, how):
    class Chat(Echo):
        def open(self, *args: str, **kwargs: str) -> None:
            self.auth_session.join("red")

        def on_close(self) -> None:
            session = self.auth_session
            self.events.append((session.user_id, session.claims["sub"], session.groups, session.expires_at > 0))

    server = serve(Chat)
    client = await login(server)
    if how == "client":
        client.send(frame(b"\x03\xe8", CLOSE))
    else:
        await server.auth.close(grace=0)
    await client.read_close()
    await client.close()
    await until(lambda: bool(Chat.events))
    assert Chat.events == [("alice", "alice", frozenset(), True)]


# --- groups ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_joining_and_leaving_decide_what_is_received(serve, login):
    server = serve()
    client, session = await session_of(server, login)
    connections = server.auth.connections
    assert connections.broadcast("before", group="red") == FanOut(0, 0, 0)
    session.join("red")
    session.join("red")
    session.join("blue")
    assert session.groups == {"red", "blue"}
    assert connections.count("red") == 1
    assert connections.broadcast("joined", group="red") == FanOut(1, 0, 0)
    session.leave("red")
    session.leave("red")
    session.leave("never joined")
    assert session.groups == {"blue"}
    assert connections.broadcast("left", group="red") == FanOut(0, 0, 0)
    assert connections.broadcast("end", group="blue") == FanOut(1, 0, 0)
    assert [(await client.read_frame())[1] for _ in range(2)] == [b"joined", b"end"]


@pytest.mark.gen_test
async def test_one_connection_that_leaves_a_group_leaves_the_others_in_it(serve, login):
    server = serve()
    _, alice = await session_of(server, login, "alice")
    client, bob = await session_of(server, login, "bob")
    alice.join("red")
    bob.join("red")
    alice.leave("red")
    assert server.auth.connections.broadcast("hello", group="red") == FanOut(1, 0, 0)
    assert (await client.read_frame())[1] == b"hello"


@pytest.mark.gen_test
async def test_the_groups_that_are_handed_out_cannot_be_used_to_join(serve, login):
    server = serve()
    _, session = await session_of(server, login)
    session.join("red")
    groups = session.groups
    session.join("blue")
    assert groups == {"red"}
    with pytest.raises(AttributeError):
        groups.add("green")  # type: ignore[attr-defined]


@pytest.mark.gen_test
async def test_closing_leaves_every_group(serve, login):
    server = serve()
    client, session = await session_of(server, login)
    session.join("red")
    session.join("blue")
    await leave(server, client)
    assert session.groups == frozenset()
    assert [server.auth.connections.count(group) for group in ("red", "blue")] == [0, 0]


@pytest.mark.gen_test
async def test_joining_a_group_after_the_close_does_nothing(serve, login):  # A31
    server = serve()
    client, session = await session_of(server, login)
    await leave(server, client)
    session.join("red")
    assert session.groups == frozenset()
    assert server.auth.connections.count("red") == 0
    assert server.auth.connections.broadcast("hello", group="red") == FanOut(0, 0, 0)
    session.leave("red")


@pytest.mark.gen_test
async def test_joining_a_group_after_we_decided_to_close_does_nothing(serve, login):  # A31
    server = serve()
    _, session = await session_of(server, login)
    session.join("blue")
    await server.auth.close(grace=0)
    session.join("red")
    assert session.groups == frozenset()
    assert [server.auth.connections.count(group) for group in ("red", "blue")] == [0, 0]


# --- call_every ------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_each_client_gets_its_own_numbered_messages(serve, login):
    class Chat(Echo):
        def open(self, *args: str, **kwargs: str) -> None:
            self.number = 0
            self.auth_session.call_every(self.tick, INTERVAL_MS)

        def tick(self) -> None:
            self.number += 1
            self.write_message(f"{self.auth_session.user_id} {self.number}")

    server = serve(Chat)
    for user in ("alice", "bob"):
        client = await login(server, user)
        assert [(await client.read_frame())[1] for _ in range(3)] == [f"{user} {n}".encode() for n in (1, 2, 3)]


@pytest.mark.gen_test
async def test_an_async_callback_is_awaited(serve, login):
    server = serve()
    _, session = await session_of(server, login)
    done = []

    async def tick() -> None:
        await asyncio.sleep(0)
        done.append("done")

    ticker = session.call_every(tick, INTERVAL_MS)
    assert isinstance(ticker, PeriodicCallback)
    assert ticker.is_running()
    assert done == [], "the first call comes one interval from now"
    await until(lambda: len(done) >= 3)


@pytest.mark.gen_test
async def test_a_callback_never_overlaps_itself(serve, login):
    server = serve()
    _, session = await session_of(server, login)
    running, most, calls = 0, 0, 0

    async def tick() -> None:
        nonlocal running, most, calls
        running += 1
        calls += 1
        most = max(most, running)
        await ticks(3)
        running -= 1

    session.call_every(tick, INTERVAL_MS)
    await until(lambda: calls >= 4)
    assert most == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("is_async", [False, True])
async def test_an_exception_is_logged_and_the_next_call_is_made_all_the_same(serve, login, caplog, is_async):
    server = serve()
    client, session = await session_of(server, login)
    calls = 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        raise ZeroDivisionError(f"call {calls}")

    async def fail_later() -> None:
        await asyncio.sleep(0)
        fail()

    ticker = session.call_every(fail_later if is_async else fail, INTERVAL_MS)
    await until(lambda: calls >= 3)
    ticker.stop()
    errors = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert errors[:2] == ["call 1", "call 2"]
    client.send_text("still there")
    assert (await client.read_frame())[1] == b"still there"


@pytest.mark.gen_test
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_websocket_closed_error_ends_the_calls_in_silence(serve, login, caplog, is_async):
    caplog.set_level(logging.DEBUG)
    server = serve()
    _, session = await session_of(server, login)
    calls = 0

    def gone() -> None:
        nonlocal calls
        calls += 1
        raise WebSocketClosedError

    async def gone_later() -> None:
        await asyncio.sleep(0)
        gone()

    ticker = session.call_every(gone_later if is_async else gone, INTERVAL_MS)
    await until(lambda: calls == 1)
    await ticks(4)
    assert calls == 1
    assert not ticker.is_running()
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["client", "server", "handler"])
async def test_the_calls_end_with_the_connection(serve, login, how):
    server = serve()
    client, session = await session_of(server, login)
    calls = [0, 0]

    def count(index: int) -> None:
        calls[index] += 1

    tickers = [session.call_every(lambda n=n: count(n), INTERVAL_MS) for n in (0, 1)]
    await until(lambda: min(calls) >= 1)
    if how == "client":
        client.abort()
    elif how == "server":
        await server.auth.close(grace=0)  # the client has not answered yet: it is over all the same
    else:
        session.handler.close()
        assert (await client.read_frame())[0] == CLOSE
        await client.close()
    await until(lambda: len(server.auth.connections) == 0)
    assert [ticker.is_running() for ticker in tickers] == [False, False]
    before = list(calls)
    await ticks(4)
    assert calls == before


@pytest.mark.gen_test
async def test_a_callback_that_runs_when_the_connection_ends_is_not_called_again(serve, login):
    server = serve()
    client, session = await session_of(server, login)
    entered, go_on = asyncio.Event(), asyncio.Event()
    calls = 0

    async def tick() -> None:
        nonlocal calls
        calls += 1
        entered.set()
        await go_on.wait()

    ticker = session.call_every(tick, INTERVAL_MS)
    await entered.wait()
    await leave(server, client)
    go_on.set()
    await ticks(4)
    assert calls == 1
    assert not ticker.is_running()


@pytest.mark.gen_test
async def test_stopping_one_ticker_leaves_the_others_running(serve, login):
    server = serve()
    _, session = await session_of(server, login)
    calls = {"one": 0, "two": 0}

    def count(name: str) -> None:
        calls[name] += 1

    one = session.call_every(lambda: count("one"), INTERVAL_MS)
    session.call_every(lambda: count("two"), INTERVAL_MS)
    await until(lambda: min(calls.values()) >= 1)
    one.stop()
    stopped_at, went_on_from = calls["one"], calls["two"]
    await until(lambda: calls["two"] >= went_on_from + 3)
    assert calls["one"] == stopped_at


@pytest.mark.gen_test
async def test_call_every_after_the_close_calls_nothing(serve, login):
    server = serve()
    client, session = await session_of(server, login)
    await leave(server, client)
    calls = []
    ticker = session.call_every(lambda: calls.append(1), INTERVAL_MS)
    await ticks(4)
    assert (calls, ticker.is_running()) == ([], False)


@pytest.mark.gen_test
@pytest.mark.parametrize("interval_ms", [0, -1, -0.5, float("nan")])
async def test_an_interval_that_is_not_positive_is_a_value_error(serve, login, interval_ms):
    server = serve()
    _, session = await session_of(server, login)
    with pytest.raises(ValueError):  # noqa: PT011
        session.call_every(lambda: None, interval_ms)
