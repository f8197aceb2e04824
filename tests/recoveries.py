"""Trainings that have all that could be lost in an interruption, and what must be true when they go on after one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crashes import Moments, assert_same_runs, load, only_run
from tests.fitting import CONFIG, SMALL, options, write_pictures
from tests.processes import finish, printed
from tests.tasks import CLASSIFICATION, CROPPING, write_task

EVERY = 2
SHARED = (
    "--training.epochs=4",
    "--training.learning_rate=0.01",
    f"--training.checkpoint={{every_n_steps: {EVERY}, keep: 2}}",
    "--training.tensorboard={enabled: true, update_freq: batch}",
    "--training.ema={enabled: true, decay: 0.5}",
    "--trainer.deterministic=true",
)


@dataclass(frozen=True)
class Training:
    """One way to train: what writes its data, and its settings."""

    write: Callable[[Path], Path]
    flags: tuple[str, ...]

    def words(self, folder: Path) -> list[str]:
        return ["fit", *self.flags, *SHARED, f"--data.root={self.write(folder / 'data')}"]


def _segmentation(root: Path) -> Path:
    return write_pictures(root, {"train": 10, "val": 4}, void=True)


def _classification(root: Path) -> Path:
    return write_task("classification", root)


def _cropping(root: Path) -> Path:
    return write_task("cropping", root)


TRAININGS = {
    # Half precision, accumulation with a short last step, plateau, early stopping.
    "segmentation": Training(
        _segmentation,
        (
            f"--config={CONFIG}",
            *SMALL,
            options(),
            "--data.augment.preset=medium",
            "--training.accumulate=2",
            "--training.mixed_precision=true",
            "--training.lr_schedule={type: reduce_on_plateau, patience: 1, min_delta: 100}",
            "--training.early_stopping={enabled: true, patience: 9}",
        ),
    ),
    # Dropout, MixUp, weighted sampling, worker processes, warm-up, momentum, clipping, regularizer.
    "classification": Training(
        _classification,
        (
            *CLASSIFICATION.words,
            "--model.options={drop_rate: 0.5}",
            "--data.loader={num_workers: 2, sampling: balanced}",
            "--data.augment={preset: medium, mixup: 0.4}",
            "--training.optimizer={type: sgd, momentum: 0.9}",
            "--training.lr_schedule=one_cycle",
            "--training.warmup={enabled: true, epochs: 1.5}",
            "--training.gradient_clip=0.5",
            "--training.regularizer=true",
        ),
    ),
    # A backbone that thaws, a validation within the epoch, early stopping that ends the run.
    "cropping": Training(
        _cropping,
        (
            *CROPPING.words,
            "--model.freeze_backbone=true",
            "--model.unfreeze_epoch=1",
            "--trainer.val_check_interval=0.5",
            "--training.batch_size=2",
            "--training.early_stopping={enabled: true, patience: 2, min_delta: 100}",
        ),
    ),
}


@dataclass
class Reference:
    """A run that was left alone."""

    words: list[str]
    run: Path
    moments: int


def reference(name: str, folder: Path) -> Reference:
    """Run the training of this name to its end."""
    words = TRAININGS[name].words(folder)
    assert finish(words, folder, Moments()) == 0, printed(folder)[-3000:]
    return Reference(words, only_run(folder), int((folder / "moments.txt").read_text(encoding="utf-8")))


CODES = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130, "group SIGTERM": 143, "group SIGINT": 130, "full": 2}


def recover(reference: Reference, folder: Path, crashes: list[tuple[int, str]]) -> None:
    """Run into these crashes one after the other, go on after each, and be the run that was left alone in the end."""
    words, run, code = reference.words, None, 0
    for at, what in [*crashes, (0, "nothing")]:
        steps = folder / "steps.txt"
        steps.unlink(missing_ok=True)
        code = finish(words, folder, Moments(at, what))
        if code == 0:
            break  # it was over before, or asked to end when there was nothing left to do
        assert code == CODES[what], f"{what} at {at}: {code}\n{printed(folder)[-3000:]}"
        run = only_run(folder)
        last = run / "checkpoints" / "last.ckpt"
        if not last.exists():  # nothing was saved yet, and nothing is lost: a new run
            assert what in ("SIGKILL", "full")
            for file in sorted(run.rglob("*"), reverse=True):
                file.rmdir() if file.is_dir() else file.unlink()
            run.rmdir()
            run = None
            continue
        saved = load(run, "last")["global_step"]
        lost = int(steps.read_text(encoding="utf-8")) - saved if steps.exists() else 0
        assert lost <= (EVERY if what in ("SIGKILL", "full") else 0), f"{lost} steps lost by {what} at {at}"
        words = ["fit", f"--config={run / 'config.yaml'}", "--ckpt_path=last"]
    assert code == 0, printed(folder)[-3000:]
    finished = only_run(folder)
    assert_same_runs(finished, reference.run)
    assert not [path for path in finished.rglob(".*") if path.is_file()], "no half-written file stays"
    assert "Traceback" not in printed(folder)


def random_crashes(seed: int, moments: int, count: int) -> list[tuple[int, str]]:
    """Moments, each of which lies in what is left of the run, and what happens there."""
    rng = random.Random(seed)
    kinds = ["SIGKILL", "SIGKILL", "SIGTERM", "group SIGTERM", "group SIGINT", "full"]
    return [(rng.randint(1, max(1, moments // (index + 1))), rng.choice(kinds)) for index in range(count)]


def broken_worker() -> Any:
    """For `tests.processes`: reading one picture fails in the second epoch, in whichever process it is read."""
    from datamodules.dataset import PictureDataset

    read = PictureDataset.__getitem__

    def breaks(self: Any, draws: Any) -> Any:
        if any(draw.epoch == 1 and draw.position == 5 for draw in draws) and self.augment is not None:
            raise RuntimeError("the disk went away")
        return read(self, draws)

    PictureDataset.__getitem__ = breaks
