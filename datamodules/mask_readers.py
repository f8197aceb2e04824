"""What makes class numbers, or the values that stand for them, of an entry of the column `mask`."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor

from datamodules.images import UnreadableError, image_size_hw, read_mask
from datamodules.members import file_of, is_remote
from errors import LoupeError

__all__ = ["MaskReader", "MaskValuesReader", "Wrong", "fingerprint", "read_beside"]

#: The kind of what is wrong with a mask, and how.
Wrong = tuple[str, str]


class MaskReader(ABC):
    """Reads the entries of the column `mask`.

    `class_names` is None where what is read are values of files, of which `value_to_class` makes classes.
    """

    class_names: list[str] | None = None

    @property
    def key(self) -> str:
        """Another text where the same entry would be read as something else."""
        return ""

    @abstractmethod
    def read(self, entry: str) -> Tensor:
        """The mask as (H, W) uint8; LoupeError names it where it cannot be."""

    def title(self, entry: str) -> str:
        """What the entry is called in messages."""
        return entry

    def files(self, entry: str) -> tuple[str, ...]:
        """The file that the entry names; none where the entry says everything itself."""
        return (entry,)

    def stamp(self, entry: str) -> str:
        """Another text when the mask has changed; OSError where it is gone."""
        if is_remote(entry):
            return entry  # what is behind an address is taken to stay
        # os, since a Path for each of a million files takes seconds
        status = os.stat(file_of(entry))  # noqa: PTH116
        return f"{os.path.abspath(entry)}\t{status.st_size}\t{status.st_mtime_ns}"  # noqa: PTH100


class MaskValuesReader(MaskReader):
    """Grey and palette files: the values that are in them."""

    def read(self, entry: str) -> Tensor:
        """The file's values, see `read_mask`."""
        return read_mask(entry)


def read_beside(path: str, mask: str, reader: MaskReader, *, skip: bool, tell: bool) -> Tensor | Wrong | None:
    """The mask (H, W), of its picture's size; or what is wrong with it; None where one of the two is left out.

    Args:
        path: the picture, whose header is read.
        mask: the entry of the column `mask`.
        reader: of masks.
        skip: leave out what cannot be read; otherwise UnreadableError is raised.
        tell: say that a mask cannot be read; of a picture that cannot others tell.
    """
    try:
        values = reader.read(mask)
    except UnreadableError as error:
        if skip:
            return None
        if tell:
            return "unreadable mask", str(error)
        raise
    except LoupeError as error:
        return "mask values that are no class", str(error)
    try:
        expected = image_size_hw(path)
    except UnreadableError:
        if tell:
            return values
        if skip:
            return None
        raise
    got = (int(values.shape[0]), int(values.shape[1]))
    if expected == got:
        return values
    return "mask of another size", (
        f"{reader.title(mask)} is {got[1]}x{got[0]} and its picture {path} is {expected[1]}x{expected[0]} "
        f"(width x height, upright)"
    )


def fingerprint(start: str, paths: Iterable[str], masks: Iterable[str], reader: MaskReader) -> str:
    """Changes with `start`, and with each picture's and each mask's path, size or time of change."""
    digest = hashlib.sha256(f"{start} {reader.key}".encode())
    stamp = MaskValuesReader().stamp
    for path, mask in zip(paths, masks, strict=True):
        digest.update(f"\n{stamp(path)}\n{reader.stamp(mask)}".encode())
    return digest.hexdigest()[:32]
