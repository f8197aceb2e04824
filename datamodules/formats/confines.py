"""Names that come from a file: a manifest is data, perhaps a stranger's, and may name only what lies in its folder."""

# What is asked here is about texts, and a million of them; a Path for each takes seconds.
# ruff: noqa: PTH100, PTH113, PTH117, PTH118

import os
from collections.abc import Iterable
from pathlib import Path

from errors import LoupeError

__all__ = ["OUTSIDE", "is_there", "leaves", "refuse_outside", "told_outside"]

#: The kind of this problem.
OUTSIDE = "path outside data.root"
_SHOWN = 3


def leaves(root: str | Path, name: str) -> bool:
    """Whether `name`, counted from the folder `root`, lies outside of it.

    A rule about the text, so that a link that the user has put into the folder may be followed: `name` must not climb
    out by `..`, also not from behind a link, and an absolute path must begin with the folder's.

    >>> [leaves("/data", name) for name in ("a/../b.png", "../b.png", "/data/b.png", "/b.png")]
    [False, True, False, True]
    """
    if not os.path.isabs(name) and ".." not in name:
        return False
    folder = os.path.abspath(root)
    path = os.path.join(folder, name)
    # "/data" may be a link itself, and a manifest may name its target
    if not any(_within(os.path.normpath(path), top) for top in (folder, os.path.realpath(folder))):
        return True
    # ".." behind a link climbs from where the link leads, which the text does not show
    return ".." in name.split("/") and os.path.realpath(path) != os.path.realpath(os.path.normpath(path))


def is_there(path: str | Path) -> bool:
    """Whether there is such a file; no also of a name too long, or with a NUL byte, at which `Path.is_file` raises."""
    return os.path.isfile(path)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def told_outside(file: str | Path, rows: Iterable[tuple[str, str]], root: str | Path, count: int) -> str:
    """What is wrong, of `count` rows the first few as (where, name)."""
    shown = ", ".join(f"{where}: {name}" for where, name in list(rows)[:_SHOWN])
    more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
    return (
        f"{file} names files outside of {os.path.abspath(root)}: {shown}{more}; where you trust the file, allow it by "
        "data.read.outside_root=true"
    )


def refuse_outside(file: str | Path, names: Iterable[tuple[str, str]], root: str | Path) -> None:
    """LoupeError where one of the names, given as (where, name), leaves the folder."""
    wrong = [(where, name) for where, name in names if leaves(root, name)]
    if wrong:
        raise LoupeError(told_outside(file, wrong, root, len(wrong)))
