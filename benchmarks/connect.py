"""What authentication costs: ``python -m benchmarks.connect`` prints it for five servers in one run.

A bare `WebSocketHandler`; a bare one that decodes the JWT itself; ours with the memory store; the same with `Metrics`;
ours with MongoDB.
Each is a process on one core, the clients are a process on another, and what counts is the CPU time that the
server's process used, not what the clock on the wall says:

* per connection: handshake, where there is one the JWT message and its ``auth_ok``, one message of 200 bytes
  echoed, close;
* per connection with as many frames for all: handshake, one message answered, close. The message is the JWT where
  there is one, which is about 200 bytes, too;
* per message of 200 bytes echoed on a connection that is authenticated;
* memory per connection that has done the above and is idle: the growth of the resident set.

Each round starts the servers anew, and in a round they take turns, so whatever else the machine does, or the luck
of a process with its addresses, befalls all alike. The first client comes alone, as on most servers: CPython learns
from the first handler which attributes the others will have, and keeps those of a bare one in half the room. Ratios
are taken round by round; medians are shown with the least and the greatest. The tokens are issued beforehand: that is
the token route's cost and has a row of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
from collections.abc import Iterator, Sequence

from benchmarks import clients
from benchmarks.measure import (
    Series,
    ServerProcess,
    allow_many_files,
    choose_cores,
    describe_cpu,
    describe_versions,
    print_table,
    progress,
)
from benchmarks.servers import BARE, BARE_JWT, KINDS, MEMORY, METRICS, MONGODB, OURS, make_jwt

MESSAGE = clients.frame(b"m" * 200)
TOGETHER = 25  # clients that take each step at the same time
BURST = 4  # messages that a client sends at a time
TURNS = 5  # how often the servers take turns in a round

NAMES = {
    BARE: "bare",
    BARE_JWT: "bare + JWT",
    MEMORY: "ours, memory",
    METRICS: "ours with metrics",
    MONGODB: "ours, MongoDB",
}

# What is measured. CPU times are in microseconds.
CONNECTION = "connection, CPU µs"
ONE_ANSWER = "… with one answer, CPU µs"
ECHO = "message, CPU µs"
IDLE = "idle connection, bytes"
ISSUED = "token issued, CPU µs"

Figures = dict[str, dict[str, Series]]
"""A value for each round, by what was measured and on which kind of server."""


class Subject:
    """One server under measurement, and what its clients say to it."""

    def __init__(self, kind: str, mongodb_uri: str, core: int, users: dict[str, bytes]) -> None:
        self.kind = kind
        self.process = ServerProcess("benchmarks.servers", kind, "--mongodb-uri", mongodb_uri, core=core)
        self.cpu = dict.fromkeys((CONNECTION, ONE_ANSWER, ECHO, ISSUED), 0.0)  # seconds
        self.counts = dict.fromkeys(self.cpu, 0)
        self.idle_bytes = 0.0
        self._users = users

    def visits(self, count: int, *, one_answer: bool = False) -> list[list[clients.Visit]]:
        """Return what ``count`` clients will say, in batches, each a user of its own; for ours, issue their tokens."""
        user_ids = list(self._users)[:count]
        requests = [clients.upgrade_request("/ws")] * count
        first_messages = [None if self.kind == BARE else self._users[user_id] for user_id in user_ids]
        if self.kind in OURS:
            issued = self.process.ask("issue", user_ids=user_ids)
            self.cpu[ISSUED] += issued["cpu"]
            self.counts[ISSUED] += count
            requests = [clients.upgrade_request(f"/ws?token={token}") for token in issued["tokens"]]
        message = None if one_answer and self.kind != BARE else MESSAGE
        visits = [clients.Visit(*visit, message) for visit in zip(requests, first_messages, strict=True)]
        return [visits[start : start + TOGETHER] for start in range(0, count, TOGETHER)]

    def connect(self, visits: Sequence[clients.Visit]) -> list[clients.Client]:
        return clients.connect(self.process.port, visits)

    def measure_idle(self, count: int) -> None:
        """Measure what ``count`` idle connections add to the server's memory, and warm the server up."""
        for batch in [*self.visits(1), *self.visits(2 * TOGETHER)]:
            clients.close(self.connect(batch))
        if self.kind in OURS:
            # The records of spent tokens would make room meanwhile, which is the store's and not the connections'.
            self.process.ask("single_use", value=False)
        batches = self.visits(count)
        before = self.process.ask("memory")
        opened = [self.connect(batch) for batch in batches]
        self.idle_bytes = (self.process.ask("memory") - before) / count
        for batch_of_clients in opened:
            clients.close(batch_of_clients)
        if self.kind in OURS:
            self.process.ask("single_use", value=True)

    def measure_connections(self, what: str, count: int) -> None:
        """Measure the server's CPU time for ``count`` connections, from the handshake to the close."""
        batches = self.visits(count, one_answer=what == ONE_ANSWER)
        with self._measured(what, count):
            for batch in batches:
                clients.close(self.connect(batch))

    def measure_echo(self, count: int) -> None:
        """Measure the server's CPU time for about ``count`` messages on connections that are open already."""
        opened = [client for batch in self.visits(TOGETHER) for client in self.connect(batch)]
        clients.exchange(opened, MESSAGE, 1, BURST)
        times = max(1, count // (TOGETHER * BURST))
        with self._measured(ECHO, times * TOGETHER * BURST):
            clients.exchange(opened, MESSAGE, times, BURST)
        clients.close(opened)

    def figure(self, what: str) -> float:
        """Return one of this round's figures, in the unit of its name."""
        return self.idle_bytes if what == IDLE else 1e6 * self.cpu[what] / max(1, self.counts[what])

    @contextlib.contextmanager
    def _measured(self, what: str, count: int) -> Iterator[None]:
        self.process.ask("memory")  # each turn begins without the garbage of the one before
        before = self.process.ask("cpu")
        yield
        self.cpu[what] += self.process.ask("cpu") - before
        self.counts[what] += count


def run_round(subjects: dict[str, Subject], options: argparse.Namespace) -> None:
    """Measure everything once on each server, in turns."""
    for subject in subjects.values():
        subject.measure_idle(options.idle)
    for turn in range(TURNS):
        kinds = list(subjects)
        first = turn % len(kinds)  # each is the first, and each the last, about as often
        for kind in kinds[first:] + kinds[:first]:
            subjects[kind].measure_connections(CONNECTION, options.connections // TURNS)
            subjects[kind].measure_connections(ONE_ANSWER, options.connections // TURNS)
            subjects[kind].measure_echo(options.messages // TURNS)


def run(kinds: Sequence[str], mongodb_uri: str, core: int, options: argparse.Namespace) -> Figures:
    """Run every round, each on servers started anew, and return what was measured."""
    users = {f"user-{number}": b"" for number in range(max(options.idle, options.connections // TURNS))}
    for user_id in users:
        message = json.dumps({"type": "jwt", "token": make_jwt(user_id)})
        users[user_id] = clients.frame(message.encode())
    figures: Figures = {
        what: {kind: Series() for kind in kinds} for what in (CONNECTION, ONE_ANSWER, ECHO, IDLE, ISSUED)
    }
    for number in range(options.rounds):
        progress(f"round {number + 1} of {options.rounds} …")
        with contextlib.ExitStack() as stack:
            subjects = {kind: Subject(kind, mongodb_uri, core, users) for kind in kinds}
            for subject in subjects.values():
                stack.callback(subject.process.stop)
            run_round(subjects, options)
            for what, series in figures.items():
                for kind in kinds:
                    series[kind].values.append(subjects[kind].figure(what))
    progress("")
    return figures


def report(figures: Figures, kinds: Sequence[str]) -> None:
    """Print the figures, their ratios, and whether the targets are reached."""
    rows = [["median (least–greatest)", *(NAMES[kind] for kind in kinds)]]
    for what, series in figures.items():
        digits = 1 if what == ECHO else 0
        rows.append([what, *(series[kind].show(digits) if any(series[kind].values) else "" for kind in kinds)])
        if what in (CONNECTION, ONE_ANSWER, ECHO):
            for base in (BARE, BARE_JWT, MEMORY):
                rows.append([f"  × {NAMES[base]}", *((series[kind] / series[base]).show(3) for kind in kinds)])
        elif what == IDLE:
            rows.append([f"  − {NAMES[BARE]}", *((series[kind] - series[BARE]).show() for kind in kinds)])
    print_table(rows)

    connection, one_answer, echo, idle = (figures[what] for what in (CONNECTION, ONE_ANSWER, ECHO, IDLE))
    print(f"\nTargets for {NAMES[MEMORY]}, and for {NAMES[METRICS]} beside it, by the medians")
    for target, reached, limit, unit in (
        ("connection", connection[MEMORY] / connection[BARE], 1.4, "× bare"),
        ("connection", connection[MEMORY] / connection[BARE_JWT], 1.1, "× bare + JWT"),
        ("connection with one answer", one_answer[MEMORY] / one_answer[BARE], 1.4, "× bare"),
        ("connection with one answer", one_answer[MEMORY] / one_answer[BARE_JWT], 1.1, "× bare + JWT"),
        ("message", echo[MEMORY] / echo[BARE], 1.03, "× bare"),
        ("idle connection", idle[MEMORY] - idle[BARE], 1536, "bytes more than bare"),
        ("connection with metrics", connection[METRICS] / connection[MEMORY], 1.03, f"× {NAMES[MEMORY]}"),
        ("message with metrics", echo[METRICS] / echo[MEMORY], 1.03, f"× {NAMES[MEMORY]}"),
    ):
        mark = "✓" if reached.median <= limit else "✗"
        digits = 0 if limit > 100 else 3
        print(f"  {mark} {target}: {reached.median:,.{digits}f} {unit}, at most {limit:,} wanted")


def find_mongodb(stack: contextlib.ExitStack) -> str | None:
    """Return the URI of a real MongoDB: the one we are told, else of one that runs until ``stack`` is left.

    None, and a word about why, if there is none.
    """
    uri = os.environ.get("WSAUTH_TEST_MONGODB_URI")
    try:
        import pymongo  # noqa: F401 - the server needs it

        if uri:
            return uri
        # Not an import statement, for whose sake mypy would want what the tests want.
        mongod = importlib.import_module("tests.mongod")
        mongod.find_mongod()
    except Exception as error:  # not installed, or nothing to start
        print(f"No MongoDB column: {error}\n")
        return None
    progress("starting mongod …")
    return str(stack.enter_context(mongod.ReplicaSet()).uri)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connect", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds, each on servers started anew (default: 7)")
    parser.add_argument(
        "--connections", type=int, default=500, help="connections a round, of either sort (default: 500)"
    )
    parser.add_argument("--messages", type=int, default=10000, help="messages a round (default: 10000)")
    parser.add_argument("--idle", type=int, default=1000, help="idle connections a round (default: 1000)")
    parser.add_argument("--quick", action="store_true", help="a glance: 3 rounds, each half of the default")
    parser.add_argument("--no-mongodb", action="store_true", help="leave MongoDB out")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.connections, options.messages, options.idle = 3, 250, 5000, 500
    if min(options.rounds, options.connections // TURNS, options.messages, options.idle) < 1:
        parser.error(f"every number must be positive, and --connections at least {TURNS}")
    return options


def main() -> None:
    options = parse_options()
    allow_many_files()
    server_core, client_core = choose_cores()
    os.sched_setaffinity(0, {client_core})  # and whatever we start, such as mongod, unless it is told otherwise
    with contextlib.ExitStack() as stack:
        uri = None if options.no_mongodb else find_mongodb(stack)
        kinds = [kind for kind in KINDS if kind != MONGODB or uri is not None]
        print(describe_versions("tornado", "pyjwt", "pymongo"))
        print(f"{describe_cpu()}, servers on core {server_core}, clients on core {client_core}")
        print(
            f"{options.rounds} rounds, each with {options.connections} connections, {options.messages} messages of "
            f"200 bytes and {options.idle} idle connections for each server\n"
        )
        report(run(kinds, uri or "", server_core, options), kinds)


if __name__ == "__main__":
    main()
