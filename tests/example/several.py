"""The example in several processes, on a real engine of its own, and what one can learn of each of them."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tests.example.site import NEVER, login_body
from tests.redis_server import RedisServer, require_redis

CHECKOUT = Path(__file__).parent.parent.parent
USERS = [f"user-{number + 1}" for number in range(10)]
PATIENCE = 10.0


class Several:
    """``python -m example_app`` with these options, on a free port. It must end without a traceback."""

    def __init__(self, *options: str, processes: int, **times: float) -> None:
        changes = {"tick_interval_ms": NEVER, "users": len(USERS), "page": False, **times}
        self.processes = processes
        self.said: list[str] = []
        """What it has printed since it was started, but for its log."""
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed when the process has ended
        command = [sys.executable, "-W", "error", "-m", "tests.browser.server", json.dumps(changes)]
        self.parent = subprocess.Popen(
            [*command, "--port=0", f"--processes={processes}", *options],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_until(lambda: self.said, "the line that it prints at its start")
        found = re.search(r":(\d+)/ .* \(([\d, ]+)\)", self.said[0])
        assert found is not None, self.said
        self.port = int(found[1])
        self.pids = [int(pid) for pid in found[2].split(",")]
        """Of the processes that it began with, in order of their numbers."""

    def _read(self) -> None:
        assert self.parent.stdout is not None
        for line in self.parent.stdout:
            if not line.startswith("{"):
                self.said.append(line)

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"never came: {what}; it said {self.said}"
            time.sleep(0.02)

    def children(self) -> set[int]:
        """Return the ids of the processes there are now."""
        try:
            return set(map(int, Path(f"/proc/{self.parent.pid}/task/{self.parent.pid}/children").read_text().split()))
        except OSError:  # it has ended
            return set()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the parent and return the status it exits with."""
        self.parent.send_signal(number)
        return self.parent.wait(PATIENCE)

    def close(self) -> None:
        children = self.children()
        self.parent.kill()
        self.wait_until(lambda: not any(map(is_alive, children)), "the end of the processes without a parent")
        self._reader.join(PATIENCE)
        assert self.parent.stdout is not None
        self.parent.stdout.close()
        self.parent.wait()
        self._log.seek(0)
        log = self._log.read()
        self._log.close()
        assert "Traceback" not in log, log

    # Its processes ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lines(self) -> Iterator[dict[int, Line]]:
        """Yield a `Line` to each process: the kernel says who takes a connection, so one opens them until it has."""
        opened: list[Line] = []
        try:
            deadline = time.monotonic() + PATIENCE
            while len(lines := {line.process: line for line in opened}) < self.processes:
                assert time.monotonic() < deadline, f"who serves: {set(lines)} of {self.processes}"
                opened.append(Line(self.port))
            yield lines
        finally:
            for line in opened:
                line.close()


class Line:
    """One TCP connection that is kept open: all of its requests are answered by the same ``process``."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.process = int(self.status()["process"])

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.ask("GET", "/config.json")[1]["status"]
        return status

    def post(self, path: str, bearer: str, body: str = "") -> tuple[int, Any]:
        return self.ask("POST", path, body, {"Authorization": f"Bearer {bearer}"})

    def ask(self, method: str, path: str, body: str = "", headers: Any = {}) -> tuple[int, Any]:  # noqa: B006
        self._http.request(method, path, body, headers)
        response = self._http.getresponse()
        return response.status, json.loads(response.read() or "null")

    def log_in(self, username: str) -> str:
        """Return the secret of a new login."""
        status, answer = self.ask("POST", "/login", login_body(username))
        assert status == 200
        return str(answer["session"])

    def close(self) -> None:
        self._http.close()


def is_alive(pid: int) -> bool:
    """Say whether there is a process of this id that has not ended: a zombie has."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@contextlib.contextmanager
def option_for(engine: str, mongodb_uri: Callable[[], str]) -> Iterator[str]:
    """Yield the option that names an empty engine, ``"redis"`` or ``"mongo"``."""
    if engine == "redis":
        require_redis()
        server = RedisServer()
        server.start()
        try:
            yield f"--redis-url={server.url}"
        finally:
            server.close()
        return
    import pymongo

    name, uri = f"wsauth_test_{secrets.token_hex(4)}", mongodb_uri()
    try:
        yield f"--mongodb-uri={urlunsplit(urlsplit(uri)._replace(path=f'/{name}'))}"
    finally:
        with pymongo.MongoClient(uri) as client:
            client.drop_database(name)
