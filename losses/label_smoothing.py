"""Cross entropy with label smoothing."""

from typing import Literal

from losses import options
from losses.batch import Batch
from losses.class_balance import ClassWeight
from losses.cross_entropy import CrossEntropyTerm
from losses.loss import Loss
from losses.term import Term

__all__ = ["LabelSmoothingLoss"]


class LabelSmoothingLoss(Loss):
    """Cross entropy against ``(1 - smoothing) t + smoothing / C``: see ``CrossEntropyLoss``.

    >>> import torch
    >>> loss = LabelSmoothingLoss(smoothing=0.1)(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    >>> round(loss.item(), 6)  # log(1 + exp(-2)) + 0.05 * 2
    0.226928

    Source: Szegedy et al. 2016, Rethinking the Inception Architecture, section 7.
    """

    name = "label_smoothing"
    probabilities = True

    def __init__(
        self,
        *,
        smoothing: float = 0.1,
        normalization: Literal["weights", "count"] = "weights",
        ignore_index: int | None = None,
        class_weight: ClassWeight = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__(ignore_index=ignore_index, class_weight=class_weight, multilabel=multilabel)
        self.smoothing = options.number("smoothing", smoothing, 0, 1)
        self.normalization: str = options.choice("normalization", normalization, ["weights", "count"])

    def terms(self, batch: Batch) -> list[tuple[float, Term]]:
        return [(1.0, CrossEntropyTerm(self.name, self.class_weight, self.smoothing, self.normalization))]
