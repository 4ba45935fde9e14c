"""Connections come, are authenticated, join, expire and go in any order: everyone gets what is his and no more."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fanout import Prompt, complaints, connections_of, handler_of, reset, slice_by, texts_until
from tests.support import (
    CLOSE,
    TEXT,
    RawClient,
    Server,
    frame,
    jwt_message,
    make_auth,
    make_jwt,
    nothing_is_left,
    settle,
    until,
)
from tornado_wsauth import FanOut
from tornado_wsauth.gate import JWT_EXPIRED

# --- any order of anything -------------------------------------------------------------------------------------------


class Chat(Prompt):
    async def load_auth_user(self, claims: dict[str, Any]) -> Any:
        for _ in range(3):
            await asyncio.sleep(0)
            assert connections_of(World.server).for_user(claims["sub"]) == []
        return claims["sub"]


class Player:
    """A client, what the model knows of it, and what it received."""

    def __init__(self, name: str, client: RawClient) -> None:
        self.name = name
        self.client = client
        self.handler: Any = None
        self.state = "waiting"  # checking, open, leaving (by its own will), ending (by ours), gone
        self.groups: set[str] = set()
        self.may: list[str] = []  # what it may receive, in this order and without gaps …
        self.from_at_most = 0  # … beginning here or, while it was being checked, before …
        self.must = 0  # … and ending here or later
        self.frames: list[tuple[int, bytes]] = []
        self.reading = asyncio.ensure_future(self.read())

    async def read(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                opcode, payload = await self.client.read_frame()
                self.frames.append((opcode, payload))
                if opcode == CLOSE and self.state != "leaving":
                    self.client.send(frame(payload[:2], CLOSE))

    @property
    def texts(self) -> list[str]:
        """What it received after its ``auth_ok``."""
        return [payload.decode() for opcode, payload in self.frames if opcode == TEXT][1:]

    def has_everything(self) -> bool:
        return self.texts[-1:] == self.may[-1:] if len(self.may) > self.from_at_most else True

    def check(self) -> None:
        opcodes = [opcode for opcode, _ in self.frames]
        assert CLOSE not in opcodes[:-1], "something followed the close frame"
        if self.handler is None and self.state != "checking":
            assert self.frames == [], "not authenticated"
        if opcodes[:1] == [TEXT]:
            assert json.loads(self.frames[0][1])["type"] == "auth_ok"
        begin = self.may.index(self.texts[0]) if self.texts else self.from_at_most
        end = begin + len(self.texts)
        assert self.texts == self.may[begin:end]
        assert begin <= self.from_at_most
        assert end >= self.must, f"{self.name}: {self.may[end : self.must]} did not arrive"


class World:
    """A server, its clients, and what can happen to them: each method takes what Hypothesis drew."""

    server: Server

    def __init__(self, sliced: bool) -> None:
        World.server = Server([(r"/ws", Chat)], make_auth(), {"websocket_ping_interval": 30})
        self.connections = connections_of(self.server)
        self.sliced = sliced
        self.players: list[Player] = []
        self.sent = 0

    def observe(self) -> None:
        """Learn from the server who was authenticated and who has left; nothing is sent while it finds out."""
        for player in self.players:
            handlers = self.connections.for_user(player.name)
            if player.state == "checking":
                if handlers:
                    player.state, player.handler = "open", handlers[0]
                else:
                    player.from_at_most = len(player.may)
            elif player.state == "leaving" and not handlers:
                player.state = "gone"

    def one(self, number: int, *states: str) -> Player | None:
        players = [player for player in self.players if player.state in states]
        return players[number % len(players)] if players else None

    def tell(self, players: list[Player]) -> str:
        self.sent += 1
        for player in players:
            if player.state in ("checking", "open", "leaving"):
                player.may.append(f"message {self.sent}")
        return f"message {self.sent}"

    def counted(self, fan_out: FanOut, players: list[Player]) -> None:
        states = [player.state for player in players]
        assert states.count("open") <= fan_out.sent <= states.count("open") + states.count("leaving")
        assert fan_out.dropped == 0

    async def connect(self, number: int, group: str | None) -> None:
        if len(self.players) < 6:
            name = f"user {len(self.players)}"
            client = await RawClient.connect(self.server.port)
            assert self.server.auth is not None
            await client.upgrade(f"/ws?token={await self.server.auth.issue_token(name)}")
            self.players.append(Player(name, client))

    def authenticate(self, number: int, group: str | None) -> None:
        if player := self.one(number, "waiting"):
            player.client.send_text(jwt_message(make_jwt(player.name)))
            player.state = "checking"

    def join(self, number: int, group: str | None) -> None:
        if player := self.one(number, "open"):
            player.handler.auth_session.join(group or "red")
            player.groups.add(group or "red")

    def leave(self, number: int, group: str | None) -> None:
        if player := self.one(number, "open"):
            player.handler.auth_session.leave(group or "red")
            player.groups.discard(group or "red")

    def expire(self, number: int, group: str | None) -> None:
        if player := self.one(number, "open"):
            must = player.must if self.sliced else len(player.may)
            player.handler._wsauth_guard.close(JWT_EXPIRED)
            player.state, player.must = "ending", must

    def close(self, number: int, group: str | None) -> None:
        if player := self.one(number, "open"):
            player.handler.close(4000, "bye")
            player.state, player.must = "ending", len(player.may)

    def client_closes(self, number: int, group: str | None) -> None:
        if player := self.one(number, "open"):
            player.client.send(frame(struct.pack("!H", 1000), CLOSE))
            player.state = "leaving"

    def client_is_gone(self, number: int, group: str | None) -> None:
        if player := self.one(number, "open"):
            reset(player.client)
            player.state = "leaving"

    def broadcast(self, number: int, group: str | None) -> None:
        to = [player for player in self.players if group is None or group in player.groups]
        message, slow = self.tell(to), ("close", "drop", "latest")[number % 3]
        self.counted(self.connections.broadcast(message, group=group, slow=slow), to)

    def send_to_user(self, number: int, group: str | None) -> None:
        if player := self.one(number, "waiting", "checking", "open", "ending", "leaving", "gone"):
            message = self.tell([player])
            self.counted(self.connections.send_to_user(player.name, message), [player])

    def write(self, number: int, group: str | None) -> None:
        if player := self.one(number, "open"):
            player.handler.write_message(self.tell([player]))

    async def turn(self, number: int, group: str | None) -> None:
        for _ in range(number + 1):
            await asyncio.sleep(0)

    async def let_arrive(self, number: int = 0, group: str | None = None) -> None:
        """Wait until everyone who is there has everything."""
        deadline = asyncio.get_running_loop().time() + 0.5
        while asyncio.get_running_loop().time() < deadline:
            self.observe()
            here = [player for player in self.players if player.state == "open"]
            if all(player.has_everything() for player in here):
                break
            await asyncio.sleep(0.0005)
        for player in here:
            player.must = len(player.may)
            player.check()

    async def end(self) -> None:
        await self.let_arrive()
        await asyncio.gather(
            *(player.reading for player in self.players if player.state in ("ending", "leaving", "gone"))
        )
        for player in self.players:
            await player.client.close()
            await player.reading
        await nothing_is_left(self.server)
        await self.server.close()
        for player in self.players:
            player.check()
            if player.state == "ending":
                assert player.frames[-1] in ((CLOSE, b"\x11\x31jwt_expired"), (CLOSE, b"\x0f\xa0bye"))


HAPPENINGS = [name for name in vars(World) if name not in ("server", "observe", "one", "tell", "counted", "end")]
HAPPENINGS = [name for name in HAPPENINGS if not name.startswith("_")] + ["broadcast", "broadcast", "write"]


async def play(sliced: bool, members: int, happenings: list[tuple[str, int, str | None]]) -> None:
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    world = World(sliced)
    for number in range(members):
        await world.connect(0, None)
        world.authenticate(0, None)
        while world.players[-1].state != "open":
            await asyncio.sleep(0)
            world.observe()
        if number % 2:
            world.join(number, "red")
    for name, number, group in happenings:
        world.observe()
        happened = getattr(world, name)(number, group)
        if happened is not None:
            await happened
    async with asyncio.timeout(3):
        await world.end()
    assert problems == []


@pytest.mark.parametrize("sliced", [False, True])
def test_everyone_gets_what_was_sent_while_he_was_authenticated_and_a_member_and_nothing_else(monkeypatch, sliced):
    # A31
    if sliced:
        slice_by(monkeypatch)
    happening = st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 5), st.sampled_from([None, "red", "blue"]))

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # an example that fails may take seconds: no shrinking
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(1, 4), st.lists(happening, min_size=4, max_size=16))
    def check(members: int, happenings: list[tuple[str, int, str | None]]) -> None:
        asyncio.run(play(sliced, members, happenings))

    check()


# --- whoever comes and goes ------------------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_connection_that_is_gone_without_our_knowing_is_in_nobodys_way(serve, login, caplog):
    # A33
    caplog.set_level(logging.DEBUG)
    server = serve(Prompt)
    connections = connections_of(server)
    clients = [await login(server, f"user {number}") for number in range(6)]
    for client in clients[::2]:
        reset(client)
    await asyncio.sleep(0)
    assert len(connections) == 6, "the server has not noticed"
    fan_out = connections.broadcast("first")
    assert fan_out.sent + fan_out.closed == 6
    assert connections.broadcast("second").sent >= 3
    for client in clients[1::2]:
        assert await texts_until(client, "second") == ["first", "second"]
    await until(lambda: len(connections) == 3)
    assert connections.broadcast("third") == FanOut(3, 0, 0)
    gc.collect()
    await settle()
    assert complaints(caplog) == []


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["close", "end", "leave", "broadcast"])
async def test_what_on_close_does_to_the_others_during_a_broadcast_skips_nobody_who_stays(serve, login, caplog, how):
    # A33
    class Chat(Prompt):
        def on_close(self) -> None:
            super().on_close()
            if self.auth_session.user_id != "user 0":
                return
            if how == "broadcast":
                connections.broadcast("goodbye", group="red")
                return
            victim = handler_of(server, "user 2")
            if how == "close":
                victim.close(4000, "with him")
            elif how == "end":
                victim.ws_connection.stream.close()
            else:
                victim.auth_session.leave("red")

    caplog.set_level(logging.DEBUG)
    server = serve(Chat)
    connections = connections_of(server)
    clients = [await login(server, f"user {number}") for number in range(4)]
    for handler in connections:
        handler.auth_session.join("red")
    reset(clients[0])
    await asyncio.sleep(0)
    assert len(connections) == 4
    connections.broadcast("first", group="red")
    for _ in range(3):
        connections.broadcast("again", group="red")
    await until(lambda: "close" in Chat.events)
    connections.broadcast("last", group="red")
    for number in (1, 3):
        texts = await texts_until(clients[number], "last")
        assert [text for text in texts if text != "goodbye"] == ["first", "again", "again", "again", "last"]
        assert texts.count("goodbye") == (how == "broadcast")
    assert complaints(caplog) == []


@pytest.mark.gen_test
async def test_joining_leaving_and_closing_while_iterating_and_broadcasting_skips_nobody(serve, login):
    # A33
    server = serve(Prompt)
    connections = connections_of(server)
    clients = [await login(server, f"user {number}") for number in range(5)]
    sessions = [handler.auth_session for handler in connections]
    for session in sessions:
        session.join("red")
    for number, handler in enumerate(connections):
        sent = connections.broadcast(f"{number}", group="red").sent
        assert sent == [5, 4, 3, 2, 2][number]
        handler.auth_session.leave("red")
        if number == 1:
            sessions[3].handler.close(4000, "goodbye")
            sessions[3].leave("red")
            sessions[3].join("blue")
            sessions[0].join("red")  # so that there are as many as before
    connections.broadcast("the end")
    assert await texts_until(clients[4], "the end") == ["0", "1", "2", "3", "4", "the end"]
    assert await texts_until(clients[2], "the end") == ["0", "1", "2", "the end"]
    assert await texts_until(clients[0], "the end") == ["0", "2", "3", "4", "the end"]
    assert [(await clients[3].read_frame())[1] for _ in range(3)] == [b"0", b"1", b"\x0f\xa0goodbye"]


@pytest.mark.gen_test
async def test_an_open_that_broadcasts_and_a_message_that_comes_with_the_jwt_keep_their_order(serve, connect):
    # A33
    class Chat(Prompt):
        def open(self, *args: str, **kwargs: str) -> None:
            super().open(*args, **kwargs)
            connections_of(server).broadcast(f"{self.auth_session.user_id} is here")
            self.write_message("welcome")

    server = serve(Chat)
    for number in range(3):
        client, _ = await connect(server, f"user {number}")
        client.send(frame(jwt_message(make_jwt(f"user {number}")).encode()) + frame(b"hello"))
        assert (await client.read_json())["type"] == "auth_ok"
        assert await texts_until(client, "hello") == [f"user {number} is here", "welcome", "hello"]
        client.abort()
    await nothing_is_left(server)
