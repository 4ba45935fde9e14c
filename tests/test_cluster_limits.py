"""How many connections one user may have in all processes together: the next one is refused, or the oldest goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fanout import Prompt, complaints
from tests.handshakes import SpyStore, ask
from tests.processes import (
    REPLACED,
    REVOKED,
    TOO_MANY,
    SpyBackplane,
    backplane_of,
    everywhere,
    hub_of,
    is_served,
    path_of,
    places_of,
    processes,
)
from tests.processes import to_the_end as to_the_end
from tests.support import (
    AppError,
    ManualClock,
    RawClient,
    Server,
    jwt_message,
    make_jwt,
    nothing_is_left,
    settle,
    until,
    upgrade_request,
)
from tornado_wsauth import TokenStoreError
from tornado_wsauth.backplane.base import Claim


class SlowToClaim(SpyBackplane):
    """An engine that takes some turns of the loop, before and after it has decided."""

    async def claim(self, *args: Any, **kwargs: Any) -> Claim:
        await asyncio.sleep(0.002)
        claim = await super().claim(*args, **kwargs)
        await asyncio.sleep(0.002)
        return claim


async def limited(serve: Any, limit: int, over_limit: str = "refuse", number: int = 2, **options: Any) -> list[Server]:
    return await processes(serve, number, max_connections_per_user=limit, over_limit=over_limit, **options)


async def request(server: Server, path: str) -> RawClient:
    """Send an opening handshake and wait for nothing."""
    client = await RawClient.connect(server.port)
    client.send(upgrade_request(path))
    return client


def connected(servers: list[Server], user: str = "alice") -> int:
    return sum(len(server.auth.connections.for_user(user)) for server in servers)


# --- refuse ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_connections_of_all_processes_count_and_a_token_works_once_there_is_a_place(serve, login, logged):
    # A26, A39
    servers = await limited(serve, 2, number=3)
    first, _ = await everywhere(login, servers[:2])
    path = await path_of(servers[2])
    for _ in range(2):
        refused = await ask(servers[2], path)
        assert (refused.status, refused.json()) == (429, {"error": "too_many_connections"})
        assert int(refused.headers["retry-after"]) >= 1
    assert logged.events[-1] == ("refused", "too_many_connections", "alice", 429)
    first.abort()
    await until(lambda: places_of(servers[0]) == 1)
    assert (await ask(servers[2], path)).status == 101


@pytest.mark.gen_test
async def test_other_users_have_places_of_their_own(serve, login):
    # A26
    servers = await limited(serve, 1)
    await login(servers[0])
    await login(servers[1], "bob")
    for user, status in [("alice", 429), ("bob", 429), ("alice2", 101)]:
        for server in servers:
            assert (await ask(server, await path_of(server, user))).status == status
        await until(lambda: places_of(servers[0], "alice2") == 0)


@pytest.mark.gen_test
async def test_a_connection_that_is_on_its_way_in_another_process_counts(serve, connect):
    # A26
    servers = await limited(serve, 1)
    waiting, _ = await connect(servers[0])
    assert (await ask(servers[1], await path_of(servers[1]))).status == 429
    waiting.send_text(jwt_message(make_jwt("alice")))
    assert (await waiting.read_json())["type"] == "auth_ok"
    assert (await ask(servers[1], await path_of(servers[1]))).status == 429


@pytest.mark.gen_test
@pytest.mark.parametrize("spy", [SpyBackplane, SlowToClaim])
@pytest.mark.parametrize("single_use", [True, False])
async def test_of_a_race_over_all_processes_exactly_as_many_get_in_as_may(serve, connect, spy, single_use):
    # A26
    servers = await limited(serve, 3, number=3, spy=spy, single_use=single_use)
    racing = [(server, await path_of(server)) for _ in range(4) for server in servers]
    answers = await asyncio.gather(*(connect(server, path=path) for server, path in racing))
    assert sorted(response.status for _, response in answers) == [101] * 3 + [429] * 9
    assert places_of(servers[0]) == 3
    inside = [client for client, response in answers if response.status == 101]
    for client in inside:
        client.send_text(jwt_message(make_jwt("alice")))
        assert (await client.read_json())["type"] == "auth_ok"
    assert connected(servers) == 3
    for client in inside:
        await client.close()
    for (server, path), (_, response) in zip(racing, answers, strict=True):
        await until(lambda: places_of(servers[0]) == 0)
        if response.status == 429:
            assert (await ask(server, path)).status == 101, "its token is unspent"


@pytest.mark.gen_test
async def test_who_is_told_by_a_close_frame_is_told_so_of_other_processes(serve, login, connect):
    # A26
    servers = await limited(serve, 1, refuse="close")
    inside = await login(servers[0])
    path = await path_of(servers[1])
    refused, response = await connect(servers[1], path=path)
    assert response.status == 101
    assert await refused.read_close() == TOO_MANY
    assert await is_served(inside)
    inside.abort()
    await until(lambda: places_of(servers[0]) == 0)
    again, _ = await connect(servers[1], path=path)
    again.send_text(jwt_message(make_jwt("alice")))
    assert (await again.read_json())["type"] == "auth_ok"


# --- evict_oldest ----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("where", [(0, 0, 0, 0, 0), (0, 1, 2, 0, 1), (0, 0, 1, 1, 1), (0, 0, 0, 1, 0), (0, 1, 1, 0, 2)])
async def test_the_newest_stay_and_the_oldest_are_replaced_wherever_they_are(serve, login, logged, where):
    # A26, A39
    servers = await limited(serve, 2, "evict_oldest", number=3)
    bobs = await everywhere(login, servers[:2], "bob")
    clients = []
    for server in where:
        clients.append(await login(servers[server]))
        await settle()
        for old in clients[:-2][-1:]:
            assert await old.read_close() == REPLACED
        assert (connected(servers), places_of(servers[0])) == (min(len(clients), 2), min(len(clients), 2))
    for client in [*clients[-2:], *bobs]:
        assert await is_served(client)
    assert logged.events.count(("closed", "replaced", "alice", 4409)) == 3


@pytest.mark.gen_test
@pytest.mark.parametrize("spy", [SpyBackplane, SlowToClaim])
async def test_after_a_race_over_all_processes_exactly_as_many_are_left_as_may_be(serve, login, spy):
    # A26
    servers = await limited(serve, 3, "evict_oldest", number=3, spy=spy)
    clients = await asyncio.gather(*(login(server) for _ in range(4) for server in servers))
    await until(lambda: connected(servers) == places_of(servers[0]) == 3)
    for server in servers:
        for handler in server.auth.connections:
            handler.write_message("you stay")
    got = [await client.read_frame() for client in clients]
    assert sorted(payload for _, payload in got) == [b"\x11\x39replaced"] * 9 + [b"you stay"] * 3


@pytest.mark.gen_test
@pytest.mark.parametrize("sends", [None, "a bad jwt"])
async def test_a_client_that_is_not_accepted_evicts_nobody_of_another_process(serve, connect, login, sends):
    # A26
    servers = await limited(serve, 1, "evict_oldest")
    inside = await login(servers[0])
    newcomer, _ = await connect(servers[1])
    if sends is not None:
        newcomer.send_text(jwt_message(make_jwt("alice", secret="x" * 40)))
        await newcomer.read_close()
    await settle()
    assert await is_served(inside)


@pytest.mark.gen_test
async def test_without_an_answer_the_client_is_let_in_and_that_is_logged(serve, login, caplog):
    # A26
    servers = await limited(serve, 1, "evict_oldest")
    clients = await everywhere(login, servers[:1])
    backplane_of(servers[1]).failing = {"claim"}
    clients.append(await login(servers[1]))
    for client in clients:
        assert await is_served(client)
    (said,) = complaints(caplog)
    assert "hold in each process for itself" in said
    clients.append(await login(servers[1]))
    assert await clients[1].read_close() == REPLACED, "in the process itself the limit holds"
    await until(lambda: places_of(servers[0]) == 1)


# --- when the backplane does not answer ------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_when_nobody_knows_whether_there_is_a_place_the_answer_is_503_and_the_token_is_good(serve, logged):
    # A26
    servers = await limited(serve, 1)
    path = await path_of(servers[0])
    backplane_of(servers[0]).failing = {"claim"}
    for _ in range(2):
        refused = await ask(servers[0], path)
        assert (refused.status, refused.json()) == (503, {"error": "backplane_unavailable"})
        assert int(refused.headers["retry-after"]) >= 1
    record = logged.records[-1]
    assert (record.event, record.reason, record.code) == ("refused", "backplane_unavailable", 503)
    assert "no answer to claim" in record.getMessage()
    backplane_of(servers[0]).failing = set()
    client = await RawClient.connect(servers[0].port)
    assert (await client.upgrade(path)).status == 101
    await client.close()


@pytest.mark.gen_test
async def test_a_place_that_may_have_been_claimed_is_given_back(serve):
    """An answer that is lost is no answer, but the place may be taken."""

    class AnswerLost(SpyBackplane):
        async def claim(self, *args: Any, **kwargs: Any) -> Claim:
            await super(SpyBackplane, self).claim(*args, **kwargs)
            return await super().claim(*args, **kwargs)

    # A26
    servers = await limited(serve, 1, spy=AnswerLost)
    backplane_of(servers[0]).failing = {"claim"}
    assert (await ask(servers[0], await path_of(servers[0]))).status == 503
    await until(lambda: places_of(servers[0]) == 0)
    assert (await ask(servers[1], await path_of(servers[1]))).status == 101


# --- a place is free again -------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("over_limit", ["refuse", "evict_oldest"])
@pytest.mark.parametrize("how", ["leaves", "jwt expires", "disconnect_user here", "disconnect_user there", "close"])
async def test_a_place_is_free_for_all_when_the_connection_is_over(serve, login, over_limit, how):
    # A26
    clock = ManualClock()
    servers = await limited(serve, 1, over_limit, clock=clock)
    client = await login(servers[0])
    await settle()
    assert places_of(servers[0]) == 1
    if how == "leaves":
        client.abort()
    elif how == "jwt expires":
        clock.advance(601)
    elif how == "close":
        await servers[0].auth.close(grace=0)
    else:
        await servers[how.endswith("there")].auth.disconnect_user("alice")
        assert await client.read_close() == REVOKED
    await until(lambda: hub_of(servers[0]).places == {})
    assert (await ask(servers[1], await path_of(servers[1]))).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["resets", "bad jwt", "never sends its jwt", "turned away", "revoked"])
async def test_a_place_is_free_for_all_when_authentication_fails(serve, connect, how):
    # A26, A10
    class Chat(Prompt):
        def load_auth_user(self, claims: dict[str, Any]) -> Any:
            return None

    clock = ManualClock()
    servers = await limited(serve, 1, handler=Chat, clock=clock)
    client, _ = await connect(servers[0])
    assert places_of(servers[0]) == 1
    if how == "resets":
        client.abort()
    elif how == "never sends its jwt":
        clock.advance(10)
    elif how == "revoked":
        await servers[1].auth.disconnect_user("alice")
    else:
        jwt = make_jwt("alice", secret="x" * 40) if how == "bad jwt" else make_jwt("alice")
        client.send_text(jwt_message(jwt))
    await until(lambda: places_of(servers[0]) == 0)
    assert (await ask(servers[1], await path_of(servers[1]))).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["store fails", "a bug", "token used", "application refuses"])
async def test_a_place_is_free_for_all_when_the_handshake_comes_to_nothing(serve, how):
    # A10, A26
    class Store(SpyStore):
        async def redeem(self, token: str, *, consume: bool = True) -> Any:
            if consume and self.error is not None:
                raise self.error
            if consume and how == "token used":
                await super().redeem(token)  # somebody else was faster, between the look and the spending
            return await super().redeem(token, consume=consume)

    class Chat(Prompt):
        async def get(self, *args: Any, **kwargs: Any) -> None:
            self.set_status(418)
            self.finish()

    store = Store()
    servers = await limited(serve, 1, tokens=store, handler=Chat if how == "application refuses" else Prompt)
    store.error = {"store fails": TokenStoreError("down"), "a bug": AppError("x")}.get(how)
    statuses = {"store fails": 503, "a bug": 500, "token used": 401, "application refuses": 418}
    assert (await ask(servers[0], await path_of(servers[0]))).status == statuses[how]
    await until(lambda: places_of(servers[0]) == 0)


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_a_place_is_claimed_for_it_holds_none(serve):
    # A10, A26
    servers = await limited(serve, 1)
    spy = backplane_of(servers[0])
    claimed = spy.hold("claim")
    client = await request(servers[0], await path_of(servers[0]))
    await until(lambda: spy.calls["claim"] == 1)
    client.abort()
    await nothing_is_left(servers[0])
    await settle()
    claimed.set()
    await settle()
    assert places_of(servers[0]) == 0
    assert (await ask(servers[1], await path_of(servers[1]))).status == 101


@pytest.mark.gen_test
async def test_a_client_that_was_let_in_and_leaves_while_its_place_is_claimed_holds_none(serve, login):
    # A26
    servers = await limited(serve, 1, "evict_oldest")
    spy = backplane_of(servers[0])
    claimed = spy.hold("claim")
    client = await login(servers[0])
    client.abort()
    await nothing_is_left(servers[0])
    await settle()
    claimed.set()
    await settle()
    assert spy.calls["claim"] == 1
    assert places_of(servers[0]) == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("over_limit", ["refuse", "evict_oldest"])
async def test_close_leaves_no_places_and_frees_no_others(serve, login, over_limit):
    # A26
    servers = await limited(serve, 5, over_limit)
    clients = [*await everywhere(login, servers), *await everywhere(login, servers)]
    await settle()
    for client in clients:
        await client.close()
    await everywhere(login, servers)
    await servers[0].auth.close(grace=0)
    await until(lambda: places_of(servers[0]) == 1)
    await settle()
    assert connected(servers) == places_of(servers[0]) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("over_limit", ["refuse", "evict_oldest"])
async def test_when_many_have_come_and_gone_no_place_is_left_behind(serve, connect, over_limit):
    # A10, A26
    servers = await limited(serve, 2, over_limit, number=3, spy=SlowToClaim)

    async def come_and_go(number: int) -> None:
        client = await request(servers[number % 3], await path_of(servers[number % 3]))
        if number % 4 and (await client.read_response()).status == 101 and number % 2:
            client.send_text(jwt_message(make_jwt("alice")))
            await client.read_frame()
        client.abort()

    await asyncio.gather(*(come_and_go(number) for number in range(36)))
    for server in servers:
        await nothing_is_left(server)
    await until(lambda: hub_of(servers[0]).places == {})
    await settle()
    assert (await ask(servers[0], await path_of(servers[0]))).status == 101
