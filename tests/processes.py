"""What the tests of several processes share: servers in one loop that know each other over a backplane alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tests.fanout import Prompt, auth_of, handler_of, stall, texts_until
from tests.support import TEXT, RawClient, Server, make_auth, settle, until
from tornado_wsauth import BackplaneError, MemoryBackplane, MemoryTokenStore
from tornado_wsauth.backplane.base import Claim, Receiver
from tornado_wsauth.backplane.memory import Hub

REVOKED, REPLACED, TOO_MANY = (4403, "revoked"), (4409, "replaced"), (4429, "too_many")


@pytest.fixture(autouse=True)
def to_the_end(io_loop: IOLoop) -> Iterator[None]:
    """Let what the end of a test sets off run, such as the return of places; import it where there are processes."""
    yield

    async def finish() -> None:
        await settle()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await settle()

    io_loop.run_sync(finish)


class SpyBackplane(MemoryBackplane):
    """Remembers what it was asked. What ``failing`` names is not answered, what ``held`` names waits for its event."""

    def __init__(self, hub: Hub, **options: Any) -> None:
        super().__init__(hub, **options)
        self.hub = hub
        self.calls: Counter[str] = Counter()
        self.published: list[tuple[str, Mapping[str, Any]]] = []
        self.heard: list[str] = []  # "+channel" and "-channel", in order
        self.failing: set[str] = set()
        self.held: dict[str, asyncio.Event] = {}
        self.receiver: Receiver | None = None

    def hold(self, what: str) -> asyncio.Event:
        """Let calls of ``what`` wait for the event that is returned."""
        self.held[what] = asyncio.Event()
        return self.held[what]

    async def _before(self, what: str) -> None:
        self.calls[what] += 1
        if what in self.held:
            await self.held[what].wait()
        if what in self.failing:
            raise BackplaneError(f"no answer to {what}")

    async def start(self, receiver: Receiver) -> None:
        self.receiver = receiver
        await self._before("start")
        await super().start(receiver)

    async def close(self) -> None:
        await self._before("close")
        await super().close()

    async def publish(self, channel: str, message: Mapping[str, Any]) -> None:
        await self._before("publish")
        self.published.append((channel, message))
        await super().publish(channel, message)

    async def announce(self, message: Mapping[str, Any]) -> None:
        await self._before("announce")
        await super().announce(message)

    async def peers(self) -> frozenset[str]:
        await self._before("peers")
        return await super().peers()

    async def claim(self, user_id: str, name: str, *, most: int, evict: bool = False) -> Claim:
        await self._before("claim")
        return await super().claim(user_id, name, most=most, evict=evict)

    async def release(self, user_id: str, name: str) -> None:
        await self._before("release")
        await super().release(user_id, name)

    def listen(self, channel: str) -> None:
        self.heard.append(f"+{channel}")
        super().listen(channel)

    def ignore(self, channel: str) -> None:
        self.heard.append(f"-{channel}")
        super().ignore(channel)


class Stranger:
    """A process that runs something else: it sends whatever it is told to, and answers nothing."""

    def __init__(self, hub: Hub) -> None:
        self.backplane = MemoryBackplane(hub)
        self.received: list[Mapping[str, Any]] = []

    async def start(self) -> Stranger:
        await self.backplane.start(self)
        return self

    async def send(self, message: Mapping[str, Any], channel: str = "everyone") -> None:
        """Send ``message`` and wait until it has been dealt with."""
        await self.backplane.publish(channel, message)
        await settle()

    def receive(self, channel: str, message: Mapping[str, Any]) -> None:
        self.received.append(message)

    def gap(self) -> None:
        """Nothing of what it missed would have mattered."""

    def forgotten(self) -> None:
        """It claims no places."""


async def processes(
    serve: Callable[..., Server],
    number: int = 2,
    *,
    handler: type = Prompt,
    spy: type[SpyBackplane] = SpyBackplane,
    **options: Any,
) -> list[Server]:
    """Start servers that share a token store and a hub, and nothing else."""
    hub = Hub()
    options.setdefault("tokens", MemoryTokenStore())
    options.setdefault("max_tokens_per_user", 100)
    servers = [serve(handler, make_auth(backplane=spy(hub), **options)) for _ in range(number)]
    for server in servers:
        await auth_of(server).start()
    return servers


def backplane_of(server: Server) -> SpyBackplane:
    backplane = auth_of(server).backplane
    assert isinstance(backplane, SpyBackplane)
    return backplane


def hub_of(server: Server) -> Hub:
    return backplane_of(server).hub


def places_of(server: Server, user: str = "alice") -> int:
    """Return how many places the user has in all processes."""
    return len(hub_of(server).places.get(user, []))


async def path_of(server: Server, user: str = "alice") -> str:
    """Return the path of an upgrade with a new token."""
    return f"/ws?token={await auth_of(server).issue_token(user)}"


async def everywhere(
    login: Callable[..., Awaitable[RawClient]], servers: list[Server], user: str = "alice"
) -> list[RawClient]:
    """Log a user in to each process."""
    return [await login(server, user) for server in servers]


async def heard_by(servers: list[Server], clients: list[RawClient]) -> list[list[str]]:
    """Return what each client has received until now; whatever was under way has arrived."""
    await settle()
    for server in servers:
        auth_of(server).connections.broadcast("(end)")
    return [(await texts_until(client, "(end)"))[:-1] for client in clients]


async def is_served(client: RawClient) -> bool:
    """Say whether the next thing the client gets is the echo of what it sends now."""
    client.send_text("still there?")
    return await client.read_frame() == (TEXT, b"still there?")


async def log_in_slow(login: Callable[..., Awaitable[RawClient]], server: Server) -> RawClient:
    """Log in a user "slow" who reads nothing from now on."""
    client = await login(server, "slow")
    await until(lambda: "open" in handler_of(server, "slow").events)
    stall(client)
    return client
