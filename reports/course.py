"""How a training went: its curves, its time and its throughput."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from figures import history_chart
from reports.drawings import Drawing, draw
from reports.run_files import Run
from reports.score_names import score_title

__all__ = ["column", "curve_names", "curves", "duration", "named", "session_rows", "throughput"]

_SCORES = 3
Column = tuple[np.ndarray, np.ndarray]


def curve_names(run: Run) -> list[str]:
    """Names without the stage: the loss, the watched score, up to two more of the task, and the learning rate."""
    best = run.about.get("best") or {}
    watched = str(best.get("monitor") or "").partition("/")[2]
    known = [name.partition("/")[2] for name in run.history if name.startswith("val/")]
    main = [name for name in known if name != "loss" and "_per_class/" not in name]
    first = ["accuracy", "balanced_accuracy", "iou", "dice", "box_iou", "box_iou_50"]
    main.sort(key=lambda name: (name != watched, first.index(name) if name in first else len(first)))
    return ["loss", *main[:_SCORES], "learning_rate"]


def curves(run: Run) -> list[Drawing]:
    """The learning curves, one chart for each of `curve_names` that has values."""
    drawn: list[Drawing] = []
    for name in curve_names(run):
        lines = {
            stage: line for stage in ("train", "val") if (line := column(run, f"{stage}/{name}")) is not None
        }
        if not lines:
            continue
        title = score_title(name)[0]
        title = title[0].upper() + title[1:]
        figure = history_chart(lines, title=title, best_x=run.best_epoch if "val" in lines else None)
        drawn.append(draw(figure, title, _told(lines)))
    return drawn


def column(run: Run, name: str) -> Column | None:
    """Epochs, from 1, and values of a column of metrics.csv, without the empty fields; None where there is nothing."""
    values, epochs = run.history.get(name), run.history.get("epoch")
    if values is None or epochs is None:
        return None
    there = np.isfinite(values)
    return (epochs[there] + 1, values[there]) if there.any() else None


def _told(lines: dict[str, Column]) -> str:
    """The chart in words."""
    told = [
        f"{stage}: {y[0]:.4g} at epoch {x[0]:.0f}, {y[-1]:.4g} at epoch {x[-1]:.0f}, "
        f"lowest {y.min():.4g}, highest {y.max():.4g}"
        for stage, (x, y) in lines.items()
    ]
    return "; ".join(told) + "."


def throughput(run: Run) -> list[tuple[str, str]]:
    """Facts about time, each with what it is called."""
    sessions = _sessions(run)
    seconds = sum(_number(session.get("seconds")) for session in sessions)
    epochs = sum(int(session.get("epochs") or 0) for session in sessions)
    facts: list[tuple[str, str]] = []
    if seconds > 0:
        facts.append((duration(seconds), "in all"))
        if epochs:
            facts += [
                (f"{epochs:,}", "epochs trained, all sessions"),
                (duration(seconds / epochs), "an epoch"),
            ]
    speed = column(run, "train/images_per_s")
    if speed is not None:
        facts.append((f"{np.median(speed[1]):,.1f}", "images a second in training (median of the epochs)"))
    elif seconds > 0 and (images := sum(int(session.get("images") or 0) for session in sessions)):
        facts.append((f"{images / seconds:,.1f}", "images a second, all time counted"))
    waiting = column(run, "train/data_time")
    if waiting is not None:
        facts.append((f"{waiting[1].mean():.1%}", "of the training time spent waiting for data"))
    memory = column(run, "train/memory_gib")
    if memory is not None:
        facts.append((f"{memory[1].max():.2f} GiB", "memory at most"))
    return facts


def session_rows(run: Run) -> list[tuple[str, str, str, str]]:
    """Began, ended, time and epochs of each session, where there are several."""
    sessions = _sessions(run)
    if len(sessions) < 2:
        return []
    return [
        (
            str(session.get("began") or "–").replace("T", " "),
            str(session.get("ended") or "was cut off").replace("T", " "),
            duration(_number(session.get("seconds"))),
            f"{session.get('epochs', '–')} from epoch {int(session.get('first_epoch') or 0) + 1}",
        )
        for session in sessions
    ]


def _sessions(run: Run) -> list[dict[str, Any]]:
    return [session for session in run.about.get("sessions") or [] if isinstance(session, dict)]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def duration(seconds: float) -> str:
    """A time for the eye.

    >>> duration(3.21), duration(192), duration(8000)
    ('3.2 s', '3 min 12 s', '2 h 13 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def named(path: Path) -> str:
    """A run's short name: its folder and the one above, as in ``seg_unet/version_3``."""
    path = path.resolve()
    return f"{path.parent.name}/{path.name}"
