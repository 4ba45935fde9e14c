"""What ``benchmarks.cluster`` says about its figures: tables, whether the targets are reached, JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.cluster_servers import OURS_MONGODB, OURS_REDIS
from benchmarks.measure import Series, print_table

ALL_CLIENTS, MANY_GROUPS = "all", "many groups"
OURS = (OURS_REDIS, OURS_MONGODB)
FASTER = 5  # times as many deliveries as a peer that are wanted of ours


class Cell(NamedTuple):
    """What was measured on one contestant in one round, for one number of processes and one work."""

    median_ms: float
    """Milliseconds from sending to a client, the median."""
    p99_ms: float
    rate: float
    """Deliveries per second."""
    cpu_us: float
    """Microseconds of CPU time of all servers per delivery. The engine's are per message."""
    engine_us: float
    engine_commands: float
    engine_bytes: float
    """Sent by the engine."""
    messages: int
    lost: int
    doubled: int
    disordered: int


Figures = dict[tuple[str, int, str], list[Cell]]
"""A cell for each round, by kind of server, number of processes and work."""

SPEED = ["deliveries/s", "× ours", "latency ms: median", "× ours", "p99", "CPU µs a delivery", "faults"]
ENGINE = ["engine: CPU µs a message", "commands", "bytes out"]


def report(figures: Figures, names: Mapping[str, str]) -> None:
    """Print a table for each work and number of processes, one about the engines, and the targets."""
    for work, processes in sorted({(key[2], key[1]) for key in figures}):
        rows = [[f"{work}, {processes} processes", *SPEED]]
        rows += [[names[kind], *_speed(figures, (kind, processes, work))] for kind in names]
        print_table(rows)
        print()
    print_table(
        [
            ["", *ENGINE],
            *(
                [f"{names[kind]}; {work}, {processes} processes", *_engine(figures[kind, processes, work])]
                for work, processes, kind in sorted((key[2], key[1], key[0]) for key in figures)
            ),
        ]
    )
    if targets := [*_targets(figures, names)]:
        print("\n" + "\n  ".join(["Targets for ours, by the medians", *targets]))


def _speed(figures: Figures, key: tuple[str, int, str]) -> list[str]:
    cells, ours = figures[key], figures.get((OURS_REDIS, *key[1:]))
    rate, latency = series(cells, "rate"), series(cells, "median_ms")
    ratios = ["", ""]
    if ours:
        ratios = [
            f"{(rate / series(ours, 'rate')).median:.2f}",
            f"{(latency / series(ours, 'median_ms')).median:.2f}",
        ]
    return [
        _show(rate),
        ratios[0],
        _show(latency, 1),
        ratios[1],
        _show(series(cells, "p99_ms"), 1),
        _show(series(cells, "cpu_us"), 1),
        _faults(cells),
    ]


def _engine(cells: list[Cell]) -> list[str]:
    return [
        _show(series(cells, "engine_us")),
        _show(series(cells, "engine_commands"), 2),
        _show(series(cells, "engine_bytes")),
    ]


def _show(figures: Series, digits: int = 0) -> str:
    return figures.show(digits) if len(figures.values) > 1 else f"{figures.median:,.{digits}f}"


def _faults(cells: list[Cell]) -> str:
    counts = {what: sum(getattr(cell, what) for cell in cells) for what in ("lost", "doubled", "disordered")}
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "none"


def series(cells: list[Cell], what: str) -> Series:
    """Return one figure, of each round."""
    return Series([getattr(cell, what) for cell in cells])


def _targets(figures: Figures, names: Mapping[str, str]) -> Iterator[str]:
    peers = [kind for kind in names if kind not in OURS]
    for kind in (kind for kind in OURS if kind in names and peers):
        for work, processes in sorted({(key[2], key[1]) for key in figures}):
            ours = figures[kind, processes, work]
            theirs = {names[peer]: figures[peer, processes, work] for peer in peers}
            faster = {peer: (series(ours, "rate") / series(its, "rate")).median for peer, its in theirs.items()}
            sooner = {
                peer: (series(its, "median_ms") / series(ours, "median_ms")).median for peer, its in theirs.items()
            }
            about = f"{names[kind]}; {work}, {processes} processes"
            yield _nearest(f"{about}: deliveries/s", faster, FASTER)
            yield _nearest(f"{about}: latency", sooner, 1)
    faults = sum(
        cell.lost + cell.doubled + cell.disordered for key in figures if key[0] in OURS for cell in figures[key]
    )
    yield f"{_mark(not faults)} ours: each message exactly once, in order; {faults} faults"


def _nearest(about: str, factors: Mapping[str, float], wanted: float) -> str:
    nearest = min(factors, key=lambda peer: factors[peer])
    mark = _mark(factors[nearest] >= wanted)
    return f"{mark} {about} {factors[nearest]:.1f} times better than {nearest}, {wanted:g} wanted"


def _mark(reached: bool) -> str:
    return "✓" if reached else "✗"


def as_json(figures: Figures, names: Mapping[str, str], clients: int, **about: str) -> dict[str, Any]:
    """Return everything measured, with ``about`` beside it. Every list has a value for each round."""
    return {
        **about,
        "clients": clients,
        "results": [
            {
                "server": kind,
                "name": names[kind],
                "processes": processes,
                "work": work,
                **{what: [round(getattr(cell, what), 4) for cell in cells] for what in Cell._fields},
            }
            for (kind, processes, work), cells in sorted(figures.items())
        ],
    }
