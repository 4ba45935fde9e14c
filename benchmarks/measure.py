"""What the benchmarks share: a server process to ask for its CPU time and memory, cores, medians, a table.

Linux only: it pins processes to cores and reads ``/proc``. The benchmarks and their servers import it.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# On the server's side ------------------------------------------------------------------------------------------


def cpu_seconds() -> float:
    """Return the CPU time that this process has used, in user and kernel mode, in seconds."""
    return time.process_time()


def settled_memory() -> int:
    """Return the resident memory of this process in bytes, after a garbage collection."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def allow_many_files() -> int:
    """Raise the limit of open files, which is often 1024, as far as the system lets us, and return it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


# On the client's side ------------------------------------------------------------------------------------------


def choose_cores() -> tuple[int, int]:
    """Return one core for the servers and one for the clients; the same one where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[-1], cores[0]


class ServerProcess:
    """A server in a process of its own, pinned to ``core``, which answers one JSON line to each JSON line.

    The process prints ``{"port": …}`` once it listens. It ends when its standard input does. ``program`` runs
    ``module`` and is Python unless told otherwise.
    """

    def __init__(self, module: str, *arguments: str, core: int, program: Sequence[str] = ()) -> None:
        command = [*(program or (sys.executable, "-m")), module, *arguments]
        own_cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})  # what we start inherits it, and so do threads that it starts at once
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        finally:
            os.sched_setaffinity(0, own_cores)
        self.port = int(self._read()["port"])

    def ask(self, what: str, **details: Any) -> Any:
        """Send ``{"do": what, …}`` and return the member ``result`` of the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **details}) + "\n")
        self._process.stdin.flush()
        return self._read()["result"]

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def kill(self) -> None:
        """End the process without letting it say goodbye to its clients."""
        self._process.kill()
        self.stop()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server ended: {self._process.args!r}, status {self._process.wait()}")
        return json.loads(line)


class Series:
    """One figure, measured once in each round."""

    def __init__(self, values: Sequence[float] = ()) -> None:
        self.values = list(values)

    def __truediv__(self, other: Series) -> Series:
        """Return the ratios round by round: what slows one round down slows both sides of it."""
        return Series([ours / theirs for ours, theirs in zip(self.values, other.values, strict=True)])

    def __sub__(self, other: Series) -> Series:
        """Return the differences round by round."""
        return Series([ours - theirs for ours, theirs in zip(self.values, other.values, strict=True)])

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def show(self, digits: int = 0) -> str:
        """Return the median and, after it, the least and the greatest."""
        low, high = min(self.values), max(self.values)
        return f"{self.median:,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print ``rows``, of which the first is the heading; every column but the first is aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        first, *others = [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join([first, *others]).rstrip())
        if number == 0:
            print("  ".join("─" * width for width in widths))


def describe_versions(*distributions: str) -> str:
    """Return the versions of Python and of ``distributions``, on one line."""
    names = [f"Python {platform.python_version()}"]
    for name in distributions:
        try:
            names.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            names.append(f"no {name}")
    return " · ".join(names)


def describe_cpu() -> str:
    """Return the CPU's model, as the kernel names it."""
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def progress(text: str) -> None:
    """Say on standard error what is being done, in place of what was said before."""
    end = "" if sys.stderr.isatty() else "\n"
    print(f"\r\x1b[K{text}" if not end else text, end=end, file=sys.stderr, flush=True)
