"""One application in several processes: ``python -m benchmarks.cluster`` prints what it costs, ours beside the peers.

Two and four processes of one server, over Redis or MongoDB; ours on either, python-socketio with its Redis manager, and
Django Channels with channels_redis. All processes of a server and its engine are on one core, so the figures are for
the work as a whole; the clients are in this process on another and never sleep while they wait. Ours authenticates its
clients, the others do not. No server compresses.

* *all*: one group that every client is in, spread evenly over the processes; one task in one process sends.
* *many groups*: groups of ten clients, spread over the processes; several tasks in every process send, each to groups
  at random. A task sends its next message when the library says that the one before is sent.

Messages are of 64 bytes. For each work are measured:

* latency at a moderate rate, the same for all: from the call that sends a message until a client has it, which is one
  value for each client and message;
* deliveries in a second, as fast as it goes: from the first call until the last client has the last message;
* meanwhile, CPU time of the servers for each delivery, and what the engine has to do for each message.

Every client must receive each message of its groups exactly once, and those of one task in order; what is lost, doubled
or out of order is counted. Each contestant has an engine of its own. Servers and engines are started anew for each
round and number of processes, and wait idle for their turns: the contestants take several in a round, so whatever else
the machine does befalls all alike. Ratios are taken round by round; shown are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks import clients
from benchmarks.cluster_clients import Audience, Heard
from benchmarks.cluster_engines import MONGODB, REDIS, Engine, Load, Watch, running
from benchmarks.cluster_plan import GROUP_SIZE, Stream, group_of
from benchmarks.cluster_report import ALL_CLIENTS, MANY_GROUPS, Cell, Figures, as_json, report
from benchmarks.cluster_servers import OURS_MONGODB, OURS_REDIS
from benchmarks.fanout_clients import (
    AUTH_OK,
    SOCKET_IO_PATH,
    Member,
    Step,
    connect,
    raw_frame,
    socket_io_frame,
)
from benchmarks.measure import (
    ServerProcess,
    allow_many_files,
    choose_cores,
    describe_cpu,
    describe_versions,
    progress,
)
from benchmarks.servers import make_jwt

PROCESSES = (2, 4)
TOGETHER = 50  # clients on their way in at the same time; Channels may run out of connections to Redis at 100
PUBLISHERS = 8  # tasks in each process that send to many groups
SETTLE = 1.0  # seconds until every process has subscribed to what its clients joined
WARM_UP = 0.2  # seconds that what is sent must last to say how fast it goes
FIRST_COUNT = 3
MODERATE = {ALL_CLIENTS: 1000, MANY_GROUPS: 300}  # deliveries a second, with which the slowest keeps up
MOST_MESSAGES = 20_000  # of one task
TURNS = 3  # how often the contestants take turns with each work in a round
FILES_TO_SPARE = 100  # open files that this process needs besides its clients' sockets
LEAD = 0.05  # seconds from the command to the first message, in which all processes have read it


class Row(NamedTuple):
    """One contestant."""

    kind: str
    name: str
    engine: str
    needs: tuple[str, ...]
    """The modules without which it is left out."""
    socket_io: bool = False


CHANNELS = ("channels", "channels_redis", "django", "uvicorn", "websockets")
ROWS = (
    Row(OURS_REDIS, "ours, Redis", REDIS, ("redis",)),
    Row(OURS_MONGODB, "ours, MongoDB", MONGODB, ("pymongo", "fiftyone")),
    Row("cluster_socketio", "python-socketio", REDIS, ("socketio", "redis"), socket_io=True),
    Row("cluster_channels", "Channels", REDIS, CHANNELS),
    Row("cluster_channels_pubsub", "Channels, pub/sub layer", REDIS, CHANNELS),
)


class Run(NamedTuple):
    """What came of some streams."""

    elapsed: float
    """Seconds from the first call to the last delivery."""
    heard: Heard
    cpu: float
    """Seconds, of all servers."""
    load: Load
    messages: int


@dataclass
class Tally:
    """What one contestant's turns with one work add up to."""

    count: int
    """Messages of a task in a turn."""
    latencies: list[float] = field(default_factory=list)
    fast: list[Run] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)

    def cell(self) -> Cell:
        deliveries, messages = sum(run.heard.deliveries for run in self.fast), sum(run.messages for run in self.fast)
        latencies = [1000 * latency for latency in self.latencies]
        return Cell(
            median_ms=statistics.median(latencies),
            p99_ms=statistics.quantiles(latencies, n=100)[98],
            rate=deliveries / sum(run.elapsed for run in self.fast),
            cpu_us=1e6 * sum(run.cpu for run in self.fast) / deliveries,
            engine_us=1e6 * sum(run.load.cpu for run in self.fast) / messages,
            engine_commands=sum(run.load.commands for run in self.fast) / messages,
            engine_bytes=sum(run.load.sent for run in self.fast) / messages,
            messages=messages,
            lost=sum(heard.lost for heard in self.heard),
            doubled=sum(heard.doubled for heard in self.heard),
            disordered=sum(heard.disordered for heard in self.heard),
        )


class Subject:
    """One contestant in some processes, with its clients."""

    def __init__(
        self, row: Row, engine: Engine, processes: int, jwts: Sequence[bytes], core: int, options: argparse.Namespace
    ) -> None:
        self._row = row
        self._engine = engine
        self._options = options
        self._publishers = itertools.count()
        self._tallies: dict[str, Tally] = {}
        self._stack = contextlib.ExitStack()
        self.audience = Audience(socket_io_frame if row.socket_io else raw_frame)
        self._stack.callback(self.audience.close)
        self._servers: list[ServerProcess] = []
        flags = ["--uvloop"] if options.uvloop else []
        with self._stack:
            for _ in range(processes):
                server = ServerProcess("benchmarks.cluster_servers", row.kind, engine.url, *flags, core=core)
                self._servers.append(server)
                self._stack.callback(server.kill)
            for number, server in enumerate(self._servers):
                members = range(number, len(jwts), processes)
                for start in range(0, len(members), TOGETHER):
                    together = members[start : start + TOGETHER]
                    opened = self._connect(server, together, jwts)
                    self.audience.add(opened, [group_of(member) for member in together])
            self._stack = self._stack.pop_all()
        time.sleep(SETTLE)

    def _connect(self, server: ServerProcess, members: Sequence[int], jwts: Sequence[bytes]) -> list[Member]:
        groups = [f"group={group_of(member)}" for member in members]
        if self._row.socket_io:
            dialogue = [Step(b"", b"0{"), Step(clients.frame(b"40"), b"40{")]
            return connect(server.port, [f"{SOCKET_IO_PATH}&{group}" for group in groups], [dialogue] * len(members))
        if self._row.kind in (OURS_REDIS, OURS_MONGODB):
            tokens = server.ask("issue", user_ids=[f"user-{member}" for member in members])
            paths = [f"/ws?token={token}&{group}" for token, group in zip(tokens, groups, strict=True)]
            return connect(server.port, paths, [[Step(jwts[member], AUTH_OK)] for member in members])
        return connect(server.port, [f"/ws?{group}" for group in groups], [[]] * len(members))

    def warm_up(self, work: str) -> None:
        """Find out how many messages a task can send in its turn."""
        tally = self._tallies[work] = Tally(FIRST_COUNT)
        while (run := self._run(work, tally.count)).elapsed < WARM_UP and tally.count < MOST_MESSAGES:
            tally.heard.append(run.heard)
            tally.count *= 4
        tally.heard.append(run.heard)
        count = round(tally.count * self._options.seconds / TURNS / run.elapsed)
        tally.count = max(FIRST_COUNT, min(MOST_MESSAGES, count))

    def measure(self, work: str) -> None:
        """Take one turn: measure the latency at a moderate rate, then how fast it goes."""
        tally = self._tallies[work]
        slow, fast = self._run(work, 0, paced=True), self._run(work, tally.count)
        tally.latencies += slow.heard.latencies
        tally.fast.append(fast)
        tally.heard += [slow.heard, fast.heard]

    def cell(self, work: str) -> Cell:
        """Return what was measured in all turns."""
        self.audience.check_silence()
        return self._tallies[work].cell()

    def _streams(self, work: str, count: int, paced: bool) -> list[list[Stream]]:
        """Return what each process is to send: ``count`` messages in a task, or as many as the time has room for."""
        groups = len(range(0, self._options.clients, GROUP_SIZE)) if work == MANY_GROUPS else 0
        tasks = [1] * len(self._servers) if work == MANY_GROUPS else [1, *[0] * (len(self._servers) - 1)]
        start, interval = time.monotonic() + LEAD, 0.0
        if paced:
            per_message = GROUP_SIZE if groups else self._options.clients
            interval = per_message * sum(tasks) / MODERATE[work]
            count = max(2, round(self._options.latency_seconds / TURNS / interval))
        elif groups:
            tasks = [PUBLISHERS] * len(self._servers)
        shifts = iter(range(sum(tasks)))
        return [
            [
                Stream(next(self._publishers), count, groups, start + next(shifts) * interval / sum(tasks), interval)
                for _ in range(number)
            ]
            for number in tasks
        ]

    def _run(self, work: str, count: int, paced: bool = False) -> Run:
        """Have streams sent, and return when all has arrived."""
        for server in self._servers:
            server.ask("collect")
        watch = Watch(self._engine)
        before = [server.ask("cpu") for server in self._servers]
        shares = self._streams(work, count, paced)
        for server, share in zip(self._servers, shares, strict=True):
            server.ask("publish", streams=share)
        streams = [stream for share in shares for stream in share]
        chunks = self.audience.receive(streams)
        cpu = sum(server.ask("cpu") for server in self._servers) - sum(before)
        load = watch.stop()
        times: dict[int, list[float]] = {}
        for server, share in zip(self._servers, shares, strict=True):
            times.update(zip([stream.publisher for stream in share], server.ask("times"), strict=True))
        heard = self.audience.judge(streams, times, chunks)
        elapsed = heard.ended - min(sent[0] for sent in times.values())
        return Run(elapsed, heard, cpu, load, sum(stream.messages for stream in streams))

    def stop(self) -> None:
        """End the servers first, so that clients leaving do not keep them busy."""
        self._stack.close()


def run(rows: Sequence[Row], core: int, options: argparse.Namespace) -> Figures:
    """Run every round and return what was measured."""
    numbers = range(options.clients)
    jwts = [clients.frame(json.dumps({"type": "jwt", "token": make_jwt(f"user-{n}")}).encode()) for n in numbers]
    figures: Figures = {}
    for turn in range(options.rounds):
        for processes in options.processes:
            with contextlib.ExitStack() as stack:
                subjects = {}
                for row in rows:
                    progress(f"round {turn + 1} of {options.rounds}, {processes} processes: start {row.name}")
                    engine = stack.enter_context(running(row.engine, core))
                    subjects[row.kind] = Subject(row, engine, processes, jwts, core, options)
                    stack.callback(subjects[row.kind].stop)
                for work in (ALL_CLIENTS, MANY_GROUPS):
                    progress(f"round {turn + 1} of {options.rounds}, {processes} processes: {work}")
                    _take_turns([*subjects.values()], work)
                    for kind, subject in subjects.items():
                        figures.setdefault((kind, processes, work), []).append(subject.cell(work))
    progress("")
    return figures


def _take_turns(subjects: Sequence[Subject], work: str) -> None:
    for subject in subjects:
        subject.warm_up(work)
    for turn in range(TURNS):
        first = turn * len(subjects) // TURNS  # each turn begins elsewhere, so none is always the last
        for subject in [*subjects[first:], *subjects[:first]]:
            subject.measure(work)


def choose_rows(options: argparse.Namespace) -> list[Row]:
    """Return the rows that are wanted and possible here, and print a line for each that is not possible."""
    chosen = []
    for row in (row for row in ROWS if not options.rows or row.kind in options.rows):
        # What starts the engines is a plugin of the tests.
        missing = [module for module in ("pytest", *row.needs) if importlib.util.find_spec(module) is None]
        if missing:
            print(f"Without {row.name}: no {', '.join(missing)}; pip install 'tornado_wsauth[bench,test]'")
        elif row.engine == REDIS and shutil.which("redis-server") is None:
            print(f"Without {row.name}: no redis-server on the PATH")
        else:
            chosen.append(row)
    return chosen


def parse_options() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, help="rounds (default: 3)")
    parser.add_argument("--clients", type=int, help="clients of all processes together (default: 1000)")
    parser.add_argument("--processes", type=numbers, default=PROCESSES, help="numbers of processes (default: 2,4)")
    parser.add_argument("--rows", type=lambda text: text.split(","), help=f"{','.join(row.kind for row in ROWS)}")
    parser.add_argument("--seconds", type=float, help="time for each rate in a round, in seconds (default: 2)")
    parser.add_argument("--latency-seconds", type=float, help="and for each latency (default: 5)")
    parser.add_argument("--uvloop", action="store_true", help="every server, ours as well, on uvloop")
    parser.add_argument("--quick", action="store_true", help="a glance: 1 round, 200 clients")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round to FILE")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.clients = options.clients or (200 if options.quick else 1000)
    options.seconds = options.seconds or (1 if options.quick else 2)
    options.latency_seconds = options.latency_seconds or (2 if options.quick else 5)
    if unknown := set(options.rows or ()) - {row.kind for row in ROWS}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(row.kind for row in ROWS)}")
    if min(options.rounds, *options.processes) < 1 or options.clients < max(options.processes):
        parser.error("rounds and processes must be positive, and each process must have a client")
    return options


def main() -> None:
    options = parse_options()
    server_core, client_core = choose_cores()
    os.sched_setaffinity(0, {client_core})
    rows = choose_rows(options)
    if not rows:
        raise SystemExit("nothing is left to measure")
    if (files := allow_many_files()) < (needed := len(rows) * options.clients + FILES_TO_SPARE):
        raise SystemExit(
            f"{files} open files are allowed here, and {needed} are needed: fewer --clients, or fewer --rows"
        )
    versions = describe_versions(
        *(
            "tornado",
            "redis",
            "hiredis",
            "pymongo",
            "python-socketio",
            "channels",
            "channels_redis",
            "uvicorn",
            "websockets",
        )
    )
    loop = "uvloop" if options.uvloop else "asyncio's own loop"
    print(f"{versions}\n{describe_cpu()}, servers and engine on core {server_core}, clients on core {client_core};")
    print(f"{options.clients} clients, {options.rounds} rounds; servers on {loop}\n", flush=True)
    started = time.monotonic()
    figures = run(rows, server_core, options)
    names = {row.kind: row.name for row in rows}
    report(figures, names)
    print(f"\nThis took {(time.monotonic() - started) / 60:.1f} minutes.")
    if options.json:
        result = as_json(figures, names, options.clients, versions=versions, cpu=describe_cpu(), loop=loop)
        options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
