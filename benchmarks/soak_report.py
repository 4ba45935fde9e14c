"""What the soak prints: a line while it runs, and the summary. `benchmarks.soak` imports it."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.measure import describe_cpu, describe_versions, print_table
from benchmarks.soak_clients import Swarm
from benchmarks.soak_faults import Faults, ServerProcess
from benchmarks.soak_hostile import Attackers
from benchmarks.soak_ledger import Ledger

MEGABYTE = 2**20


class Samples:
    """What was seen each second."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.inside: list[int] = []
        """Authenticated clients."""
        self.lag = 0.0
        """The longest that the clients themselves were late, in seconds."""
        self.memory: dict[str, list[tuple[float, int]]] = {}
        """Each server's resident memory in bytes, and after how many seconds."""
        self.seconds = 0.0
        """How long the load stood."""
        self._began = time.time()

    def begin(self) -> None:
        """The load begins."""
        self._began = time.time()

    def elapsed(self) -> float:
        """Return the seconds since then."""
        return time.time() - self._began

    def take(self, inside: int, lag: float, processes: Sequence[ServerProcess]) -> None:
        """Note how things stand."""
        self.inside.append(inside)
        self.lag = max(self.lag, lag)
        for process in processes:
            if memory := process.memory():
                self.memory.setdefault(process.server.name, []).append((self.elapsed(), memory))

    def finish(self, processes: Sequence[ServerProcess]) -> None:
        """The load ends."""
        self.take(self.inside[-1] if self.inside else 0, 0, processes)
        self.seconds = self.elapsed()


def progress_line(samples: Samples, faults: Faults) -> str:
    """Return how things stand, on one line."""
    counts, broken = samples.ledger.counts, sum(samples.ledger.broken.values())
    return (
        f"{samples.inside[-1]:,} in · {counts['authentications']:,} authentications · {counts['refreshes']:,} refreshes"
        f" · {counts['echoes']:,} echoes · {counts['broadcasts'] + counts['group broadcasts']:,} broadcasts delivered"
        f" · {len(faults.over)} faults · {broken} breaches"
    )


def print_summary(samples: Samples, faults: Faults, swarm: Swarm, attackers: Attackers) -> None:
    """Print what load was held, what was survived, and what came of everybody."""
    print(f"\n{describe_versions('tornado', 'pyjwt', 'pymongo')}\n{describe_cpu()}\n")
    _print_load(samples, swarm)
    _print_faults(faults)
    _print_outcomes("hostile attempts", attackers.outcomes)
    _print_counter("how honest connections ended", swarm.ends)
    _print_counter("why honest attempts failed", swarm.failures)


def _print_load(samples: Samples, swarm: Swarm) -> None:
    counts, seconds = samples.ledger.counts, max(samples.seconds, 1)
    steady = samples.inside[int(swarm.ramp_seconds) + 3 :] or samples.inside or [0]
    rows = [["load held", "", "a second"]]
    rows.append(["clients authenticated at a time, most", f"{max(steady):,}", ""])
    rows.append(["… on average, faults included", f"{statistics.mean(steady):,.0f}", ""])
    for what in ("tokens", "authentications", "refreshes", "echoes", "broadcasts", "group broadcasts", "revocations"):
        rows.append([what, f"{counts[what]:,}", f"{counts[what] / seconds:,.1f}"])
    print_table(rows)
    print(
        f"{seconds:.0f} s; the latest close of an expired JWT: {samples.ledger.latest_expiry:.2f} s after it;"
        f" the clients themselves were late by {samples.lag:.2f} s at most\n"
    )


def _print_faults(faults: Faults) -> None:
    rows = [["faults survived", "times", "lasted, s", "all back after, s: median", "worst"]]
    for kind in sorted({fault.kind for fault in faults.over}):
        of_kind = [fault for fault in faults.over if fault.kind == kind]
        back = [fault.back_after for fault in of_kind]
        lasted = statistics.median(fault.seconds for fault in of_kind)
        rows.append([kind, str(len(of_kind)), f"{lasted:.1f}", f"{statistics.median(back):.1f}", f"{max(back):.1f}"])
    print_table(rows)
    print()


def _print_outcomes(title: str, outcomes: Counter[tuple[str, str]]) -> None:
    rows = [[title, "times"]]
    rows += [[f"{what}: {outcome}", f"{times:,}"] for (what, outcome), times in sorted(outcomes.items())]
    print_table(rows)
    print()


def _print_counter(title: str, counter: Counter[str]) -> None:
    print_table([[title, "times"], *([what, f"{times:,}"] for what, times in counter.most_common())])
    print()


def print_memory(samples: Samples, before: dict[str, dict[str, Any]], left_over: dict[str, dict[str, Any]]) -> None:
    """Print what the servers needed, and what they still had when everybody had left."""
    rows = [["server memory, MB", "start", "middle", "end", "when all had left", "objects before", "and then"]]
    for name, series in sorted(samples.memory.items()):
        moments = series[0], series[len(series) // 2], series[-1]
        row = [name, *(f"{memory / MEGABYTE:.1f} at {at:.0f} s" for at, memory in moments)]
        then = left_over.get(name)
        row += [f"{then['memory'] / MEGABYTE:.1f}" if then else ""]
        row += [f"{state['objects']:,}" if state else "" for state in (before.get(name), then)]
        rows.append(row)
    print_table(rows)
    print("A server that was killed or drained in between began anew.\n")


def print_breaches(ledger: Ledger) -> None:
    """Print what must not be, with a few examples of each."""
    if not ledger.broken:
        print("No breach.")
        return
    print_table([["breaches", "times"], *([check, f"{times:,}"] for check, times in ledger.broken.most_common())])
    for check in ledger.broken:
        for breach in [breach for breach in ledger.breaches if breach.check == check][:5]:
            print(f"  {check}: {breach.what}")
