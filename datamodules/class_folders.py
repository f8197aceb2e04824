"""Finding pictures and their labels in class folders or a manifest."""

from pathlib import Path

from datamodules.samples import Samples, does_not_exist, find_pictures, name_some, part_name, read_manifest
from datamodules.tables import find_table
from errors import LoupeError

__all__ = ["find_label_samples"]


def find_label_samples(root: Path) -> Samples:
    """Samples with the column `label`, from any layout that is understood; LoupeError says what was looked for."""
    table = find_table(root, "path,label[,split]")
    if table is not None:
        return read_manifest(table, required=["label"])
    if not root.is_dir():
        raise does_not_exist("data.root", root)
    parts = _part_folders(root)
    samples = Samples([], [], {"label": []}, [])
    for folder, part in parts.items():
        _add_classes(samples, root, folder, part)
    if not parts:
        _add_classes(samples, root, root, "")
    return samples


def _part_folders(root: Path) -> dict[Path, str]:
    """The folders `train`, `val`, `test`, if they hold class folders; empty where `root` holds the classes itself."""
    folders = _folders(root)
    named = {folder: part for folder in folders if (part := part_name(folder.name))}
    parts = {
        folder: part
        for folder, part in named.items()
        if not find_pictures(folder, deep=False) and _folders(folder)
    }
    if len(named) > 1 and len(named) == len(folders):
        parts = named  # there is nothing else, so these are parts, and what is wrong with one is told of it
    if not parts:
        return {}
    others = [folder.name for folder in folders if folder not in parts]
    if others:
        raise LoupeError(
            f"data.root {root} has {', '.join(folder.name for folder in parts)} with class folders inside, and beside "
            f"them {name_some(others)}; move those into a part, or give a manifest.csv (path,label,split)"
        )
    if len(set(parts.values())) < len(parts):
        raise LoupeError(f"data.root {root} has two folders for one part: {', '.join(f.name for f in parts)}")
    return parts


def _add_classes(samples: Samples, root: Path, folder: Path, part: str) -> None:
    """The pictures of each class folder below `folder`, at any depth; LoupeError for pictures outside of them."""
    classes, loose = _folders(folder), find_pictures(folder, deep=False)
    if not classes:
        inside = name_some([path.name for path in loose], "picture") if loose else "no folders"
        raise LoupeError(
            f"data.root {root} must hold a folder for each class (or train/CLASS, val/CLASS), or manifest.csv; "
            f"{folder} has {inside}"
        )
    if loose:
        raise LoupeError(
            f"{folder} has {name_some([path.name for path in loose], 'picture')} beside its class folders "
            f"({name_some([c.name for c in classes])}); move them into a class"
        )
    for name in classes:
        pictures = find_pictures(name)
        if not pictures:
            raise LoupeError(f"the class folder {name} has no pictures; fill it or remove it")
        samples.names.extend(picture.relative_to(root).as_posix() for picture in pictures)
        samples.paths.extend(str(picture) for picture in pictures)
        samples.columns["label"].extend([name.name] * len(pictures))
        samples.parts.extend([part] * len(pictures))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
