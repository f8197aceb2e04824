"""Cross entropy, the default of classification."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from losses import options
from losses.batch import Batch
from losses.chunk import Chunk
from losses.class_balance import ClassWeight
from losses.loss import Loss
from losses.reduction import accumulator, hide, over_samples, ratio
from losses.term import Quantity, Sums, Term, weigh

__all__ = ["CrossEntropyLoss", "CrossEntropyTerm"]


class CrossEntropyLoss(Loss):
    """Cross entropy between softmax (one channel and multi-label: sigmoid) and target.

    With the smoothed target ``t'_c = (1 - e) t_c + e / C`` and class weights w, a position costs ``-sum_c w_c
    t'_c log p_c``; binary is the same with two classes, and in multi-label every channel is a binary problem
    weighed by its w. The loss is the mean over positions: ``normalization="weights"`` divides by the sum of
    the true classes' weights, as torch does for class numbers, ``"count"`` by the number of positions. Class
    probabilities (N, C, *) are taken as targets, too; one-hot ones give what class numbers give.

    >>> loss = CrossEntropyLoss()(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    >>> round(loss.item(), 6)  # log(1 + exp(-2))
    0.126928

    Source: Goodfellow et al. 2016, Deep Learning, section 6.2.2; smoothing: Szegedy et al. 2016, section 7.
    """

    name = "categorical_crossentropy"
    probabilities = True

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        normalization: Literal["weights", "count"] = "weights",
        ignore_index: int | None = None,
        class_weight: ClassWeight = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__(ignore_index=ignore_index, class_weight=class_weight, multilabel=multilabel)
        self.label_smoothing = options.number("label_smoothing", label_smoothing, 0, 1)
        self.normalization: str = options.choice("normalization", normalization, ["weights", "count"])

    def terms(self, batch: Batch) -> list[tuple[float, Term]]:
        term = CrossEntropyTerm(self.name, self.class_weight, self.label_smoothing, self.normalization)
        return [(1.0, term)]


@dataclass(frozen=True, eq=False)
class CrossEntropyTerm(Term):
    """The mean of ``-sum_c w_c t'_c log p_c``."""

    smoothing: float
    normalization: str

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return Quantity.NLL, Quantity.MASS, *([Quantity.EVEN] if self.smoothing else [])

    def sums(self, chunk: Chunk) -> Tensor:
        log_prob = chunk.log_prob_of_target.unsqueeze(1) if chunk.hard else chunk.log_probs
        cost = -(chunk.mass * log_prob).sum(2)
        even = [-chunk.log_probs.sum(2)] if self.smoothing else []
        return torch.stack([cost, chunk.mass_sums, *even]).to(accumulator(cost.device))

    def slopes(self, chunk: Chunk, grad: Tensor) -> Tensor:
        slopes = chunk.mass * -grad[0].unsqueeze(2)
        if self.smoothing:
            slopes -= hide(grad[2].unsqueeze(2).expand_as(slopes), chunk.counted)
        return slopes

    @property
    def label_smoothing(self) -> float:
        return self.smoothing

    @property
    def is_by_weight(self) -> bool:
        return self.normalization == "weights"

    def local_sums(self, sums: Sums, batch: Batch) -> Tensor:
        cost = sums.of_term[0]
        if self.smoothing:
            cost = (1 - self.smoothing) * cost + self.smoothing / batch.classes * sums.of_term[2]
        cost, size = weigh(cost, sums, self.class_weight, batch, by_weight=self.is_by_weight)
        return over_samples(torch.stack([cost.sum((1, 2)), size.sum(1)]), batch.sample_weight, dim=1)

    def value(self, totals: Tensor) -> Tensor:
        return ratio(totals[0], totals[1])
