"""``python -m example_app --processes 4``: one application, whichever process answers."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator

import jwt as pyjwt
import pytest
from tornado.websocket import WebSocketClientConnection

from tests.example.several import PATIENCE, USERS, Several, option_for
from tests.example.site import Visitor, read_kinds, refused_with, say

INTERVAL_MS = 300
LOGOUT_WITHIN = 2.0  # seconds


@pytest.fixture(scope="module", params=["redis", "mongo"])
def several(request: pytest.FixtureRequest) -> Iterator[Several]:
    with option_for(request.param, lambda: request.getfixturevalue("mongodb_uri")) as option:
        started = Several(option, "--grace=1", processes=4, broadcast_interval_ms=INTERVAL_MS)
        yield started
        started.close()


@pytest.fixture
def visitor(visitor_of, several: Several) -> Visitor:
    return visitor_of(several.port)


async def enter_elsewhere(visitor: Visitor, username: str, *avoided: int) -> tuple[WebSocketClientConnection, str]:
    """Return a socket to a process that is none of ``avoided``, and its login. The others it took are closed again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            session = await visitor.log_in(username)
            ws = await visitor.enter(session=session)
            if visitor.process_of[ws] not in avoided:
                return ws, session
            ws.close()


async def enter_everywhere(visitor: Visitor, processes: int, least: int) -> list[WebSocketClientConnection]:
    """Return sockets to all processes, ``least`` of them or more: no more than three of a user.

    Which process takes a connection is the kernel's choice, so whoever comes to one that has a socket tries again.
    """
    sockets: list[WebSocketClientConnection] = []
    users = itertools.cycle(USERS)
    user = next(users)
    while {visitor.process_of[ws] for ws in sockets} != set(range(1, processes + 1)):
        ws = await visitor.enter(user)
        if visitor.process_of[ws] in {visitor.process_of[other] for other in sockets}:
            ws.close()
            while await ws.read_message() is not None:
                pass
        else:
            sockets.append(ws)
            user = next(users)
    while len(sockets) < min(least, 3 * len(USERS)):
        sockets.append(await visitor.enter(next(users)))
    return sockets


async def read_broadcast(ws: WebSocketClientConnection) -> tuple[int, float]:
    """Return who said the next one, and when."""
    *_, message = await read_kinds(ws, {"broadcast"})
    return message["process"], message["uptime"]


async def read_broadcasts(
    ws: WebSocketClientConnection, first: tuple[int, float], count: int
) -> list[tuple[int, float]]:
    """Return ``first`` and as many after it as make ``count``."""
    while (seen := await read_broadcast(ws)) != first:
        pass
    return [seen, *[await read_broadcast(ws) for _ in range(count - 1)]]


@pytest.mark.gen_test
async def test_each_client_of_each_process_hears_each_broadcast_once(several, visitor):
    early = await enter_everywhere(visitor, several.processes, least=12)
    late = await visitor.enter(USERS[-1])
    first = await read_broadcast(late)
    heard = await asyncio.gather(*(read_broadcasts(ws, first, 7) for ws in early))
    expected = [first, *[await read_broadcast(late) for _ in range(6)]]
    assert heard == [expected] * len(early)
    assert len(set(expected)) == len(expected)


@pytest.mark.gen_test
async def test_who_is_online_is_counted_in_all_processes(several, visitor):
    with several.lines() as lines:
        several.wait_until(lambda: lines[1].status()["online"] == 0, "the end of the test before")
        sockets = await enter_everywhere(visitor, several.processes, least=4)
        said = {number: line.status() for number, line in lines.items()}
    assert {status["online"] for status in said.values()} == {len(sockets)}
    assert {number: (status["process"], status["processes"]) for number, status in said.items()} == {
        number: (number, 4) for number in range(1, 5)
    }


@pytest.mark.gen_test
async def test_a_group_hears_what_is_said_to_it_in_another_process(visitor):
    listener, _ = await enter_elsewhere(visitor, "alice")
    speaker, _ = await enter_elsewhere(visitor, "bob", visitor.process_of[listener])
    await say(listener, type="join", group="red")
    await read_kinds(listener, {"session"})
    heard = asyncio.ensure_future(read_kinds(listener, {"group"}))
    while not heard.done():  # until the other process knows that somebody here listens
        await say(speaker, type="say", to="red", message="hi")
        await asyncio.wait([heard], timeout=0.1)
    assert heard.result()[-1] == {"type": "group", "group": "red", "from": "bob", "message": "hi"}


@pytest.mark.gen_test
async def test_logging_out_everywhere_reaches_sockets_and_jwts_in_all_processes(several, visitor):  # A25
    here, session = await enter_elsewhere(visitor, "alice")
    there, _ = await enter_elsewhere(visitor, "alice", visitor.process_of[here])
    stays, _ = await enter_elsewhere(visitor, "bob")
    jwt = await visitor.jwt(session)
    with several.lines() as lines:
        (elsewhere, *_) = set(lines) - {visitor.process_of[here], visitor.process_of[there]}
        assert lines[elsewhere].post("/logout", session)[0] == 204
        async with asyncio.timeout(LOGOUT_WITHIN):
            assert [await end_of(ws) for ws in (here, there)] == [(4403, "revoked")] * 2
        assert {line.post("/jwt", session)[0] for line in lines.values()} == {401}
        assert {line.post("/ws/token", jwt)[0] for line in lines.values()} == {401}
    await say(stays, type="ping", id=1)
    await read_kinds(stays, {"pong"})


@pytest.mark.gen_test
async def test_logging_out_here_reaches_this_login_in_another_process_and_no_other_login(several, visitor):
    ends, session = await enter_elsewhere(visitor, "alice")
    stays, _ = await enter_elsewhere(visitor, "alice")
    with several.lines() as lines:
        (elsewhere, *_) = set(lines) - {visitor.process_of[ends]}
        assert lines[elsewhere].post("/logout/here", session)[0] == 204
    async with asyncio.timeout(LOGOUT_WITHIN):
        assert await end_of(ends) == (4403, "revoked")
    await say(stays, type="ping", id=1)
    await read_kinds(stays, {"pong"})


async def end_of(ws: WebSocketClientConnection) -> tuple[int | None, str | None]:
    """Return the close code and reason, after whatever was broadcast before."""
    while await ws.read_message() is not None:
        pass
    return ws.close_code, ws.close_reason


@pytest.mark.gen_test
async def test_a_token_of_any_process_is_redeemed_by_any_other_once(several, visitor):
    ways = Counter[tuple[int, int]]()
    with several.lines() as lines:
        for number, line in itertools.islice(itertools.cycle(lines.items()), 12):
            username = USERS[len(ways) % len(USERS)]
            jwt = line.post("/jwt", line.log_in(username))[1]["jwt"]
            token = line.post("/ws/token", jwt)[1]["token"]
            ws = await visitor.connect(token)
            await ws.write_message(f'{{"type": "jwt", "token": "{jwt}"}}')
            *_, session = await read_kinds(ws, {"auth_ok", "session"})
            ways[number, session["process"]] += 1
            assert await refused_with(visitor.connect(token)) == 401
            ws.close()
    assert [way for way in ways if way[0] != way[1]], ways


@pytest.mark.gen_test
async def test_after_a_rotation_in_one_process_all_sign_with_the_new_key_and_accept_the_one_before(several):
    with several.lines() as lines:
        session = lines[1].log_in("bob")

        def jwt_of(number: int) -> str:
            return str(lines[number].post("/jwt", session)[1]["jwt"])

        def answers_to(jwt: str) -> set[int]:
            return {line.post("/ws/token", jwt)[0] for line in lines.values()}

        def rotate(number: int) -> None:
            assert lines[number].post("/demo/rotate-keys", session)[0] == 204
            signed = {pyjwt.get_unverified_header(jwt_of(other))["kid"] for other in lines}
            assert signed == {lines[4].status()["key_id"]}

        before = jwt_of(1)
        rotate(2)
        assert answers_to(before) == {200}
        assert answers_to(jwt_of(4)) == {200}
        rotate(3)
        assert answers_to(before) == {401}


@pytest.mark.gen_test
async def test_a_restart_concerns_the_clients_of_the_process_that_was_asked_and_no_others(several, visitor):
    sockets = await enter_everywhere(visitor, several.processes, least=8)
    with several.lines() as lines:
        session = lines[1].log_in("bob")
        assert lines[1].post("/demo/restart", session) == (202, {"process": 1})
    for ws in sockets:
        if visitor.process_of[ws] == 1:
            assert await end_of(ws) == (1012, "restart")
        else:
            await say(ws, type="ping", id=1)
            await read_kinds(ws, {"pong"})
    several.wait_until(lambda: "Process 1 restarted; this is start 2.\n" in several.said, "its return")
    with several.lines() as lines:
        assert lines[1].status()["starts"] == 2
        assert lines[2].status()["starts"] == 1
        assert lines[1].post("/jwt", session)[0] == 200
