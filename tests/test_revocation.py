"""A user, or one login of a user, can be thrown out at any step of the way."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.fanout import Prompt, complaints
from tests.handshakes import SpyStore, ask
from tests.lifetimes import HeldVerifier, Timed, is_served
from tests.support import BINARY, Echo, RawClient, Server, jwt_message, make_auth, settle, until, upgrade_request
from tornado_wsauth import MemoryTokenStore, TokenRecord, TokenStoreError

REVOKED = (4403, "revoked")


class SpentThenSlow(SpyStore):
    """Spends the token first and is slow to say so."""

    async def redeem(self, token: str, *, consume: bool = True) -> TokenRecord:
        record = await MemoryTokenStore.redeem(self, token, consume=consume)
        self.entered.set()
        await self.release.wait()
        return record


async def start(server: Server, user: str = "alice") -> RawClient:
    """Send an opening handshake and wait for nothing."""
    client = await RawClient.connect(server.port)
    client.send(upgrade_request(f"/ws?token={await server.auth.issue_token(user)}"))
    return client


# --- a user ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_user_who_is_disconnected_loses_every_connection_and_others_lose_none(serve, connect, logged):
    # A25, A39
    class Chat(Prompt):
        pass

    timed = Timed(serve, connect, Chat)
    clients = [await timed.enter() for _ in range(3)]
    bob = await timed.enter(user="bob")
    assert await timed.auth.disconnect_user("alice") == 3
    assert len(timed.auth.connections) == 1
    assert timed.auth.connections.for_user("alice") == []
    for client in clients:
        client.send_text("still here")
        assert await client.read_close() == REVOKED
        await client.close()
    await until(lambda: Chat.events.count("close") == 3)
    assert await is_served(bob)
    assert Chat.events == ["open"] * 4 + ["close"] * 3 + ["still there?"]
    assert logged.events[4:] == [("closed", "revoked", "alice", 4403)] * 3
    assert logged.errors == []


@pytest.mark.gen_test
async def test_whom_nobody_knows_is_disconnected_from_nothing(serve, connect):  # A25
    timed = Timed(serve, connect)
    client = await timed.enter()
    assert await timed.auth.disconnect_user("ALICE") == 0
    assert await timed.auth.disconnect_user("alice") == 1
    assert await timed.auth.disconnect_user("alice") == 0
    assert await client.read_close() == REVOKED


@pytest.mark.gen_test
@pytest.mark.parametrize("user_id", ["7", b"7", 7])
async def test_a_user_id_may_be_given_in_any_form_that_a_token_may_be_issued_for(serve, connect, user_id):  # A25
    timed = Timed(serve, connect)
    client = await timed.enter(user="7")
    token = await timed.auth.issue_token("7")
    assert await timed.auth.disconnect_user(user_id) == 1
    assert await client.read_close() == REVOKED
    assert (await ask(timed.server, f"/ws?token={token}")).status == 401
    await timed.auth.issue_token("7")
    assert await timed.auth.revoke_tokens(user_id) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("user_id", [None, True, 1.5, "", b"", b"\xff", ["alice"], {"$ne": None}])
async def test_what_is_no_user_id_is_a_value_error_and_ends_nothing(serve, connect, user_id):  # A25
    timed = Timed(serve, connect)
    client = await timed.enter()
    await timed.auth.issue_token("alice")
    with pytest.raises(ValueError, match="user id"):
        await timed.auth.disconnect_user(user_id)
    with pytest.raises(ValueError, match="user id"):
        await timed.auth.revoke_tokens(user_id)
    assert await is_served(client)
    assert await timed.auth.revoke_tokens("alice") == 1


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["disconnect_user", "revoke_tokens"])
async def test_a_token_of_before_opens_nothing_and_one_of_after_does(serve, connect, how):  # A25
    timed = Timed(serve, connect)
    tokens = [await timed.auth.issue_token("alice") for _ in range(2)]
    bobs = await timed.auth.issue_token("bob")
    assert await getattr(timed.auth, how)("alice") == (2 if how == "revoke_tokens" else 0)
    for token in tokens:
        assert (await ask(timed.server, f"/ws?token={token}")).status == 401
    assert (await ask(timed.server, f"/ws?token={bobs}")).status == 101
    assert await is_served(await timed.enter())


@pytest.mark.gen_test
async def test_revoking_tokens_leaves_connections_alone(serve, connect):  # A25
    timed = Timed(serve, connect)
    client = await timed.enter()
    waiting, _ = await connect(timed.server)
    await timed.auth.issue_token("alice")
    assert await timed.auth.revoke_tokens("alice") == 1
    assert await is_served(client)
    waiting.send_text(jwt_message(timed.jwt()))
    assert (await waiting.read_json())["type"] == "auth_ok"


@pytest.mark.gen_test
async def test_without_an_answer_of_the_store_the_connections_end_and_the_error_is_raised(serve, connect):  # A25
    class Broken(MemoryTokenStore):
        async def revoke_user(self, user_id: str) -> int:
            raise TokenStoreError("no answer")

    timed = Timed(serve, connect, tokens=Broken())
    client = await timed.enter()
    waiting, _ = await connect(timed.server)
    with pytest.raises(TokenStoreError, match="no answer"):
        await timed.auth.disconnect_user("alice")
    assert await client.read_close() == REVOKED
    assert await waiting.read_close() == REVOKED


# --- on the way in ---------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_connection_that_waits_for_its_first_message_is_ended(serve, connect, check):  # A25
    class Chat(Echo):
        pass

    timed = Timed(serve, connect, Chat)
    client, _ = await connect(timed.server)
    bob, _ = await connect(timed.server, "bob")
    assert await timed.auth.disconnect_user("alice") == 1
    client.send_text(jwt_message(timed.jwt()))
    assert await client.read_close() == REVOKED
    bob.send_text(jwt_message(timed.jwt(user="bob")))
    assert (await bob.read_json())["type"] == "auth_ok"
    await until(lambda: len(timed.auth.pending) == 0)
    await until(lambda: Chat.events == ["open"])
    check(("refused", "revoked", "alice", 4403), ("accepted", "auth_ok", "bob", None))


@pytest.mark.gen_test
@pytest.mark.parametrize("slow", ["verifier", "load_auth_user"])
async def test_a_connection_whose_jwt_is_being_checked_is_ended_and_not_let_in_later(serve, connect, logged, slow):
    # A25
    loading, loaded = asyncio.Event(), asyncio.Event()

    class Chat(Echo):
        async def load_auth_user(self, claims: dict[str, Any]) -> Any:
            if slow == "load_auth_user":
                loading.set()
                await loaded.wait()
            return "alice"

    timed = Timed(serve, connect, Chat, verifier=HeldVerifier)
    client, _ = await connect(timed.server)
    jwt = timed.jwt()
    client.send_text(jwt_message(timed.verifier.hold(jwt) if slow == "verifier" else jwt))
    await (loading if slow == "load_auth_user" else timed.verifier.entered).wait()
    assert await timed.auth.disconnect_user("alice") == 1
    timed.verifier.release.set()
    loaded.set()
    assert await client.read_close() == REVOKED
    await client.close()
    await timed.gone()
    await settle()
    assert Chat.events == []
    assert logged.events == [("refused", "revoked", "alice", 4403)]
    assert logged.errors == []


@pytest.mark.gen_test
async def test_a_request_between_its_token_and_the_101_is_ended(serve, connect, logged):  # A25
    prepared, go_on = asyncio.Event(), asyncio.Event()

    class Chat(Echo):
        async def prepare(self) -> None:
            await super().prepare()
            prepared.set()
            await go_on.wait()

    timed = Timed(serve, connect, Chat)
    client = await start(timed.server)
    await prepared.wait()
    assert await timed.auth.disconnect_user("alice") == 1
    go_on.set()
    response = await client.read_response()
    if response.status == 101:
        client.send_text(jwt_message(timed.jwt()))
        assert await client.read_close() == REVOKED
    else:
        assert response.status in (401, 403)
    await client.close()
    await timed.gone()
    assert Chat.events == []
    assert [(event, reason) for event, reason, *_ in logged.events] == [("refused", "revoked")]


@pytest.mark.gen_test
@pytest.mark.parametrize("store", [SpyStore, SpentThenSlow])
async def test_a_token_that_is_being_redeemed_just_then_opens_nothing(serve, connect, logged, store):  # A25
    class Chat(Echo):
        pass

    slow = store()
    timed = Timed(serve, connect, Chat, tokens=slow)
    slow.block()
    client = await start(timed.server)
    await slow.entered.wait()
    await timed.auth.disconnect_user("alice")
    slow.release.set()
    response = await client.read_response()
    assert (response.status, response.json()) == (401, {"error": "token_invalid"})
    await client.close()
    await timed.gone()
    assert Chat.events == []
    assert [event for event, *_ in logged.events] == ["refused"]
    assert logged.errors == []
    assert await is_served(await timed.enter())


@pytest.mark.gen_test
async def test_a_token_of_another_user_that_is_being_redeemed_just_then_is_good(serve, connect):  # A25
    slow = SpentThenSlow()
    timed = Timed(serve, connect, tokens=slow)
    slow.block()
    client = await start(timed.server, "bob")
    await slow.entered.wait()
    await timed.auth.disconnect_user("alice")
    slow.release.set()
    assert (await client.read_response()).status == 101
    client.send_text(jwt_message(timed.jwt(user="bob")))
    assert (await client.read_json())["type"] == "auth_ok"
    await client.close()


@pytest.mark.gen_test
async def test_who_gets_in_while_the_store_is_revoking_is_ended_and_counted_as_well(serve, connect):  # A25
    asked, answer = asyncio.Event(), asyncio.Event()

    class SlowToRevoke(MemoryTokenStore):
        async def revoke_user(self, user_id: str) -> int:
            asked.set()
            await answer.wait()
            return await super().revoke_user(user_id)

    timed = Timed(serve, connect, tokens=SlowToRevoke())
    first = await timed.enter()
    revoking = asyncio.ensure_future(timed.auth.disconnect_user("alice"))
    await asked.wait()
    second = await timed.enter()
    waiting, _ = await connect(timed.server)
    answer.set()
    assert await revoking == 3
    assert [await client.read_close() for client in (first, second, waiting)] == [REVOKED] * 3


@pytest.mark.gen_test
async def test_a_refresh_that_is_being_checked_does_not_save_a_connection(serve, connect, logged):  # A25, A24
    timed = Timed(serve, connect, verifier=HeldVerifier)
    client = await timed.enter(60)
    session = timed.session()
    client.send_text(jwt_message(timed.verifier.hold(timed.jwt(900))))
    await timed.verifier.entered.wait()
    assert await timed.auth.disconnect_user("alice") == 1
    timed.verifier.release.set()
    assert await client.read_close() == REVOKED
    await client.close()
    await timed.gone()
    await settle()
    assert session.expires_at == timed.clock.now + 60
    assert [event for event, *_ in logged.events] == ["accepted", "closed"]
    assert timed.clock.timers == []


# --- from inside -----------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["user", "session"])
async def test_a_handler_may_throw_its_own_user_out(serve, connect, caplog, how):  # A25
    caplog.set_level(logging.DEBUG)

    class Chat(Prompt):
        async def on_message(self, message: str | bytes) -> None:
            if how == "user":
                ended = await self._wsauth_guard.auth.disconnect_user(self.auth_session.user_id)
            else:
                ended = await self._wsauth_guard.auth.disconnect_session(self.auth_session.session_id)
            self.events.append(ended)

    timed = Timed(serve, connect, Chat)
    clients = [await timed.enter(sid="one") for _ in range(2)]
    clients[0].send_text("log me out")
    clients[0].send_text("and again")
    for client in clients:
        assert await client.read_close() == REVOKED
        await client.close()
    await until(lambda: Chat.events.count("close") == 2)
    assert Chat.events == ["open", "open", 2, "close", "close"]
    assert complaints(caplog) == []


# --- one login -------------------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_one_login_is_ended_and_the_users_others_and_their_tokens_are_not(serve, connect):  # A25
    timed = Timed(serve, connect)
    phone = [await timed.enter(sid="phone") for _ in range(2)]
    laptop = await timed.enter(sid="laptop")
    token = await timed.auth.issue_token("alice")
    assert await timed.auth.disconnect_session("phone") == 2
    assert [await client.read_close() for client in phone] == [REVOKED] * 2
    assert await is_served(laptop)
    assert await timed.auth.disconnect_session("phone") == 0
    assert (await ask(timed.server, f"/ws?token={token}")).status == 101


@pytest.mark.gen_test
async def test_a_login_is_known_by_the_id_its_session_has_now(serve, connect):  # A25
    timed = Timed(serve, connect)
    nameless = await timed.enter()
    renewed = await timed.enter(user="bob", sid="old")
    await timed.refresh(renewed, user="bob", sid="new")
    assert await timed.auth.disconnect_session("old") == 0
    assert await timed.auth.disconnect_session(timed.session("alice").session_id) == 1
    assert await nameless.read_close() == REVOKED
    assert await timed.auth.disconnect_session("new") == 1
    assert await renewed.read_close() == REVOKED


@pytest.mark.gen_test
async def test_what_is_broadcast_after_a_revocation_reaches_others_alone(serve, connect):  # A25
    timed = Timed(serve, connect)
    client, bob = await timed.enter(), await timed.enter(user="bob")
    await timed.auth.disconnect_user("alice")
    assert timed.auth.connections.broadcast(b"news", binary=True).sent == 1
    assert await bob.read_frame() == (BINARY, b"news")
    assert await client.read_close() == REVOKED


@pytest.mark.gen_test
async def test_the_store_is_started_before_it_is_asked_to_revoke():  # A25
    calls: list[str] = []

    class Store(MemoryTokenStore):
        async def start(self) -> None:
            calls.append("start")

        async def revoke_user(self, user_id: str) -> int:
            calls.append(user_id)
            return 0

    await make_auth(tokens=Store()).revoke_tokens("alice")
    assert calls == ["start", "alice"]
