"""The loss and the scores of one stage over a whole data set."""

from typing import Any

from torch import Tensor, nn
from torchmetrics import Metric

from metrics import MeanLoss

__all__ = ["Evaluation"]


class Evaluation(nn.Module):
    """What validation or test adds up, and the scores in the end.

    Args:
        scores: The task's metric; its ``compute`` gives scalars, and vectors named ``NAME_per_class``.
        terms: How many terms with means of their own the loss has.
    """

    def __init__(self, scores: Metric, terms: int) -> None:
        super().__init__()
        self.scores: Any = scores
        self.loss = MeanLoss(terms)

    def finish(self) -> tuple[dict[str, Tensor], dict[str, list[float]]]:
        """Scalars by name, ``loss`` among them, and columns of one number a class; starts anew."""
        values: dict[str, Tensor] = {"loss": self.loss.compute(), **self.scores.compute()}
        self.loss.reset()
        self.scores.reset()
        columns = {
            key.removesuffix("_per_class"): value
            for key, value in values.items()
            if key.endswith("_per_class")
        }
        return values, {name: column.tolist() for name, column in columns.items()}
