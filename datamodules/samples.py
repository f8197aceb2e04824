"""The list of samples: picture files, their annotations, and the part that each belongs to."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datamodules.images import IMAGE_SUFFIXES
from datamodules.texts import Texts
from errors import LoupeError

__all__ = [
    "PARTS",
    "Samples",
    "below",
    "does_not_exist",
    "existing",
    "find_pictures",
    "name_some",
    "part_name",
    "picture_names",
]

PARTS = ("train", "val", "test")
_PART_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """Equally long columns, one entry a sample; lists of texts become `Texts`.

    Args:
        names: paths as the data gives them, with `/`; what a seeded split goes by.
        paths: picture files.
        columns: annotations by column name (`mask`: files; `label`; `x1`, ...).
        parts: `train`, `val`, `test`, or empty where the data does not say.
    """

    names: Sequence[str]
    paths: Sequence[str]
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    parts: Sequence[str] = ()

    def __post_init__(self) -> None:
        for key in ("names", "paths"):
            object.__setattr__(self, key, Texts.of(getattr(self, key)))
        parts = self.parts or Texts.repeat("", len(self.names))
        object.__setattr__(self, "parts", Texts.of(parts))
        object.__setattr__(self, "columns", {key: Texts.of(column) for key, column in self.columns.items()})
        assert all(len(c) == len(self.names) for c in (self.paths, self.parts, *self.columns.values()))

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int] | np.ndarray, *, part: str | None = None) -> "Samples":
        """The given rows in the given order, moved to `part` if one is named."""
        return Samples(
            names=Texts.of(self.names).take(rows),
            paths=Texts.of(self.paths).take(rows),
            columns={key: Texts.of(column).take(rows) for key, column in self.columns.items()},
            parts=Texts.of(self.parts).take(rows) if part is None else Texts.repeat(part, len(rows)),
        )

    def with_columns(self, **columns: Sequence[str]) -> "Samples":
        """The same samples with these columns set."""
        return Samples(self.names, self.paths, {**self.columns, **columns}, self.parts)


def part_name(name: str) -> str | None:
    """`train`, `val` or `test` for any usual spelling of it, else None."""
    return _PART_NAMES.get(name.strip().lower())


def find_pictures(folder: Path, *, deep: bool = True) -> list[Path]:
    """The files of `picture_names`; where there may be very many, the names alone take a tenth of the time."""
    return [folder / name for name in picture_names(folder, deep=deep)]


def picture_names(folder: Path, *, deep: bool = True) -> list[str]:
    """All picture files in a folder, and with `deep` below it, by suffix, as they are called from there, with `/`.

    Sorted folder by folder, as paths are; hidden files and folders, and folders behind links, are left out.
    LoupeError for a folder that this user may not list; another OSError as it comes.
    """
    found: list[str] = []
    try:
        _add_pictures(found, os.fspath(folder), "", deep=deep)
    except PermissionError as error:
        raise LoupeError(
            f"the folder {folder} may not be read; give this user the right to (chmod u+rx)"
        ) from error
    return found


def _add_pictures(found: list[str], folder: str, inside: str, *, deep: bool) -> None:
    names: list[str] = []
    folders: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.add(name)
                # isfile, since is_file raises at a link that leads to itself
                elif name[name.rfind(".") :].lower() not in IMAGE_SUFFIXES or not (
                    entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)  # noqa: PTH113
                ):
                    continue
                names.append(name)
    except PermissionError:
        if not inside:
            raise  # one that may not be read below another, such as lost+found, is no reason to end
    names.sort()
    if not folders:
        found += [inside + name for name in names] if inside else names
        return
    for name in names:
        if name not in folders:
            found.append(inside + name)
        elif deep:
            _add_pictures(found, f"{folder}/{name}", f"{inside}{name}/", deep=True)


def below(folder: Path, names: Iterable[str]) -> Texts:
    """Files by their names from a folder; the folder is kept once."""
    return Texts(names, prefix="" if folder == Path() else os.path.join(folder, ""))  # noqa: PTH118


def existing(key: str, text: str) -> Path:
    """The path that a setting names, `~` spelled out; LoupeError where it leads nowhere."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # ~name, and there is no such user
        path = Path(text)
    # os.path, since Path.exists raises at a name that is too long, or has a NUL byte
    if not os.path.exists(path):  # noqa: PTH110
        raise does_not_exist(key, path)
    return path


def does_not_exist(key: str, path: Path) -> LoupeError:
    """The error for a path that leads nowhere; for a relative one it says from where it was looked for."""
    if path.is_absolute():
        return LoupeError(f"{key} {path} does not exist")
    here = Path.cwd()
    above = next((folder / path for folder in here.parents if os.path.exists(folder / path)), None)  # noqa: PTH110
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
