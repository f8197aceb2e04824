"""Focal loss, for classes of very different size."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from errors import LoupeError
from losses import options
from losses.batch import Batch
from losses.loss import Loss, check_length
from losses.reduction import mean_sums, ratio

__all__ = ["FocalLoss"]


class FocalLoss(Loss):
    """``-alpha_y (1 - p_y)^gamma log p_y`` with p the softmax (one channel and multi-label: sigmoid).

    alpha: a number scales all classes, a list has one for each, None is 1. With one channel a number is the
    positive class's and the negative one gets ``1 - alpha`` (a list: negative, positive); in multi-label
    every channel is such a problem, with its own alpha if a list is given. ``class_weight`` multiplies on
    top. ``normalization``: the sum is divided by the number of positions (``"count"``), by the sum of the
    true classes' weights (``"weights"``, alpha apart), or by the number of positions that are positive, for
    exclusive classes: not class 0, and by 1 if there are none (``"positives"``). Class probabilities t (N, C,
    *) cost ``sum_c t_c focal_c``, the mean over the classes that they mean.

    >>> loss = FocalLoss(alpha=0.25, gamma=2.0)(torch.zeros(1, 2), torch.tensor([1]))
    >>> round(loss.item(), 6)  # 0.25 * 0.5**2 * log(2)
    0.043322

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 5. ``(1 - p)^gamma`` is ``exp(gamma
    log(1 - p))``, with ``log(1 - p)`` from the other classes, so that gamma < 1 and saturated logits have
    finite gradients.
    """

    name = "focal"
    probabilities = True

    alpha: Tensor | None

    def __init__(
        self,
        *,
        alpha: float | list[float] | None = 0.25,
        gamma: float = 2.0,
        normalization: Literal["count", "weights", "positives"] = "count",
        ignore_index: int | None = None,
        class_weight: list[float] | None = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__(ignore_index=ignore_index, class_weight=class_weight, multilabel=multilabel)
        value: Tensor | None
        if isinstance(alpha, (int, float)):
            value = torch.tensor(options.number("alpha", alpha), dtype=torch.float64)
        elif isinstance(alpha, Tensor) and alpha.ndim == 0:
            value = torch.tensor(options.number("alpha", alpha.item()), dtype=torch.float64)
        else:
            value = options.vector("alpha", alpha)
        self.register_buffer("alpha", value, persistent=False)
        self._highest_alpha = 0.0 if value is None else value.max().item()  # known without asking the device
        self.gamma = options.number("gamma", gamma)
        self.normalization: str = options.choice(
            "normalization", normalization, ["count", "weights", "positives"]
        )

    def check(self, batch: Batch) -> None:
        super().check(batch)
        check_length(self.name, "alpha", self.alpha, 2 if batch.kind == "binary" else batch.channels, batch)
        complement = self.alpha is not None and (batch.kind == "multilabel" or self.alpha.ndim == 0)
        if complement and batch.kind != "multiclass" and self._highest_alpha > 1:
            raise LoupeError(
                f"focal: alpha is {self._highest_alpha:g}, but the negatives get 1 - alpha; valid: 0 to 1"
            )

    def local_sums(self, batch: Batch) -> Tensor:
        if batch.kind == "multiclass":
            loss, weight, positive = self._softmax(batch)
        else:
            loss, weight, positive = self._sigmoid(batch)
        share = {"count": None, "weights": weight, "positives": positive}[self.normalization]
        return mean_sums(loss, share, batch.counted, batch.sample_weight)

    def value(self, sums: Tensor) -> Tensor:
        if self.normalization == "positives":
            return sums[0] / torch.where(sums[1] > 0, sums[1], torch.ones_like(sums[1]))
        return ratio(sums[0], sums[1])

    def _softmax(self, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor]:
        """Cost, class weight and share of positives of each position, (N, P)."""
        w, alpha = self._in_dtype(batch)
        scale = alpha if w is None else w if alpha is None else alpha * w
        if batch.soft:
            nll = -batch.log_probs.clamp(min=batch.lowest)
            each = torch.exp(self.gamma * _log_rest(batch)) * nll * batch.target
            if scale is not None:
                each = each * (scale if scale.ndim == 0 else scale.view(1, -1, 1))
            weight = None if w is None else (w.view(1, -1, 1) * batch.target).sum(1)
            return each.sum(1), weight, batch.target[:, 1:].sum(1)
        loss = -batch.log_prob_of_target
        if self.gamma:
            others = batch.log_probs.clamp(min=batch.lowest)
            others = others.scatter(1, batch.target.unsqueeze(1), float("-inf"))
            loss = loss * torch.exp(self.gamma * others.logsumexp(1))
        if scale is not None:
            loss = loss * (scale if scale.ndim == 0 else scale[batch.target])
        return loss, None if w is None else w[batch.target], batch.target > 0

    def _sigmoid(self, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor]:
        """Cost, class weight and share of positives of each element, (N, C, P)."""
        t, x = batch.target, batch.logits
        w, alpha = self._in_dtype(batch)
        positive, negative = _sides(alpha, batch)
        if w is not None and batch.kind == "binary":
            positive, negative = positive * w[1], negative * w[0]
        if batch.soft:
            loss = t * positive * self._cost(x) + (1 - t) * negative * self._cost(-x)
        else:
            loss = self._cost(torch.where(t, x, -x)) * torch.where(t, positive, negative)
        if w is None:
            return loss, None, t
        if batch.kind == "multilabel":
            return loss * w.view(1, -1, 1), w.view(1, -1, 1).expand_as(loss), t
        return loss, torch.where(t, w[1], w[0]) if not batch.soft else w[0] + (w[1] - w[0]) * t, t

    def _cost(self, logit_of_truth: Tensor) -> Tensor:
        return -F.logsigmoid(logit_of_truth) * torch.exp(self.gamma * F.logsigmoid(-logit_of_truth))

    def _in_dtype(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """Class weight and alpha in the precision of the batch."""
        w, alpha, dtype = self.class_weight, self.alpha, batch.logits.dtype
        return None if w is None else w.to(dtype), None if alpha is None else alpha.to(dtype)


def _sides(alpha: Tensor | None, batch: Batch) -> tuple[Tensor, Tensor]:
    """alpha of positive and of negative elements, each to broadcast over (N, C, P)."""
    if alpha is None:
        one = torch.ones((), dtype=batch.logits.dtype, device=batch.logits.device)
        return one, one
    if batch.kind == "binary" and alpha.ndim:
        return alpha[1], alpha[0]
    alpha = alpha.view(1, -1, 1) if alpha.ndim else alpha
    return alpha, 1 - alpha


def _log_rest(batch: Batch) -> Tensor:
    """``log(1 - p_c)``, (N, C, P). Only the largest p can be near 1, where the others tell it better."""
    top = batch.logits.argmax(1, keepdim=True)
    rest = batch.log_probs.clamp(min=batch.lowest).scatter(1, top, float("-inf")).logsumexp(1, keepdim=True)
    return torch.log1p(-batch.log_probs.exp().scatter(1, top, 0.0)).scatter(1, top, rest)
