"""Draw what ``benchmarks.fanout --json`` wrote: ``python -m benchmarks.fanout_plot RESULTS.json PLOT.svg``.

Server CPU time per message delivered by number of clients, for 64 bytes; both axes are logarithmic. Written by hand,
so it needs nothing, and on a background of its own, so it can be read in a light page and in a dark one.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.fanout_servers import LIMIT, OURS, OURS_METRICS

SIZE = 64  # bytes
WIDTH, HEIGHT = 900, 520  # pixels, as are the rest
LEFT, RIGHT, TOP, BOTTOM = 64, 280, 64, 56
LABEL_HEIGHT = 17
TICKS = [digit * 10**power for power in range(4) for digit in (1, 2, 5)]  # microseconds
OUR_COLOR, LIMIT_COLOR = "#c2410c", "#111827"
COLORS = ("#2563eb", "#15803d", "#7c3aed", "#0e7490", "#a16207", "#be185d", "#4b5563", "#0f766e", "#9333ea", "#64748b")


class Line(NamedTuple):
    """One server: the medians of its rounds."""

    server: str
    name: str
    points: list[tuple[int, float]]
    """Number of clients, and microseconds per message delivered."""


class Scale:
    """Where a number of clients, and a time, are on the plot."""

    def __init__(self, lines: Sequence[Line]) -> None:
        counts = [count for line in lines for count, _ in line.points]
        times = [time for line in lines for _, time in line.points]
        self.counts = sorted(set(counts))
        self._low_count, self._high_count = math.log(min(counts)), math.log(max(counts))
        below = [tick for tick in TICKS if tick <= min(times)] or [min(times)]
        above = [tick for tick in TICKS if tick >= max(times)] or [max(times)]
        self.ticks = [tick for tick in TICKS if below[-1] <= tick <= above[0]]
        self._low_time, self._high_time = math.log(below[-1]), math.log(above[0])

    def x(self, count: int) -> float:
        span = self._high_count - self._low_count or 1
        return LEFT + 12 + (math.log(count) - self._low_count) / span * (WIDTH - LEFT - RIGHT - 24)

    def y(self, time: float) -> float:
        span = self._high_time - self._low_time or 1
        return HEIGHT - BOTTOM - (math.log(time) - self._low_time) / span * (HEIGHT - TOP - BOTTOM)


def write_plot(result: dict[str, Any], target: Path) -> None:
    """Write the plot of ``result``, which is what `fanout_report.as_json` returns, to ``target``."""
    by_server: dict[str, Line] = {}
    for each in sorted(result["results"], key=lambda one: int(one["clients"])):
        if each["size"] == SIZE and each["server"] != OURS_METRICS:  # it would lie on ours
            line = by_server.setdefault(each["server"], Line(each["server"], each["name"], []))
            line.points.append((each["clients"], statistics.median(each["cpu_us"])))
    if not by_server:
        raise ValueError(f"nothing to draw: no messages of {SIZE} bytes were measured")
    lines = sorted(by_server.values(), key=lambda line: line.server == OURS)  # ours is drawn last, over the others
    scale = Scale(lines)
    parts = [*_frame(scale), *_curves(lines, scale), *_labels(lines, scale), "</svg>"]
    target.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _frame(scale: Scale) -> list[str]:
    """Return everything that is there without any server."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img">',
        "<title>Server CPU time per message delivered, by number of clients</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
        _text(20, 28, f"One message of {SIZE} bytes to everyone", 'font-size="16" font-weight="600"'),
        _text(20, 47, "server CPU time per message delivered, µs (logarithmic; less is better)", muted=True),
        _text((LEFT + right) / 2, HEIGHT - 14, "clients connected (logarithmic)", 'text-anchor="middle"', muted=True),
    ]
    for tick in scale.ticks:
        y = scale.y(tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#e5e7eb"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{tick:,}", 'text-anchor="end"', muted=True))
    for count in scale.counts:
        x = scale.x(count)
        parts.append(f'<path d="M{x:.1f} {bottom}v5" stroke="#9ca3af"/>')
        parts.append(_text(x, bottom + 19, f"{count:,}", 'text-anchor="middle"', muted=True))
    parts.append(f'<path d="M{LEFT} {bottom}H{right}" stroke="#9ca3af"/>')
    return parts


def _curves(lines: Sequence[Line], scale: Scale) -> list[str]:
    parts = []
    for number, line in enumerate(lines):
        color, width = _color(line, number), 4 if line.server == OURS else 1.8
        places = [(scale.x(count), scale.y(time)) for count, time in line.points]
        dashes = ' stroke-dasharray="6 4"' if line.server == LIMIT else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"{dashes}/>')
        radius = 5 if line.server == OURS else 3
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}"/>' for x, y in places]
    return parts


def _labels(lines: Sequence[Line], scale: Scale) -> list[str]:
    """Return each server's name beside the end of its line, moved as far as the names need room."""
    numbers = sorted(range(len(lines)), key=lambda number: scale.y(lines[number].points[-1][1]))
    heights = [scale.y(lines[number].points[-1][1]) for number in numbers]
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + LABEL_HEIGHT)
    lowest = HEIGHT - BOTTOM + 4.0
    for place in reversed(range(len(heights))):
        heights[place] = min(heights[place], lowest)
        lowest = heights[place] - LABEL_HEIGHT
    x = WIDTH - RIGHT + 30
    parts = []
    for number, y in zip(numbers, heights, strict=True):
        line = lines[number]
        color, (count, time) = _color(line, number), line.points[-1]
        parts.append(
            f'<path d="M{scale.x(count) + 7:.1f} {scale.y(time):.1f}L{x - 5} {y:.1f}" stroke="{color}" '
            'stroke-width="0.7" opacity="0.6"/>'
        )
        weight = 'font-weight="700"' if line.server == OURS else ""
        parts.append(_text(x, y + 4, f"{line.name} {time:.1f}", f'fill="{color}" {weight}'))
    return parts


def _color(line: Line, number: int) -> str:
    special = {OURS: OUR_COLOR, LIMIT: LIMIT_COLOR}
    return special.get(line.server, COLORS[number % len(COLORS)])


def _text(x: float, y: float, text: str, attributes: str = "", *, muted: bool = False) -> str:
    if "fill=" not in attributes:
        attributes += f' fill="{"#4b5563" if muted else "#111827"}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes.strip()}>{escape(text)}</text>'


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fanout_plot", description=(__doc__ or "").split(":")[0])
    parser.add_argument("results", type=Path, metavar="RESULTS.json")
    parser.add_argument("plot", type=Path, metavar="PLOT.svg")
    arguments = parser.parse_args()
    write_plot(json.loads(arguments.results.read_text(encoding="utf-8")), arguments.plot)


if __name__ == "__main__":
    main()
