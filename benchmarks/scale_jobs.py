"""What benchmarks/scale.py measures with: a process a point, series of points in turn, and how a figure grows."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.timing import in_turn

__all__ = [
    "CLASSIFIER",
    "COMMON",
    "ROOT",
    "SEGMENTER",
    "Job",
    "Point",
    "exponent",
    "line",
    "of",
    "run",
    "series",
    "with_classes",
]

ROOT = Path(__file__).resolve().parent.parent
#: One point: its figures by name.
Point = dict[str, float]


class Job(NamedTuple):
    """What one process of a point runs."""

    kind: str
    words: list[str]
    processes: int = 1


COMMON = (
    "--data.augment.preset=light",
    "--training.epochs=1",
    "--trainer.limit_val_batches=0",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.enable_checkpointing=false",
    "--training.monitor=train/loss",
    "--training.tensorboard=false",
    "--training.pictures=0",
)
CLASSIFIER = (
    f"--config={ROOT / 'configs' / 'cls_mobilenetv3.yaml'}",
    "--model.backbone=lcnet_050",
    "--model.weights=null",
    "--training.loss=categorical_crossentropy",
)
SEGMENTER = (
    f"--config={ROOT / 'configs' / 'seg_unet.yaml'}",
    "--model.options={base_filters: 8, depth: 3}",
)


def run(job: Job, folder: Path) -> list[Point]:
    """The figures of each process of a job."""
    work = Path(tempfile.mkdtemp(dir=folder))
    out = work / "figures.json"
    point = [str(ROOT / "benchmarks" / "scale_point.py"), job.kind, str(out), *job.words]
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job.processes}"]
    done = subprocess.run(
        [sys.executable, *(several if job.processes > 1 else []), *point],
        cwd=work,
        env={**os.environ, "LOUPE_CACHE": str(folder / "cache"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(point)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    files = [out] if job.processes == 1 else sorted(work.glob(f"{out.name}.*"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def series(jobs: Mapping[int, Job], folder: Path, rounds: int) -> dict[int, Point]:
    """The median of each figure of each point; those of several processes are their means, CPU time is their sum."""
    kept: dict[str, list[Point]] = {}

    def call(at: str, job: Job) -> float:
        found = run(job, folder)
        mean = {name: statistics.fmean(point[name] for point in found) for name in found[0]}
        if len(found) > 1:
            mean["step_ms"] *= len(found)
        kept.setdefault(at, []).append(mean)
        return 0.0

    calls: dict[str, Callable[[], float]] = {
        str(at): (lambda at=at, job=job: call(str(at), job)) for at, job in jobs.items()
    }
    in_turn(calls, rounds)
    return {
        at: {name: statistics.median(point[name] for point in kept[str(at)]) for name in kept[str(at)][0]}
        for at in jobs
    }


def exponent(points: Mapping[int, float]) -> float:
    """The slope of a straight line through log(y) against log(x), by least squares: 1 where y grows as x does.

    >>> exponent({1: 3.0, 10: 30.0, 100: 300.0}), exponent({1: 2.0, 2: 8.0})
    (1.0, 2.0)
    """
    x, y = ([math.log(value) for value in values] for values in (points.keys(), points.values()))
    return round(statistics.linear_regression(x, y).slope, 12)


def line(points: Mapping[int, float]) -> tuple[float, float]:
    """What it costs at none, and for one more, by least squares.

    >>> line({1: 5.0, 2: 7.0, 4: 11.0})
    (3.0, 2.0)
    """
    found = statistics.linear_regression(list(points), list(points.values()))
    return round(found.intercept, 9), round(found.slope, 9)


def of(points: Mapping[int, Point], figure: str) -> dict[int, float]:
    return {at: point[figure] for at, point in points.items()}


def with_classes(folder: Path, count: int) -> str:
    """A config that names so many classes, for which there need be no pictures."""
    file = folder / f"classes_{count}.json"
    names = [f"class_{number:03d}" for number in range(count)]
    file.write_text(json.dumps({"data": {"init_args": {"read": {"class_names": names}}}}), encoding="utf-8")
    return f"--config={file.rename(file.with_suffix('.yaml'))}"
