"""What is to be found, and what of it comes first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finders.learning_rate import find_learning_rate
from finders.memory import find_accumulate, find_batch_size
from finders.trial import Trial

__all__ = ["Wanted"]


@dataclass
class Wanted:
    """A search, as it is handed to its process.

    Attributes:
        keys: Of `training`, those to find.
        batch_size: Images per optimizer step, where that is not to be found.
        accumulate: Micro-batches per step, where that is not to be found.
        processes: How many will train together.
        memory: Objects for what fits into memory.
        learning: Objects for the learning rate, of which no step was taken.
    """

    keys: Sequence[str]
    batch_size: int
    accumulate: int
    processes: int
    memory: Trial
    learning: Trial

    def work_in(self, folder: str) -> None:
        """Have all that is written for the search lie in this folder."""
        self.memory.folder = self.learning.folder = folder

    def find(self) -> dict[str, Any]:
        """The numbers: memory first, then the learning rate for the batch that was found."""
        found: dict[str, Any] = {}
        if "batch_size" in self.keys:
            self.batch_size = find_batch_size(
                self.memory, processes=self.processes, accumulate=self.accumulate
            )
            found["batch_size"] = self.batch_size
        if "accumulate" in self.keys:
            self.accumulate = find_accumulate(
                self.memory, processes=self.processes, batch_size=self.batch_size
            )
            found["accumulate"] = self.accumulate
        if "learning_rate" in self.keys:
            # One device takes the micro-batches of all, so a step is the same.
            parts = self.accumulate * self.processes
            found["learning_rate"] = find_learning_rate(
                self.learning, batch_size=self.batch_size, micro_batches=parts
            )
        return found
