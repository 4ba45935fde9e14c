"""The deadline of the first message."""

from __future__ import annotations

import asyncio

import pytest

from tests.first_messages import CONTINUATION, HangingVerifier, held_jwt
from tests.support import (
    PING,
    PONG,
    TEXT,
    Echo,
    ManualClock,
    RawClient,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    nothing_is_left,
    settle,
    until,
)
from tornado_wsauth import MemoryTokenStore, WSAuth


async def be_silent(client: RawClient, second: int) -> None:
    pass


async def send_one_byte(client: RawClient, second: int) -> None:
    client.send(frame(jwt_message(make_jwt()).encode())[second : second + 1])


async def send_an_empty_fragment(client: RawClient, second: int) -> None:
    client.send(frame(b"", CONTINUATION if second else TEXT, fin=False))


async def ping(client: RawClient, second: int) -> None:
    client.send(frame(b"x", PING))
    assert await client.read_frame() == (PONG, b"x")


async def pong(client: RawClient, second: int) -> None:
    client.send(frame(b"x", PONG))


@pytest.mark.gen_test
@pytest.mark.parametrize("behave", [be_silent, send_one_byte, send_an_empty_fragment, ping, pong])
async def test_whatever_it_sends_a_client_without_a_jwt_is_closed_at_the_same_moment(serve, connect, behave):
    # A15
    class Chat(Echo):
        pass

    clock = ManualClock()
    server = serve(Chat, auth=make_auth(clock=clock, auth_timeout=10))
    client, _ = await connect(server)
    for second in range(10):
        await behave(client, second)
        await settle()
        clock.advance(1 if second < 9 else 0.99)
    await settle()
    assert len(server.auth.pending) == 1
    clock.advance(0.01)
    assert await client.read_close() == (4408, "auth_timeout")
    await nothing_is_left(server)
    assert Chat.events == []
    assert clock.timers == []


@pytest.mark.gen_test
async def test_the_deadline_counts_from_the_101_and_not_from_the_request(serve, connect):
    # A15
    asked, answer = asyncio.Event(), asyncio.Event()

    class SlowStore(MemoryTokenStore):
        async def redeem(self, token, *, consume=True):
            asked.set()
            await answer.wait()
            return await super().redeem(token, consume=consume)

    clock = ManualClock()
    server = serve(auth=make_auth(clock=clock, auth_timeout=10, tokens=SlowStore()))
    connecting = asyncio.ensure_future(connect(server))
    await asked.wait()
    clock.advance(8)
    answer.set()
    client, response = await connecting
    assert response.status == 101
    clock.advance(9.99)
    client.send_text(jwt_message(make_jwt()))
    assert (await client.read_json())["type"] == "auth_ok"


@pytest.mark.gen_test
async def test_the_deadline_is_forgotten_once_the_client_is_authenticated(serve, login):
    # A15
    clock = ManualClock()
    server = serve(auth=make_auth(clock=clock, auth_timeout=10))
    client = await login(server)
    clock.advance(11)
    client.send_text("hello")
    assert (await client.read_frame())[1] == b"hello"


@pytest.mark.gen_test
async def test_the_deadline_ends_a_verifier_that_hangs(serve, connect):
    # A15
    class Chat(Echo):
        pass

    clock = ManualClock()
    verifier = HangingVerifier()
    server = serve(Chat, auth=WSAuth(verifier, clock=clock, auth_timeout=10))
    client, _ = await connect(server)
    clock.advance(5)
    client.send(frame(jwt_message(held_jwt(verifier)).encode()) + frame(b"hello"))
    await verifier.entered.wait()
    clock.advance(4.99)
    await settle()
    assert not verifier.cancelled
    clock.advance(0.01)
    assert await client.read_close() == (4408, "auth_timeout")
    await until(lambda: verifier.cancelled)
    await nothing_is_left(server)
    verifier.release.set()
    await settle()
    assert Chat.events == []


@pytest.mark.gen_test
@pytest.mark.parametrize("stubborn", [False, True], ids=["cancelled", "ignores its cancellation"])
@pytest.mark.parametrize("answer", ["alice", None])
async def test_the_deadline_ends_a_load_auth_user_that_hangs(serve, connect, stubborn, answer):
    # A15
    loading, release, cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Chat(Echo):
        async def load_auth_user(self, claims):
            loading.set()
            try:
                await release.wait()
            except asyncio.CancelledError:
                cancelled.set()
                if not stubborn:
                    raise
            return answer

        def on_auth_failed(self, reason):
            self.events.append(reason)

    clock = ManualClock()
    server = serve(Chat, auth=make_auth(clock=clock))
    client, _ = await connect(server)
    client.send_text(jwt_message(make_jwt()))
    await loading.wait()
    clock.advance(10)
    assert await client.read_close() == (4408, "auth_timeout")
    await cancelled.wait()
    await nothing_is_left(server)
    await settle()
    assert Chat.events == ["auth_timeout"]
    assert len(server.auth.connections) == 0


@pytest.mark.gen_test
async def test_closing_wsauth_ends_a_verifier_that_hangs(serve, connect):
    # A27
    class Chat(Echo):
        pass

    verifier = HangingVerifier()
    server = serve(Chat, auth=WSAuth(verifier))
    client, _ = await connect(server)
    client.send(frame(jwt_message(held_jwt(verifier)).encode()) + frame(b"hello"))
    await verifier.entered.wait()
    await server.auth.close(grace=0)
    assert (await client.read_close())[0] == 1012
    await until(lambda: verifier.cancelled)
    await nothing_is_left(server)
    await settle()
    assert Chat.events == []
