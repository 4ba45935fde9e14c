"""A stranger gets nothing: not one frame of the application, and no mention in it."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import CLOSE, SECRET, jwt_message, make_jwt, until
from tornado_wsauth.testing import assert_gate_holds


async def frames_of(client) -> list[tuple[int, bytes]]:
    """Return everything that comes up to the end of the connection."""
    frames = []
    while not frames or frames[-1][0] != CLOSE:
        frames.append(await client.read_frame())
    return frames


async def nothing_but_close(client) -> tuple[int, str]:
    """Return code and reason of the close frame, which must be the only frame."""
    ((_, payload),) = await frames_of(client)
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


@pytest.mark.gen_test
@pytest.mark.parametrize("query", ["", "?token=", f"?token={'A' * 43}"])
async def test_a_cookie_without_a_token_that_is_good_opens_no_room(visitor, db, query):
    mallory = await visitor().log_in("bob")
    client, response = await mallory.knock(query)
    assert (response.status, response.json()) == (401, {"error": "token_invalid"})
    assert db.rooms["lobby"] == []
    await client.close()


@pytest.mark.gen_test
async def test_a_token_without_a_jwt_hears_nothing_until_its_time_is_up(visitor, db, wsauth, wsauth_clock):
    alice, bob = await visitor().log_in("alice"), await visitor().log_in("bob")
    client, response = await bob.knock(f"?token={await bob.get_token()}")
    assert response.status == 101
    async with await alice.enter() as hers:
        await hers.send("is anybody there?")
        assert [await hers.receive() for _ in range(2)] == ["alice is here", "alice says is anybody there?"]
        assert [each.current_user.name for each in db.rooms["lobby"]] == ["alice"]
        wsauth_clock.advance(wsauth.auth_timeout)
        assert await nothing_but_close(client) == (4408, "auth_timeout")
    await client.close()


@pytest.mark.gen_test
async def test_a_message_instead_of_the_jwt_is_not_heard(visitor, db):
    alice, bob = await visitor().log_in("alice"), await visitor().log_in("bob")
    async with await alice.enter() as hers:
        client, _ = await bob.knock(f"?token={await bob.get_token()}")
        client.send_text("psst")
        assert await nothing_but_close(client) == (4400, "bad_message")
        await hers.send("nobody here")
        assert [await hers.receive() for _ in range(2)] == ["alice is here", "alice says nobody here"]
        await client.close()


@pytest.mark.gen_test
async def test_a_token_with_the_jwt_of_somebody_else_is_refused(visitor, db):
    alice, bob = await visitor().log_in("alice"), await visitor().log_in("bob")
    client, _ = await bob.knock(f"?token={await bob.get_token()}")
    client.send_text(jwt_message(await alice.get_jwt()))
    assert await nothing_but_close(client) == (4403, "user_mismatch")
    assert db.rooms["lobby"] == []
    await client.close()


@pytest.mark.gen_test
async def test_a_jwt_signed_with_another_key_is_refused(visitor, db):
    bob = await visitor().log_in("bob")
    client, _ = await bob.knock(f"?token={await bob.get_token()}")
    client.send_text(jwt_message(make_jwt("bob", secret=SECRET)))
    assert await nothing_but_close(client) == (4401, "jwt_invalid")
    assert db.rooms["lobby"] == []
    await client.close()


@pytest.mark.gen_test
async def test_who_is_no_member_any_more_is_turned_away_by_the_application(visitor, db):
    bob = await visitor().log_in("bob")
    client, _ = await bob.knock(f"?token={await bob.get_token()}")
    jwt = await bob.get_jwt()
    del db.members["bob"]
    client.send_text(jwt_message(jwt))
    assert await nothing_but_close(client) == (4403, "forbidden")
    assert db.rooms["lobby"] == []
    await client.close()


@pytest.mark.gen_test
async def test_the_check_origin_of_the_room_decides_as_before(visitor):
    alice = await visitor().log_in("alice")
    token = await alice.get_token()
    foreign, response = await alice.knock(f"?token={token}", Origin="https://evil.example")
    assert response.status == 403
    partner, response = await alice.knock(f"?token={token}", Origin="https://partner.example")
    assert response.status == 101
    await asyncio.gather(foreign.close(), partner.close())


@pytest.mark.gen_test(timeout=60)
async def test_every_attack_of_the_conformance_kit_fails(http_server, http_port, wsauth_credentials, db):
    attacks = await assert_gate_holds(
        f"ws://127.0.0.1:{http_port}/rooms/lobby",
        new_token=lambda: wsauth_credentials.token("alice"),
        make_jwt=lambda: wsauth_credentials.jwt("alice"),
        other_jwt=lambda: wsauth_credentials.jwt("bob"),
        expired_jwt=lambda: wsauth_credentials.jwt("alice", expires_in=-60),
    )
    assert len(attacks) > 30
    await until(lambda: db.rooms["lobby"] == [])
