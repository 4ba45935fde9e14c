"""Everything that is counted, done once and again: two processes, and clients of every kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.fanout import auth_of
from tests.operate.prometheus import process_registry
from tests.processes import SpyBackplane
from tests.support import Echo, RawClient, Server, http, jwt_message, make_auth, make_jwt
from tornado_wsauth import HealthHandler, MemoryTokenStore, TokenStoreError
from tornado_wsauth.backplane.memory import Hub
from tornado_wsauth.metrics import Metrics, MetricsHandler

ROUTES = [(r"/metrics", MetricsHandler), (r"/health/(live|ready)", HealthHandler)]


class FlakyTokenStore(MemoryTokenStore):
    """Answers, unless it is told to be down."""

    is_down = False

    async def issue(self, *args: Any, **options: Any) -> str:
        if self.is_down:
            raise TokenStoreError("down, for the test")
        return await super().issue(*args, **options)


async def two_processes(serve: Callable[..., Server]) -> list[Server]:
    """Start two servers that share a token store and a backplane, each with metrics of its own."""
    hub, tokens = Hub(), FlakyTokenStore()
    servers = []
    for _ in range(2):
        auth = make_auth(
            tokens=tokens,
            backplane=SpyBackplane(hub),
            metrics=Metrics(process_registry()),
            max_tokens_per_user=1000,
            max_connections_per_user=1000,
        )
        await auth.start()
        servers.append(serve(Echo, auth, routes=ROUTES))
    return servers


async def come_and_go(
    servers: list[Server], login: Callable[..., Awaitable[RawClient]], connect: Callable[..., Awaitable[Any]]
) -> None:
    """Do one of everything: let in, turned away, broadcast, and something that does not answer."""
    server = servers[0]
    auth = auth_of(server)
    client = await login(server)
    client.send_text(jwt_message(make_jwt("alice", expires_in=900)))
    assert (await client.read_json())["type"] == "auth_ok"
    auth.connections.broadcast("hello")
    await auth.broadcast("goal!", group="nobody is in it")
    await auth.send_to_user("alice", "hello")
    await auth.count()

    token = await auth.issue_token("alice")
    for expected in (101, 401):  # the second is a replay
        _, response = await connect(server, path=f"/ws?token={token}")
        assert response.status == expected
    assert (await http(server, Authorization="Bearer none")).status == 401

    backplane, store = auth.backplane, auth.tokens
    assert isinstance(backplane, SpyBackplane)
    assert isinstance(store, FlakyTokenStore)
    backplane.failing, store.is_down = {"publish"}, True
    await auth.broadcast("is lost")
    assert (await http(server, Authorization=f"Bearer {make_jwt()}")).status == 503
    backplane.failing, store.is_down = set(), False
    await auth.broadcast("tells the others of it")
    client.abort()
