"""The pictures that `predict` is asked about."""

from datamodules.formats import TABLE_KINDS, TABLE_SUFFIXES, read_manifest
from datamodules.images import IMAGE_SUFFIXES
from datamodules.samples import existing, find_pictures
from errors import LoupeError

__all__ = ["find_predict_paths"]


def find_predict_paths(path: str | None, *, outside_root: bool = False) -> list[str]:
    """One picture, every picture below a folder in sorted order, or those a manifest lists in its column `path`.

    With `outside_root` these may lie outside of the manifest's folder.
    """
    if path is None:
        raise LoupeError("nothing to predict on; give --data.predict_path PICTURE, FOLDER or CSV")
    found = existing("data.predict_path", path)
    if found.is_dir():
        pictures = find_pictures(found)
        if not pictures:
            raise LoupeError(
                f"data.predict_path {path} has no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})"
            )
        return [str(picture) for picture in pictures]
    if found.suffix.lower() in TABLE_SUFFIXES:
        rows = read_manifest(found, required=(), may_repeat=True, split=False, outside_root=outside_root)
        return list(dict.fromkeys(rows.paths))
    if found.suffix.lower() not in IMAGE_SUFFIXES:
        raise LoupeError(
            f"data.predict_path {path} is neither a picture, a folder nor a manifest ({TABLE_KINDS})"
        )
    return [str(found)]
