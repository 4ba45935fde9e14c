"""A user, or one login, is thrown out of every process at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fanout import Prompt
from tests.first_messages import HangingVerifier, held_jwt
from tests.handshakes import SpyStore, ask
from tests.processes import (
    REVOKED,
    SpyBackplane,
    backplane_of,
    everywhere,
    hub_of,
    is_served,
    path_of,
    processes,
)
from tests.processes import to_the_end as to_the_end
from tests.support import RawClient, jwt_message, make_auth, make_jwt, nothing_is_left, settle, until, upgrade_request
from tornado_wsauth import BackplaneError, MemoryTokenStore, TokenRecord, TokenStoreError, WSAuth
from tornado_wsauth.backplane.memory import Hub


async def enter(connect: Any, server: Any, user: str = "alice", **claims: Any) -> RawClient:
    """Log in with a JWT of these claims."""
    client, response = await connect(server, user)
    assert response.status == 101
    client.send_text(jwt_message(make_jwt(user, **claims)))
    assert (await client.read_json())["type"] == "auth_ok"
    return client


class Broken(MemoryTokenStore):
    async def revoke_user(self, user_id: str) -> int:
        raise TokenStoreError("no answer")


# --- a user ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("where", [0, 2])
async def test_a_user_who_is_disconnected_anywhere_loses_every_connection_everywhere(serve, login, where):
    # A25
    servers = await processes(serve, 3)
    clients = [*await everywhere(login, servers[:2]), *await everywhere(login, servers[:2])]
    bobs = await everywhere(login, servers, "bob")
    assert await servers[where].auth.disconnect_user("alice") == (2 if where == 0 else 0), (
        "the count is of this process"
    )
    assert [await client.read_close() for client in clients] == [REVOKED] * 4
    assert [server.auth.connections.presence() for server in servers] == [{"bob": 1}] * 3
    for bob in bobs:
        assert await is_served(bob)


@pytest.mark.gen_test
@pytest.mark.parametrize("user_id", ["7", b"7", 7])
async def test_the_others_are_told_of_the_user_whatever_the_id_was_given_as(serve, login, user_id):
    # A25
    servers = await processes(serve)
    client = await login(servers[1], "7")
    await servers[0].auth.disconnect_user(user_id)
    assert await client.read_close() == REVOKED


@pytest.mark.gen_test
async def test_a_token_of_before_opens_nothing_in_any_process(serve, login):
    # A25
    servers = await processes(serve, 3)
    paths = [await path_of(server) for server in servers]
    bobs = await path_of(servers[1], "bob")
    await servers[0].auth.disconnect_user("alice")
    assert [(await ask(server, path)).status for server, path in zip(servers, paths, strict=True)] == [401] * 3
    assert (await ask(servers[2], bobs)).status == 101
    assert await is_served(await login(servers[1])), "a token of after is good"


@pytest.mark.gen_test
async def test_who_has_not_sent_a_jwt_yet_is_thrown_out_by_another_process(serve, connect):
    # A25
    servers = await processes(serve)
    (alice, _), (bob, _) = await connect(servers[1]), await connect(servers[1], "bob")
    await servers[0].auth.disconnect_user("alice")
    assert await alice.read_close() == REVOKED
    bob.send_text(jwt_message(make_jwt("bob")))
    assert (await bob.read_json())["type"] == "auth_ok"


@pytest.mark.gen_test
async def test_whose_jwt_is_being_checked_is_thrown_out_by_another_process_and_not_let_in_later(serve, connect, logged):
    # A25
    class Chat(Prompt):
        pass

    hub, verifier = Hub(), HangingVerifier()
    servers = [serve(Chat, WSAuth(verifier, backplane=SpyBackplane(hub))) for _ in range(2)]
    client, _ = await connect(servers[1])
    client.send_text(jwt_message(held_jwt(verifier)))
    await verifier.entered.wait()
    await servers[0].auth.disconnect_user("alice")
    await settle()
    verifier.release.set()
    assert await client.read_close() == REVOKED
    await client.close()
    await nothing_is_left(servers[1])
    assert Chat.events == []
    assert logged.errors == []


@pytest.mark.gen_test
async def test_a_token_that_is_being_redeemed_in_another_process_just_then_opens_nothing(serve):
    # A25
    class SpentThenSlow(SpyStore):
        async def redeem(self, token: str, *, consume: bool = True) -> TokenRecord:
            record = await MemoryTokenStore.redeem(self, token, consume=consume)
            self.entered.set()
            await self.release.wait()
            return record

    store = SpentThenSlow()
    servers = await processes(serve, tokens=store)
    store.block()
    client = await RawClient.connect(servers[1].port)
    client.send(upgrade_request(await path_of(servers[1])))
    await store.entered.wait()
    await servers[0].auth.disconnect_user("alice")
    await settle()
    store.release.set()
    assert (await client.read_response()).status == 401
    await client.close()


@pytest.mark.gen_test
async def test_the_others_are_told_when_no_token_of_before_can_be_redeemed_any_more(serve):
    """Told earlier, another process would let somebody in whose token is revoked a moment later."""
    # A25
    asked, answer = asyncio.Event(), asyncio.Event()

    class SlowToRevoke(MemoryTokenStore):
        async def revoke_user(self, user_id: str) -> int:
            asked.set()
            await answer.wait()
            return await super().revoke_user(user_id)

    servers = await processes(serve, tokens=SlowToRevoke())
    path = await path_of(servers[1])
    revoking = asyncio.ensure_future(servers[0].auth.disconnect_user("alice"))
    await asked.wait()
    client = await RawClient.connect(servers[1].port)
    assert (await client.upgrade(path)).status == 101
    answer.set()
    await revoking
    assert await client.read_close() == REVOKED
    await client.close()


@pytest.mark.gen_test
async def test_a_user_of_no_process_is_disconnected_from_nothing(serve, login):
    servers = await processes(serve)
    clients = await everywhere(login, servers)
    assert await servers[0].auth.disconnect_user("ALICE") == 0
    for user_id in (None, "", True):
        with pytest.raises(ValueError, match="user id"):
            await servers[0].auth.disconnect_user(user_id)
    await settle()
    for client in clients:
        assert await is_served(client)


# --- when something does not answer ----------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_without_an_answer_of_the_store_the_others_are_told_all_the_same(serve, login):
    # A25
    servers = await processes(serve, tokens=Broken())
    clients = await everywhere(login, servers)
    with pytest.raises(TokenStoreError, match="no answer"):
        await servers[0].auth.disconnect_user("alice")
    assert [await client.read_close() for client in clients] == [REVOKED] * 2


@pytest.mark.gen_test
@pytest.mark.parametrize("what", ["user", "session"])
async def test_without_the_backplane_the_connections_of_this_process_end_and_the_error_is_raised(serve, connect, what):
    # A25
    servers = await processes(serve)
    clients = [await enter(connect, server, sid="phone") for server in servers]
    path = await path_of(servers[1])
    backplane_of(servers[0]).failing = {"announce"}

    async def disconnect():
        auth = servers[0].auth
        await (auth.disconnect_user("alice") if what == "user" else auth.disconnect_session("phone"))

    with pytest.raises(BackplaneError, match="no answer to announce"):
        await disconnect()
    assert await clients[0].read_close() == REVOKED
    assert await is_served(clients[1]), "it could not be told"
    assert (await ask(servers[1], path)).status == (401 if what == "user" else 101)
    backplane_of(servers[0]).failing = set()
    await disconnect()
    assert await clients[1].read_close() == REVOKED


@pytest.mark.gen_test
async def test_without_either_it_is_an_error_and_this_process_is_rid_of_the_user(serve, login):
    # A25
    servers = await processes(serve, tokens=Broken())
    client = await login(servers[0])
    backplane_of(servers[0]).failing = {"announce"}
    with pytest.raises(BackplaneError):
        await servers[0].auth.disconnect_user("alice")
    assert await client.read_close() == REVOKED


@pytest.mark.gen_test
async def test_what_is_told_is_kept_for_those_who_are_cut_off(serve, login):
    """An announcement comes late; what is published is lost."""
    # A25
    servers = await processes(serve)
    clients = await everywhere(login, servers)
    spy = backplane_of(servers[0])
    spy.calls.clear()
    await servers[0].auth.disconnect_session("unknown")
    await servers[0].auth.disconnect_user("alice")
    assert spy.calls["announce"] == 2
    await clients[1].read_close()


@pytest.mark.gen_test
async def test_a_process_that_was_never_started_tells_the_others(serve, login):
    # A25
    (server,) = await processes(serve, 1)
    client = await login(server)
    other = make_auth(backplane=SpyBackplane(hub_of(server)))
    await other.disconnect_session("unknown")
    assert await is_served(client)
    await make_auth(backplane=SpyBackplane(hub_of(server))).disconnect_user("alice")
    assert await client.read_close() == REVOKED


# --- one login -------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_one_login_is_ended_in_every_process_and_the_users_others_are_not(serve, connect):
    # A25
    servers = await processes(serve, 3)
    phone = [await enter(connect, server, sid="phone") for server in (*servers[:2], servers[0])]
    laptop = [await enter(connect, server, sid="laptop") for server in servers]
    path = await path_of(servers[1])
    assert await servers[0].auth.disconnect_session("phone") == 2
    assert [await client.read_close() for client in phone] == [REVOKED] * 3
    for client in laptop:
        assert await is_served(client)
    assert (await ask(servers[1], path)).status == 101
    assert await servers[0].auth.disconnect_session("phone") == 0


@pytest.mark.gen_test
async def test_a_login_without_a_name_of_its_own_can_be_ended_by_another_process(serve, login):
    # A25
    servers = await processes(serve)
    client, other = await login(servers[1]), await login(servers[1])
    session_id = servers[1].auth.connections.for_user("alice")[0].auth_session.session_id
    assert await servers[0].auth.disconnect_session(session_id) == 0
    assert await client.read_close() == REVOKED
    assert await is_served(other)


@pytest.mark.gen_test
async def test_a_handler_may_throw_its_own_user_out_of_all_processes(serve, login, logged):
    # A25
    class Chat(Prompt):
        async def on_message(self, message: str | bytes) -> None:
            await self.settings["wsauth"].disconnect_user(self.auth_session.user_id)

    servers = await processes(serve, handler=Chat)
    clients = await everywhere(login, servers)
    clients[0].send_text("log me out everywhere")
    assert [await client.read_close() for client in clients] == [REVOKED] * 2
    await until(lambda: not any(len(server.auth.connections) for server in servers))
    assert logged.errors == []
