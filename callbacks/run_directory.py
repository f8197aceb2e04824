"""One run, one folder: chosen by the first process, known to all."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from errors import LoupeError

__all__ = ["RunDirectory", "write_atomically"]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write ``content`` so that ``path`` holds either the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class RunDirectory(Callback):
    """Claims ``parent/version_N`` when a fit is about to begin, and writes the configuration there.

    Everything else that writes holds this object and asks for `path`, so that no process and no logger can have
    another folder. Nothing is created before the data has been found good.

    Args:
        parent: ``runs/<name>``.
        existing: The folder of the run that goes on or is evaluated; None makes a new one.
        config: The resolved configuration as YAML text; alone it reproduces the run.
        config_dict: The same as plain data, kept in every checkpoint.
        damaged: A last checkpoint that cannot be read; it is put aside when the run goes on from an older one.
    """

    def __init__(
        self,
        parent: Path,
        *,
        existing: Path | None,
        config: str,
        config_dict: dict[str, Any] | None = None,
        damaged: Path | None = None,
    ) -> None:
        self.parent = parent
        self.config = config
        self.config_dict = config_dict or {}
        self.damaged = damaged
        self._path = existing
        self._made: list[Path] = []

    @property
    def path(self) -> Path:
        """The run's folder; before it is claimed, the folder of all runs of this name."""
        return self._path if self._path is not None else self.parent

    @property
    def number(self) -> int:
        """N of ``version_N``, -1 for another folder."""
        return _version(self.path)

    @property
    def claimed(self) -> bool:
        """Whether the run has its own folder yet."""
        return self._path is not None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Claim the folder (first process), and tell the others, also that there is none: they would wait for ever.

        On a machine with a disk of its own the path names a folder that nobody makes: only the first process writes.
        """
        if trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            return
        if self._path is None:
            claimed, problem = "", ""
            if trainer.is_global_zero:
                try:
                    claimed = str(self._claim())
                except LoupeError as error:
                    problem = str(error)
            claimed, problem = trainer.strategy.broadcast((claimed, problem))
            if problem:
                raise LoupeError(problem)
            self._path = Path(claimed)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``config.yaml``: not before all is found good, since a run that goes on has one already."""
        if trainer.is_global_zero and self.claimed:
            for left in self.path.glob(".*"):  # by a process that was killed while it wrote
                if left.is_file() and left.suffix[1:].isdigit():
                    left.unlink(missing_ok=True)
            self._write_config(self.path)
            if self.damaged is not None:
                self.damaged.replace(self.damaged.with_name(f"{self.damaged.name}.damaged"))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A fit that failed before its first step leaves nothing behind."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.global_step or not self._made:
            return
        for logger in trainer.loggers:
            logger.finalize("failed")  # what it still holds would be written into a folder that is gone
        shutil.rmtree(self._made[0], ignore_errors=True)
        for folder in self._made[1:]:
            with contextlib.suppress(OSError):  # another run is there by now
                folder.rmdir()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the configuration in the checkpoint: a resumed run shows what has changed."""
        checkpoint["config"] = self.config_dict

    def _claim(self) -> Path:
        taken = [_version(p) for p in self.parent.glob("version_*")] if self.parent.is_dir() else []
        number = max(taken, default=-1) + 1
        while True:
            path = self.parent / f"version_{number}"
            self._made = [folder for folder in (path, *path.parents) if not folder.exists()]
            try:
                path.mkdir(parents=True)
                return path
            except FileExistsError:  # another run was quicker
                self._made = []
                number += 1
            except OSError as error:
                raise LoupeError(f"run.directory: {path} cannot be made: {error}") from None

    def _write_config(self, path: Path) -> None:
        target = path / "config.yaml"
        if target.exists() and target.read_text(encoding="utf-8") != self.config:
            number = 1 + len(list(path.glob("config.before_resume_*.yaml")))
            target.rename(path / f"config.before_resume_{number}.yaml")
        write_atomically(target, self.config)


def _version(path: Path) -> int:
    digits = path.name.removeprefix("version_")
    return int(digits) if digits.isdigit() else -1
