"""The layout of Pascal VOC: `JPEGImages/`, `Annotations/*.xml` or `SegmentationClass/`, and lists in `ImageSets/`."""

from pathlib import Path
from xml.etree import ElementTree

from datamodules.formats.box import BoxEntry
from datamodules.formats.lists import read_lines
from datamodules.problems import REFUSE, Problems
from datamodules.samples import PARTS, Samples, find_pictures, name_some
from errors import LoupeError

__all__ = ["VOC_CLASSES", "find_voc", "find_voc_boxes", "find_voc_masks", "read_voc_objects"]

#: The classes of the palette masks; 255 is the seam around objects, which is void.
VOC_CLASSES = [
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip


def find_voc(root: Path, annotations: str) -> Path | None:
    """The folder below `root` that has `JPEGImages/` and the folder `annotations`; None where there is none."""
    below = [root, *sorted(root.glob("VOC*")), *sorted(root.glob("VOCdevkit/VOC*"))]
    found = [folder for folder in below if all((folder / n).is_dir() for n in ("JPEGImages", annotations))]
    if len(found) > 1:
        raise LoupeError(f"data.root {root} has {name_some(found)} in the layout of VOC; give one of them")
    return found[0] if found else None


def find_voc_masks(root: Path, problems: Problems = REFUSE) -> Samples:
    """Samples with the column `mask`, of those pictures that have one."""
    stems = {path.stem: path for path in find_pictures(root / "SegmentationClass", deep=False)}
    return _samples(root, "Segmentation", {"mask": {s: str(p) for s, p in stems.items()}}, problems)


def find_voc_boxes(root: Path, problems: Problems = REFUSE) -> Samples:
    """Samples with the column `xml`, the file of their objects."""
    files = {path.stem: str(path) for path in sorted((root / "Annotations").glob("*.xml"))}
    if not files:
        raise LoupeError(f"{root / 'Annotations'} has no XML files")
    return _samples(root, "Main", {"xml": files}, problems)


def read_voc_objects(file: str | Path) -> list[tuple[str, BoxEntry]]:
    """Class and x1, y1, x2, y2 of each object, as the file writes them; LoupeError where it is no such file.

    As the format is defined they count from 1, and x2 and y2 are inside.
    """
    try:
        data = Path(file).read_bytes()
        if b"\0" in data:
            raise LoupeError(f"{file} is no XML in UTF-8")  # in UTF-16 the next look would find nothing
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise LoupeError(f"{file} declares entities, which annotations have no use for")
        root = ElementTree.fromstring(data)
        return [
            (
                (found.findtext("name") or "").strip(),
                tuple(
                    float(found.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax")
                ),  # pyright: ignore
            )
            for found in root.iter("object")
        ]
    except OSError as error:
        raise LoupeError(f"cannot open {file}: {error.strerror or error}") from error
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        if isinstance(error, LoupeError):
            raise
        raise LoupeError(f"{file} is no annotation of Pascal VOC: {error}") from error


def _samples(root: Path, lists: str, columns: dict[str, dict[str, str]], problems: Problems) -> Samples:
    ((column, entries),) = columns.items()
    pictures = {path.stem: path for path in find_pictures(root / "JPEGImages", deep=False)}
    parts = _listed(root / "ImageSets" / lists)
    wanted = list(parts) or sorted(set(entries) & set(pictures))
    absent = [stem for stem in wanted if stem not in entries or stem not in pictures]
    if absent:
        problems.add(
            "missing file",
            f"{root}: {name_some(absent)} listed in ImageSets/{lists}, without a picture in JPEGImages or an entry in "
            f"{'Annotations' if column == 'xml' else 'SegmentationClass'}",
        )
    stems = [stem for stem in wanted if stem in entries and stem in pictures]
    if not stems:
        raise LoupeError(f"{root} has no picture in JPEGImages with an annotation of the same name")
    return Samples(
        [f"JPEGImages/{pictures[stem].name}" for stem in stems],
        [str(pictures[stem]) for stem in stems],
        {column: [entries[stem] for stem in stems]},
        [parts.get(stem, "") for stem in stems],
    )


def _listed(folder: Path) -> dict[str, str]:
    """The part of each name in `train.txt`, `val.txt`, `test.txt`; empty where these are not there."""
    parts: dict[str, str] = {}
    for part in PARTS:
        file = folder / f"{part}.txt"
        if file.is_file():
            for name in [line.split()[0] for line in read_lines(file) if line.strip()]:
                if parts.setdefault(name, part) != part:
                    raise LoupeError(f"{folder} has {name} in {parts[name]}.txt and in {part}.txt")
    return parts
