"""How evaluation and prediction look at pictures where that is not simply the network's input contract."""

from dataclasses import dataclass, field

import numpy as np

from datamodules.geometry import Fit, seen_through

__all__ = ["View"]


@dataclass
class View:
    """What a datamodule is told before its loaders are made.

    Attributes:
        scale: Whole pictures at this many network pixels for one of their own, each in a batch of its own, as tiles
            want them; None: the network's input size.
        full_size: Evaluation batches also have the masks at the size of the pictures, ``whole_mask``, and then hold one
            picture for each process.
        windows: By part (train, val, test, predict) the region of interest of each picture, int64 (N, 4): top, left,
            height, width, pixels of the upright picture; a row of zeros is the whole picture. A part that is missing is
            looked at whole.
    """

    scale: float | None = None
    full_size: bool = False
    windows: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def is_of_one_picture(self) -> bool:
        """Whether pictures come in sizes of their own, so that each process has one at a time."""
        return self.scale is not None or self.full_size

    def fit_to_window(self, part: str, index: int, fit: Fit) -> Fit:
        """The fit of the region of interest in place of that of the whole picture."""
        if part not in self.windows:
            return fit
        top, left, height, width = (int(value) for value in self.windows[part][index])
        return seen_through(fit, (top, left, height, width))
