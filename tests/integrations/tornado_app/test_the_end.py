"""A connection ends with its JWT, and with its member's login."""

from __future__ import annotations

import pytest

from tornado_wsauth.testing import AuthRefused


@pytest.mark.gen_test
async def test_a_member_whose_jwt_expires_leaves_the_room(
    visitor, wsauth_clock, wsauth_credentials, connect_authenticated
):
    alice = await connect_authenticated("/rooms/lobby", "alice", expires_in=600)
    bob = await connect_authenticated("/rooms/lobby", "bob", expires_in=60)
    wsauth_clock.advance(60)
    assert await bob.wait_closed() == (4401, "jwt_expired")
    assert [await alice.receive() for _ in range(3)] == ["alice is here", "bob is here", "bob has left"]


@pytest.mark.gen_test
async def test_another_jwt_keeps_the_member_in_the_room(
    visitor, wsauth_clock, wsauth_credentials, connect_authenticated
):
    alice = await connect_authenticated("/rooms/lobby", "alice", expires_in=60)
    await alice.refresh(wsauth_credentials.jwt("alice", expires_in=600))
    wsauth_clock.advance(120)
    await alice.send("still here")
    assert [await alice.receive() for _ in range(2)] == ["alice is here", "alice says still here"]


@pytest.mark.gen_test
async def test_logging_out_closes_the_members_sockets_and_nobody_elses(visitor):
    alice, bob = await visitor().log_in("alice"), await visitor().log_in("bob")
    async with await alice.enter("lobby") as one, await alice.enter("kitchen") as other, await bob.enter() as his:
        assert (await alice.post("/logout")).body == b"goodbye"
        assert await one.wait_closed() == await other.wait_closed() == (4403, "revoked")
        await his.send("who was that?")
        assert [await his.receive() for _ in range(3)] == ["bob is here", "alice has left", "bob says who was that?"]


@pytest.mark.gen_test
async def test_after_logging_out_neither_an_old_token_nor_a_new_one_is_to_be_had(visitor):
    alice = await visitor().log_in("alice")
    token = await alice.get_token()
    await alice.post("/logout")
    client, response = await alice.knock(f"?token={token}")
    assert (response.status, response.json()) == (401, {"error": "token_invalid"})
    assert (await alice.post("/ws/token")).code == 401
    await client.close()


@pytest.mark.gen_test
async def test_who_has_been_idle_too_long_with_a_token_needs_another(
    visitor, wsauth, wsauth_clock, connect_authenticated
):
    token = await wsauth.issue_token("alice")
    wsauth_clock.advance(wsauth.token_ttl)
    with pytest.raises(AuthRefused) as caught:
        await connect_authenticated("/rooms/lobby", "alice", token=token)
    assert (caught.value.status, caught.value.error) == (401, "token_invalid")
