"""Finding pictures and their masks in folders."""

import re
from pathlib import Path

from datamodules.images import IMAGE_SUFFIXES
from datamodules.problems import REFUSE, Problems
from datamodules.samples import Samples, below, name_some, part_name, picture_names
from errors import LoupeError

__all__ = ["STEM", "find_mask_folders", "has_mask_folders"]

#: Stands in a mask's template for the name of its picture.
STEM = "{stem}"


def find_mask_folders(
    root: Path, images: str = "images", masks: str = "masks/{stem}", problems: Problems = REFUSE
) -> Samples:
    """Samples with the column `mask`: the folder itself, or `train`, `val`, `test` in it, has pictures and masks.

    Args:
        root: the folder.
        images: the folder of pictures, from there.
        masks: where the mask of a picture is, from there; `{stem}` is the picture's path below `images` without its
            suffix, and a template without a suffix takes any.
        problems: is told of pictures without a mask, masks without a picture, and names that two files have.
    """
    _check_template(images, masks)
    images, masks = Path(images).as_posix(), Path(masks).as_posix()  # "./images/" is "images"
    if (root / images).is_dir() and (images != "." or not _parts_in(root, images)):
        names, pictures, found = _pairs(root, images, masks, problems)
        return Samples(names, below(root, pictures), {"mask": below(root, found)})
    parts = _parts_in(root, images)
    if not parts:
        inside = name_some(sorted(entry.name for entry in root.iterdir())) or "nothing"
        raise LoupeError(
            f"data.root {root} has no {images}/ and {_folder_of(masks)}/, no train/{images} and "
            f"train/{_folder_of(masks)}, and no manifest.csv; it holds {inside} (data.read.images and data.read.masks "
            "say other names)"
        )
    if len(set(parts.values())) < len(parts):
        raise LoupeError(f"data.root {root} has two folders for one part: {', '.join(f.name for f in parts)}")
    all_names: list[str] = []
    all_pictures: list[str] = []
    all_masks: list[str] = []
    all_parts: list[str] = []
    for folder, part in parts.items():
        pairs = _pairs(folder, images, masks, problems)
        for listed, more in zip((all_names, all_pictures, all_masks), pairs, strict=True):
            listed += [f"{folder.name}/{name}" for name in more]
        all_parts += [part] * len(pairs[0])
    return Samples(all_names, below(root, all_pictures), {"mask": below(root, all_masks)}, all_parts)


def has_mask_folders(root: Path, images: str = "images") -> bool:
    """Whether a folder, or one of its parts, has the folder of pictures."""
    return (root / images).is_dir() or bool(_parts_in(root, images))


def _check_template(images: str, masks: str) -> None:
    if masks.count(STEM) != 1:
        raise LoupeError(
            f"data.read.masks is '{masks}'; it says where the mask of a picture is, with {STEM} for the picture's "
            f"name, as in masks/{STEM}_mask.png"
        )
    for key, value in (("images", images), ("masks", masks)):
        if Path(value).is_absolute() or ".." in Path(value).parts or not value:
            raise LoupeError(f"data.read.{key} is '{value}'; it is a place below data.root")
    if Path(images) == Path(masks.partition(STEM)[0]) and Path(masks).name == STEM:
        raise LoupeError(
            f"data.read.masks '{masks}' names the pictures themselves (data.read.images '{images}')"
        )


def _parts_in(root: Path, images: str) -> dict[Path, str]:
    folders = {folder: part_name(folder.name) for folder in sorted(root.iterdir()) if folder.is_dir()}
    return {folder: part for folder, part in folders.items() if part and (folder / images).is_dir()}


def _folder_of(masks: str) -> str:
    return masks.partition(STEM)[0].rpartition("/")[0] or "."


def _pairs(
    folder: Path, images: str, masks: str, problems: Problems
) -> tuple[list[str], list[str], list[str]]:
    """Names, pictures and masks as they are called from `folder`, matched by the picture's path without its suffix."""
    mask_folder = folder / _folder_of(masks)
    if not mask_folder.is_dir():
        raise LoupeError(f"{folder} has {images}/ and no {_folder_of(masks)}/")
    mask_of = _by_template(folder, masks, problems)
    taken = set(mask_of.values())
    prefix = "" if images == "." else f"{images}/"
    found = [prefix + name for name in picture_names(folder / images)]
    picture_of = _by_stem(folder, images, [name for name in found if name not in taken], problems)
    if not picture_of:
        raise LoupeError(f"{folder / images} has no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
    _tell_unpaired(folder, masks, picture_of, mask_of, problems)
    stems = sorted(set(picture_of) & set(mask_of))
    return [prefix + stem for stem in stems], [picture_of[s] for s in stems], [mask_of[s] for s in stems]


def _tell_unpaired(
    folder: Path, masks: str, picture_of: dict[str, str], mask_of: dict[str, str], problems: Problems
) -> None:
    alone = sorted(set(picture_of) - set(mask_of))
    idle = sorted(set(mask_of) - set(picture_of))
    if not alone and not idle:
        return
    rule = "its picture's name" if masks == "masks/{stem}" else f"the name {masks}"
    lines = [f"pictures and masks of {folder} do not pair up (a mask has {rule}, with any suffix):"]
    if alone:
        lines.append(f"  {len(alone)} of {len(picture_of)} pictures without a mask: {name_some(alone)}")
    if idle:
        lines.append(f"  {len(idle)} of {len(mask_of)} masks without a picture: {name_some(idle)}")
    lines.append("rename or remove them, or list the pairs in a manifest.csv (path,mask)")
    files = [str(folder / picture_of[s]) for s in alone] + [str(folder / mask_of[s]) for s in idle]
    kind = "picture without mask" if alone and not idle else "mask without picture"
    problems.add(
        kind if not (alone and idle) else "pictures and masks do not pair up",
        "\n".join(lines),
        files,
        cases=len(files),
    )


def _by_stem(folder: Path, images: str, names: list[str], problems: Problems) -> dict[str, str]:
    """The pictures by their names from `images` on, without suffix."""
    found: dict[str, str] = {}
    start = 0 if images == "." else len(images) + 1
    for name in names:
        _put(found, name[start : name.rindex(".")], name, folder, images, problems)
    return found


def _by_template(folder: Path, masks: str, problems: Problems) -> dict[str, str]:
    """The masks by the picture's name that stands in theirs."""
    before, _, after = masks.partition(STEM)
    suffix = Path(f"x{after}").suffix
    any_suffix = suffix.lower() not in IMAGE_SUFFIXES
    pattern = re.compile(f"{re.escape(before)}(.+){re.escape(after)}")
    found: dict[str, str] = {}
    place = _folder_of(masks)
    prefix = "" if place == "." else f"{place}/"
    for inside in picture_names(folder / place):
        name = prefix + inside
        match = pattern.fullmatch(name[: name.rindex(".")] if any_suffix else name)
        if match:
            _put(found, match.group(1), name, folder, place, problems)
    return found


def _put(found: dict[str, str], stem: str, name: str, folder: Path, inside: str, problems: Problems) -> None:
    other = found.setdefault(stem, name)
    if other != name:
        problems.add(
            "two files of one name",
            f"{folder / inside} has two files for one name: {Path(other).name} and {Path(name).name}",
            [str(folder / other), str(folder / name)],
        )
