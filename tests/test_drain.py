"""``auth.close()``: nobody new, everybody told, in batches, and over when the grace is."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from tests.handshakes import ask
from tests.support import CLOSE, TEXT, Echo, ManualClock, RawClient, frame, http, make_auth, settle, until
from tests.token_routes import bearer
from tornado_wsauth import drain


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def start(serve: Any, clock: ManualClock, monkeypatch: Any) -> Any:
    monkeypatch.setattr(drain, "BATCH", 2)

    def start_one(**options: Any) -> Any:
        class Chat(Echo):
            pass

        return serve(Chat, make_auth(clock=clock, **options)), Chat

    return start_one


async def run(closing: asyncio.Future[Any], clock: ManualClock, seconds: float, step: float = 0.05) -> bool:
    """Let ``seconds`` pass, or fewer if ``closing`` is done before; say whether it is."""
    until_ = clock.now + seconds
    await settle()
    while not closing.done() and clock.now < until_ - 1e-6:
        clock.advance(min(step, until_ - clock.now))
        await asyncio.sleep(0.001)
        await settle()
    return closing.done()


def nobody(server: Any) -> bool:
    return len(server.auth.connections) == len(server.auth.pending) == len(server.auth.ending) == 0


async def answering(client: RawClient) -> tuple[int, str]:
    code, reason = await client.read_close()
    client.send(frame(code.to_bytes(2, "big"), CLOSE))
    assert await client.at_eof()
    await client.close()
    return code, reason


@pytest.mark.gen_test
@pytest.mark.parametrize(("restart", "expected"), [(True, (1012, "restart")), (False, (1001, "shutdown"))])
async def test_the_waiting_and_the_open_are_told_and_it_returns_when_all_have_answered(
    start, connect, login, clock, restart, expected, logged
):
    # A27, A39
    server, chat = start()
    waiting, _ = await connect(server, "bob")
    inside = await login(server)
    closing = asyncio.ensure_future(server.auth.close(grace=10, restart=restart))
    answers = [asyncio.ensure_future(answering(client)) for client in (waiting, inside)]
    began = clock.now
    assert await run(closing, clock, 10)
    assert clock.now - began < 5
    assert [await answer for answer in answers] == [expected, expected]
    assert nobody(server)
    assert chat.events == ["open", "close"]
    assert sorted(logged.events[1:]) == [
        ("closed", expected[1], "alice", expected[0]),
        ("refused", expected[1], "bob", expected[0]),
    ]


@pytest.mark.gen_test
async def test_while_it_runs_and_afterwards_there_is_neither_upgrade_nor_token(start, login, clock):
    # A27
    server, _ = start()
    path = f"/ws?token={await server.auth.issue_token('alice')}"
    await login(server)
    closing = asyncio.ensure_future(server.auth.close(grace=10))
    await settle()
    for _ in range(2):
        for answer in (await ask(server, path), await http(server, Authorization=bearer())):
            assert (answer.status, answer.json()) == (503, {"error": "closing"})
            assert int(answer.headers["retry-after"]) >= 1
        await run(closing, clock, 10.1, step=0.5)
    assert closing.done()
    assert await server.auth.redeem_token(path.partition("=")[2]), "the token was not spent"


@pytest.mark.gen_test
async def test_the_open_go_in_batches_over_the_first_half_and_the_others_hear_broadcasts(start, login, clock):
    # A27, A31
    server, _ = start()
    clients = [await login(server, f"user {number}") for number in range(8)]
    closing = asyncio.ensure_future(server.auth.close(grace=100))
    await settle()
    left = [len(server.auth.connections)]
    began = clock.now
    times = [0.0]
    while left[-1]:
        assert server.auth.connections.broadcast("news").sent == left[-1]
        clock.advance(0.5)
        await settle()
        if len(server.auth.connections) != left[-1]:
            left.append(len(server.auth.connections))
            times.append(clock.now - began)
    assert left == [6, 4, 2, 0], "in batches of two, the first at once"
    assert all(6 <= later - earlier <= 19.5 for earlier, later in itertools.pairwise(times))
    for client in clients:
        client.send(frame(b"\x03\xf4", CLOSE))
    assert await run(closing, clock, 1)
    assert nobody(server)


@pytest.mark.gen_test
@pytest.mark.parametrize("luck", [0.5, 1.0, 1.5])
async def test_the_last_batch_is_told_within_the_first_half_whatever_the_luck(start, login, clock, monkeypatch, luck):
    # A27
    monkeypatch.setattr(drain.random, "uniform", lambda low, high: low + (luck - 0.5) * (high - low))
    server, _ = start()
    for number in range(20):
        await login(server, f"user {number}")
    closing = asyncio.ensure_future(server.auth.close(grace=100))
    await run(closing, clock, 50.1, step=0.5)
    assert len(server.auth.connections) == 0
    await run(closing, clock, 50, step=5)


@pytest.mark.gen_test
async def test_the_order_is_left_to_chance(start, login, clock, monkeypatch):
    # A27
    asked = []
    sample = drain.random.sample
    monkeypatch.setattr(drain.random, "sample", lambda *args: asked.append(args) or [*reversed(args[0])])
    server, _ = start()
    first = await login(server, "first")
    for number in range(3):
        await login(server, f"user {number}")
    closing = asyncio.ensure_future(server.auth.close(grace=10))
    await settle()
    assert len(asked) == 1
    assert sample is not None
    assert {handler.auth_session.user_id for handler in server.auth.connections} == {"first", "user 0"}
    first.send_text("still there")
    assert await first.read_frame() == (TEXT, b"still there")
    await run(closing, clock, 10.1, step=0.5)


@pytest.mark.gen_test
async def test_clients_that_never_answer_are_cut_off_when_the_grace_is_over(start, connect, login, clock):
    # A27
    server, chat = start()
    clients = [await login(server, f"user {number}") for number in range(5)]
    waiting, _ = await connect(server)
    closing = asyncio.ensure_future(server.auth.close(grace=4))
    assert not await run(closing, clock, 3.9, step=0.1)
    assert len(server.auth.ending) == 6
    assert await run(closing, clock, 0.3)
    assert nobody(server)
    await until(lambda: chat.events.count("close") == 5)
    assert chat.events.count("open") == 5
    for client in (*clients, waiting):
        assert (await client.read_close())[0] == 1012
        assert await client.at_eof()


@pytest.mark.gen_test
async def test_no_grace_closes_all_and_waits_for_nobody(start, connect, login, clock):
    # A27
    server, _ = start()
    clients = [await login(server, f"user {number}") for number in range(5)]
    clients.append((await connect(server))[0])
    async with asyncio.timeout(1):
        await server.auth.close(grace=0)
    assert len(server.auth.connections) == len(server.auth.pending) == 0
    for client in clients:
        assert await client.read_close() == (1012, "restart")


@pytest.mark.gen_test
async def test_nobody_to_close_is_nothing_to_wait_for(start):
    # A27
    server, _ = start()
    async with asyncio.timeout(1):
        await server.auth.close(grace=600)
    assert server.auth.closing


@pytest.mark.gen_test
async def test_a_second_call_with_a_shorter_grace_ends_both(start, login, clock):
    # A27
    server, chat = start()
    for number in range(6):
        await login(server, f"user {number}")
    first = asyncio.ensure_future(server.auth.close(grace=1000))
    await settle()
    second = asyncio.ensure_future(server.auth.close(grace=2))
    assert await run(second, clock, 2.1)
    assert nobody(server)
    await until(lambda: chat.events.count("close") == 6)
    assert await run(first, clock, 1), "there is nobody left to wait for"


@pytest.mark.gen_test
async def test_it_returns_as_soon_as_nobody_is_left_even_between_two_batches(start, login, clock):
    # A27
    server, _ = start()
    clients = [await login(server, f"user {number}") for number in range(6)]
    closing = asyncio.ensure_future(server.auth.close(grace=1000))
    await settle()
    for client in clients:
        await client.close()
    await until(lambda: nobody(server))
    assert await run(closing, clock, 1)


@pytest.mark.gen_test
async def test_a_broadcast_before_it_arrives_before_the_close_frame(start, login, clock):
    # A27, A33
    server, _ = start()
    clients = [await login(server, f"user {number}") for number in range(4)]
    server.auth.connections.broadcast("last words")
    for handler in server.auth.connections:
        handler.write_message("goodbye")
    closing = asyncio.ensure_future(server.auth.close(grace=10))
    await run(closing, clock, 5, step=0.5)
    for client in clients:
        assert [await client.read_frame() for _ in range(2)] == [(TEXT, b"last words"), (TEXT, b"goodbye")]
        assert await answering(client) == (1012, "restart")
    assert await run(closing, clock, 1)


@pytest.mark.gen_test
async def test_a_connection_that_the_application_is_closing_is_waited_for_and_cut_off_too(start, login, clock):
    # A27
    server, chat = start()
    client = await login(server)
    (handler,) = server.auth.connections
    handler.close(4321, "bye")
    closing = asyncio.ensure_future(server.auth.close(grace=2))
    await run(closing, clock, 2.1)
    assert closing.done()
    assert nobody(server)
    assert await client.read_close() == (4321, "bye")
    assert await client.at_eof()
    await until(lambda: chat.events == ["open", "close"])
