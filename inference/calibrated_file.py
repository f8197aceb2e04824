"""A checkpoint file that learns its calibration: all else in it stays as it is."""

import os
import tempfile
from pathlib import Path

import torch

from errors import LoupeError
from inference.checkpoint import read_checkpoint
from lightning_modules.calibration import Calibration

__all__ = ["store_calibration"]


def store_calibration(path: str | Path, calibration: Calibration) -> None:
    """Put a calibration in the card of a checkpoint, in place of the one that is there.

    The file is written anew beside the old one, forced to the disk and renamed: whoever reads it finds the one or the
    other, whole. ``best`` and ``last`` may be two names of one file: only the name that is given gets the new one.
    What a symbolic link points to is replaced, not the link.

    Raises:
        LoupeError: A file that is missing, damaged or none of Loupe's, before anything is written; or one that cannot
            be written, after which the old one is as it was.
    """
    content = read_checkpoint(path)
    target = Path(path).resolve()
    card = {**content["loupe"], "calibration": calibration.to_card()}
    temporary: Path | None = None
    try:
        # a name that the next fit in the folder sweeps away, should this process be killed
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            torch.save({**content, "loupe": card}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(target.stat().st_mode & 0o777)
        read_checkpoint(temporary)  # nothing takes the place of a good file that could not be read
        temporary.replace(target)
    except (OSError, RuntimeError) as error:  # torch wraps what a file raises
        raise LoupeError(f"the calibration cannot be kept, {target} cannot be written: {error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
