"""The example application in a process of its own, as its visitors' tests start, watch and kill it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parent.parent.parent
PATIENCE = 15  # seconds; what should come comes much earlier


class Site:
    """The example, which serves the page at ``url``.

    ``command`` is what comes after ``python -m``, without ``--port``. ``records`` are the lines that
    `tests.browser.server` writes; the plain example writes none.
    """

    def __init__(self, *command: str) -> None:
        self._command = command
        self._changed = threading.Condition()
        self._records: list[dict[str, Any]] = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it, or start it again at the same address, and return once it serves."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._command, f"--port={self.port}"],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the log, at length
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert re.search(rf"{self.url}/", line), f"the example did not start: {line!r}"
        self._reader = threading.Thread(target=self._read, args=[self._process.stdout], daemon=True)
        self._reader.start()

    def _read(self, lines: Any) -> None:
        for line in lines:
            if line.startswith("{"):
                with self._changed:
                    self._records.append(json.loads(line))
                    self._changed.notify_all()

    @property
    def records(self) -> list[dict[str, Any]]:
        """What was logged since `forget`."""
        with self._changed:
            return list(self._records)

    def forget(self) -> None:
        with self._changed:
            self._records.clear()

    def count(self, event: str, **fields: Any) -> int:
        """Return how many records of this event there are whose ``fields`` are these."""
        wanted = {"event": event, **fields}
        return sum(wanted.items() <= record.items() for record in self.records)

    def count_requests(self, method: str, path: str) -> int:
        """Return how many such requests were answered."""
        return sum(f" {method} {path} " in record["line"] for record in self.records if record["event"] == "http")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for records that make ``condition`` true."""
        with self._changed:  # reentrant, so that the condition may look at the records
            assert self._changed.wait_for(condition, PATIENCE), f"never came: {what}; but {self._records}"

    def wait_for(self, event: str, *, times: int = 1, **fields: Any) -> None:
        """Wait until a record of this event, with these fields, has come ``times`` times."""
        self.wait_until(lambda: self.count(event, **fields) >= times, f"{times} × {event} {fields}")

    def status(self) -> dict[str, Any]:
        """Return what the server says of itself: ``starts``, ``online``, ``key_id`` and so on."""
        with urllib.request.urlopen(f"{self.url}/config.json", timeout=PATIENCE) as answer:
            status: dict[str, Any] = json.load(answer)["status"]
            return status

    def wait_until_online(self, most: int) -> None:
        """Wait until no more than ``most`` connections are open: the others are closed, and logged."""
        while self.status()["online"] > most:
            with self._changed:
                self._changed.wait(0.05)  # seconds; the record of a close comes sooner

    def kill(self) -> None:
        """End it without a word: SIGKILL."""
        self._process.kill()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


def hurried(*options: str, jwt_lifetime: float = 60, auth_timeout: float = 2, **times: float) -> Site:
    """Return a `Site` whose clocks go faster than those of ``python -m example_app``: seconds and milliseconds.

    ``options`` are further ones of the example's own.
    """
    intervals = {"tick_interval_ms": 300, "broadcast_interval_ms": 400}
    clocks = {"jwt_lifetime": jwt_lifetime, "auth_timeout": auth_timeout, **intervals, **times}
    return Site("tests.browser.server", json.dumps(clocks), "--grace=1", *options)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
