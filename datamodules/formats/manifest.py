"""A manifest as samples: its columns checked, its files found, its parts named."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from datamodules.formats.confines import OUTSIDE, leaves, told_outside
from datamodules.formats.tables import Table, read_table
from datamodules.problems import REFUSE, Problems
from datamodules.samples import PARTS, Samples, name_some, part_name
from datamodules.texts import Texts
from errors import LoupeError, unknown

__all__ = ["COLUMNS", "read_manifest"]

#: The columns that mean something to us, understood in any letter case.
COLUMNS = frozenset({"path", "split", "group", "weight", "label", "labels", "mask", "x1", "y1", "x2", "y2"})

#: Makes of a folder's number one that differs in all bits, to be joined with the number of a file's name.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_FEW = 64  # files of one folder that are asked about one by one; of more the folder is listed


def read_manifest(
    file: Path,
    *,
    required: Iterable[str],
    table: Table | None = None,
    files: Iterable[str] = ("path",),
    may_be_empty: Iterable[str] = (),
    may_repeat: bool = False,
    split: bool = True,
    outside_root: bool = False,
    problems: Problems = REFUSE,
) -> Samples:
    """A table, see `tables`: the columns `path`, the `required` ones, and perhaps `split`; it is read unless given.

    Entries of the columns named in `files` are paths relative to the file's folder and must exist, in that folder
    unless `outside_root`. `may_be_empty` names columns that are required, and their entries not; with `may_repeat` a
    picture may have several rows; without `split` that column is not looked at.
    Raises LoupeError for a missing column; tells `problems` of an empty entry, an unknown part, a missing file, and a
    picture listed twice, and leaves those rows out.
    """
    filled = ["path", *required]
    wanted = [*filled, *may_be_empty]
    table = table or read_table(file, known={*COLUMNS, *wanted})
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise LoupeError(f"{file} lacks the column {', '.join(missing)}; it has: {', '.join(table.columns)}")
    if not len(table):
        raise LoupeError(f"{file} has a header and no rows")
    columns = dict(table.columns)
    files = list(files)
    for name in files:
        if columns[name].contains("\\"):
            columns[name] = Texts([entry.replace("\\", "/") for entry in columns[name]])
    keep = np.ones(len(table), dtype=bool)
    for name in filled:
        _tell_empty(file, table, name, columns[name], keep, problems)
    located: dict[str, Texts] = {}
    for name in files:
        known = _Files(file.parent, columns[name])
        if not outside_root:
            _tell_outside(file, table, known, keep, problems)
        if name == "path" and not may_repeat:
            _tell_repeated(file, known, keep, problems)
        _tell_absent(file, name, known, keep, problems)
        located[name] = known.paths()
    parts = _parts_of(file, table, columns.pop("split", None), keep, problems) if split else ()
    columns.pop("split", None)
    names = columns.pop("path")
    paths = located.pop("path")
    samples = Samples(names, paths, {**columns, **located}, parts)
    return samples if keep.all() else samples.take(np.flatnonzero(keep))


class _Files:
    """The files that a column names: their folders, each asked about once.

    Attributes:
        entries: as the manifest has them.
        folders: the different folders, below that of the manifest.
        inside: the same as the manifest has them.
        folder: for each entry the number of its folder.
        last: the file's name in its folder.
        names: a number for each of these.
    """

    def __init__(self, root: Path, entries: Texts) -> None:
        self.root = root
        self.entries = entries
        before, self.last = entries.split_last("/")
        self.folder, folders = before.codes()
        # "/a.png" has nothing before its slash, and is not "a.png"
        top = np.flatnonzero((before.lengths() == 0) & (entries.lengths() > self.last.lengths()))
        if len(top):
            self.folder[top] = len(folders)
            folders.append("/")
        self.names = self.last.hashes()
        self.has_absolute = any(map(os.path.isabs, folders))
        self.inside = folders
        self.folders = [os.path.join(root, inside) for inside in folders]

    def paths(self) -> Texts:
        """The files below the manifest's folder; absolute ones stay as they are."""
        if not self.has_absolute:
            return self.entries.with_prefix(os.path.join(self.root, ""))
        return Texts([os.path.join(self.root, entry) for entry in self.entries])

    def outside(self) -> np.ndarray:
        """The rows whose file is not below the manifest's folder."""
        wrong = np.fromiter((leaves(self.root, folder) for folder in self.inside), bool, len(self.inside))
        return np.flatnonzero(wrong[self.folder])

    def identities(self) -> np.ndarray:
        """A number for each file, the same for each spelling of its path."""
        real = Texts([os.path.realpath(folder) for folder in self.folders]).codes()[0]
        return self.names ^ (real.astype(np.uint64)[self.folder] + np.uint64(1)) * _SPREAD

    def absent(self) -> list[int]:
        """The rows whose file is not there. A folder is listed once: a million questions to the disk take seconds."""
        counts = np.bincount(self.folder, minlength=len(self.folders))
        here: list[str] = []
        where: list[int] = []
        for number in np.flatnonzero(counts >= _FEW).tolist():
            found = _listed(self.folders[number])
            here += found
            where += [number] * len(found)
        many = counts[self.folder] >= _FEW
        there = Texts(here).hashes() ^ np.array(where, dtype=np.uint64) * _SPREAD
        asked = self.names ^ self.folder.astype(np.uint64) * _SPREAD
        there.sort()
        place = np.searchsorted(there, asked).clip(max=len(there) - 1)
        absent = (
            np.flatnonzero(many & (there[place] != asked)).tolist()
            if len(there)
            else np.flatnonzero(many).tolist()
        )
        few = np.flatnonzero(~many).tolist()
        return sorted([*absent, *(row for row in few if not os.path.isfile(self.path(row)))])

    def path(self, row: int) -> str:
        """The file of one row."""
        return os.path.join(self.root, self.entries[row])


def _listed(folder: str) -> list[str]:
    """The files in a folder; none where there is no such folder."""
    try:
        with os.scandir(folder) as listing:
            return [entry.name for entry in listing if entry.is_file()]
    except OSError:
        return []


def _tell_empty(
    file: Path, table: Table, name: str, column: Texts, keep: np.ndarray, problems: Problems
) -> None:
    for row in np.flatnonzero(column.lengths() == 0).tolist():
        keep[row] = False
        problems.add("empty entry", f"{file} {table.where(row)}: the column {name} is empty")


def _tell_outside(file: Path, table: Table, files: _Files, keep: np.ndarray, problems: Problems) -> None:
    rows: list[int] = [row for row in files.outside().tolist() if keep[row]]
    if rows:
        keep[rows] = False
        named = [(table.where(row), files.entries[row]) for row in rows[:3]]
        # no files: nothing is to be opened in order to show them
        problems.add(OUTSIDE, told_outside(file, named, file.parent, len(rows)), cases=len(rows))


def _tell_repeated(file: Path, files: _Files, keep: np.ndarray, problems: Problems) -> None:
    """The first row of a picture counts, under whichever spelling of its path."""
    identities = files.identities()
    ordered = np.sort(identities)  # np.unique would hash, which takes ten times as long
    if not (ordered[1:] == ordered[:-1]).any():
        return
    spellings: dict[int, list[int]] = {}
    for row in np.flatnonzero(keep).tolist():
        spellings.setdefault(int(identities[row]), []).append(row)
    twice: list[str] = []
    shown: list[str] = []
    names = files.entries
    for first, *others in (rows for rows in spellings.values() if len(rows) > 1):
        other = sorted({names[row] for row in others} - {names[first]})
        twice.append(f"{names[first]} (also as {', '.join(other)})" if other else names[first])
        shown.append(files.path(first))
        keep[others] = False
    if twice:
        text = f"{file} lists {name_some(twice, 'picture')} more than once"
        problems.add("listed twice", text, shown, cases=len(twice))


def _tell_absent(file: Path, name: str, files: _Files, keep: np.ndarray, problems: Problems) -> None:
    absent = [row for row in files.absent() if keep[row]]
    if not absent:
        return
    keep[absent] = False
    paths = [files.path(row) for row in absent]
    problems.add(
        "missing file",
        f"{file}: {len(absent)} of {len(keep)} files in the column {name} are missing, {name_some(paths)}; "
        f"paths are relative to {file.parent}",
        paths,
        cases=len(paths),
    )


def _parts_of(
    file: Path, table: Table, column: Texts | None, keep: np.ndarray, problems: Problems
) -> Sequence[str]:
    if column is None:
        return ()
    codes, entries = column.codes()
    meaning = [part_name(entry) for entry in entries]
    for code, entry in enumerate(entries):
        if meaning[code] is not None:
            continue
        for row in np.flatnonzero((codes == code) & keep).tolist():
            where = f"{file} {table.where(row)}"
            keep[row] = False
            empty = f"{where}: the column split is empty; valid: {', '.join(PARTS)}"
            problems.add("unknown part", str(unknown(f"split in {where}", entry, PARTS)) if entry else empty)
    return Texts([part or "" for part in meaning]).take(codes)
