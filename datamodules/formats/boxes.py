"""Pictures and the box of the object in each, in whichever of the understood layouts they come."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.formats.box import BOX_COLUMNS, Box, BoxEntry, largest, with_boxes, within_pictures
from datamodules.formats.box_manifest import find_manifest_boxes, parse_boxes
from datamodules.formats.coco import find_coco, find_coco_boxes
from datamodules.formats.manifest import COLUMNS, read_manifest
from datamodules.formats.mask_boxes import find_boxes_of_masks
from datamodules.formats.mask_folders import find_mask_folders, has_mask_folders
from datamodules.formats.pet import find_pet, is_pet
from datamodules.formats.shards import find_shards, read_shards
from datamodules.formats.tables import find_table, read_table
from datamodules.formats.unused import refuse_unused
from datamodules.formats.voc import find_voc, find_voc_boxes, read_voc_objects
from datamodules.options import BoxRead
from datamodules.problems import REFUSE, Problems
from datamodules.samples import Samples, does_not_exist, name_some
from errors import LoupeError

__all__ = ["find_boxes"]

_OF_MASKS = ("mask_value", "mask_object", "images", "masks")  # settings for boxes that come from masks


def find_boxes(root: Path, read: BoxRead = BoxRead(), problems: Problems = REFUSE) -> Samples:
    """Samples with the columns `x1 y1 x2 y2`, one a picture: the largest of its boxes, empty where it has none.

    `problems` is told of boxes that are incomplete, inverted, empty, or not inside their picture, naming it. With
    `read.on_error=skip` pictures that cannot be read are let through.
    """
    skip = read.on_error == "skip"
    samples, boxes, classes = _find(root, read, problems)
    if read.category is not None and not classes:
        raise LoupeError(
            f"data.read.category is '{read.category}', and the boxes of {root} are of no named class; leave it out"
        )
    samples, boxes = within_pictures(samples, boxes, problems, skip=skip)
    return with_boxes(samples, boxes)


def _find(root: Path, read: BoxRead, problems: Problems) -> tuple[Samples, Sequence[Box | None], bool]:
    """Samples, the box of each, and whether the layout names classes of objects."""
    shards = find_shards(root, outside_root=read.outside_root)
    if shards:
        refuse_unused(read, _OF_MASKS, "a shard")
        rows = read_shards(shards, "box")
        return *parse_boxes(name_some(list(shards)), rows, problems), False
    coco = find_coco(root)
    if coco:
        refuse_unused(read, _OF_MASKS, "COCO's layout")
        confines = None if read.outside_root else root
        samples, found = find_coco_boxes(coco, read.category, confines, problems)
        return samples, _chosen(samples, found, name_some(list(coco)), problems), True
    file = find_table(root, "path,x1,y1,x2,y2[,split]")
    if file is not None:
        table = read_table(file, known=set(COLUMNS))
        if "mask" in table.columns and not set(BOX_COLUMNS) & set(table.columns):
            refuse_unused(read, ("images", "masks"), "a manifest")
            files = ("path", "mask")
            samples = read_manifest(
                file,
                table=table,
                required=["mask"],
                files=files,
                outside_root=read.outside_root,
                problems=problems,
            )
            return *find_boxes_of_masks(samples, read, problems), False
        refuse_unused(read, _OF_MASKS, "a manifest with boxes")
        return *find_manifest_boxes(file, table, problems, outside_root=read.outside_root), False
    if not root.is_dir():
        raise does_not_exist("data.root", root)
    if is_pet(root):
        refuse_unused(read, _OF_MASKS, "the layout of Oxford-IIIT Pet")
        pets = find_pet(root, problems)
        pets = pets.take([row for row, xml in enumerate(pets.columns["xml"]) if Path(xml).is_file()])
        if not len(pets):
            raise LoupeError(
                f"{root / 'annotations' / 'xmls'} has no boxes of the pictures that the lists name"
            )
        return _of_xml(Samples(pets.names, pets.paths, {"xml": pets.columns["xml"]}), read, problems)
    voc = find_voc(root, "Annotations")
    if voc is not None:
        refuse_unused(read, _OF_MASKS, "the layout of Pascal VOC")
        return _of_xml(find_voc_boxes(voc, problems), read, problems)
    if not has_mask_folders(root, read.images):
        inside = name_some(sorted(entry.name for entry in root.iterdir())) or "nothing"
        raise LoupeError(
            f"data.root {root} has no manifest.csv (columns path,x1,y1,x2,y2[,split]), no annotations of COCO or "
            f"Pascal VOC, and no images/ and masks/; it holds {inside}"
        )
    samples = find_mask_folders(root, read.images, read.masks, problems)
    return *find_boxes_of_masks(samples, read, problems), False


def _of_xml(
    samples: Samples, read: BoxRead, problems: Problems
) -> tuple[Samples, Sequence[Box | None], bool]:
    """The objects of Pascal VOC's files, counted from 0, x2 and y2 exclusive."""
    objects = [read_voc_objects(file) for file in samples.columns["xml"]]
    names = sorted({name for found in objects for name, _ in found})
    if read.category is not None and read.category not in names:
        raise LoupeError(f"data.read.category is '{read.category}'; the objects are {', '.join(names)}")
    wanted = [[box for name, box in found if read.category in (None, name)] for found in objects]
    # The format counts from 1; some programs write it from 0, which shows where a box of any class touches the border.
    first = min((min(box[0], box[1]) for found in objects for _, box in found), default=1.0)
    shift = 1.0 if first >= 1 else 0.0
    moved = [[(x1 - shift, y1 - shift, x2, y2) for x1, y1, x2, y2 in boxes] for boxes in wanted]
    return samples, _chosen(samples, moved, "Annotations", problems), True


def _chosen(
    samples: Samples, found: Sequence[list[BoxEntry]], source: str, problems: Problems
) -> list[Box | None]:
    """The largest box of each picture; inverted and empty ones are a problem."""
    chosen: list[Box | None] = []
    for row, boxes in enumerate(found):
        good = [box for box in boxes if box[0] < box[2] and box[1] < box[3]]
        if len(good) < len(boxes):
            wrong = next(box for box in boxes if box not in good)
            shown = ", ".join(f"{value:g}" for value in wrong)
            problems.add(
                "inverted box",
                f"{source}: {samples.names[row]} has the box {shown} (x1, y1, x2, y2), which is empty or inverted",
                [samples.paths[row]],
                boxes=[wrong],
            )
        chosen.append(largest(good))
    return chosen
