"""A real Redis for tests: one ``redis-server`` that lives as long as the test session.

A pytest plugin (``pytest_plugins = ["tests.redis_server"]``). The session's server is the one ``WSAUTH_TEST_REDIS_URL``
names, else the ``redis-server`` on the PATH.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mongod import NO_SKIP_VARIABLE, is_stopped

URL_VARIABLE = "WSAUTH_TEST_REDIS_URL"
START_TIMEOUT = 20.0


class RedisServer:
    """One ``redis-server`` process, without a disk, at the same port each time it is started."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = tempfile.mkdtemp(prefix="wsauth-redis-")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, from the main thread: the process dies with the thread that started it."""
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [*guard, "redis-server", *options, "--dir", self._folder, "--enable-debug-command", "yes"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, "redis-server ended"
                assert time.monotonic() < deadline, "redis-server does not listen"
                time.sleep(0.01)
            else:
                return

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, such as ``SIGSTOP`` to make the server hang; return when it does."""
        assert self._process is not None
        self._process.send_signal(number)
        threads = Path(f"/proc/{self._process.pid}/task")
        while number == signal.SIGSTOP and threads.exists() and not all(map(is_stopped, threads.iterdir())):
            time.sleep(0.001)

    def kill(self) -> None:
        """End it without a chance to say goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def require_redis() -> None:
    """Skip the test where there is no ``redis-server``, or fail it where nothing may be skipped."""
    if shutil.which("redis-server") is None:
        missing = f"no redis-server on the PATH: install it (Debian: redis-server), or set {URL_VARIABLE}"
        if os.environ.get(NO_SKIP_VARIABLE):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)


@pytest.fixture(scope="session")
def session_redis() -> Iterator[RedisServer]:
    require_redis()
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server of this test's own, to stop and kill."""
    require_redis()
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """Where the session's Redis is."""
    return os.environ.get(URL_VARIABLE) or request.getfixturevalue("session_redis").url


@pytest.fixture
def redis_client(io_loop: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients, ``redis_client(url=…, **options)``, and closes them after the test."""
    import redis.asyncio

    clients: list[Any] = []

    def make(url: str | None = None, **options: Any) -> Any:
        clients.append(redis.asyncio.Redis.from_url(url or request.getfixturevalue("redis_url"), **options))
        return clients[-1]

    yield make
    for client in clients:
        io_loop.run_sync(client.aclose)


@pytest.fixture
def redis_prefix(io_loop: Any, redis_url: str, redis_client: Callable[..., Any]) -> Iterator[str]:
    """What this test's keys begin with; they are deleted after it."""
    prefix = f"{{wsauth-test-{secrets.token_hex(4)}}}:"
    yield prefix

    async def delete() -> None:
        client = redis_client()
        async for key in client.scan_iter(match=f"{prefix}*".replace("{", r"\{").replace("}", r"\}")):
            await client.delete(key)

    io_loop.run_sync(delete)
