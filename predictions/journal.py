"""What was predicted, one line a picture as it comes: what a run goes on from, and what the tables are written from."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from predictions.inputs import Inputs

__all__ = ["Journal", "JournalFile", "Record"]


@dataclass(frozen=True)
class Record:
    """One prediction.

    Attributes:
        path: The input.
        size_bytes: Of the input's file.
        mtime_ns: When it was last changed; None where that was while the run was on, and nobody knows what was read.
        size_hw_px: Height and width of the upright picture.
        name: What its files are called, see `output_names`.
        files: By column of the table, counted from the folder of the predictions; "" where there is none.
        row: The other columns of the table.
        annotations: What coco.json says of it, less the numbers of picture and annotation.
        run: When the run began, ns; of two records of an input the later one counts.
        identity: Of the model and the settings, see `identity_of`.
    """

    path: str
    size_bytes: int
    mtime_ns: int | None
    size_hw_px: tuple[int, int]
    name: str
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    row: Mapping[str, Any] = field(default_factory=dict[str, Any])
    annotations: tuple[Mapping[str, Any], ...] = ()
    run: int = 0
    identity: str = ""

    def to_line(self) -> bytes:
        """As a line of the journal."""
        return json.dumps(asdict(self), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> "Record | None":
        """None for a line that is torn, or of another program."""
        if not line.endswith(b"\n"):
            return None
        try:
            found: dict[str, Any] = json.loads(line)
            found["size_hw_px"] = tuple(found["size_hw_px"])
            found["annotations"] = tuple(found["annotations"])
            return cls(**found)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    @property
    def columns(self) -> list[str]:
        """Of the table."""
        return ["path", *self.files, *self.row]

    @property
    def cells(self) -> list[Any]:
        """The values in the columns."""
        return [self.path, *self.files.values(), *self.row.values()]


class JournalFile:
    """The journal of one process, which only grows."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab")
        if self._file.tell():
            self._file.write(b"\n")  # ends what a killed process may have left of a line

    def append(self, records: Iterable[Record]) -> None:
        """Write them so that a process that is killed afterwards has not lost them."""
        self._file.write(b"".join(record.to_line() for record in records))
        self._file.flush()

    def close(self) -> None:
        """No more comes."""
        self._file.close()


class Journal:
    """All journals of a folder, read where they lie: an input takes some bytes here, whatever was predicted of it.

    Args:
        folder: Of the journals.
        inputs: The inputs that count; records of others are passed over.
        identity: Records of another one are passed over.

    Attributes:
        repeated: Inputs that have one more record of the run that is read.
    """

    def __init__(self, folder: Path, inputs: Inputs, identity: str) -> None:
        self.inputs = inputs
        self.identity = identity
        self.files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
        self._which = np.full(len(inputs), -1, dtype=np.int16)
        self._where = np.zeros(len(inputs), dtype=np.int64)
        self._run = np.zeros(len(inputs), dtype=np.int64)
        self._open: dict[int, BinaryIO] = {}
        self.repeated: list[int] = []

    def read(self, *, run: int | None = None, known: np.ndarray | None = None) -> "Journal":
        """Look for the latest record of each input: of any run, or else of ``run``, and of any for those ``known``."""
        for number, path in enumerate(self.files):
            with path.open("rb") as file:
                where = 0
                for line in file:
                    record = Record.of_line(line)
                    if record is not None and record.identity == self.identity:
                        index = self.inputs.find(record.path)
                        if index is not None and (
                            run in (None, record.run) or (known is not None and known[index])
                        ):
                            self._note(index, number, where, record.run, run)
                    where += len(line)
        return self

    def _note(self, index: int, number: int, where: int, run: int, current: int | None) -> None:
        there = self._which[index] >= 0
        if there and run == current == self._run[index]:
            self.repeated.append(index)
        if not there or run >= self._run[index]:
            self._which[index], self._where[index], self._run[index] = number, where, run

    @property
    def has(self) -> np.ndarray:
        """(N,) bool, by input."""
        return self._which >= 0

    def __len__(self) -> int:
        return int(self.has.sum())

    def __iter__(self) -> Iterator[tuple[int, Record]]:
        """Position and record, in the order of the inputs."""
        for index in map(int, np.flatnonzero(self.has)):
            yield index, self[index]

    def __getitem__(self, index: int) -> Record:
        number = int(self._which[index])
        assert number >= 0, "there is a record"
        if number not in self._open:
            self._open[number] = self.files[number].open("rb")
        file = self._open[number]
        file.seek(int(self._where[index]))
        record = Record.of_line(file.readline())
        assert record is not None, "a journal only grows"
        return record

    def records(self) -> Iterator[Record]:
        """In the order of the inputs."""
        return (record for _, record in self)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def done(self, folder: Path) -> np.ndarray:
        """(N,) bool: which need not be predicted again: their input is as it was, and their files lie in ``folder``."""
        found = np.zeros(len(self.inputs), dtype=bool)
        for index, record in self:
            files = (folder / file for file in record.files.values() if file)
            found[index] = _is_unchanged(record) and all(file.is_file() for file in files)
        return found

    def names(self, which: np.ndarray) -> Iterator[tuple[int, str]]:
        """Positions and names of those of these inputs that have a record."""
        return ((index, self[index].name) for index in map(int, np.flatnonzero(which & self.has)))


def _is_unchanged(record: Record) -> bool:
    try:
        now = Path(record.path).stat()
    except (OSError, ValueError):
        return False
    return (now.st_size, now.st_mtime_ns) == (record.size_bytes, record.mtime_ns)
