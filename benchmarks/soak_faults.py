"""What the soak breaks on purpose: servers and the database, killed, paused, drained, and brought back.

`benchmarks.soak` runs it. A fault is over when what was broken serves again; how long the clients take from there
until all of them are back is what it measures. Faults come one after the other, and in each four, each kind comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.soak_server import GRACE, KEY_VARIABLE
from benchmarks.soak_sockets import HOST, Server

BACK_WITHIN = 60.0  # seconds from the end of the last fault, for every client that wants to be in


class Fault(NamedTuple):
    """A fault that is over."""

    kind: str
    seconds: float
    back_after: float
    """Seconds from its end until every client was back."""


def free_port(chance: random.Random) -> int:
    """Return a port that no client's connection can have while the server that listens there is down.

    Systems take clients' ports from 32768 on (RFC 6335 §6 would have it from 49152).
    """
    while True:
        port = chance.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


class ServerProcess:
    """One of the servers, which comes back at the same port."""

    def __init__(self, server: Server, mongodb_uri: str, key: str, tick_ms: float) -> None:
        self.server = server
        self._arguments = ["--port", str(server.port), "--mongodb-uri", mongodb_uri, "--tick-ms", str(tick_ms)]
        self._environment = {**os.environ, KEY_VARIABLE: key}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.soak_server", *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # Ctrl+C is for us; it ends when we do
        )
        assert self._process.stdout is not None
        if not await self._process.stdout.readline():
            raise RuntimeError(f"server {self.server.name} ended with status {await self._process.wait()}")

    async def kill(self) -> None:
        """End it without letting it say goodbye."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> None:
        """Have it drain its connections, and wait until it has ended."""
        await self._end(signal.SIGTERM)

    def memory(self) -> int:
        """Return its resident memory in bytes, 0 while it does not run."""
        with contextlib.suppress(OSError):
            if self._process is not None:
                statm = Path(f"/proc/{self._process.pid}/statm").read_text()
                return int(statm.split()[1]) * resource.getpagesize()
        return 0

    def check(self) -> None:
        """Raise `RuntimeError` if it has ended by itself."""
        if self._process is not None and self._process.returncode is not None:
            raise RuntimeError(f"server {self.server.name} ended with status {self._process.returncode}")

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                await asyncio.wait_for(process.wait(), GRACE + 30)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                raise


def make_replica_set(members: int, chance: random.Random) -> Any:
    """Return a replica set to be entered. Raises an exception with the reason where there is no ``mongod``."""
    # Not an import statement, for whose sake mypy would want what the tests want.
    mongod = importlib.import_module("tests.mongod")
    mongod.find_mongod()
    replica_set = mongod.ReplicaSet(members)
    for member in replica_set.members:
        member.port = free_port(chance)
        member.address = f"{HOST}:{member.port}"
    return replica_set


class Faults:
    """Breaks one thing after the other. ``all_back(then, seconds)`` waits for those who wanted to be in by then."""

    def __init__(
        self,
        servers: Sequence[ServerProcess],
        replica_set: Any,
        all_back: Callable[[float, float], Awaitable[None]],
        say: Callable[[str], None],
        chance: random.Random,
    ) -> None:
        self.over: list[Fault] = []
        self.now = ""
        """What is broken at the moment."""
        self.ended_at = 0.0
        """When the last one ended, in Unix seconds."""
        self._servers = servers
        self._replica_set = replica_set
        self._all_back = all_back
        self._say = say
        self._random = chance
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "MongoDB killed": self._kill_mongodb,
            "MongoDB paused": self._pause_mongodb,
            "server killed": self._kill_server,
            "server drained": self._drain_server,
        }

    async def run(self, every: float, until: float) -> None:
        """Break something about ``every`` so many seconds, until then (Unix seconds)."""
        turn: list[str] = []
        while True:
            turn = turn or self._random.sample([*self._kinds], len(self._kinds))
            pause = every * self._random.uniform(0.5, 1.5)
            if time.time() + pause > until:
                return
            await asyncio.sleep(pause)
            await self.cause(turn.pop())

    async def cause(self, kind: str) -> None:
        """Break one thing, repair it, and wait until everybody is back or should have been."""
        began, self.now = time.time(), kind
        self._say(f"fault: {kind}")
        try:
            await self._kinds[kind]()
        finally:
            self.ended_at, self.now = time.time(), ""
        await self._all_back(self.ended_at, BACK_WITHIN + 5)
        self.over.append(Fault(kind, self.ended_at - began, time.time() - self.ended_at))

    async def _kill_mongodb(self) -> None:
        self._random.choice(self._replica_set.members).kill()
        await asyncio.sleep(self._random.uniform(0.5, 4))
        self._replica_set.start_all()  # not in a thread: the process dies with the thread that started it
        await asyncio.to_thread(self._replica_set.wait_until_all_serve)

    async def _pause_mongodb(self) -> None:
        member = self._random.choice(self._replica_set.members)
        member.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._random.uniform(2, 8))
        finally:
            member.signal(signal.SIGCONT)

    async def _kill_server(self) -> None:
        server = self._random.choice(self._servers)
        await server.kill()
        await asyncio.sleep(self._random.uniform(0, 3))
        await server.start()

    async def _drain_server(self) -> None:
        server = self._random.choice(self._servers)
        await server.terminate()
        await server.start()
