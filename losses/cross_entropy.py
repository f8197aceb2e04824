"""Cross entropy, the default of classification."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from losses import options
from losses.batch import Batch
from losses.loss import Loss
from losses.reduction import mean_sums, ratio

__all__ = ["CrossEntropyLoss", "cross_entropy_sums"]


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
        class_weight: list[float] | None = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__(ignore_index=ignore_index, class_weight=class_weight, multilabel=multilabel)
        self.label_smoothing = options.number("label_smoothing", label_smoothing, 0, 1)
        self.normalization: str = options.choice("normalization", normalization, ["weights", "count"])

    def local_sums(self, batch: Batch) -> Tensor:
        return cross_entropy_sums(batch, self.class_weight, self.label_smoothing, self.normalization)

    def value(self, sums: Tensor) -> Tensor:
        return ratio(sums[0], sums[1])


def cross_entropy_sums(
    batch: Batch, class_weight: Tensor | None, smoothing: float, normalization: str
) -> Tensor:
    """The sums of the mean cross entropy, (2,), see ``mean_sums``."""
    w = None if class_weight is None else class_weight.to(batch.logits.dtype)
    loss, weight = (_softmax if batch.kind == "multiclass" else _sigmoid)(batch, w, smoothing)
    share = weight if normalization == "weights" else None
    return mean_sums(loss, share, batch.counted, batch.sample_weight)


def _softmax(batch: Batch, w: Tensor | None, smoothing: float) -> tuple[Tensor, Tensor | None]:
    """Cost and class weight of each position, (N, P)."""
    if batch.soft:
        weighted = batch.target if w is None else batch.target * w.view(1, -1, 1)
        loss = -(weighted * batch.log_probs.clamp(min=batch.lowest)).sum(1)
        weight = None if w is None else weighted.sum(1)
    else:
        loss = -batch.log_prob_of_target
        weight = None if w is None else w[batch.target]
        if weight is not None:
            loss = loss * weight
    if smoothing:
        each = batch.log_probs
        if w is not None:
            each = each.clamp(min=batch.lowest) * w.view(1, -1, 1)
        even = -each.sum(1).clamp(min=batch.lowest)
        loss = (1 - smoothing) * loss + smoothing / batch.channels * even
    return loss, weight


def _sigmoid(batch: Batch, w: Tensor | None, smoothing: float) -> tuple[Tensor, Tensor | None]:
    """Cost and class weight of each element, (N, C, P)."""
    x, t = batch.logits, batch.target
    if batch.soft or smoothing:
        positive = t.to(x.dtype) * (1 - smoothing) + smoothing / 2
        negative = 1 - positive
        if w is not None and batch.kind == "binary":
            positive, negative = w[1] * positive, w[0] * negative
        loss = -(positive * F.logsigmoid(x) + negative * F.logsigmoid(-x))
    else:
        loss = -F.logsigmoid(torch.where(t, x, -x))
    if w is None:
        return loss, None
    if batch.kind == "multilabel":
        weight = w.view(1, -1, 1).expand_as(loss)
        return loss * weight, weight
    weight = torch.where(t, w[1], w[0]) if not batch.soft else w[0] + (w[1] - w[0]) * t
    return (loss if batch.soft or smoothing else loss * weight), weight
