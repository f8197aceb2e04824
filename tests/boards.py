"""What a run wrote for TensorBoard, as TensorBoard reads it; and which of its numbers a clock writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PARTS = ("", "train", "val")
#: Columns of metrics.csv that differ from run to run.
CLOCKED = ("train/data_time", "train/images_per_s", "train/memory_gib")


def events(run: Path, part: str = "") -> EventAccumulator:
    """What is of one part: ``train``, ``val``, or "" for what is of neither."""
    everything = {"scalars": 0, "histograms": 0, "images": 0, "tensors": 0}
    accumulator = EventAccumulator(str(run / "tensorboard" / part), size_guidance=everything)
    accumulator.Reload()
    return accumulator


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar and the sum of every histogram, as (step, value), by part and tag, less what a clock writes."""
    found: dict[str, list[tuple[int, float]]] = {}
    for part in PARTS:
        if not (run / "tensorboard" / part).is_dir():
            continue
        board = events(run, part)
        tags: Any = board.Tags()
        for tag in tags["scalars"]:
            if not tag.startswith("speed/"):
                found[f"{part}:{tag}"] = [(e.step, e.value) for e in board.Scalars(tag)]
        for tag in tags["histograms"]:
            found[f"{part}:histogram {tag}"] = [
                (e.step, e.histogram_value.sum) for e in board.Histograms(tag)
            ]
    return found
