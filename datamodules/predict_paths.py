"""The pictures that `predict` is asked about."""

import glob
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from datamodules.formats import TABLE_KINDS, TABLE_SUFFIXES, read_manifest
from datamodules.images import IMAGE_SUFFIXES
from datamodules.samples import below, existing, picture_names
from datamodules.texts import Texts
from errors import LoupeError

if TYPE_CHECKING:
    from datamodules.base import LoupeDataModule

__all__ = ["PredictPaths", "agree_on_predict_paths", "find_predict_paths"]

_WAYS = "give --data.predict_path PICTURE, FOLDER, 'GLOB*.png', MANIFEST, or - for a list on standard input"


class PredictPaths(NamedTuple):
    """What is to be predicted on.

    Attributes:
        paths: picture files, each once.
        root: the folder that names of results count from; pictures may lie elsewhere all the same.
    """

    paths: Texts
    root: str


def find_predict_paths(path: str | None, *, outside_root: bool = False) -> PredictPaths:
    """The pictures that `data.predict_path` means, each once.

    One picture; every picture below a folder, sorted; those that a pattern finds, sorted, `**` for any number of
    folders (root: the part of it that is fixed); those that a manifest lists in its column `path`, in its order (root:
    its folder); or `-`: those that standard input lists, in its order, one a line or ended by zero bytes as `find
    -print0` writes them (root: the folder that they have in common). With `outside_root` a manifest may name files
    outside of its folder. That a listed file can be read is not asked here, only that those of a manifest exist.
    """
    if path is None:
        raise LoupeError(f"nothing to predict on; {_WAYS}")
    if path == "-":
        return _listed(_standard_input())
    if glob.has_magic(path) and not os.path.exists(Path(path).expanduser()):  # noqa: PTH110
        return _matching(path)
    found = existing("data.predict_path", path)
    if found.is_dir():
        pictures = picture_names(found)
        if not pictures:
            raise LoupeError(
                f"data.predict_path {path} has no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})"
            )
        return PredictPaths(below(found, pictures), str(found))
    if found.suffix.lower() in TABLE_SUFFIXES:
        rows = read_manifest(found, required=(), may_repeat=True, split=False, outside_root=outside_root)
        return PredictPaths(Texts(dict.fromkeys(rows.paths)), str(found.parent))
    if found.suffix.lower() not in IMAGE_SUFFIXES:
        raise LoupeError(
            f"data.predict_path {path} is neither a picture, a folder nor a manifest ({TABLE_KINDS})"
        )
    return PredictPaths(Texts([str(found)]), str(found.parent))


def agree_on_predict_paths(data: "LoupeDataModule") -> PredictPaths:
    """The same pictures in the same order on all processes: the first one looks, and tells the others.

    Only it could read standard input, and a file that comes while they look would give each another list.
    """
    trainer = data.trainer
    if trainer is None or trainer.world_size == 1:
        return find_predict_paths(data.predict_path, outside_root=data.read.outside_root)
    found: PredictPaths | None = None
    problem = ""
    if trainer.is_global_zero:
        try:
            found = find_predict_paths(data.predict_path, outside_root=data.read.outside_root)
        except LoupeError as error:
            problem = str(error)
    found, problem = trainer.strategy.broadcast((found, problem))
    if problem:
        raise LoupeError(problem)
    assert found is not None
    return found


def _matching(pattern: str) -> PredictPaths:
    parts = Path(pattern).expanduser().parts
    fixed = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    root = existing("data.predict_path", str(Path(*parts[:fixed])))
    wants_hidden = any(part.startswith(".") for part in parts[fixed:])
    try:
        # pathlib's `**` follows no link to a folder, and so no circle, as that of the module glob does
        found = sorted(set(root.glob("/".join(parts[fixed:]))))
        pictures = [
            str(path)
            for path in found
            if path.suffix.lower() in IMAGE_SUFFIXES
            and (wants_hidden or not any(p.startswith(".") for p in path.relative_to(root).parts))
            and path.is_file()
        ]
    except (OSError, ValueError) as error:
        raise LoupeError(f"data.predict_path {pattern} cannot be looked for: {error}") from error
    if not pictures:
        raise LoupeError(
            f"data.predict_path {pattern} matches no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}); `**` stands "
            f"for any number of folders"
        )
    return PredictPaths(Texts(pictures), str(root))


def _standard_input() -> list[str]:
    stream = sys.stdin
    if stream is None or stream.closed:
        raise LoupeError(
            "data.predict_path - reads the list of pictures from standard input, which is closed"
        )
    raw = stream.buffer.read()
    pieces = raw.split(b"\0") if b"\0" in raw else [line.rstrip(b"\r") for line in raw.split(b"\n")]
    names = [piece.decode(errors="surrogateescape") for piece in pieces if piece.strip()]
    if not names:
        raise LoupeError("data.predict_path - : standard input lists no pictures; write one path a line")
    return names


def _listed(names: list[str]) -> PredictPaths:
    # one file may be told in several spellings; links stay apart, as they do in a folder
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(os.path.abspath(name), name)  # noqa: PTH100
    paths = Texts(first.values())
    folders = {str(Path(path).parent) for path in paths}
    try:
        root = os.path.commonpath(folders)
    except ValueError:  # some from the top and some from here
        root = ""
    return PredictPaths(paths, root)
