"""The list of samples: picture files, their annotations, and the part that each belongs to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.images import IMAGE_SUFFIXES
from datamodules.tables import Row, read_table
from errors import LoupeError, unknown

__all__ = ["PARTS", "Samples", "does_not_exist", "find_pictures", "name_some", "part_name", "read_manifest"]

PARTS = ("train", "val", "test")
_PART_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """Equally long columns, one entry a sample.

    Args:
        names: paths as the data gives them, with `/`; what a seeded split goes by.
        paths: picture files.
        columns: annotations by column name (`mask`: files; `label`; `x1`, ...).
        parts: `train`, `val`, `test`, or empty where the data does not say.
    """

    names: list[str]
    paths: list[str]
    columns: dict[str, list[str]] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert all(len(c) == len(self.names) for c in (self.paths, self.parts, *self.columns.values()))

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int], *, part: str | None = None) -> "Samples":
        """The given rows in the given order, moved to `part` if one is named."""
        return Samples(
            names=[self.names[i] for i in rows],
            paths=[self.paths[i] for i in rows],
            columns={key: [values[i] for i in rows] for key, values in self.columns.items()},
            parts=[self.parts[i] if part is None else part for i in rows],
        )


def part_name(name: str) -> str | None:
    """`train`, `val` or `test` for any usual spelling of it, else None."""
    return _PART_NAMES.get(name.strip().lower())


def find_pictures(folder: Path, *, deep: bool = True) -> list[Path]:
    """All picture files in a folder, and with `deep` below it, by suffix, sorted; hidden ones left out."""
    return sorted(
        path
        for path in (folder.rglob("*") if deep else folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(piece.startswith(".") for piece in path.relative_to(folder).parts)
        and path.is_file()
    )


def read_manifest(
    file: Path,
    *,
    required: Iterable[str],
    files: Iterable[str] = ("path",),
    may_be_empty: Iterable[str] = (),
    may_repeat: bool = False,
    split: bool = True,
) -> Samples:
    """A table, see `tables`: the columns `path`, the `required` ones, and perhaps `split`, these in any letter case.

    Entries of the columns named in `files` are paths relative to the file's folder and must exist. `may_be_empty` names
    columns that are required, and their entries not; with `may_repeat` a picture may have several rows; without `split`
    that column is not looked at.
    Raises LoupeError for a missing column, an empty entry, an unknown part, a missing file, or a picture listed twice.
    """
    filled = ["path", *required]
    required = [*filled, *may_be_empty]
    header, rows = read_table(file, known={*required, "split", "group"})
    missing = [name for name in required if name not in header]
    if missing:
        raise LoupeError(f"{file} lacks the column {', '.join(missing)}; it has: {', '.join(header)}")
    if not rows:
        raise LoupeError(f"{file} has a header and no rows")
    for where, row in rows:
        for name in filled:
            if not row[name].strip():
                raise LoupeError(f"{file} {where}: the column {name} is empty")
    names = [row["path"].strip().replace("\\", "/") for _, row in rows]
    twice = [] if may_repeat else _listed_twice(file.parent, names)
    if twice:
        raise LoupeError(f"{file} lists {name_some(twice, 'picture')} more than once")

    columns = {name: [row[name].strip() for _, row in rows] for name in header if name != "split"}
    files = list(files)
    for name in files:
        columns[name] = [str(file.parent / entry.replace("\\", "/")) for entry in columns[name]]
        absent = [entry for entry in columns[name] if not Path(entry).is_file()]
        if absent:
            raise LoupeError(
                f"{file}: {len(absent)} of {len(rows)} files in the column {name} are missing, {name_some(absent)}; "
                f"paths are relative to {file.parent}"
            )
    paths = columns.pop("path")
    parts = _parts_of(file, header, rows) if split else [""] * len(rows)
    return Samples(names, paths, columns, parts)


def does_not_exist(key: str, path: Path) -> LoupeError:
    """The error for a path that leads nowhere; for a relative one it says from where it was looked for."""
    if path.is_absolute():
        return LoupeError(f"{key} {path} does not exist")
    here = Path.cwd()
    above = next((folder / path for folder in here.parents if (folder / path).exists()), None)
    fix = f"did you mean {above}?" if above else f"give the absolute path, /.../{path.name}"
    return LoupeError(
        f"{key} {path} does not exist: a relative path counts from the current folder, and there is no "
        f"{here / path}; {fix}"
    )


def name_some(items: Sequence[object], what: str | None = None) -> str:
    """At most three of them by name, and how many more.

    >>> name_some(["a", "b", "c", "d"], "mask")
    '4 masks: a, b, c and 1 more'
    """
    listed = ", ".join(str(item) for item in items[:3])
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    start = f"{len(items)} {what}{'s' if len(items) > 1 else ''}: " if what else ""
    return f"{start}{listed}{more}"


def _listed_twice(folder: Path, names: list[str]) -> list[str]:
    """The first spelling of each picture that is named more than once, with its other spellings."""
    resolved: dict[Path, Path] = {}  # folder by folder: asking the disk about each picture would take long
    spellings: dict[Path, list[str]] = {}
    for name in names:
        path = folder / name
        if path.parent not in resolved:
            resolved[path.parent] = path.parent.resolve()
        spellings.setdefault(resolved[path.parent] / path.name, []).append(name)
    twice: list[str] = []
    for first, *others in (found for found in spellings.values() if len(found) > 1):
        other = sorted(set(others) - {first})
        twice.append(f"{first} (also as {', '.join(other)})" if other else first)
    return twice


def _parts_of(file: Path, header: list[str], rows: list[Row]) -> list[str]:
    if "split" not in header:
        return [""] * len(rows)
    parts: list[str] = []
    for where, row in rows:
        entry = row["split"].strip()
        if not entry:
            raise LoupeError(f"{file} {where}: the column split is empty; valid: {', '.join(PARTS)}")
        part = part_name(entry)
        if part is None:
            raise unknown(f"split in {file} {where}", entry, PARTS)
        parts.append(part)
    return parts
