"""Redis and MongoDB, each a server of the benchmark's own on the servers' core, and what they have had to do."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

REDIS, MONGODB = "redis", "mongodb"


class Load(NamedTuple):
    """What an engine has done since it was started, or in a while."""

    cpu: float
    """Seconds, in user and kernel mode."""
    commands: float
    sent: float
    """Bytes, to all of its clients."""

    def since(self, before: Load) -> Load:
        return Load(*(now - then for now, then in zip(self, before, strict=True)))


class Engine(Protocol):
    """An engine that runs."""

    url: str

    def look(self) -> Load:
        """Return what it has done until now, the answer to the question before included."""


class RedisEngine:
    """A ``redis-server`` without a disk."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client: Any = importlib.import_module("redis").Redis.from_url(url)

    def look(self) -> Load:
        info = self._client.info("cpu", "stats")
        cpu = info["used_cpu_sys"] + info["used_cpu_user"]
        return Load(cpu, info["total_commands_processed"], info["total_net_output_bytes"])

    def close(self) -> None:
        self._client.close()


class MongoEngine:
    """A ``mongod``, the only member of its replica set."""

    def __init__(self, url: str) -> None:
        self.url = url
        pymongo = importlib.import_module("pymongo")
        # What a driver says to the server all the time is not wanted while it is measured.
        quiet: dict[str, Any] = {"serverMonitoringMode": "poll", "heartbeatFrequencyMS": 3_600_000}
        self._client: Any = pymongo.MongoClient(url, **quiet)
        self._pid = self._status()["pid"]

    def look(self) -> Load:
        status = self._status()
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return Load(cpu, status["network"]["numRequests"], status["network"]["bytesOut"])

    def close(self) -> None:
        self._client.close()

    def _status(self) -> Any:
        return self._client.admin.command("serverStatus")


class Watch:
    """How an engine is loaded between two moments, without what it costs to look."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        first = engine.look()
        self._start = engine.look()
        self._looking = self._start.since(first)

    def stop(self) -> Load:
        return self._engine.look().since(self._start).since(self._looking)


@contextlib.contextmanager
def running(kind: str, core: int) -> Iterator[Engine]:
    """Start an engine on ``core``, new and empty, and end it."""
    with contextlib.ExitStack() as stack:
        own_cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})  # what is started inherits it
        try:
            engine = _start(kind, stack)
        finally:
            os.sched_setaffinity(0, own_cores)
        yield engine


def _start(kind: str, stack: contextlib.ExitStack) -> Engine:
    if kind == REDIS:
        server = importlib.import_module("tests.redis_server").RedisServer()
        stack.callback(server.close)
        server.start()
        redis = RedisEngine(server.url)
        stack.callback(redis.close)
        return redis
    replica_set = importlib.import_module("tests.mongod").ReplicaSet()
    stack.enter_context(replica_set)
    mongo = MongoEngine(replica_set.uri)
    stack.callback(mongo.close)
    return mongo
