"""What the hostile tests share: handlers under attack, an honest client beside it, and a look at what is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tornado.websocket import WebSocketHandler

from tests.support import PING, PONG, TEXT, Echo, RawClient, Server, frame, make_jwt, settle, until
from tornado_wsauth.guard import Guard
from tornado_wsauth.testing.target import Target

PREAUTH_BYTES = 4096


class Answers(Echo):
    """Echoes. A traceback in a log record that pytest keeps would keep the handler alive, so it logs none."""

    def log_exception(self, typ, value, tb):
        pass


class OverridesEverything(Echo):
    """Overrides whatever there is to override, and never calls ``super()``."""

    def initialize(self):
        pass

    def prepare(self):
        pass

    def get_current_user(self):
        return "admin"

    def set_default_headers(self):
        pass

    def select_subprotocol(self, subprotocols):
        return None

    def open(self):
        self.events.append("open")

    def on_message(self, message):
        self.events.append(message)
        self.write_message(message, binary=isinstance(message, bytes))

    def on_ping(self, data):
        self.events.append("ping")

    def on_pong(self, data):
        self.events.append("pong")

    def on_close(self):
        self.events.append("close")

    def on_finish(self):
        pass

    def log_exception(self, typ, value, tb):
        pass


class Compresses(Answers):
    def get_compression_options(self):
        return {}


def target_of(server: Server, user: str = "mallory", **changes: Any) -> Target:
    """Return ``server``'s handler as a target for ``user``."""
    auth = server.auth
    options: dict[str, Any] = {
        "url": f"ws://127.0.0.1:{server.port}/ws",
        "new_token": lambda: auth.issue_token(user),
        "make_jwt": lambda: make_jwt(user),
        "other_jwt": lambda: make_jwt("trudy"),
        "expired_jwt": lambda: make_jwt(user, expires_in=-60),
        "exchange": ("hello", "hello"),
        "max_preauth_bytes": auth.max_preauth_bytes if auth else PREAUTH_BYTES,
        **changes,
    }
    return Target(**options)


@dataclass
class Honest:
    """An authenticated client of an echoing handler. Whatever it receives is what it has asked for, in order."""

    client: RawClient
    sent: int = 0

    async def is_served(self) -> None:
        """Send messages and a ping; nothing but their answers may have come since it was asked last."""
        expected = []
        for _ in range(3):
            self.sent += 1
            self.client.send_text(f"honest {self.sent}")
            expected.append((TEXT, f"honest {self.sent}".encode()))
        self.client.send(frame(b"honest", PING))
        expected.append((PONG, b"honest"))
        assert [await self.client.read_frame() for _ in expected] == expected


def timers() -> int:
    """Return how many timers the running event loop has ahead of it."""
    loop: Any = asyncio.get_running_loop()
    return sum(not handle.cancelled() for handle in loop._scheduled)


def tasks() -> int:
    return len(asyncio.all_tasks())


def open_files() -> set[str]:
    """Return the files and sockets that this process has open; always none where that cannot be known.

    Which, and not how many: what a test before this one has left may be closed at any time.
    """
    found: set[str] = set()
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return found


def alive() -> list[Any]:
    """Return the handlers and guards that exist, garbage not counted."""
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, (Guard, WebSocketHandler))]


@pytest.fixture(scope="module")
def quick_garbage_collection() -> Iterator[None]:
    """Leave out of each collection what was there before: it takes most of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@dataclass
class Baseline:
    """What a server holds before an attack, and must hold after it."""

    server: Server
    counts: tuple[int, ...] = field(init=False)
    open_files: set[str] = field(init=False)
    alive: int = field(init=False)

    def __post_init__(self) -> None:
        self.counts = self.now()
        self.open_files = open_files()
        self.alive = len(alive())

    def now(self) -> tuple[int, ...]:
        auth = self.server.auth
        return (len(auth.pending), len(auth.connections), timers(), tasks())

    async def is_back(self) -> None:
        """Wait until nothing is left of the attack: no connection, timer, task, file descriptor, handler, guard."""
        auth = self.server.auth
        await until(lambda: (len(auth.pending), len(auth.connections)) == self.counts[:2])
        await until(lambda: self.now() == self.counts and open_files() <= self.open_files)
        await settle()
        assert len(alive()) == self.alive


def allocated() -> int:
    """Return how many blocks of memory Python objects take, garbage not counted."""
    gc.collect()
    return sys.getallocatedblocks()
