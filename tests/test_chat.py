"""Tornado's own way of writing a chat, with the mixin in front, and what a session is for."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tornado.websocket import WebSocketHandler

from tests.support import (
    AppError,
    Echo,
    RawClient,
    errors,
    frame,
    jwt_message,
    make_jwt,
    nothing_is_left,
    settle,
    until,
)
from tornado_wsauth import WebSocketAuthMixin


class ChatSocketHandler(WebSocketHandler):
    """As Tornado's demos/websocket writes it."""

    waiters: set[Any] = set()
    cache: list[str] = []

    def get_compression_options(self):
        return {}

    def open(self):
        ChatSocketHandler.waiters.add(self)

    def on_close(self):
        ChatSocketHandler.waiters.remove(self)

    @classmethod
    def send_updates(cls, chat):
        for waiter in cls.waiters:
            try:
                waiter.write_message(chat)
            except Exception:
                logging.exception("Error sending message")

    def on_message(self, message):
        self.cache.append(message)
        ChatSocketHandler.send_updates(message)


class AuthenticatedChat(WebSocketAuthMixin, ChatSocketHandler):
    pass


@pytest.mark.gen_test
async def test_tornados_chat_works_unchanged_and_nobody_unauthenticated_ever_waits_in_it(serve, connect, login, caplog):
    # A11, A12, A19
    waiters = ChatSocketHandler.waiters
    server = serve(AuthenticatedChat)
    refused = await RawClient.connect(server.port)
    assert (await refused.upgrade("/ws")).status == 401
    strangers = [(await connect(server))[0] for _ in range(3)]
    assert waiters == set()
    alice, bob = await login(server), await login(server, "bob")
    await until(lambda: len(waiters) == 2)
    strangers[0].send(frame(jwt_message(make_jwt(secret="k" * 40)).encode()) + frame(b"spam"))
    assert await strangers[0].read_close() == (4401, "jwt_invalid")
    strangers[1].abort()
    alice.send_text("hi")
    assert (await alice.read_frame())[1] == b"hi"
    assert (await bob.read_frame())[1] == b"hi"
    await bob.close()
    await until(lambda: len(waiters) == 1)
    alice.send_text("alone")
    assert (await alice.read_frame())[1] == b"alone"
    await alice.close()
    await until(lambda: len(waiters) == 0)
    strangers[2].send_text("let me in")
    assert await strangers[2].read_close() == (4400, "bad_message")
    for client in (refused, *strangers):
        await client.close()
    await nothing_is_left(server)
    assert ChatSocketHandler.cache == ["hi", "alone"]
    assert errors(caplog) == []


@pytest.mark.gen_test
async def test_the_session_knows_the_user_the_claims_and_the_expiry(serve, connect):
    seen = {}

    class Chat(Echo):
        def open(self):
            session = self.auth_session
            seen.update(
                user=session.user_id, role=session.claims["role"], end=session.expires_at, id=session.session_id
            )

    server = serve(Chat)
    ids = set()
    for _ in range(2):
        client, _ = await connect(server)
        client.send_text(jwt_message(make_jwt("alice", role="admin", exp=4_000_000_000)))
        await client.read_json()
        await until(lambda: "id" in seen)
        ids.add(seen.pop("id"))
        assert seen == {"user": "alice", "role": "admin", "end": 4_000_000_000}
    assert len(ids) == 2


@pytest.mark.gen_test
async def test_a_group_receives_its_broadcasts_until_its_members_leave(serve, login):
    class Chat(Echo):
        def on_message(self, message):
            order, _, group = message.partition(" ")
            getattr(self.auth_session, order)(group)
            self.write_message(" ".join(sorted(self.auth_session.groups)) or "none")

    server = serve(Chat)
    connections = server.auth.connections
    alice, bob = await login(server), await login(server, "bob")
    for client in (alice, bob):
        client.send_text("join red")
        assert (await client.read_frame())[1] == b"red"
    assert connections.broadcast("to red", group="red").sent == 2
    bob.send_text("leave red")
    assert (await alice.read_frame())[1] == b"to red"
    assert (await bob.read_frame())[1] == b"to red"
    assert (await bob.read_frame())[1] == b"none"
    assert connections.broadcast("again", group="red").sent == 1
    assert (await alice.read_frame())[1] == b"again"
    await alice.close()
    await until(lambda: connections.count("red") == 0)
    assert connections.count() == 1


@pytest.mark.gen_test
async def test_call_every_calls_for_as_long_as_the_connection_lives(serve, login):
    periodic = []

    class Chat(Echo):
        def open(self):
            self.number = 0
            periodic.append(self.auth_session.call_every(self.tick, 1))

        async def tick(self):
            self.number += 1
            await self.write_message(str(self.number))

    server = serve(Chat)
    client = await login(server)
    assert [(await client.read_frame())[1] for _ in range(3)] == [b"1", b"2", b"3"]
    await client.close()
    await nothing_is_left(server)
    await until(lambda: not periodic[0].is_running())


@pytest.mark.gen_test
async def test_call_every_ends_with_an_open_that_raises(serve, login):
    # A19
    periodic = []

    class Chat(Echo):
        def open(self):
            periodic.append(self.auth_session.call_every(lambda: None, 1))
            raise AppError("x")

    server = serve(Chat)
    client = await login(server)
    assert (await client.read_close())[0] == 1011
    assert not periodic[0].is_running()


@pytest.mark.gen_test
async def test_call_every_on_a_connection_that_has_closed_starts_nothing(serve, login):
    periodic = []

    class Chat(Echo):
        def on_close(self):
            self.auth_session.join("room")
            periodic.append(self.auth_session.call_every(lambda: None, 1))

    server = serve(Chat)
    client = await login(server)
    await client.close()
    await until(lambda: len(periodic) == 1)
    await settle()
    assert not periodic[0].is_running()
    assert server.auth.connections.count("room") == 0
