"""A client that leaves before the 101."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from typing import Any

import pytest
from tornado.web import HTTPError

from tests.handshakes import (
    Leaving,
    SlowAfterCheck,
    SlowBareGet,
    SlowBeforeCheck,
    SlowGet,
    SlowWithoutCheck,
    SpyStore,
    ask,
)
from tests.support import (
    Echo,
    RawClient,
    Server,
    make_auth,
    settle,
    until,
    upgrade_request,
)
from tornado_wsauth import TokenStoreError


async def leave_during(server: Server, handler: type[Leaving], waits: asyncio.Event) -> None:
    """Connect, and leave once the server waits in the middle of the handshake."""
    handler.left = asyncio.Event()
    client = await RawClient.connect(server.port)
    client.send(upgrade_request(f"/ws?token={await server.auth.issue_token('alice')}"))
    await waits.wait()
    client.abort()
    await handler.left.wait()


@pytest.mark.gen_test
async def test_a_client_that_leaves_while_the_store_is_asked_never_reaches_the_application(serve, login, caplog):
    # A10
    class Chat(Leaving):
        pass

    store = SpyStore()
    server = serve(Chat, auth=make_auth(tokens=store))
    store.block()
    await leave_during(server, Chat, store.entered)
    store.release.set()
    await until(lambda: len(server.auth.pending) == 0)
    await settle()
    assert Chat.events == []
    assert len(server.auth.connections) == 0
    assert [record for record in caplog.records if record.exc_info] == []
    await login(server)
    assert Chat.events == ["open"]


@pytest.mark.gen_test
@pytest.mark.parametrize("error", [TokenStoreError("down"), RuntimeError("bug"), None])
async def test_a_client_that_leaves_before_the_store_fails_leaves_nothing_behind(serve, error):
    # A10
    class Chat(Leaving):
        pass

    store = SpyStore()
    server = serve(Chat, auth=make_auth(tokens=store))
    store.block()
    await leave_during(server, Chat, store.entered)
    store.error = error or asyncio.CancelledError()
    store.release.set()
    await until(lambda: len(server.auth.pending) == 0)
    await settle()
    assert Chat.events == []


class Assigning(Leaving):
    """Sets its on_close() on itself."""

    def assign(self):
        self.on_close = lambda: self.events.append("close, from the instance")


class AssigningFirst(Assigning, SlowBeforeCheck):
    async def prepare(self):
        self.assign()
        await super().prepare()


class AssigningBetween(Assigning, SlowGet):
    async def prepare(self):
        self.assign()


class AssigningInGet(Assigning, SlowGet):
    async def get(self, *args, **kwargs):
        self.assign()
        await super().get(*args, **kwargs)


class SlowAndFailing(Leaving):
    async def prepare(self):
        await super().prepare()
        self.waits.set()
        await self.release.wait()
        raise HTTPError(404)


class SlowAndCatching(Leaving):
    """Knows nothing of the library's own exceptions and catches them all."""

    async def prepare(self):
        self.waits.set()
        await self.release.wait()
        with contextlib.suppress(Exception):
            await super().prepare()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "handler",
    [
        SlowBeforeCheck,
        SlowAfterCheck,
        SlowWithoutCheck,
        SlowGet,
        SlowBareGet,
        SlowAndFailing,
        SlowAndCatching,
        AssigningFirst,
        AssigningBetween,
        AssigningInGet,
    ],
)
async def test_a_client_that_leaves_while_the_application_prepares_never_reaches_it(serve, handler, caplog):
    # A10
    class Chat(handler):
        waits = asyncio.Event()
        release = asyncio.Event()

        def initialize(self):
            handlers.append(weakref.ref(self))

    handlers: list[weakref.ref[Any]] = []
    server = serve(Chat)
    await leave_during(server, Chat, Chat.waits)
    Chat.release.set()
    await settle()
    await until(lambda: len(server.auth.pending) == 0)
    server.auth.connections.broadcast("anyone there?")
    assert Chat.events == []
    assert len(server.auth.connections) == 0
    assert [record for record in caplog.records if record.exc_info] == []
    gc.collect()
    assert handlers[0]() is None  # Tornado left it open for ever


@pytest.mark.gen_test
async def test_a_client_that_leaves_before_its_token_is_looked_at_keeps_it(serve):
    # A10
    class Chat(SlowBeforeCheck):
        waits = asyncio.Event()
        release = asyncio.Event()
        left = asyncio.Event()

    store = SpyStore()
    server = serve(Chat, auth=make_auth(tokens=store))
    await leave_during(server, Chat, Chat.waits)
    Chat.release.set()
    await settle()
    assert store.redeemed == []


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [400, 404, 302])
async def test_an_application_that_refuses_in_prepare_leaves_no_pending_connection(serve, status):
    # A10
    class Chat(Echo):
        async def prepare(self):
            await super().prepare()
            if status == 302:
                self.redirect("/elsewhere")
            else:
                raise HTTPError(status)

    server = serve(Chat)
    token = await server.auth.issue_token("alice")
    assert (await ask(server, f"/ws?token={token}")).status == status
    assert len(server.auth.pending) == 0
    assert Chat.events == []
