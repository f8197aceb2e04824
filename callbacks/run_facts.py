"""run.json: on what, with what and how long a run was trained, for the report and for comparing runs."""

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.run_directory import RunDirectory, write_atomically
from callbacks.speed import TrainingSpeed

__all__ = ["RunFacts"]

_LIBRARIES = ("torch", "torchvision", "lightning", "timm", "segmentation_models_pytorch", "torchmetrics")


class RunFacts(Callback):
    """Keeps ``RUN/run.json`` up to date: each session that trained, and what it trained with.

    Args:
        run: Where.
        speed: Counts the pictures.
        command: The words after ``train.py``.
        best: The best so far: monitor, score, epoch; None before there is one.
    """

    def __init__(
        self,
        run: RunDirectory,
        speed: TrainingSpeed,
        *,
        command: Sequence[str],
        best: Callable[[], dict[str, Any] | None],
    ) -> None:
        self.run = run
        self.speed = speed
        self.command = list(command)
        self.best = best
        self._began = time.monotonic()
        self._content: dict[str, Any] = {}
        self._session: dict[str, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of a session."""
        self._began = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is known, beside the sessions of a run that goes on."""
        if not trainer.is_global_zero or not self.run.claimed:
            return
        self._session = {
            "began": _now(),
            "ended": None,
            "seconds": 0.0,
            "first_epoch": trainer.current_epoch,
            "epochs": 0,
            "images": 0,
        }
        earlier = _read(self.run.path / "run.json").get("sessions", [])
        self._content = {**_facts(trainer, pl_module, self.command), "sessions": [*earlier, self._session]}
        self._write()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count an epoch."""
        if self._session:
            self._session["epochs"] += 1
            self._write()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the session."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close it likewise, where anything of the run is kept."""
        if trainer.global_step and self.run.path.is_dir():
            self._close()

    def _close(self) -> None:
        if self._session:
            self._session["ended"] = _now()
            self._write()

    def _write(self) -> None:
        self._session["seconds"] = round(time.monotonic() - self._began, 3)
        self._session["images"] = self.speed.images
        text = json.dumps({**self._content, "best": self.best()}, indent=2, ensure_ascii=False)
        write_atomically(self.run.path / "run.json", text + "\n")


def _facts(trainer: Trainer, module: Any, command: list[str]) -> dict[str, Any]:
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    # of masks each would have to be read
    counts = data.class_counts() if "label" in module.learns and hasattr(data, "class_counts") else None
    names = list(module.class_names or [])
    parameters = [(p.numel(), p.requires_grad) for p in module.parameters()]
    return {
        "command": command,
        "loupe": _version("loupe-vision"),
        "git": _git(Path(__file__).resolve().parent),
        "environment": _environment(),
        "data": {
            "lines": data.describe() if hasattr(data, "describe") else [],
            "parts": {part: len(samples) for part, samples in getattr(data, "samples", {}).items()},
            "classes": names,
            "class_counts": dict(zip(names, map(int, counts), strict=True)) if counts else None,
        },
        "model": {
            "class": type(module).__name__,
            "name": str(getattr(module, "backbone", None) or getattr(module, "architecture", "")),
            "parameters": sum(size for size, _ in parameters),
            "trainable": sum(size for size, trains in parameters if trains),
        },
        "training": {
            "batch_size": data.loader.batch_size,
            "steps_per_epoch": -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches),
            "precision": str(trainer.precision),
            "devices": f"{trainer.world_size} x {trainer.strategy.root_device.type}",
        },
    }


def _environment() -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):  # not on Windows
        memory = None
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": None if memory is None else round(memory, 1),
        "accelerators": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        if cuda
        else [],
        "cuda": torch.version.cuda if cuda else None,
    }


def _processor() -> str:
    """The CPU's name; the platform module knows it on some systems only."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder: Path) -> dict[str, Any]:
    """The commit of Loupe's own code, and whether files were changed since; null where it is no checkout."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if ask("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return {"commit": None, "changed": None}  # installed into somebody else's checkout
    commit, changes = ask("rev-parse", "HEAD"), ask("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": None if commit is None or changes is None else bool(changes)}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
