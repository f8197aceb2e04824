"""What could not be read and was left out, remembered across worker processes."""

import logging
from collections.abc import Sequence

import torch

from datamodules.samples import name_some

__all__ = ["Skipped"]

log = logging.getLogger(__name__)


class Skipped:
    """Files of one part that could not be read, in memory that the workers share with the training process.

    Args:
        paths: picture files of the part.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self._marks = torch.zeros(len(paths), dtype=torch.bool).share_memory_()

    def add(self, index: int) -> None:
        """From any worker."""
        self._marks[index] = True

    def indices(self) -> list[int]:
        """Positions of the files so far, in the order of the part."""
        marked: list[int] = self._marks.nonzero().flatten().tolist()
        return marked

    def found(self) -> list[str]:
        """The files so far, in the order of the part."""
        return [self.paths[i] for i in self.indices()]

    def tell(self, part: str, became: str) -> None:
        """One warning with their number and some names; none where everything was read."""
        # prediction always leaves them out
        because = "predict" if part == "predict" else "data.read.on_error=skip"
        files = self.found()
        if files:
            log.warning(
                "%s: %d of %d %s pictures could not be read and %s: %s",
                because,
                len(files),
                len(self.paths),
                part,
                became,
                name_some(files),
            )
