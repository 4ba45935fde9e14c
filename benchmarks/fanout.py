"""What one message to many clients costs: ``python -m benchmarks.fanout`` prints it, ours beside the peers, in one run.

Each server is a process on one core; all clients are in this process on another. No server compresses, and each
broadcasts as its own documentation says. *The limit* is a loop over the sockets with one ``send`` of a finished frame
for each, below which no server in Python can get. Measured are, for each number of clients and size of message:

* CPU time of the server's process for each message delivered, in user and kernel mode, from the broadcast until every
  client has received everything;
* messages delivered in a second by the clock on the wall, from the broadcast to the last byte. Where the server is
  faster than these clients can read, it is they who are measured;
* the longest stall: the longest time between two turns of the server's loop while it broadcasts, in broadcasts of
  their own, for watching the loop costs CPU time;
* memory per client that is connected: the growth of the resident set.

Every client must receive exactly the bytes that it should, and of the first each is compared. The next broadcast
starts when the last has arrived. In a round the servers take turns, so whatever else the machine does befalls all
alike; each is started anew for each number of clients, and waits idle for its turn, where the limit of open files
allows it. Ratios are taken round by round; shown are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks import clients
from benchmarks.fanout_clients import (
    TOGETHER,
    Crowd,
    connect_authenticated,
    connect_raw,
    connect_socket_io,
    raw_frame,
    socket_io_frame,
)
from benchmarks.fanout_plot import write_plot
from benchmarks.fanout_report import Cell, Figures, as_json, report
from benchmarks.fanout_servers import LIMIT, OURS, OURS_METRICS, WRITE_MESSAGE, payload
from benchmarks.measure import (
    ServerProcess,
    allow_many_files,
    choose_cores,
    describe_cpu,
    describe_versions,
    progress,
)
from benchmarks.servers import make_jwt

CLIENTS = (100, 1000, 5000, 10_000)
SIZES = (64, 1024, 16_384)  # bytes
SLOW_UP_TO = 1000  # clients; slow peers are left out above it
PEERS = Path(__file__).parent / "peers"
NODE_SERVER = PEERS / "node_server.cjs"
FILES_TO_SPARE = 100  # open files that a process needs besides its sockets
TURNS = 3  # how often the servers take turns with each size of message in a round
NODE_WARM_UP = 1.0  # seconds of broadcasts, until V8 has compiled what they run
MOST_BROADCASTS = 200  # of one server in a turn


class Row(NamedTuple):
    """One server to measure."""

    kind: str
    name: str
    needs: tuple[str, ...] = ()
    """The modules without which it is left out."""
    slow: bool = False
    """Whether it takes so long that it is spared the larger numbers of clients."""
    node: str = ""
    """What ``node_server.cjs`` calls it; empty for a server in Python."""
    socket_io: bool = False
    tcp_only: bool = False


ROWS = (
    Row(LIMIT, "the limit: socket.send"),
    Row(OURS, "ours: connections.broadcast"),
    Row(OURS_METRICS, "ours with metrics", ("prometheus_client",)),
    Row("picows_loop", "picows", ("picows",), tcp_only=True),
    Row("node_ws", "ws on Node", node="ws"),
    Row("aiohttp_loop", "aiohttp", ("aiohttp",)),
    Row("websockets_broadcast", "websockets.broadcast", ("websockets",)),
    Row("node_socketio", "Socket.IO on Node", node="socketio", socket_io=True),
    Row("starlette_loop", "Starlette on Uvicorn", ("starlette", "uvicorn", "websockets")),
    Row(WRITE_MESSAGE, "write_message loop"),
    Row("socketio_tornado", "python-socketio on Tornado", ("socketio",), slow=True, socket_io=True),
    Row("channels_memory", "Channels, in-memory layer", ("channels", "django", "uvicorn", "websockets"), slow=True),
)


@dataclass
class Tally:
    """What one server's turns with one size of message add up to."""

    times: int
    """Broadcasts in a turn."""
    elapsed: float = 0
    cpu: float = 0
    stall: float = 0
    """The longest. As the two before, in seconds."""
    deliveries: int = 0


class Subject:
    """One server under measurement, with ``count`` clients."""

    def __init__(self, row: Row, count: int, core: int, jwts: dict[str, bytes], options: argparse.Namespace) -> None:
        self._row = row
        self._jwts = jwts
        self._budget: float = options.seconds
        self._number = 0
        self._tallies: dict[int, Tally] = {}
        self._directory = tempfile.TemporaryDirectory()
        unix = [f"{self._directory.name}/socket"] if options.unix else []
        if row.node:
            program = ("node", "--expose-gc")
            self.process = ServerProcess(str(NODE_SERVER), row.node, *unix, core=core, program=program)
        else:
            flags = [*(["--uvloop"] if options.uvloop else []), *(["--unix", *unix] if unix else [])]
            self.process = ServerProcess("benchmarks.fanout_servers", row.kind, *flags, core=core)
        self._address = unix[0] if unix else self.process.port
        self.crowd = Crowd()
        self._connect(["user-0"])  # the first client is not counted: what it makes the server load is for all
        before = self.process.ask("memory")
        rest = list(jwts)[1:count]
        for start in range(0, len(rest), TOGETHER):
            self._connect(rest[start : start + TOGETHER])
        self.memory = (self.process.ask("memory") - before) / max(1, len(rest)) / 1000  # kB per client

    def _connect(self, user_ids: Sequence[str]) -> None:
        if self._row.kind in (OURS, OURS_METRICS):
            tokens = self.process.ask("issue", user_ids=user_ids)
            opened = connect_authenticated(self._address, tokens, [self._jwts[user_id] for user_id in user_ids])
        elif self._row.socket_io:
            opened = connect_socket_io(self._address, len(user_ids))
        else:
            opened = connect_raw(self._address, len(user_ids))
        self.crowd.add(opened)

    def broadcast(self, size: int, watched: bool = False) -> float:
        """Broadcast one message of ``size`` bytes and return the seconds until the last byte has arrived."""
        self._number += 1
        text = payload(self._number, size)
        expected = socket_io_frame(text) if self._row.socket_io else raw_frame(text)
        started: float = self.process.ask("broadcast", number=self._number, size=size, watched=watched)
        return self.crowd.receive(expected) - started

    def warm_up(self, size: int) -> None:
        """Broadcast for a while where the server's speed depends on it."""
        until = time.monotonic() + (NODE_WARM_UP if self._row.node else 0)
        while time.monotonic() < until:
            self.broadcast(size)

    def measure(self, size: int, turns: int) -> None:
        """Take one of ``turns`` turns with messages of ``size`` bytes: as many broadcasts as the time allows."""
        self.broadcast(size)  # after the others' turn, caches are cold
        tally = self._tallies.get(size)
        if tally is None:
            times = max(TURNS // turns, min(MOST_BROADCASTS, int(self._budget / turns / self.broadcast(size))))
            tally = self._tallies[size] = Tally(times)
        self.process.ask("memory")  # which collects the garbage of whatever was before
        self.process.ask("figures")
        tally.elapsed += sum(self.broadcast(size) for _ in range(tally.times))
        tally.cpu += self.process.ask("figures")["cpu"]
        tally.deliveries += tally.times * len(self.crowd)
        self.process.ask("memory")
        for _ in range(TURNS // turns):
            self.broadcast(size, watched=True)
        tally.stall = max(tally.stall, self.process.ask("figures")["stall"])
        self.crowd.check_silence()

    def cell(self, size: int) -> Cell:
        """Return what was measured with messages of ``size`` bytes in all turns."""
        tally = self._tallies[size]
        rate = tally.deliveries / tally.elapsed
        return Cell(1e6 * tally.cpu / tally.deliveries, rate, 1e3 * tally.stall, self.memory)

    def stop(self) -> None:
        """End the server first, so that thousands of clients leaving do not keep it busy."""
        self.process.kill()
        self.crowd.close()
        self._directory.cleanup()


def run(rows: Sequence[Row], counts: Sequence[int], core: int, options: argparse.Namespace) -> Figures:
    """Run every round and return what was measured."""
    jwts = {}
    for number in range(max(counts)):
        user_id = f"user-{number}"
        jwts[user_id] = clients.frame(json.dumps({"type": "jwt", "token": make_jwt(user_id)}).encode())
    figures: Figures = {}
    for turn in range(options.rounds):
        for count in counts:
            due = [row for row in rows if options.all_sizes or not row.slow or count <= SLOW_UP_TO]
            first = (turn * len(due)) // options.rounds  # each begins elsewhere, so none is always the last
            for group in _groups(due[first:] + due[:first], count):
                progress(
                    f"round {turn + 1} of {options.rounds}, {count} clients: {', '.join(row.kind for row in group)}"
                )
                with contextlib.ExitStack() as stack:
                    subjects = []
                    for row in group:
                        subjects.append(Subject(row, count, core, jwts, options))
                        stack.callback(subjects[-1].stop)
                    _take_turns(subjects, options.sizes)
                    for row, subject in zip(group, subjects, strict=True):
                        for size in options.sizes:
                            figures.setdefault((row.kind, count, size), []).append(subject.cell(size))
    progress("")
    return figures


def _groups(rows: Sequence[Row], count: int) -> Iterator[Sequence[Row]]:
    """Divide ``rows`` into those that run at the same time: as many as this process may have sockets for."""
    together = max(1, (allow_many_files() - FILES_TO_SPARE) // count)
    for start in range(0, len(rows), together):
        yield rows[start : start + together]


def _take_turns(subjects: Sequence[Subject], sizes: Sequence[int]) -> None:
    for subject in subjects:
        subject.warm_up(min(sizes))
    turns = TURNS if len(subjects) > 1 else 1
    for size in sizes:
        for turn in range(turns):
            first = turn * len(subjects) // turns
            for subject in [*subjects[first:], *subjects[:first]]:
                subject.measure(size, turns)


def choose_rows(options: argparse.Namespace) -> list[Row]:
    """Return the rows that are wanted and possible here, and print a line for each that is not possible."""
    wanted = [row for row in ROWS if not options.rows or row.kind in options.rows]
    node_missing = _prepare_node() if any(row.node for row in wanted) else ""
    chosen = []
    for row in wanted:
        missing = [module for module in row.needs if importlib.util.find_spec(module) is None]
        if missing:
            print(f"Without {row.name}: no {', '.join(missing)}; pip install 'tornado_wsauth[bench]'")
        elif row.tcp_only and options.unix:
            print(f"Without {row.name}: it does not serve Unix-domain sockets")
        elif row.node and node_missing:
            print(f"Without {row.name}: {node_missing}")
        else:
            chosen.append(row)
    return chosen


def _prepare_node() -> str:
    """Install what the servers on Node need, unless it is there; return why that is not possible, or nothing."""
    if shutil.which("node") is None:
        return "no node"
    if (PEERS / "node_modules" / "ws").is_dir() and (PEERS / "node_modules" / "socket.io").is_dir():
        return ""
    progress("npm ci …")
    try:
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=PEERS, check=True, capture_output=True, timeout=120
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"npm ci failed in benchmarks/peers ({type(error).__name__})"
    return ""


def choose_counts(wanted: Sequence[int]) -> list[int]:
    """Return the numbers of clients that are possible here, and print a line for each that is not."""
    files = allow_many_files()
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    most = min(files - FILES_TO_SPARE, high - low)
    for count in wanted:
        if count > most:
            print(f"Without {count} clients: {files} open files and {high - low} ports are allowed here")
    return [count for count in wanted if count <= most]


def parse_options() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(prog="python -m benchmarks.fanout", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, help="rounds (default: 3)")
    parser.add_argument("--clients", type=numbers, help="numbers of clients, as in 100,1000")
    parser.add_argument("--sizes", type=numbers, help="sizes of messages in bytes, as in 64,1024")
    parser.add_argument("--rows", type=lambda text: text.split(","), help=f"{','.join(row.kind for row in ROWS)}")
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="time for each figure in a round, in seconds (default: 0.3)"
    )
    parser.add_argument("--all-sizes", action="store_true", help=f"slow peers with more than {SLOW_UP_TO} clients, too")
    parser.add_argument("--uvloop", action="store_true", help="every Python server, ours as well, on uvloop")
    parser.add_argument(
        "--unix", action="store_true", help="Unix-domain sockets: the servers' work without that of TCP"
    )
    parser.add_argument("--quick", action="store_true", help="a glance: 1 round, 100 and 1000 clients, 64 bytes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round to FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the CPU time by number of clients as an SVG")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.clients = options.clients or ([100, 1000] if options.quick else list(CLIENTS))
    options.sizes = options.sizes or ([64] if options.quick else list(SIZES))
    if unknown := set(options.rows or ()) - {row.kind for row in ROWS}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(row.kind for row in ROWS)}")
    if min(options.rounds, *options.clients) < 1 or not 10 <= min(options.sizes) <= max(options.sizes) < 2**16:
        parser.error("rounds and clients must be positive, sizes from 10 to 65535")
    return options


def main() -> None:
    options = parse_options()
    server_core, client_core = choose_cores()
    os.sched_setaffinity(0, {client_core})
    rows, counts = choose_rows(options), choose_counts(options.clients)
    if not rows or not counts:
        raise SystemExit("nothing is left to measure")
    if spared := [row.name for row in rows if row.slow and not options.all_sizes and max(counts) > SLOW_UP_TO]:
        print(f"Up to {SLOW_UP_TO} clients, as they are slow (--all-sizes for more): {', '.join(spared)}")
    versions = describe_versions(
        *("tornado", "websockets", "aiohttp", "picows", "starlette", "uvicorn", "python-socketio", "channels")
    )
    loop = "uvloop" if options.uvloop else "asyncio's own loop"
    sockets = "Unix-domain sockets" if options.unix else "TCP"
    print(f"{versions} · {_node_versions()}\n{describe_cpu()}, servers on core {server_core}, ", end="")
    print(f"clients on core {client_core}; {options.rounds} rounds; Python servers on {loop}; {sockets}\n", flush=True)
    started = time.monotonic()
    figures = run(rows, counts, server_core, options)
    names = {row.kind: row.name for row in rows}
    report(figures, names)
    print(f"\nThis took {(time.monotonic() - started) / 60:.1f} minutes.")
    result = as_json(
        figures, names, versions=f"{versions} · {_node_versions()}", cpu=describe_cpu(), loop=loop, sockets=sockets
    )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.plot:
        write_plot(result, options.plot)


def _node_versions() -> str:
    if shutil.which("node") is None:
        return "no Node"
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    wanted = json.loads((PEERS / "package.json").read_text(encoding="utf-8"))["dependencies"]
    return " · ".join([f"Node {node.lstrip('v')}", *(f"{name} {version}" for name, version in wanted.items())])


if __name__ == "__main__":
    main()
