"""The layout of Oxford-IIIT Pet: `images/`, and in `annotations/` lists, trimaps and boxes of heads."""

from pathlib import Path

from datamodules.formats.lists import read_lines
from datamodules.problems import REFUSE, Problems
from datamodules.samples import Samples, name_some
from errors import LoupeError

__all__ = ["PET_LABELS", "PET_MASKS", "find_pet", "find_pet_labels", "is_pet"]

#: What a trimap's values stand for: 1 pet, 2 background, 3 the seam between them, which nobody labelled.
PET_LABELS = {2: 0, 1: 1, 3: 255}
PET_MASKS = ["background", "pet"]

_PARTS = {"trainval.txt": "train", "test.txt": "test"}


def is_pet(root: Path) -> bool:
    """Whether a folder has this layout."""
    return (root / "annotations" / "trimaps").is_dir() and (root / "images").is_dir()


def find_pet_labels(root: Path, problems: Problems = REFUSE) -> Samples:
    """Samples with the column `label`, the breed."""
    return find_pet(root, problems)


def find_pet(root: Path, problems: Problems = REFUSE) -> Samples:
    """Samples with the columns `label`, `mask` (the trimap) and `xml` (the box of the head; train only).

    The pictures of `trainval.txt` are the train part, from which `val` is drawn, those of `test.txt` the test part.
    """
    names: list[str] = []
    labels: list[str] = []
    parts: list[str] = []
    for file, part in _PARTS.items():
        path = root / "annotations" / file
        if not path.is_file():
            raise LoupeError(f"{root} looks like Oxford-IIIT Pet, and {path} is missing")
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            name = line.split()[0]
            if "/" in name or "_" not in name:
                raise LoupeError(f"{path} line {number} is no line of Oxford-IIIT Pet: {line[:60]}")
            names.append(name)
            labels.append(name.rpartition("_")[0])
            parts.append(part)
    pictures = [root / "images" / f"{name}.jpg" for name in names]
    masks = [root / "annotations" / "trimaps" / f"{name}.png" for name in names]
    absent = [i for i in range(len(names)) if not (pictures[i].is_file() and masks[i].is_file())]
    if absent:
        gone = [str(file) for i in absent for file in (pictures[i], masks[i]) if not file.is_file()]
        problems.add(
            "missing file", f"{root}: {name_some(gone)} missing, which its lists name", gone, cases=len(gone)
        )
    left = set(absent)
    samples = Samples(
        [f"images/{name}.jpg" for name in names],
        list(map(str, pictures)),
        {
            "label": labels,
            "mask": list(map(str, masks)),
            "xml": [str(root / "annotations" / "xmls" / f"{name}.xml") for name in names],
        },
        parts,
    )
    return samples.take([i for i in range(len(names)) if i not in left]) if left else samples
