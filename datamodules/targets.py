"""What a task must learn for one sample, as the dataset asks for it."""

from abc import ABC, abstractmethod

import numpy as np
from torch import Tensor

from datamodules.geometry import Fit

__all__ = ["Target"]


class Target(ABC):
    """Reads what a task must learn for one sample, moved to where the picture lies in the network input."""

    @abstractmethod
    def __call__(self, index: int, fit: Fit, plane: Tensor | None = None) -> dict[str, Tensor]:
        """The sample's part of the batch; tv_tensors follow the picture through the augmentation.

        `plane`: what `plane` gave, where it was asked already.
        """

    def plane(self, index: int, fit: Fit) -> Tensor | None:
        """What can be kept beside the picture, (H, W) uint8 of the network input; None where there is nothing."""
        return None

    def whole(self, index: int) -> dict[str, Tensor]:
        """The sample's part of the batch at the size of the picture, where the task has one (`View.full_size`)."""
        return {}

    def files(self, index: int) -> tuple[str, ...]:
        """The files that `plane` is made of."""
        return ()

    def point(self, index: int, rng: np.random.Generator) -> tuple[float, float] | None:
        """y and x of a random place on an object, pixels of the original; None where there is none."""
        return None

    def finish(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sample in the types and units of docs/batch.md, once the augmentation has moved it."""
        return sample
