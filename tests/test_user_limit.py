"""How many connections one user may have: the next one is refused, or the oldest makes room."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.handshakes import SpyStore, ask
from tests.support import (
    CLOSE,
    TEXT,
    AppError,
    Echo,
    ManualClock,
    RawClient,
    Server,
    errors,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    nothing_is_left,
    until,
)
from tornado_wsauth import MemoryTokenStore, TokenStoreError, WSAuth


def limited(limit: int = 1, **options: Any) -> WSAuth:
    options.setdefault("max_tokens_per_user", 100)
    return make_auth(max_connections_per_user=limit, **options)


async def paths(server: Server, number: int, user: str = "alice") -> list[str]:
    assert server.auth is not None
    return [f"/ws?token={await server.auth.issue_token(user)}" for _ in range(number)]


async def goodbye(client: RawClient) -> None:
    client.send(frame(b"\x03\xe8", CLOSE))
    assert (await client.read_close())[0] == 1000
    await client.close()


class Slow(MemoryTokenStore):
    """A store that takes some turns of the loop for each answer, and then the clients come in any order."""

    async def redeem(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0.005)
        record = await super().redeem(*args, **kwargs)
        await asyncio.sleep(0.005)
        return record


# --- refuse ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_one_connection_too_many_is_a_429_and_its_token_works_once_there_is_a_place(serve, login, logged):
    # A26, A39
    server = serve(auth=limited(2))
    first, _ = await login(server), await login(server)
    (path,) = await paths(server, 1)
    for _ in range(2):
        refused = await ask(server, path)
        assert (refused.status, refused.json()) == (429, {"error": "too_many_connections"})
        assert int(refused.headers["retry-after"]) >= 1
    record = logged.records[-1]
    assert (record.event, record.user_id, record.code) == ("refused", "alice", 429)
    await goodbye(first)
    await until(lambda: len(server.auth.connections) == 1)
    assert (await ask(server, path)).status == 101


@pytest.mark.gen_test
async def test_other_users_are_not_concerned_by_one_users_limit(serve, login):
    # A26
    server = serve(auth=limited(1))
    await login(server, "alice")
    await login(server, "bob")
    for user in ("alice", "bob"):
        (path,) = await paths(server, 1, user)
        assert (await ask(server, path)).status == 429
    (path,) = await paths(server, 1, "alice2")
    assert (await ask(server, path)).status == 101


@pytest.mark.gen_test
async def test_a_connection_that_has_not_sent_its_jwt_counts(serve, connect):
    # A26
    server = serve(auth=limited(1))
    waiting, _ = await connect(server)
    (path,) = await paths(server, 1)
    assert (await ask(server, path)).status == 429
    waiting.send_text(jwt_message(make_jwt("alice")))
    assert (await waiting.read_json())["type"] == "auth_ok"
    assert (await ask(server, path)).status == 429


@pytest.mark.gen_test
async def test_a_handshake_that_is_not_answered_yet_counts(serve, connect):
    # A26
    release, waits = asyncio.Event(), asyncio.Event()

    class Chat(Echo):
        async def prepare(self):
            await super().prepare()
            waits.set()
            await release.wait()

    server = serve(Chat, limited(1))
    first = asyncio.ensure_future(connect(server))
    await waits.wait()
    (path,) = await paths(server, 1)
    refused = await ask(server, path)
    release.set()
    assert (await first)[1].status == 101
    assert refused.status == 429


@pytest.mark.gen_test
@pytest.mark.parametrize("store", [MemoryTokenStore, Slow, SpyStore])
@pytest.mark.parametrize("over_limit", ["refuse", "evict_oldest"])
async def test_a_race_of_upgrades_never_gets_past_the_limit(serve, connect, store, over_limit):
    # A26
    server = serve(auth=limited(3, tokens=store(), over_limit=over_limit))
    answers = await asyncio.gather(*(connect(server, path=path) for path in await paths(server, 20)))
    upgraded = [client for client, response in answers if response.status == 101]
    most = 0
    for client in upgraded:
        client.send_text(jwt_message(make_jwt("alice")))

    async def answer(client: RawClient) -> int:
        nonlocal most
        opcode, _payload = await client.read_frame()
        most = max(most, len(server.auth.connections))
        return opcode

    opcodes = await asyncio.gather(*(answer(client) for client in upgraded))
    await until(lambda: len(server.auth.pending) == 0)
    assert most == 3
    assert len(server.auth.connections) == 3
    if over_limit == "refuse":
        assert sorted(response.status for _, response in answers) == [101] * 3 + [429] * 17
        assert opcodes == [TEXT] * 3


@pytest.mark.gen_test
@pytest.mark.parametrize("single_use", [True, False])
async def test_a_refused_upgrade_of_a_race_leaves_its_token_good_for_one_connection(serve, connect, single_use):
    # A26
    server = serve(auth=limited(1, tokens=Slow(), single_use=single_use))
    racing = await paths(server, 6)
    answers = await asyncio.gather(*(connect(server, path=path) for path in racing))
    ((index, (client, _)),) = [(i, answer) for i, answer in enumerate(answers) if answer[1].status == 101]
    await client.close()
    del racing[index]
    for path in racing:
        await nothing_is_left(server)
        assert (await ask(server, path)).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "how", ["client says goodbye", "client resets", "jwt expires", "disconnect_user", "application closes"]
)
async def test_a_place_is_free_again_when_the_connection_is_over(serve, login, how):
    # A26
    class Chat(Echo):
        def on_message(self, message):
            self.close(4321)

    clock = ManualClock()
    server = serve(Chat, limited(1, clock=clock))
    client = await login(server)
    if how == "client says goodbye":
        await goodbye(client)
    elif how == "client resets":
        client.abort()
    elif how == "jwt expires":
        clock.advance(601)
    elif how == "disconnect_user":
        assert await server.auth.disconnect_user("alice") == 1
    else:
        client.send_text("close, please")
        assert (await client.read_close())[0] == 4321
        client.send(frame(b"\x10\xe1", CLOSE))
    await until(lambda: len(server.auth.connections) == 0)
    (path,) = await paths(server, 1)
    assert (await ask(server, path)).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["resets", "bad jwt", "never sends its jwt", "turned away", "open fails"])
async def test_a_place_is_free_again_when_authentication_fails(serve, connect, how):
    # A26, A10
    class Chat(Echo):
        def load_auth_user(self, claims):
            return None if how == "turned away" else "alice"

        def open(self):
            raise AppError("x")

    clock = ManualClock()
    server = serve(Chat, limited(1, clock=clock))
    client, _ = await connect(server)
    if how == "resets":
        client.abort()
    elif how == "never sends its jwt":
        clock.advance(10)
    else:
        jwt = make_jwt("alice", secret="x" * 40) if how == "bad jwt" else make_jwt("alice")
        client.send_text(jwt_message(jwt))
    await until(lambda: len(server.auth.pending) == len(server.auth.connections) == 0)
    (path,) = await paths(server, 1)
    assert (await ask(server, path)).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["leaves", "store fails", "a bug"])
async def test_a_place_is_free_again_when_the_handshake_comes_to_nothing(serve, connect, how):
    # A10, A26
    store = SpyStore()
    server = serve(auth=limited(1, tokens=store))
    paths_ = await paths(server, 2)
    store.block()
    client = await RawClient.connect(server.port)
    client.send(
        b"GET " + paths_[0].encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await store.entered.wait()
    if how == "leaves":
        client.abort()
        await asyncio.sleep(0)
    else:
        store.error = TokenStoreError("down") if how == "store fails" else AppError("x")
    store.release.set()
    if how != "leaves":
        assert (await client.read_response()).status == (503 if how == "store fails" else 500)
    await client.close()
    store.error = None
    await nothing_is_left(server)
    assert (await ask(server, paths_[1])).status == 101


@pytest.mark.gen_test
async def test_a_429_for_a_used_token_is_not_given_away_before_the_401(serve, login):
    """A token that is no good is 401, however many connections its user has."""
    # A7, A26
    server = serve(auth=limited(1))
    path, other = await paths(server, 2)
    client = await RawClient.connect(server.port)
    assert (await client.upgrade(path)).status == 101
    assert (await ask(server, path)).status == 401
    assert (await ask(server, other)).status == 429
    await client.close()


# --- evict_oldest ----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_oldest_connection_makes_room_when_the_new_one_is_accepted(serve, login, logged):
    # A26, A39
    server = serve(auth=limited(2, over_limit="evict_oldest"))
    other = await login(server, "bob")
    clients = [await login(server) for _ in range(2)]
    third = await login(server)
    assert await clients[0].read_close() == (4409, "replaced")
    assert ("closed", "replaced", "alice", 4409) in logged.events
    for client in (clients[1], third, other):
        client.send_text("still there")
        assert await client.read_frame() == (TEXT, b"still there")
    await login(server)
    assert await clients[1].read_close() == (4409, "replaced")
    assert len(server.auth.connections.for_user("alice")) == 2


@pytest.mark.gen_test
async def test_nobody_is_evicted_below_the_limit(serve, login):
    # A26
    server = serve(auth=limited(6, over_limit="evict_oldest"))
    clients = [await login(server) for _ in range(6)]
    assert len(server.auth.connections.for_user("alice")) == 6
    for client in clients:
        client.send_text("still there")
        assert await client.read_frame() == (TEXT, b"still there")


@pytest.mark.gen_test
@pytest.mark.parametrize("sends", [None, "garbage", "a bad jwt", "another user's jwt"])
async def test_a_client_that_is_not_accepted_evicts_nobody(serve, connect, login, sends):
    # A26
    server = serve(auth=limited(1, over_limit="evict_oldest"))
    inside = await login(server)
    newcomer, response = await connect(server)
    assert response.status == 101
    if sends is not None:
        jwt = make_jwt("alice", secret="x" * 40) if sends == "a bad jwt" else make_jwt("bob")
        newcomer.send_text("{}" if sends == "garbage" else jwt_message(jwt))
        await newcomer.read_close()
    inside.send_text("still there")
    assert await inside.read_frame() == (TEXT, b"still there")


@pytest.mark.gen_test
async def test_whom_load_auth_user_turns_away_evicts_nobody(serve, connect, login):
    # A26
    verdicts = ["alice", None]

    class Chat(Echo):
        def load_auth_user(self, claims):
            return verdicts.pop(0)

    server = serve(Chat, limited(1, over_limit="evict_oldest"))
    inside = await login(server)
    newcomer, _ = await connect(server)
    newcomer.send_text(jwt_message(make_jwt("alice")))
    assert (await newcomer.read_close())[0] == 4403
    inside.send_text("still there")
    assert await inside.read_frame() == (TEXT, b"still there")


@pytest.mark.gen_test
async def test_an_evicted_client_that_does_not_answer_gets_no_broadcast_and_takes_no_place(serve, login, caplog):
    # A26
    class Chat(Echo):
        pass

    server = serve(Chat, limited(1, over_limit="evict_oldest"))
    old = await login(server)
    new = await login(server)
    assert server.auth.connections.broadcast("news").sent == 1
    assert await old.read_close() == (4409, "replaced")
    old.send_text("ignored")
    old.send(frame(b"\x11\x39", CLOSE))
    assert await old.at_eof()
    assert await new.read_frame() == (TEXT, b"news")
    assert "ignored" not in Chat.events
    assert Chat.events.count("close") == 1
    assert errors(caplog) == []
