"""Where a file is written before it is proven: beside its place, and gone without a trace if it fails."""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from errors import LoupeError

__all__ = ["unproven_file"]


@contextmanager
def unproven_file(artefact: Path) -> Generator[Path]:
    """The path to write to, in the folder of `artefact`; what is there at the end is deleted, and folders left empty.

    Raises:
        LoupeError: the folder cannot be made, or no file can be written into it.
    """
    folder = artefact.parent
    unproven = folder / f"unproven-{artefact.name}"
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            unproven.touch()
        except OSError as error:
            raise LoupeError(
                f"{error.filename or folder} cannot be written: {error.strerror}; name a folder with "
                f"--export.directory=FOLDER"
            ) from error
        yield unproven
    finally:
        with suppress(OSError):  # the folder is a file, or takes nothing
            unproven.unlink(missing_ok=True)
        for path in made:
            with suppress(OSError):  # it holds what was exported, or could not be made
                path.rmdir()
