"""Draws the figures of docs/scale.md from what benchmarks/scale.py measured.

    python docs/draw_scale.py benchmarks/results/scale.json docs

Both axes are logarithmic: what grows in proportion is a straight line that rises like the dotted one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator  # noqa: E402

from figures.canvas import (  # noqa: E402
    DASHES,
    INK,
    SERIES,
    amount,
    drawing,
    finished,
    frame,
    legend_above,
)

#: x and y of each line.
Lines = Mapping[str, tuple[list[float], list[float]]]


def growth_chart(lines: Lines, *, title: str, x: str, y: str, to: str = "", power: int = 1) -> Figure:
    """Lines through points, and a dotted one that ends with the first line and grows in proportion to x^power, `to`."""
    with drawing():
        figure, axes = frame(
            title, f"Dotted: in proportion{to}.", height=2.6, left=0.7, width=6.0, legend=True
        )
        for number, (name, (at, cost)) in enumerate(lines.items()):
            style: dict[str, Any] = {
                "color": SERIES[number],
                "linestyle": DASHES[number],
                "marker": "os^D"[number],
            }
            axes.plot(at, cost, label=name, markersize=4, **style)
        axes.set_xscale("log")
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        at, cost = next(iter(lines.values()))
        start = max(at[0], at[-1] * (low / cost[-1]) ** (1 / power))
        axes.plot(
            [start, at[-1]],
            [cost[-1] * (start / at[-1]) ** power, cost[-1]],
            color=INK,
            linestyle=":",
            linewidth=1,
            alpha=0.6,
        )
        axes.set_ylim(low, high)
        ticks = sorted({value for points, _ in lines.values() for value in points})
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid()
        legend_above(axes)
        return finished(figure)


def lines_of(points: Mapping[str, Any], names: Mapping[str, str], figure: str) -> Lines:
    """Of each series that is there, the points in the order of their size."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for name, shown in names.items():
        series = sorted((float(at), point[figure]) for at, point in points.get(name, {}).items())
        if series:
            found[shown] = ([at for at, _ in series], [value for _, value in series])
    return found


def charts(points: Mapping[str, Any]) -> dict[str, Figure]:
    """The charts by the names of their files."""
    tasks = ("segmentation", "classification")

    def both(kind: str) -> dict[str, str]:
        return {f"{kind} {task}": task for task in tasks}

    made = {
        "batch": growth_chart(
            lines_of(points, both("batch"), "step_ms"),
            title="A training step by the pictures in it",
            x="pictures in a batch",
            y="CPU ms a step",
        ),
        "size": growth_chart(
            lines_of(points, both("size"), "step_ms"),
            title="A training step by the side of its pictures",
            x="side of a picture, px",
            y="CPU ms a step",
            to=" to the pixels",
            power=2,
        ),
        "classes": growth_chart(
            lines_of(
                points,
                {
                    "evaluation segmentation": "validate, 512 px",
                    "classes segmentation": "train, 128 px",
                    "classes classification": "classifier",
                },
                "step_ms",
            ),
            title="A batch by the number of classes",
            x="classes",
            y="CPU ms a batch",
        ),
        "files": growth_chart(
            lines_of(
                points,
                {
                    "files folders": "class folders",
                    "files manifest": "CSV",
                    "masks first look": "masks, first",
                    "masks again": "masks, again",
                },
                "cpu_s",
            ),
            title="A start, to the first step, by the number of files",
            x="files (with masks: pairs)",
            y="CPU s, less imports",
        ),
    }
    return {f"scale_{name}.svg": chart for name, chart in made.items()}


def main(results: Path, out: Path) -> None:
    """Write the charts as SVG files."""
    points = json.loads(results.read_text(encoding="utf-8"))["about"]["points"]
    none: dict[str, Any] = {"Date": None, "Creator": None}
    for name, chart in charts(points).items():
        with drawing():
            chart.savefig(out / name, metadata=none)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
