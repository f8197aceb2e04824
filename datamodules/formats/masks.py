"""Pictures and their masks, in whichever of the understood layouts they come."""

from dataclasses import dataclass
from pathlib import Path

from datamodules.formats.coco import find_coco, find_coco_masks
from datamodules.formats.manifest import read_manifest
from datamodules.formats.mask_folders import find_mask_folders
from datamodules.formats.pet import PET_LABELS, PET_MASKS, find_pet, is_pet
from datamodules.formats.shards import find_shards, read_shards
from datamodules.formats.tables import find_table
from datamodules.formats.unused import refuse_unused
from datamodules.formats.voc import VOC_CLASSES, find_voc, find_voc_masks
from datamodules.mask_readers import MaskReader, MaskValuesReader
from datamodules.options import MaskRead
from datamodules.problems import REFUSE, Problems
from datamodules.samples import Samples, does_not_exist

__all__ = ["FoundMasks", "find_masks"]

_FOLDERS = ("images", "masks")  # settings that say where things lie


@dataclass(frozen=True)
class FoundMasks:
    """Samples with the column `mask`, and what their layout says about it.

    Args:
        samples: the pictures and their masks.
        reader: makes values of an entry of `mask`.
        label_mapping: file value -> class; None: the layout does not say.
        class_names: by number; None: the layout does not say.
    """

    samples: Samples
    reader: MaskReader
    label_mapping: dict[int, int] | None = None
    class_names: list[str] | None = None


def find_masks(root: Path, read: MaskRead = MaskRead(), problems: Problems = REFUSE) -> FoundMasks:
    """Samples with the column `mask`; LoupeError says what was looked for."""
    files = MaskValuesReader()
    shards = find_shards(root, outside_root=read.outside_root)
    if shards:
        refuse_unused(read, _FOLDERS, "a shard")
        return FoundMasks(read_shards(shards, "mask"), files)
    coco = find_coco(root)
    if coco:
        refuse_unused(read, _FOLDERS, "COCO's layout")
        samples, reader = find_coco_masks(coco, None if read.outside_root else root, problems)
        return FoundMasks(samples, reader, class_names=reader.class_names)
    table = find_table(root, "path,mask[,split]")
    if table is not None:
        refuse_unused(read, _FOLDERS, "a manifest")
        samples = read_manifest(
            table,
            required=["mask"],
            files=["path", "mask"],
            outside_root=read.outside_root,
            problems=problems,
        )
        return FoundMasks(samples, files)
    if not root.is_dir():
        raise does_not_exist("data.root", root)
    if is_pet(root):
        refuse_unused(read, _FOLDERS, "the layout of Oxford-IIIT Pet")
        return FoundMasks(find_pet(root, problems), files, PET_LABELS, PET_MASKS)
    voc = find_voc(root, "SegmentationClass")
    if voc is not None:
        refuse_unused(read, _FOLDERS, "the layout of Pascal VOC")
        return FoundMasks(find_voc_masks(voc, problems), files, class_names=VOC_CLASSES)
    return FoundMasks(find_mask_folders(root, read.images, read.masks, problems), files)
