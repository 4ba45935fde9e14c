"""What ``benchmarks.fanout`` says about its figures: tables, whether the targets are reached, JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks.fanout_servers import LIMIT, OURS, OURS_METRICS, WRITE_MESSAGE
from benchmarks.measure import Series, print_table

SMALL = 64  # bytes; the size that the targets are about


class Cell(NamedTuple):
    """What was measured on one server in one round, for one number of clients and one size."""

    cpu: float
    """Microseconds of the server's CPU time per message delivered."""
    rate: float
    """Messages delivered per second."""
    stall: float
    """Milliseconds between two turns of the server's loop, at most."""
    memory: float
    """Kilobytes (1000 bytes) of the server's memory per client."""


Figures = dict[tuple[str, int, int], list[Cell]]
"""A cell for each round, by kind of server, number of clients and size of message in bytes."""

HEADING = ["CPU µs a message", "deliveries/s", "× limit", "× ours", "stall ms", "kB a client"]


def report(figures: Figures, names: Mapping[str, str]) -> None:
    """Print a table for each number of clients and size, and the targets."""
    for count, size in sorted({key[1:] for key in figures}):
        rows = [[f"{count:,} clients, {size:,} bytes", *HEADING]]
        rows += [[names[kind], *_row(figures, kind, count, size)] for kind in names if (kind, count, size) in figures]
        print_table(rows)
        print()
    if targets := [*_targets_at_1000(figures, names), *_targets_at_10_000(figures)]:
        print("\n  ".join([f"Targets for ours, by the medians, with {SMALL} bytes", *targets]))


def _row(figures: Figures, kind: str, count: int, size: int) -> list[str]:
    cells = figures[kind, count, size]
    cpu, stall = cpu_of(figures, kind, count, size), Series([cell.stall for cell in cells])
    ratios = [
        f"{(cpu / cpu_of(figures, base, count, size)).median:.2f}" if (base, count, size) in figures else ""
        for base in (LIMIT, OURS)
    ]
    rate, memory = Series([cell.rate for cell in cells]).median, Series([cell.memory for cell in cells]).median
    return [cpu.show(2), f"{rate:,.0f}", *ratios, stall.show(1), f"{memory:.1f}"]


def cpu_of(figures: Figures, kind: str, count: int, size: int) -> Series:
    """Return the CPU times per message delivered, in microseconds, one for each round."""
    return Series([cell.cpu for cell in figures[kind, count, size]])


def _targets_at_1000(figures: Figures, names: Mapping[str, str]) -> list[str]:
    at = (1000, SMALL)
    if (OURS, *at) not in figures:
        return []
    ours = cpu_of(figures, OURS, *at)
    lines = []
    if (LIMIT, *at) in figures:
        over = (ours / cpu_of(figures, LIMIT, *at)).median
        lines.append(f"{_mark(over <= 1.5)} 1,000 clients: {over:.2f} × the limit, at most 1.5 wanted")
    if (WRITE_MESSAGE, *at) in figures:
        under = (cpu_of(figures, WRITE_MESSAGE, *at) / ours).median
        lines.append(
            f"{_mark(under >= 9)} 1,000 clients: {under:.1f} times cheaper than the write_message loop, 9 wanted"
        )
    if (OURS_METRICS, *at) in figures:
        more = (cpu_of(figures, OURS_METRICS, *at) / ours).median
        lines.append(f"{_mark(more <= 1.03)} 1,000 clients: with metrics {more:.3f} × ours, at most 1.03 wanted")
    peers = {
        names[kind]: (cpu_of(figures, kind, *at) / ours).median
        for kind in names
        if kind not in (LIMIT, OURS, OURS_METRICS) and (kind, *at) in figures
    }
    if peers:
        nearest = min(peers, key=lambda name: peers[name])
        lines.append(
            f"{_mark(peers[nearest] > 1)} 1,000 clients: cheaper than every peer wanted; "
            f"the cheapest is {nearest}, {peers[nearest]:.2f} × ours"
        )
    return lines


def _targets_at_10_000(figures: Figures) -> list[str]:
    few, many = (1000, SMALL), (10_000, SMALL)
    if (OURS, *many) not in figures:
        return []
    lines = []
    if (OURS, *few) in figures:
        growth = {
            kind: (cpu_of(figures, kind, *many) / cpu_of(figures, kind, *few)).median
            for kind in (OURS, LIMIT)
            if (kind, *many) in figures and (kind, *few) in figures
        }
        beside = f" (the limit: {growth[LIMIT]:.2f} ×)" if LIMIT in growth else ""
        lines.append(
            f"{_mark(growth[OURS] <= 1.6)} 10,000 clients: {growth[OURS]:.2f} × the cost of 1,000{beside}, "
            "at most 1.6 wanted"
        )
    stall = Series([cell.stall for cell in figures[OURS, *many]]).median
    lines.append(f"{_mark(stall < 10)} 10,000 clients: longest stall {stall:.1f} ms, less than 10 wanted")
    return lines


def _mark(reached: bool) -> str:
    return "✓" if reached else "✗"


def as_json(figures: Figures, names: Mapping[str, str], **about: str) -> dict[str, Any]:
    """Return everything measured, with ``about`` beside it. Every list has a value for each round."""
    return {
        **about,
        "results": [
            {
                "server": kind,
                "name": names[kind],
                "clients": count,
                "size": size,
                "cpu_us": [round(cell.cpu, 4) for cell in cells],
                "deliveries_per_second": [round(cell.rate) for cell in cells],
                "stall_ms": [round(cell.stall, 3) for cell in cells],
                "memory_kb": [round(cell.memory, 3) for cell in cells],
            }
            for (kind, count, size), cells in sorted(figures.items())
        ],
    }
