"""COCO's annotation files: boxes, polygons and run lengths in one JSON file a part."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.formats.box import BoxEntry
from datamodules.formats.confines import OUTSIDE, is_there, leaves, told_outside
from datamodules.geometry import VOID
from datamodules.mask_readers import MaskReader
from datamodules.picture_limits import most_pixels
from datamodules.polygons import decode_run_lengths, fill_polygon
from datamodules.problems import REFUSE, Problems
from datamodules.samples import Samples, name_some, part_name
from errors import LoupeError

__all__ = ["CocoMaskReader", "find_coco", "find_coco_boxes", "find_coco_masks"]

#: Where pictures lie, counted from the folder of the annotations.
_PLACES = ("", "images", "..", "../images", "../{part}", "../images/{part}")


def find_coco(root: Path) -> dict[Path, str]:
    """The annotation files that `root` is or holds, each with its part (empty: the file does not say).

    A JSON file; `annotations.json` in the folder; `annotations/instances_train*.json` and `_val*`, as COCO itself has
    them; `train/_annotations.coco.json` and so on, as Roboflow exports them.
    """
    if root.is_file():
        return {root: ""} if root.suffix.lower() == ".json" else {}
    for single in ("annotations.json", "_annotations.coco.json"):
        if (root / single).is_file():
            return {root / single: ""}
    files = {file: part_name(file.parent.name) for file in sorted(root.glob("*/_annotations.coco.json"))}
    for file in sorted((root / "annotations").glob("instances_*.json")):
        files[file] = part_name(file.stem.removeprefix("instances_").rstrip("0123456789"))
    if len(files) == 1:
        return {file: part or "" for file, part in files.items()}
    found = {file: part for file, part in files.items() if part}
    if len(set(found.values())) < len(found):
        raise LoupeError(f"data.root {root} has two annotation files for one part: {name_some(list(found))}")
    return found


def find_coco_boxes(
    files: Mapping[Path, str], category: str | None, confines: Path | None, problems: Problems = REFUSE
) -> tuple[Samples, list[list[BoxEntry]]]:
    """The pictures, and for each its boxes (of `category`, where one is named) as x1, y1, x2, y2; crowds left out.

    `confines`: as for `find_coco_masks`.
    """
    reader = _Reader(files, confines, problems)
    if category is not None and category not in reader.names:
        raise LoupeError(
            f"data.read.category is '{category}'; {name_some(list(files))} has {', '.join(reader.names)}"
        )
    boxes: list[list[BoxEntry]] = []
    for _, objects in reader.pictures:
        mine: list[BoxEntry] = []
        for entry in objects:
            if entry.get("iscrowd") or category not in (
                None,
                reader.names[reader.numbers[entry["category_id"]]],
            ):
                continue
            try:
                x, y, width, height = map(float, entry["bbox"])
            except (KeyError, TypeError, ValueError, OverflowError):
                raise LoupeError(
                    f"{name_some(list(files))}: annotation {entry.get('id')} has the bbox {entry.get('bbox')}; "
                    "valid: [x, y, width, height]"
                ) from None
            mine.append((x, y, x + width, y + height))
        boxes.append(mine)
    return reader.samples({}), boxes


def find_coco_masks(
    files: Mapping[Path, str], confines: Path | None, problems: Problems = REFUSE
) -> tuple[Samples, "CocoMaskReader"]:
    """Samples with the column `mask`: what `CocoMaskReader` reads.

    `confines`: the folder that no name of a picture may leave, beside that in which pictures are found; None: any may.
    """
    reader = _Reader(files, confines, problems)
    if not any(entry.get("segmentation") for _, objects in reader.pictures for entry in objects):
        raise LoupeError(
            f"{name_some(list(files))}: no annotation has a segmentation; boxes alone say no class for a pixel"
        )
    texts: list[str] = []
    for picture, objects in reader.pictures:
        kept = [
            [
                VOID if entry.get("iscrowd") else reader.numbers[entry["category_id"]] + 1,
                entry.get("segmentation"),
            ]
            for entry in objects
            if entry.get("segmentation")
        ]
        entry = {
            "name": picture["file_name"],
            "size": [picture["height"], picture["width"]],
            "objects": kept,
        }
        texts.append(json.dumps(entry, separators=(",", ":")))
    return reader.samples({"mask": texts}), CocoMaskReader(["background", *reader.names])


class CocoMaskReader(MaskReader):
    """Draws the objects of a picture: smaller ones over larger ones, crowds as void beneath all.

    An entry is JSON: `{"name": ..., "size": [H, W], "objects": [[class, polygons or run lengths], ...]}`. A pixel
    belongs to a polygon where its middle does.
    """

    def __init__(self, class_names: list[str]) -> None:
        if len(class_names) > VOID:
            raise LoupeError(f"{len(class_names)} classes are more than masks of 8 bits can hold (255)")
        self.class_names = class_names

    @property
    def key(self) -> str:
        """The classes decide what is drawn."""
        return json.dumps(self.class_names)

    def read(self, entry: str) -> Tensor:
        """The mask as (H, W) uint8 class numbers, 0 where there is no object."""
        content = json.loads(entry)
        height, width = content["size"]
        drawn: list[tuple[bool, int, int, np.ndarray]] = []
        for number, (label, outline) in enumerate(content["objects"]):
            inside = self._inside(outline, (height, width), content["name"])
            drawn.append((label != VOID, -int(inside.sum()), number, inside))
        mask = np.zeros((height, width), dtype=np.uint8)
        for _, _, number, inside in sorted(drawn, key=lambda one: one[:3]):
            mask[inside] = content["objects"][number][0]
        return torch.from_numpy(mask)

    def title(self, entry: str) -> str:
        """The picture's name."""
        return f"the annotation of {json.loads(entry)['name']}"

    def files(self, entry: str) -> tuple[str, ...]:
        """None."""
        return ()

    def stamp(self, entry: str) -> str:
        """The entry says everything."""
        return entry

    @staticmethod
    def _inside(outline: Any, size_hw: tuple[int, int], name: str) -> np.ndarray:
        try:
            if isinstance(outline, dict):
                if tuple(outline["size"]) != size_hw:
                    raise ValueError(f"run lengths are of size {outline['size']}")
                return decode_run_lengths(outline["counts"], size_hw)
            inside = np.zeros(size_hw, dtype=bool)
            for polygon in outline:
                if len(polygon) < 6 or len(polygon) % 2:
                    raise ValueError(f"a polygon has {len(polygon)} numbers; three points are 6")
                fill_polygon(inside, polygon)
            return inside
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise LoupeError(f"the segmentation of {name} cannot be drawn: {error}") from error


class _Reader:
    """The files' pictures, each with its annotations, and the categories of all.

    Attributes:
        names: the categories in the order of their ids.
        numbers: id of a category -> its place in `names`.
        pictures: each picture's entry and its annotations.
    """

    def __init__(self, files: Mapping[Path, str], confines: Path | None, problems: Problems) -> None:
        self._confines = confines
        self.numbers: dict[int, int] = {}
        self.names: list[str] = []
        self.pictures: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        self._seen: set[str] = set()
        self._paths: list[str] = []
        self._names: list[str] = []
        self._parts: list[str] = []
        for file, part in files.items():
            self._add(file, part, _load(file), problems)

    def samples(self, columns: dict[str, list[str]]) -> Samples:
        """The pictures with these columns."""
        return Samples(self._names, self._paths, columns, self._parts)

    def _add(self, file: Path, part: str, content: dict[str, Any], problems: Problems) -> None:
        try:
            names = {c["id"]: str(c["name"]) for c in sorted(content["categories"], key=lambda c: c["id"])}
            numbers = {identity: place for place, identity in enumerate(names)}
            if self.names and (names != dict(zip(self.numbers, self.names, strict=True))):
                raise LoupeError(
                    f"{file} has other categories than the other parts: {', '.join(names.values())}"
                )
            self.names, self.numbers = list(names.values()), numbers
            if len(set(self.names)) < len(content["categories"]):
                raise LoupeError(f"{file} has two categories of one name or id: {', '.join(self.names)}")
            pictures = {entry["id"]: entry for entry in content["images"]}
            if len(pictures) < len(content["images"]):
                raise LoupeError(f"{file} has two images of one id")
            objects: dict[Any, list[dict[str, Any]]] = {identity: [] for identity in pictures}
            for entry in content["annotations"]:
                if entry["image_id"] not in objects or entry["category_id"] not in numbers:
                    raise LoupeError(
                        f"{file}: annotation {entry.get('id')} names image {entry['image_id']} or category "
                        f"{entry['category_id']}, which the file does not have"
                    )
                objects[entry["image_id"]].append(entry)
            folder = _folder_of_pictures(file, [str(entry["file_name"]) for entry in pictures.values()])
            self._keep(file, part, folder, pictures, objects, problems)
        except (KeyError, TypeError) as error:
            raise LoupeError(
                f"{file} is no annotation file of COCO (images, annotations, categories): {error!r}"
            ) from error

    def _keep(
        self,
        file: Path,
        part: str,
        folder: Path,
        pictures: dict[Any, dict[str, Any]],
        objects: dict[Any, list[dict[str, Any]]],
        problems: Problems,
    ) -> None:
        absent: list[str] = []
        twice: list[str] = []
        outside: list[tuple[str, str]] = []
        for identity, entry in pictures.items():
            path = folder / entry["file_name"]
            if self._leaves(folder, entry["file_name"]):
                outside.append((f"image {identity}", entry["file_name"]))
                continue
            size = height, width = entry["height"], entry["width"]
            if not all(type(side) is int and side > 0 for side in size) or height * width > most_pixels():
                raise LoupeError(f"{file}: image {entry['file_name']} cannot have height and width {size}")
            if not is_there(path):
                absent.append(str(path))
                continue
            if (real := os.path.realpath(path)) in self._seen:
                twice.append(str(path))
                continue
            self._seen.add(real)
            self.pictures.append((entry, objects[identity]))
            self._paths.append(str(path))
            self._names.append(f"{part}/{entry['file_name']}" if part else str(entry["file_name"]))
            self._parts.append(part)
        if outside:
            problems.add(OUTSIDE, told_outside(file, outside, folder, len(outside)), cases=len(outside))
        if twice:
            text = f"{file} lists {name_some(twice, 'picture')} more than once, or another part does"
            problems.add("listed twice", text, twice, cases=len(twice))
        if absent:
            text = f"{file}: {len(absent)} of {len(pictures)} pictures are missing, {name_some(absent)}"
            problems.add("missing file", text, absent, cases=len(absent))

    def _leaves(self, folder: Path, name: str) -> bool:
        """Whether a picture lies neither in the folder of pictures nor in `data.root`."""
        root = self._confines
        if root is None or not leaves(folder, name):
            return False
        return not root.is_dir() or leaves(root, str(folder.absolute() / name))


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise LoupeError(f"cannot open {file}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise LoupeError(f"{file} is no JSON: {error}") from error
    if not isinstance(content, dict) or not all(
        k in content for k in ("images", "annotations", "categories")
    ):
        raise LoupeError(f"{file} is no annotation file of COCO; it lacks images, annotations or categories")
    if not content["images"] or not content["categories"]:
        raise LoupeError(f"{file} has no images or no categories")
    return content


def _folder_of_pictures(file: Path, names: list[str]) -> Path:
    """The first of the usual places that has one of the first pictures; the file's own folder if none has."""
    for place in _PLACES:
        folder = file.parent / place.format(part=file.stem.removeprefix("instances_"))  # train2017
        if any(is_there(folder / name) for name in names[:20]):
            return folder
    return file.parent
