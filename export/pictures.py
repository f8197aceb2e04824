"""The pictures that an exported model is given, from their files, and where the annotations of them lie."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules import Fit, InputReader, UnreadableError
from datamodules.geometry import plan_fit
from errors import LoupeError

__all__ = ["Picture", "PictureFiles", "evenly"]


@dataclass(frozen=True)
class Picture:
    """One picture as the exported model takes it.

    Attributes:
        index: Its position in the part.
        path: Its file.
        image: (C, H, W) uint8, or float32 in 0..1; upright, in the channels of the model.
        fit: Where the file's picture lies in it.
    """

    index: int
    path: str
    image: Tensor
    fit: Fit

    @property
    def size_hw(self) -> tuple[int, int]:
        """Of `image`, pixels."""
        return int(self.image.shape[1]), int(self.image.shape[2])

    @property
    def batch(self) -> np.ndarray:
        """(1, C, H, W)."""
        return np.ascontiguousarray(self.image[None].numpy())

    @property
    def array(self) -> np.ndarray:
        """(H, W, C), as `InputReader` takes it."""
        return np.ascontiguousarray(self.image.permute(1, 2, 0).numpy())


class PictureFiles:
    """Reads files as an exported model takes them.

    Args:
        contract: The model's input contract.
        picture_size: Height and width of all pictures, to which they are brought by the contract's rule; None: their
            own size.
        floats: As float32 in 0..1.
        skips: Leave out files that cannot be read, and keep their paths in `left_out`; otherwise that is an error.
    """

    def __init__(
        self,
        contract: Mapping[str, Any],
        *,
        picture_size: tuple[int, int] | None,
        floats: bool,
        skips: bool = False,
    ) -> None:
        size = contract["image_size"] if picture_size is None else list(picture_size)
        self.contract = contract
        self.reader = InputReader({**contract, "image_size": size})
        self.picture_size = picture_size
        self.floats = floats
        self.skips = skips
        self.left_out: set[str] = set()

    def of_any_size(self) -> "PictureFiles":
        """The same files, each of its own size."""
        return PictureFiles(self.contract, picture_size=None, floats=self.floats, skips=self.skips)

    def read(self, index: int, path: str) -> Picture:
        """The picture of a file; LoupeError naming it where it cannot be read."""
        if self.picture_size is None:
            return self.as_picture(self.reader.decode(path), index, path)
        sample, fit = self.reader.sample(path)
        return Picture(index, path, self._typed(sample["image"]), fit)

    def as_picture(self, image: Tensor, index: int = 0, path: str = "") -> Picture:
        """Upright pixels (C, H, W) that are there already, of their own size."""
        size = (int(image.shape[1]), int(image.shape[2]))
        return Picture(index, path, self._typed(image), plan_fit(size, size, "stretch"))

    def _typed(self, image: Tensor) -> Tensor:
        return image.to(torch.float32) / 255 if self.floats and not image.is_floating_point() else image

    def of(self, paths: Sequence[str], count: int | None) -> Iterator[Picture]:
        """`count` of the files, evenly spread over their order; None: all of them."""
        for index in evenly(len(paths), count):
            try:
                picture = self.read(index, paths[index])
            except UnreadableError as error:
                self.leave_out(paths[index], error)
            else:
                yield picture

    def leave_out(self, path: str, error: UnreadableError) -> None:
        """Remember a file that cannot be read, or of which what belongs to it cannot; LoupeError where none may be."""
        if not self.skips:
            raise LoupeError(f"{error}; --data.read.on_error=skip leaves out what cannot be read") from error
        self.left_out.add(path)


def evenly(total: int, count: int | None) -> list[int]:
    """`count` positions of 0 .. total - 1, evenly spread: the files of a class lie beside each other.

    >>> evenly(10, 3), evenly(2, 5)
    ([0, 3, 6], [0, 1])
    """
    count = total if count is None else min(count, total)
    return [place * total // count for place in range(count)]
