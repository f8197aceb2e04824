"""torchvision's built-in data sets by name: fetched and checked by torchvision, then read like a user's folder."""

import csv
import hashlib
import inspect
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchvision import datasets

from datamodules.cache import cache_folder
from errors import LoupeError, unknown

__all__ = ["BUILTIN", "ensure_builtin"]

#: Parts as arguments of the constructor: part -> arguments.
_TRAIN_FLAG = {"train": {"train": True}, "test": {"train": False}}
_TWO = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}


@dataclass(frozen=True)
class _Builtin:
    """How one of torchvision's classes is asked for its parts.

    Args:
        tasks: what its annotations serve.
        parts: part -> arguments of the constructor; an empty part: all in one.
        below: the folder below the root whose layout is read directly; None: a manifest of labels is written.
    """

    tasks: tuple[str, ...]
    parts: dict[str, dict[str, Any]]
    below: str | None = None


_LABELS = ("label",)
#: The sets that are understood, by torchvision's names.
BUILTIN: dict[str, _Builtin] = {
    "CIFAR10": _Builtin(_LABELS, _TRAIN_FLAG),
    "CIFAR100": _Builtin(_LABELS, _TRAIN_FLAG),
    "Caltech101": _Builtin(_LABELS, {"": {}}),
    "Caltech256": _Builtin(_LABELS, {"": {}}),
    "Country211": _Builtin(
        _LABELS, {"train": {"split": "train"}, "val": {"split": "valid"}, "test": {"split": "test"}}
    ),
    "DTD": _Builtin(_LABELS, _THREE),
    "EuroSAT": _Builtin(_LABELS, {"": {}}),
    "FGVCAircraft": _Builtin(_LABELS, _THREE),
    "FashionMNIST": _Builtin(_LABELS, _TRAIN_FLAG),
    "Flowers102": _Builtin(_LABELS, _THREE),
    "Food101": _Builtin(_LABELS, _TWO),
    "GTSRB": _Builtin(_LABELS, _TWO),
    "Imagenette": _Builtin(_LABELS, {"train": {"split": "train"}, "val": {"split": "val"}}),
    "KMNIST": _Builtin(_LABELS, _TRAIN_FLAG),
    "MNIST": _Builtin(_LABELS, _TRAIN_FLAG),
    "OxfordIIITPet": _Builtin(
        ("label", "mask", "box"),
        {"train": {"split": "trainval"}, "test": {"split": "test"}},
        below="oxford-iiit-pet",
    ),
    "STL10": _Builtin(_LABELS, _TWO),
    "SVHN": _Builtin(_LABELS, _TWO),
    "StanfordCars": _Builtin(_LABELS, _TWO),
    "USPS": _Builtin(_LABELS, _TRAIN_FLAG),
    "VOCDetection": _Builtin(("box",), {"": {"image_set": "trainval"}}, below="VOCdevkit/VOC2012"),
    "VOCSegmentation": _Builtin(("mask",), {"": {"image_set": "trainval"}}, below="VOCdevkit/VOC2012"),
}


def ensure_builtin(name: str, root: Path, gives: tuple[str, ...]) -> Path:
    """What `data.root` would name for this set: a folder in a known layout, or a manifest in the cache.

    Args:
        name: torchvision's name of it.
        root: where torchvision keeps it; it is downloaded there where it is not there yet.
        gives: what the task reads of a batch; a set without it is refused.
    """
    if name not in BUILTIN:
        raise unknown("data.dataset", name, ["shapes", *BUILTIN])
    builtin = BUILTIN[name]
    if gives[0] not in builtin.tasks:
        fitting = ", ".join(other for other, what in BUILTIN.items() if gives[0] in what.tasks)
        raise LoupeError(f"data.dataset {name} has no {gives[0]} for a picture; those that have: {fitting}")
    if builtin.below is not None:
        for arguments in builtin.parts.values():
            _create(name, root, arguments)
        return root / builtin.below
    folder = cache_folder() / "builtin" / f"{name}-{_identity(root)}"
    manifest = folder / "manifest.csv"
    if manifest.is_file():
        return manifest
    try:
        return _write(name, root, builtin, folder)
    except OSError as error:
        raise LoupeError(
            f"data.dataset {name} cannot be made into files in {folder.parent}: {_one_line(error)}; set the "
            "environment variable LOUPE_CACHE to a folder that can be written"
        ) from error


def _identity(root: Path) -> str:
    """A folder's name for each place where a set may be kept."""
    place = str(root.absolute())
    readable = re.sub(r"[^A-Za-z0-9]+", "-", place).strip("-")[-60:]
    return f"{readable}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"


def _create(name: str, root: Path, arguments: dict[str, Any]) -> Any:
    """torchvision's data set; downloads it where it can be and is not there."""
    make: Callable[..., Any] = getattr(datasets, name)
    known = inspect.signature(make.__init__).parameters
    try:
        return make(str(root), **arguments)
    except (RuntimeError, OSError, ValueError) as error:
        if "download" not in known:
            raise LoupeError(f"data.dataset {name}: nothing usable in {root}: {_one_line(error)}") from error
    try:
        root.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(None):
            return make(str(root), download=True, **arguments)
    except Exception as error:  # whatever a download may raise
        raise LoupeError(
            f"data.dataset {name} is not in {root}, and could not be fetched: {_one_line(error)}; "
            f"put it there, or name the folder that has it by data.root"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _write(name: str, root: Path, builtin: _Builtin, folder: Path) -> Path:
    """The manifest, and pictures that come as arrays as PNG files beside it; whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        with (draft / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["path", "label", *(["split"] if "" not in builtin.parts else [])])
            for part, arguments in builtin.parts.items():
                for path, label in _pictures(_create(name, root, arguments), draft, part or "all"):
                    writer.writerow([path, label, *([part] if part else [])])
        draft.chmod(0o755)
        try:
            draft.rename(folder)
        except OSError:
            if not (folder / "manifest.csv").is_file():  # else another process was faster
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder / "manifest.csv"


def _pictures(dataset: Any, draft: Path, part: str) -> Iterator[tuple[str, str]]:
    """Path and label of each picture: the set's own files where it has some, else PNG files made of it."""
    names = _class_names(dataset)
    listed = _files(dataset)
    if listed is not None:
        for path, number in listed:
            yield str(Path(path).absolute()), names[number] if names else str(number)
        return
    (draft / part).mkdir()
    for i in range(len(dataset)):
        picture, number = dataset[i]
        label = names[int(number)] if names else str(int(number))
        file = f"{part}/{i:06d}.png"
        picture.save(draft / file, compress_level=1)
        yield file, label


def _class_names(dataset: Any) -> list[str]:
    """Names by number; empty where the set has none that differ."""
    found = getattr(dataset, "classes", None) or getattr(dataset, "categories", None) or []
    names = ["/".join(name) if isinstance(name, tuple) else str(name) for name in found]
    return names if len(set(names)) == len(names) else []


def _files(dataset: Any) -> list[tuple[str, int]] | None:
    """Files and class numbers, where the set keeps a list of them; torchvision's sets have no public one."""
    pairs = getattr(dataset, "samples", None) or getattr(dataset, "_samples", None)
    if pairs is None:
        files = getattr(dataset, "_image_files", None) or getattr(dataset, "_images", None)
        labels = getattr(dataset, "_labels", None)
        if files is None or labels is None or len(files) != len(labels):
            return None
        pairs = list(zip(files, labels, strict=True))
    good = all(isinstance(file, (str, Path)) and isinstance(label, int) for file, label in pairs)
    return [(str(file), int(label)) for file, label in pairs] if good and pairs else None
