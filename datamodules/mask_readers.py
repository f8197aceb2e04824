"""What makes class numbers, or the values that stand for them, of an entry of the column `mask`."""

from abc import ABC, abstractmethod
from pathlib import Path

from torch import Tensor

from datamodules.images import read_mask
from datamodules.members import file_of, is_remote

__all__ = ["MaskReader", "MaskValuesReader"]


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
        status = Path(file_of(entry)).stat()
        return f"{Path(entry).absolute()}\t{status.st_size}\t{status.st_mtime_ns}"


class MaskValuesReader(MaskReader):
    """Grey and palette files: the values that are in them."""

    def read(self, entry: str) -> Tensor:
        """The file's values, see `read_mask`."""
        return read_mask(entry)
