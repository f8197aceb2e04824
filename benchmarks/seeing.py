"""What it costs to see a training: fits with everything on, and with all of it off, in turn.

    python benchmarks/seeing.py [--config cls_mobilenetv3] [--rounds 5] [--steps 12] [flags of train.py fit ...]

On: TensorBoard with histograms, weights as images, the graph, each step's scalars and pictures; the samples on show,
the record for the report, run.json, figures of speed. Off: none of these. Both train the same network on the same
pictures of the demo data, for two epochs of so many steps each; the first warms up (and writes the graph), the second
is measured. A step is the time from one batch to the next; what an epoch takes beside its steps is validation,
pictures, charts, histograms and the checkpoint. The bar and the printing are the same in both.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
from lightning.pytorch import Callback  # noqa: E402

import cli.app  # noqa: E402
from callbacks import EvaluationCharts, EvaluationRecord, RunFacts, SamplesOnShow, TrainingSpeed  # noqa: E402
from cli import main  # noqa: E402

ON = "{enabled: true, histogram_freq: 1, write_graph: true, write_images: true, update_freq: batch}"
SEEING = (EvaluationCharts, EvaluationRecord, RunFacts, SamplesOnShow, TrainingSpeed)


class Clock(Callback):
    """When each batch of the second epoch began, and when the epoch began and was over."""

    def __init__(self) -> None:
        self.batches: list[float] = []
        self.last_batch_s = 0.0
        self.epoch_s = 0.0
        self._began = 0.0

    def on_train_epoch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 1:
            _wait()
            self._began = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 1:
            _wait()
            self.batches.append(time.perf_counter())

    def on_train_end(self, *args: Any) -> None:
        _wait()
        self.epoch_s = time.perf_counter() - self._began

    @property
    def step_s(self) -> float:
        """Median time from one batch to the next."""
        pairs = zip(self.batches, self.batches[1:], strict=False)
        return statistics.median(later - earlier for earlier, later in pairs)

    @property
    def rest_s(self) -> float:
        """What the epoch took from its last batch on, less a step."""
        return self.epoch_s - (self.batches[-1] - self._began) - self.step_s


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def fit(words: list[str], *, on: bool) -> Clock:
    """One fit in an empty folder."""
    clock, build = Clock(), cli.app.trainer_arguments

    def arguments(*args: Any, **kwargs: Any) -> dict[str, Any]:
        made = build(*args, **kwargs)
        if not on:
            for callback in made["callbacks"]:
                if hasattr(callback, "with_best"):
                    callback.with_best = None
            made["callbacks"] = [c for c in made["callbacks"] if not isinstance(c, SEEING)]
        return {**made, "callbacks": [*made["callbacks"], clock]}

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        cli.app.trainer_arguments = arguments
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                code = main(
                    [
                        "fit",
                        *words,
                        f"--training.tensorboard={ON if on else 'false'}",
                        f"--training.pictures={8 if on else 0}",
                    ]
                )
        finally:
            cli.app.trainer_arguments = build
    if code:
        raise SystemExit(printed.getvalue())
    return clock


def run(config: str, rounds: int, steps: int, flags: list[str]) -> None:
    words = [
        f"--config={ROOT / 'configs' / config}.yaml",
        "--training.epochs=2",
        f"--trainer.limit_train_batches={steps}",
        "--trainer.limit_val_batches=4",
        "--data.loader.num_workers=0",
        "--trainer.num_sanity_val_steps=0",
        *flags,
    ]
    rows = [(fit(words, on=number % 2 == 0), fit(words, on=number % 2 == 1)) for number in range(rounds)]
    pairs = [pair if number % 2 == 0 else pair[::-1] for number, pair in enumerate(rows)]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"
    print(f"{config} {' '.join(flags)}: {rounds} pairs, {device}, torch {torch.__version__}")
    for name, of in (
        ("a step", lambda clock: clock.step_s),
        ("an epoch beside its steps", lambda clock: clock.rest_s),
    ):
        on, off = ([of(pair[place]) for pair in pairs] for place in (0, 1))
        more = statistics.median(a - b for a, b in zip(on, off, strict=True))
        print(
            f"  {name}: on {1e3 * statistics.median(on):.1f} ms, off {1e3 * statistics.median(off):.1f} ms, "
            f"median difference {1e3 * more:+.1f} ms ({more / statistics.median(off):+.2%})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="cls_mobilenetv3")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    given, rest = parser.parse_known_args()
    run(given.config, given.rounds, given.steps, rest)
