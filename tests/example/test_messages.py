"""What the WebSocket says, and to whom."""

from __future__ import annotations

import pytest

from tests.example.site import FAST, present, read, read_kinds, say


@pytest.mark.gen_test
async def test_echo_tick_and_broadcast_come_after_auth_ok_and_nothing_before_it(visit):
    site = visit(tick_interval_ms=FAST, broadcast_interval_ms=FAST, starts=3)
    bob = await site.enter("bob")
    jwt = await site.jwt_of("alice")
    alice = await site.connect(await site.token(jwt))
    for _ in range(3):  # messages go out while alice waits
        await read_kinds(bob, {"tick", "broadcast"})
    await present(alice, jwt)
    first = await read(alice)
    assert (first["type"], first["user_id"]) == ("auth_ok", "alice")
    await alice.write_message("hello")
    messages = await read_kinds(alice, {"tick", "broadcast", "echo"})
    by_type = {message["type"]: message for message in reversed(messages)}
    assert by_type["echo"] == {"type": "echo", "message": "hello"}
    assert (by_type["broadcast"]["online"], by_type["broadcast"]["starts"]) == (2, 3)
    assert by_type["broadcast"]["key_id"] == "key-1"


@pytest.mark.gen_test
async def test_each_connection_counts_its_own_ticks_from_one(visit):
    site = visit(tick_interval_ms=FAST)
    early = await site.enter("alice")
    assert [(await read(early))["number"] for _ in range(3)] == [1, 2, 3]
    late = await site.enter("alice")
    assert [(await read(late))["number"] for _ in range(3)] == [1, 2, 3]


@pytest.mark.gen_test
async def test_an_echo_of_bytes_that_are_no_text_is_text(visit):
    ws = await visit().enter()
    await ws.write_message(b"\xff", binary=True)
    assert await read(ws) == {"type": "echo", "message": "\ufffd"}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "message",
    [
        "[1]",
        "null",
        "{}",
        '{"type": "join", "group": "green"}',
        '{"type": "join", "group": ["red"]}',
        '{"type": "say", "to": "red", "message": 1}',
        '{"type": "ping", "id": "1"}',
        '{"type": "fail"}',
    ],
)
async def test_what_the_application_does_not_know_is_echoed(visit, message):
    ws = await visit().enter()
    await ws.write_message(message)
    assert await read(ws) == {"type": "echo", "message": message}


@pytest.mark.gen_test
async def test_a_ping_is_answered_with_its_number(visit):
    ws = await visit().enter()
    await say(ws, type="ping", id=7)
    assert await read(ws) == {"type": "pong", "id": 7}


@pytest.mark.gen_test
async def test_a_group_hears_what_is_said_to_it_and_nobody_else_does(visit):
    site = visit()
    alice, bob = await site.enter("alice"), await site.enter("bob")
    await say(bob, type="join", group="red")
    joined = await read(bob)
    assert (joined["type"], joined["event"], joined["groups"]) == ("session", "joined red", ["red"])
    await say(alice, type="say", to="red", message="hi")
    await say(alice, type="say", to="echo", message="alone")
    assert await read(bob) == {"type": "group", "group": "red", "from": "alice", "message": "hi"}
    assert await read(alice) == {"type": "echo", "message": "alone"}
    await say(bob, type="leave", group="red")
    left = await read(bob)
    assert (left["event"], left["groups"]) == ("left red", [])
    await say(alice, type="say", to="red", message="anyone?")
    await say(bob, type="ping", id=1)
    assert (await read(bob))["type"] == "pong"
