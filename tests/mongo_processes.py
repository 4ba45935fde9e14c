"""Processes with a `MongoBackplane` each, on collections of their own, for the tests of what is MongoDB's own."""

from __future__ import annotations

import asyncio
import gc
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from pymongo.monitoring import CommandListener

from tests.mongod import MONGO_FLAVOURS
from tornado_wsauth.backoff import Seams
from tornado_wsauth.backplane.base import DEAD_AFTER, HEARTBEAT
from tornado_wsauth.backplane.mongo import MongoBackplane

pytestmark = [
    pytest.mark.engines,
    pytest.mark.usefixtures("collected"),
    # PyMongo leaves a socket to the collector when it gives up a connection.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

every_flavour = pytest.mark.parametrize("flavour", MONGO_FLAVOURS)

MESSAGES, PROCESSES, PLACES = "messages", "processes", "places"


@pytest.fixture
def collected() -> Iterator[None]:
    """Collect what the driver left here, where it may, and not in the next module's tests."""
    yield
    gc.collect()


class Steps(Seams):
    """Attempts follow each other at once; the heart beats when `beat` says so."""

    def __init__(self) -> None:
        self._due = asyncio.Event()
        self._begun = asyncio.Event()

    def uniform(self, limit: float) -> float:
        return 0.0

    async def pause(self, seconds: float, woken: asyncio.Event) -> None:
        if seconds == HEARTBEAT:
            self._begun.set()
            await self._due.wait()
            self._due.clear()
        else:
            await asyncio.sleep(0.01)  # the server must not be asked without a break

    async def beat(self) -> None:
        """Let the heart beat once, and wait until it has."""
        await self._begun.wait()
        self._begun.clear()
        self._due.set()
        await self._begun.wait()


class Recorder:
    """A receiver that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._changed = asyncio.Event()

    def _add(self, event: Any) -> None:
        self.events.append(event)
        self._changed.set()

    def receive(self, channel: str, message: Mapping[str, Any]) -> None:
        self._add((channel, message))

    def gap(self) -> None:
        self._add("gap")

    def forgotten(self) -> None:
        self._add("forgotten")

    async def until(self, event: Any) -> None:
        """Wait until ``event`` has come in."""
        async with asyncio.timeout(15):
            while event not in self.events:
                self._changed.clear()
                await self._changed.wait()


class Process:
    """A backplane and its receiver, as one process has them."""

    def __init__(self, database: Any, prefix: str, **options: Any) -> None:
        self.steps, self.recorder = Steps(), Recorder()
        self.backplane = MongoBackplane(database, prefix=prefix, seams=self.steps, **options)
        self.id = self.backplane.process_id

    @property
    def received(self) -> list[Any]:
        return self.recorder.events


class Cluster:
    """Processes with collections of their own."""

    def __init__(self, make_client: Callable[..., Any], name: str) -> None:
        self._make_client = make_client
        self._name = name
        self.prefix = f"wsauth_{secrets.token_hex(4)}_"
        self.processes: list[Process] = []

    def database(self, flavour: str = "pymongo", **client: Any) -> Any:
        return self._make_client(flavour, **client)[self._name]

    def collection(self, name: str, **client: Any) -> Any:
        return self.database(**client)[self.prefix + name]

    def make(self, database: Any = None, **options: Any) -> Process:
        self.processes.append(Process(self.database() if database is None else database, self.prefix, **options))
        return self.processes[-1]

    async def start(self, database: Any = None, **options: Any) -> Process:
        process = self.make(database, **options)
        await process.backplane.start(process.recorder)
        return process

    async def place_owners(self, user_id: str) -> list[tuple[str, str]]:
        document = await self.collection(PLACES).find_one({"_id": user_id})
        return [(place["process"], place["name"]) for place in (document or {"places": []})["places"]]

    async def die(self, process: Process, *, ago: float = DEAD_AFTER) -> None:
        """Make it look as if its last sign of life was ``ago`` seconds ago."""
        earlier = {"seen_at": {"$subtract": ["$seen_at", round(ago * 1000)]}}
        await self.collection(PROCESSES).update_one({"_id": process.id}, [{"$set": earlier}])


@pytest.fixture
def cluster(io_loop: Any, mongo_client: Callable[..., Any], mongo_database_name: str) -> Iterator[Cluster]:
    cluster = Cluster(mongo_client, mongo_database_name)
    yield cluster

    async def close() -> None:
        await asyncio.gather(*(process.backplane.close() for process in cluster.processes))

    io_loop.run_sync(close)


async def cut_off(backplane: MongoBackplane) -> None:
    """Wait until it knows that messages do not arrive."""
    async with asyncio.timeout(15):
        while backplane.is_connected:
            await asyncio.sleep(0.01)


async def connected(backplane: MongoBackplane) -> None:
    async with asyncio.timeout(15):
        await backplane._connected.wait()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "tornado_wsauth"]


async def indexes_of(collection: Any) -> dict[str, Any]:
    information = await collection.index_information()
    return {name: (index["key"], index.get("expireAfterSeconds")) for name, index in information.items()}


RIGHT_INDEXES = {
    "_id_": ([("_id", 1)], None),
    "at_1": ([("at", 1)], 3600),
    "announced_1": ([("announced", 1)], None),
}


class Commands(CommandListener):
    """Remembers every command that was sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def started(self, event: Any) -> None:
        self.sent.append(event.command)

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass
