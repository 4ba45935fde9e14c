"""Draw the plots of ``performance.md`` from ``performance.json``; ``conf.py`` calls it at each build.

The figures are those of ``benchmarks/README.md``, and a test holds them against it. Axes are linear and begin at zero.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OURS, OURS_TOO, OTHER, OTHER_TOO = "#c2410c", "#fb923c", "#475569", "#94a3b8"


def draw_all(source: Path, target: Path) -> None:
    """Draw each plot that ``source`` describes into the folder ``target``."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tornado_wsauth", "font.family": "sans-serif"})
    target.mkdir(parents=True, exist_ok=True)
    for plot in json.loads(source.read_text(encoding="utf-8")):
        draw(plot, target / plot["file"])


def draw(plot: dict[str, Any], file: Path) -> None:
    """Draw one plot of horizontal bars, so that names fit beside them on a phone, too."""
    from matplotlib.figure import Figure

    bars, count = plot["bars"], len(plot["series"])
    figure = Figure(figsize=(6.4, 1.1 + 0.34 * len(bars) * max(1, count * 0.75)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / count
    for series in range(count):
        places = [row + (series - (count - 1) / 2) * height for row in range(len(bars))]
        colors = [(OURS, OURS_TOO) if name.startswith("ours") else (OTHER, OTHER_TOO) for name, *_ in bars]
        drawn = axes.barh(
            places,
            [bar[1 + series] for bar in bars],
            height * 0.92,
            color=[pair[series] for pair in colors],
            label=plot["series"][series],
        )
        axes.bar_label(drawn, [f"{bar[1 + series]:,}" for bar in bars], padding=3, fontsize=8)
    axes.set_yticks(range(len(bars)), [name.replace("`", "") for name, *_ in bars])
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set_xlim(left=0)
    axes.set_title(plot["title"], loc="left", fontsize=11)
    axes.set_xlabel(plot["axis"], fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    if count > 1:
        axes.text(
            1, 0.02, "upper bar: " + ", lower: ".join(plot["series"]), ha="right", fontsize=8, transform=axes.transAxes
        )
    figure.savefig(file, format="svg", metadata={"Date": None})
