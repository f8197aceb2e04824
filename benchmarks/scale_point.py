"""One point of benchmarks/scale.py in a process of its own, whose memory is then its own too.

    python benchmarks/scale_point.py KIND OUT FLAGS...     KIND: steps, loader, first_step, evaluation, workers_memory

FLAGS are those of `train.py`, and `--scale.NAME=NUMBER` for what a kind wants. Runs in the current folder, and writes a
JSON of figures to OUT; as one of several processes to OUT.RANK.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
from lightning.pytorch import Callback  # noqa: E402

from benchmarks.timing import KeptBatches, command  # noqa: E402

_WARM = 3  # steps that are not counted: memory is taken, kernels are chosen


def resident_mb() -> float:
    """Memory that this process has now, in 10^6 bytes."""
    return _status("VmRSS")


def peak_mb() -> float:
    """The most that it had since `forget_peak`: of the GPU where there is one."""
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else _status("VmHWM")


def forget_peak() -> None:
    """Count the peak from here."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):  # then the peak is that of the whole process so far
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> float:
    # not ru_maxrss: a process that another one started begins with the memory of that one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


def _cpu_s() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class Steps(Callback):
    """Time of each training step, and the memory from the first on."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.before_mb = self.peak = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        forget_peak()
        self.before_mb = 0.0 if torch.cuda.is_available() else resident_mb()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.cpu.append(_cpu_s())
        self.wall.append(time.perf_counter())

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.peak = peak_mb()

    def figures(self) -> dict[str, float]:
        """CPU (on a GPU: elapsed) and elapsed ms a step, medians; memory in MB."""
        ms = {
            f"{name}_ms": 1000 * statistics.median(b - a for a, b in pairwise(times[_WARM:]))
            for name, times in (("step", self.cpu), ("elapsed", self.wall))
        }
        return {**ms, "peak_mb": self.peak, "added_mb": self.peak - self.before_mb}


def steps(words: list[str], given: dict[str, int]) -> dict[str, float]:
    """Steps of `fit` on one batch from memory, made by the real loader."""
    from datamodules import LoupeDataModule

    real = LoupeDataModule.train_dataloader

    def kept(self: LoupeDataModule) -> Any:
        return KeptBatches([next(iter(real(self)))], given["steps"])

    LoupeDataModule.train_dataloader = kept  # pyright: ignore
    clock = Steps()
    command(["fit", *words], clock)
    return clock.figures()


def loader(words: list[str], given: dict[str, int]) -> dict[str, float]:
    """Steps of `fit` that read their pictures, on any number of processes.

    The whole epoch counts, elapsed and CPU: of single steps the workers' reading ahead would hide what it costs.
    """
    clock = Steps()
    command(["fit", *words], clock)
    count = len(clock.wall) - 1 - given["left_out"]
    span = [times[-1] - times[given["left_out"]] for times in (clock.wall, clock.cpu)]
    return {
        "elapsed_ms": 1000 * span[0] / count,
        "step_ms": 1000 * span[1] / count,
        "peak_mb": clock.peak,
        "rank": float(os.environ.get("RANK", 0)),
    }


class _First(Callback):
    """When the first training step began."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not self.cpu:
            self.cpu, self.wall, self.peak = time.process_time(), time.perf_counter(), peak_mb()


def first_step(words: list[str], given: dict[str, int]) -> dict[str, float]:
    """From the command line to the first training step; what it imports is imported before."""
    import tensorboard
    import timm

    import cli.app
    import inspection

    assert all((cli.app, inspection, tensorboard, timm))
    clock = _First()
    forget_peak()
    before, cpu, wall = resident_mb(), time.process_time(), time.perf_counter()
    command(["fit", *words], clock)
    return {
        "cpu_s": clock.cpu - cpu,
        "elapsed_s": clock.wall - wall,
        "added_mb": clock.peak - before,
        "peak_mb": clock.peak,
    }


class _Evaluated(Callback):
    """Time and memory of a validation's batches."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.before_mb = self.peak = 0.0

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        forget_peak()
        self.before_mb = 0.0 if torch.cuda.is_available() else resident_mb()

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.cpu.append(_cpu_s())

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.cpu.append(_cpu_s())
        self.peak = peak_mb()


def evaluation(words: list[str], given: dict[str, int]) -> dict[str, float]:
    """A `validate` of weights that were not trained."""
    clock = _Evaluated()
    command(["validate", *words], clock)
    return {
        "step_ms": 1000 * statistics.median(b - a for a, b in pairwise(clock.cpu[1:])),
        "peak_mb": clock.peak,
        "added_mb": clock.peak - clock.before_mb,
    }


def workers_memory(words: list[str], given: dict[str, int]) -> dict[str, float]:
    """What a worker process has of its own after few batches and after many, in MB."""
    from benchmarks.data import worker_mb
    from datamodules import ClassificationDataModule, Loader

    (root,) = (word.partition("=")[2] for word in words if word.startswith("--data.root="))
    data = ClassificationDataModule(root, image_size=8, loader=Loader(batch_size=64, num_workers=1))
    data.setup("fit")
    return {f"after_{batches}_batches": worker_mb(data, batches) for batches in (2, given["batches"])}


KINDS = {f.__name__: f for f in (steps, loader, first_step, evaluation, workers_memory)}


def main(kind: str, out: Path, flags: list[str]) -> None:
    own = [flag for flag in flags if flag.startswith("--scale.")]
    words = [flag for flag in flags if flag not in own]
    given = {name[8:]: int(value) for name, value in (flag.split("=") for flag in own)}
    figures = KINDS[kind](words, given)
    rank = os.environ.get("RANK")
    out = out if rank is None else out.with_name(f"{out.name}.{rank}")
    out.write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
