"""Finding pictures and their masks in a folder or a manifest."""

from pathlib import Path

from datamodules.images import IMAGE_SUFFIXES
from datamodules.samples import Samples, does_not_exist, find_pictures, name_some, part_name, read_manifest
from datamodules.tables import find_table
from errors import LoupeError

__all__ = ["find_mask_samples"]


def find_mask_samples(root: Path) -> Samples:
    """Samples with the column `mask`, from any layout that is understood; LoupeError says what was looked for."""
    table = find_table(root, "path,mask[,split]")
    if table is not None:
        return read_manifest(table, required=["mask"], files=["path", "mask"])
    if not root.is_dir():
        raise does_not_exist("data.root", root)
    if (root / "images").is_dir():
        names, paths, masks = _pairs(root)
        return Samples(names, paths, {"mask": masks}, [""] * len(names))
    folders = {folder: part_name(folder.name) for folder in sorted(root.iterdir()) if folder.is_dir()}
    parts = {folder: part for folder, part in folders.items() if part and (folder / "images").is_dir()}
    if not parts:
        inside = name_some(sorted(entry.name for entry in root.iterdir())) or "nothing"
        raise LoupeError(
            f"data.root {root} has no images/ and masks/, no train/images and train/masks, and no manifest.csv; "
            f"it holds {inside}"
        )
    if len(set(parts.values())) < len(parts):
        raise LoupeError(f"data.root {root} has two folders for one part: {', '.join(f.name for f in parts)}")
    samples = Samples([], [], {"mask": []}, [])
    for folder, part in parts.items():
        names, paths, masks = _pairs(folder)
        samples.names.extend(f"{folder.name}/{name}" for name in names)
        samples.paths.extend(paths)
        samples.columns["mask"].extend(masks)
        samples.parts.extend([part] * len(names))
    return samples


def _pairs(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Names, pictures and masks of `images/` and `masks/`, matched by the path without its suffix."""
    if not (folder / "masks").is_dir():
        raise LoupeError(f"{folder} has images/ and no masks/")
    pictures, masks = _by_stem(folder / "images"), _by_stem(folder / "masks")
    if not pictures:
        raise LoupeError(f"{folder / 'images'} has no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
    alone = sorted(set(pictures) - set(masks))
    idle = sorted(set(masks) - set(pictures))
    if alone or idle:
        lines = [
            f"pictures and masks of {folder} do not pair up (a mask has its picture's name, with any suffix):"
        ]
        if alone:
            lines.append(f"  {len(alone)} of {len(pictures)} pictures without a mask: {name_some(alone)}")
        if idle:
            lines.append(f"  {len(idle)} of {len(masks)} masks without a picture: {name_some(idle)}")
        raise LoupeError(
            "\n".join([*lines, "rename or remove them, or list the pairs in a manifest.csv (path,mask)"])
        )
    stems = sorted(pictures)
    return (
        [f"images/{stem}" for stem in stems],
        [str(pictures[s]) for s in stems],
        [str(masks[s]) for s in stems],
    )


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in find_pictures(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise LoupeError(f"{folder} has two files for one name: {found[stem].name} and {path.name}")
        found[stem] = path
    return found
