"""Checkpoint files: each written whole or not at all, several names of one file, and nothing left by dead processes."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from errors import LoupeError

__all__ = ["AtomicCheckpointIO", "CheckpointFolder"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary name, forces it to the disk, and renames: no reader ever sees half a checkpoint.

    The file is a zip archive whose entries carry checksums (CRC-32); ``inference.read_checkpoint`` looks at them.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Save ``checkpoint`` at ``path``; the old file stays until the new one is whole.

        Raises:
            LoupeError: it cannot be written, as on a full disk; nothing of it stays.
        """
        target = Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except (OSError, RuntimeError) as error:  # torch wraps what a file raises
            raise LoupeError(f"{target} cannot be written: {_reason(error)}") from error
        finally:
            temporary.unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    """What the system said, wherever in the chain it stands."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    told = cause if cause is not None else error
    return (told.strerror if isinstance(told, OSError) and told.strerror else str(told)).splitlines()[0]


class CheckpointFolder:
    """The names in ``RUN/checkpoints``: ``last``, ``previous`` (the last before it), ``best``, ``step_N``.

    Whatever moment the process dies at, each name is that of a whole file or does not exist.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def fresh(self) -> Path:
        """Where a new state is written before it gets its names."""
        return self.path / ".fresh.ckpt"

    def publish(self, *others: str) -> None:
        """Give what lies at ``fresh`` its names: first the others, at last ``last``, whose file becomes ``previous``.

        In this order ``best`` is never older than ``last`` says it is.
        """
        for name in others:
            _link(self.fresh, self.path / name)
        last = self.path / "last.ckpt"
        if last.exists():
            _link(last, self.path / "previous.ckpt")
        self.fresh.replace(last)
        _sync(self.path)

    def prune_steps(self, keep: int) -> None:
        """Remove all but the ``keep`` of ``step_*.ckpt`` that were written last.

        Not those of the highest numbers: a run may go on from an earlier checkpoint.
        """
        steps = sorted(self.path.glob("step_*.ckpt"), key=lambda p: (p.stat().st_mtime_ns, p.name))
        for old in steps[:-keep]:
            old.unlink()

    def sweep(self) -> None:
        """Remove what a process that was killed while it wrote has left."""
        for left in (*self.path.glob(".*.ckpt"), *self.path.glob(".*.ckpt.*")):
            left.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """Make ``target`` another name of the file ``source``, or a copy where the file system has no links."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
        _sync(temporary)
    temporary.replace(target)


def _sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk; some systems cannot open a folder."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return  # a file system that has no such thing, as some of networks
    finally:
        os.close(handle)
