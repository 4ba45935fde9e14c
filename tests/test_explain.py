"""``?explain=1``: a user can ask why their last connection came to nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.handshakes import ask
from tests.support import Echo, ManualClock, http, jwt_message, make_auth, make_jwt, until
from tests.token_routes import bearer
from tornado_wsauth import MemoryTokenStore


async def explained(server: Any, user: str = "alice", query: str = "?explain=1") -> Any:
    response = await http(server, "/ws/token" + query, Authorization=bearer(user))
    assert response.status == 200, response
    return response.json()


async def why(server: Any, user: str = "alice") -> Any:
    answer = await explained(server, user)
    assert set(answer) == {"token", "expires_in", "last_failure"}
    return answer["last_failure"]


def start(serve: Any, handler: Any = Echo, **options: Any) -> Any:
    clock = ManualClock()
    options.setdefault("max_tokens_per_user", 50)
    tokens = MemoryTokenStore(clock=clock.time)
    return serve(handler, make_auth(clock=clock, tokens=tokens, **options)), clock


async def fail(server: Any, clock: ManualClock, connect: Any, reason: str) -> None:
    """Let a connection of alice's fail for ``reason``."""
    path = f"/ws?token={await server.auth.issue_token('alice')}"
    if reason == "token_expired":
        clock.advance(31)
        assert (await ask(server, path)).status == 401
        return
    if reason == "token_replayed":
        await server.auth.redeem_token(path.partition("=")[2])
        assert (await ask(server, path)).status == 401
        return
    if reason == "too_many_connections":
        await connect(server)
        assert (await ask(server, path)).status == 429
        return
    client, _ = await connect(server, path=path)
    messages = {
        "user_mismatch": jwt_message(make_jwt("bob")),
        "jwt_expired": jwt_message(make_jwt("alice", expires_in=-60)),
        "jwt_invalid": jwt_message(make_jwt("alice", secret="x" * 40)),
        "bad_message": "{}",
        "forbidden": jwt_message(make_jwt("alice", banned=True)),
    }
    if reason == "auth_timeout":
        clock.advance(10)
    else:
        client.send_text(messages[reason])
    await client.read_close()


class Picky(Echo):
    def load_auth_user(self, claims):
        return None if "banned" in claims else claims["sub"]


REASONS = [
    "token_expired", "token_replayed", "too_many_connections", "user_mismatch", "jwt_expired", "jwt_invalid",
    "bad_message", "forbidden", "auth_timeout",
]  # fmt: skip


@pytest.mark.gen_test
@pytest.mark.parametrize("reason", REASONS)
async def test_the_reason_is_told_to_the_user_whose_connection_it_was_and_to_nobody_else(
    serve, connect, logged, reason
):
    # A39
    server, clock = start(serve, Picky, max_connections_per_user=1 if reason == "too_many_connections" else None)
    assert await why(server) is None
    await fail(server, clock, connect, reason)
    assert logged.records[-1].reason == reason
    assert await why(server) == reason
    assert await why(server) == reason, "asking does not forget"
    assert await why(server, "bob") is None


@pytest.mark.gen_test
@pytest.mark.parametrize("query", ["", "?explain=0", "?explain=", "?explain"])
async def test_who_does_not_ask_is_not_told(serve, connect, query):
    server, clock = start(serve)
    await fail(server, clock, connect, "bad_message")
    assert set(await explained(server, query=query)) == {"token", "expires_in"}


@pytest.mark.gen_test
async def test_an_accepted_connection_makes_it_forgotten_and_an_upgrade_alone_does_not(serve, connect, login):
    server, clock = start(serve)
    await fail(server, clock, connect, "bad_message")
    await connect(server)
    assert await why(server) == "bad_message"
    await login(server, "bob")
    assert await why(server) == "bad_message"
    await login(server)
    assert await why(server) is None


@pytest.mark.gen_test
async def test_it_is_forgotten_after_600_seconds(serve, connect):
    server, clock = start(serve)
    await fail(server, clock, connect, "bad_message")
    clock.advance(599)
    response = await http(server, "/ws/token?explain=1", Authorization=bearer(expires_in=9999))
    assert response.json()["last_failure"] == "bad_message"
    clock.advance(2)
    response = await http(server, "/ws/token?explain=1", Authorization=bearer(expires_in=9999))
    assert response.json()["last_failure"] is None


@pytest.mark.gen_test
async def test_the_last_of_several_failures_is_told(serve, connect):
    server, clock = start(serve)
    for reason in ("bad_message", "token_expired", "user_mismatch", "token_replayed"):
        await fail(server, clock, connect, reason)
    assert await why(server) == "token_replayed"


@pytest.mark.gen_test
@pytest.mark.parametrize("path", ["/ws", "/ws?token=short", f"/ws?token={'A' * 43}"])
async def test_a_refusal_of_nobody_in_particular_is_nobodys_failure(serve, path):
    server, _ = start(serve)
    assert (await ask(server, path)).status == 401
    assert await why(server) is None
    assert len(server.auth.failures) == 0


@pytest.mark.gen_test
async def test_a_live_connection_that_is_closed_is_not_a_refused_one(serve, login):
    server, _ = start(serve, message_rate=(1, 100))
    client = await login(server)
    client.send_text("1")
    assert (await client.read_frame())[1] == b"1"
    client.send_text("2")
    assert (await client.read_close())[0] == 4429
    await until(lambda: len(server.auth.connections) == 0)
    await asyncio.sleep(0)
    assert await why(server) is None
