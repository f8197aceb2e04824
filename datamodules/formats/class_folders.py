"""Finding pictures and their labels in class folders."""

from dataclasses import dataclass, field
from pathlib import Path

from datamodules.problems import REFUSE, Problems
from datamodules.samples import Samples, below, find_pictures, name_some, part_name, picture_names
from errors import LoupeError

__all__ = ["find_class_folders"]


def find_class_folders(root: Path, problems: Problems = REFUSE) -> Samples:
    """Samples with the column `label`: the name of the folder that a picture is in, at any depth below it."""
    parts = _part_folders(root, problems)
    found = _Listing(root, problems)
    for folder, part in parts.items():
        found.add_classes(folder, part)
    if not parts:
        found.add_classes(root, "")
    return Samples(found.names, below(root, found.names), {"label": found.labels}, found.parts)


def _part_folders(root: Path, problems: Problems) -> dict[Path, str]:
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
        problems.add(
            "folder beside the parts",
            f"data.root {root} has {', '.join(folder.name for folder in parts)} with class folders inside, and beside "
            f"them {name_some(others)}; move those into a part, or give a manifest.csv (path,label,split)",
        )
    if len(set(parts.values())) < len(parts):
        raise LoupeError(f"data.root {root} has two folders for one part: {', '.join(f.name for f in parts)}")
    return parts


@dataclass
class _Listing:
    """What was found so far, one entry a picture."""

    root: Path
    problems: Problems
    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def add_classes(self, folder: Path, part: str) -> None:
        """The pictures of each class folder below `folder`; pictures outside of them are a problem."""
        classes, loose = _folders(folder), find_pictures(folder, deep=False)
        if not classes:
            inside = name_some([path.name for path in loose], "picture") if loose else "no folders"
            raise LoupeError(
                f"data.root {self.root} must hold a folder for each class (or train/CLASS, val/CLASS), or "
                f"manifest.csv; {folder} has {inside}"
            )
        if loose:
            self.problems.add(
                "picture beside the classes",
                f"{folder} has {name_some([path.name for path in loose], 'picture')} beside its class folders "
                f"({name_some([c.name for c in classes])}); move them into a class",
                map(str, loose),
                cases=len(loose),
            )
        for name in classes:
            pictures = picture_names(name)
            if not pictures:
                self.problems.add(
                    "empty class folder", f"the class folder {name} has no pictures; fill it or remove it"
                )
            inside = name.relative_to(self.root).as_posix()
            self.names += [f"{inside}/{picture}" for picture in pictures]
            self.labels += [name.name] * len(pictures)
            self.parts += [part] * len(pictures)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
