"""Pictures and their labels, in whichever of the understood layouts they come."""

from pathlib import Path

from datamodules.formats.class_folders import find_class_folders
from datamodules.formats.manifest import COLUMNS, read_manifest
from datamodules.formats.pet import find_pet_labels, is_pet
from datamodules.formats.shards import find_shards, read_labelled_shards
from datamodules.formats.tables import find_table, read_table
from datamodules.problems import REFUSE, Problems
from datamodules.samples import Samples, does_not_exist
from errors import LoupeError

__all__ = ["find_labels"]


def find_labels(root: Path, problems: Problems = REFUSE, *, outside_root: bool = False) -> Samples:
    """Samples with the column `label`, or `labels` where each picture has any number of them, separated by `;`.

    With `outside_root` a manifest may name pictures anywhere. LoupeError says what was looked for.
    """
    shards = find_shards(root, outside_root=outside_root)
    if shards:
        return read_labelled_shards(shards)
    file = find_table(root, "path,label[,split]")
    if file is not None:
        table = read_table(file, known=set(COLUMNS))
        if "labels" not in table.columns:
            return read_manifest(
                file, table=table, required=["label"], outside_root=outside_root, problems=problems
            )
        if "label" in table.columns:
            raise LoupeError(f"{file} has the columns label (one) and labels (several); keep one of them")
        return read_manifest(
            file,
            table=table,
            required=(),
            may_be_empty=["labels"],
            outside_root=outside_root,
            problems=problems,
        )
    if not root.is_dir():
        raise does_not_exist("data.root", root)
    if is_pet(root):
        return find_pet_labels(root, problems)
    return find_class_folders(root, problems)
