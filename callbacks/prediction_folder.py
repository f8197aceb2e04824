"""The folder of the predictions: whose it is, what an earlier run left in it, and what is written there in the end."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from errors import LoupeError
from predictions import (
    Journal,
    Predictions,
    Task,
    identity_there,
    write_coco,
    write_sidecar,
    write_table,
    write_unreadable,
)

__all__ = ["PredictionFolder", "refuse_miscount", "told_of_disk"]


class PredictionFolder:
    """Where predictions are written; only the first process asks for what changes it.

    Args:
        path: The folder.
        options: What is written.
        ours: Whether nobody but Loupe writes there, as below a run directory; what lies there is put aside then.
    """

    def __init__(self, path: Path, options: Predictions, *, ours: bool) -> None:
        self.path = path
        self.options = options
        self.ours = ours

    @property
    def journals(self) -> Path:
        """What was predicted so far."""
        return self.path / "journal"

    @property
    def table(self) -> Path:
        """The table."""
        return self.path / f"predictions.{self.options.table}"

    def refuse_foreign(self) -> None:
        """LoupeError where the user named a folder that holds something else."""
        if not self.ours and self._is_filled() and identity_there(self.path) is None:
            raise LoupeError(
                f"predictions.directory {self.path} holds files that are no predictions; name an empty or a new folder"
            )

    def begin(self, sidecar: Mapping[str, Any]) -> None:
        """Put predictions of another model or of other settings aside, and make the folder."""
        self.refuse_foreign()
        if self._is_filled() and identity_there(self.path) != sidecar["identity"]:
            number = 1
            while (aside := self.path.with_name(f"{self.path.name}_{number}")).exists():
                number += 1
            self.path.rename(aside)
            print(f"earlier predictions are in {aside} now", flush=True)
        self.path.mkdir(parents=True, exist_ok=True)
        write_sidecar(self.path, sidecar)

    def finish(
        self,
        journal: Journal,
        unreadable: Sequence[tuple[int, str]],
        sidecar: Callable[[int], Mapping[str, Any]],
        *,
        task: Task,
        root: str,
    ) -> int:
        """Write the tables; returns how many predictions there are.

        LoupeError where no input at all could be read.
        """
        told = self.path / "unreadable.csv"
        if unreadable:
            write_unreadable(told, ((journal.inputs[index], reason) for index, reason in unreadable))
        else:
            told.unlink(missing_ok=True)
        found = len(journal)
        if unreadable and not found:
            raise LoupeError(
                f"none of the {len(unreadable)} pictures could be read, {told} says why; the first: {unreadable[0][1]}"
            )
        for other in ("csv", "parquet"):
            if other != self.options.table:
                self.table.with_suffix(f".{other}").unlink(missing_ok=True)
        write_table(self.table, journal.records())
        if self.options.coco:
            write_coco(
                self.path / "coco.json",
                journal.records,
                root=root,
                categories=task.categories,
                description="predictions of Loupe",
            )
        write_sidecar(self.path, sidecar(found))
        return found

    def _is_filled(self) -> bool:
        try:
            return self.path.exists() and any(self.path.iterdir())
        except NotADirectoryError:
            raise LoupeError(f"predictions.directory {self.path} is a file; name a folder") from None


def refuse_miscount(
    indices: Sequence[int] | np.ndarray,
    asked: int,
    unreadable: Collection[int],
    table: str = "predictions.csv",
) -> None:
    """LoupeError unless each of the first ``asked`` inputs is there once, but for those that could not be read.

    >>> refuse_miscount([0, 2], 3, {1})
    >>> refuse_miscount([0, 2, 2], 4, {1})
    Traceback (most recent call last):
        ...
    errors.LoupeError: predict: of 4 pictures 1 has no prediction and 1 has more than one; there is no predictions.csv
    """
    count = np.bincount(np.asarray(indices, dtype=np.int64), minlength=asked)
    lacks = count[:asked] == 0
    lacks[[index for index in unreadable if index < asked]] = False
    missing, twice = int(lacks.sum()), int((count > 1).sum())
    if missing or twice:
        none, more = ("has" if number == 1 else "have" for number in (missing, twice))
        raise LoupeError(
            f"predict: of {asked} pictures {missing} {none} no prediction and {twice} {more} more than one; "
            f"there is no {table}"
        )


@contextmanager
def told_of_disk() -> Generator[None]:
    """An error of the disk, such as that it is full, as the user's to mend."""
    try:
        yield
    except OSError as error:
        raise LoupeError(
            f"predict: a prediction could not be written: {error}; what is done is kept, and the same command goes on "
            f"from there"
        ) from error
