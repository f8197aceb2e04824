"""Focal loss, for classes of very different size."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from errors import LoupeError
from losses import options
from losses.batch import Batch
from losses.chunk import Chunk
from losses.class_balance import ClassWeight
from losses.loss import Loss
from losses.reduction import accumulator, over_samples, ratio
from losses.term import Quantity, Sums, Term, check_length, weigh

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

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 5. ``1 - p`` is added up from the other classes,
    so that it is exact where p rounds to 1, and gradients are finite for gamma < 1 and saturated logits.
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
        class_weight: ClassWeight = None,
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

    def terms(self, batch: Batch) -> list[tuple[float, Term]]:
        term = FocalTerm(
            self.name,
            self.class_weight,
            alpha=self.alpha,
            highest_alpha=self._highest_alpha,
            gamma=self.gamma,
            normalization=self.normalization,
        )
        return [(1.0, term)]


@dataclass(frozen=True, eq=False)
class FocalTerm(Term):
    """The mean of ``sum_c alpha_c w_c t_c f(p_c)``, ``f = -(1 - p)^gamma log p``.

    With ``r = 1 - p``, added up from the other classes, and ``v = -log(p) / r``, which is 1 at r = 0, the derivative
    of f by ``log p`` is ``-r^gamma (1 + gamma p v)``: nothing in it can overflow, whatever gamma.
    """

    alpha: Tensor | None
    highest_alpha: float
    gamma: float
    normalization: str

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return Quantity.FOCAL, Quantity.MASS

    @property
    def exponent(self) -> float | None:
        return self.gamma

    def check(self, batch: Batch) -> None:
        super().check(batch)
        check_length(self.loss, "alpha", self.alpha, batch)
        complement = self.alpha is not None and (batch.kind == "multilabel" or self.alpha.ndim == 0)
        if complement and batch.kind != "multiclass" and self.highest_alpha > 1:
            raise LoupeError(
                f"{self.loss}: alpha is {self.highest_alpha:g}, but the negatives get 1 - alpha; valid: 0 to 1"
            )

    def sums(self, chunk: Chunk) -> Tensor:
        log_prob, rest = self._log_prob_and_rest(chunk)
        cost = -(chunk.mass * (rest.pow(self.gamma) * log_prob)).sum(2)
        return torch.stack([cost, chunk.mass_sums]).to(accumulator(cost.device))

    def slopes(self, chunk: Chunk, grad: Tensor) -> Tensor:
        log_prob, rest = self._log_prob_and_rest(chunk)
        certain = rest < torch.finfo(rest.dtype).tiny
        v = torch.where(certain, 1.0, -log_prob / torch.where(certain, 1.0, rest))
        slope = -rest.pow(self.gamma) * (1 + self.gamma * log_prob.exp() * v)
        return (chunk.mass * grad[0].unsqueeze(2)).mul_(slope)

    def _log_prob_and_rest(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """log p and 1 - p, of the true class (R, 1, P) for a hard target, else of each (R, K, P)."""
        if chunk.hard:
            log_prob, rest = chunk.log_prob_of_target.unsqueeze(1), chunk.rest_of_target.unsqueeze(1)
        else:
            log_prob, rest = chunk.log_probs, chunk.rests
        return torch.where(rest < 0.5, torch.log1p(-rest), log_prob), rest  # the more exact of two equal ones

    def local_sums(self, sums: Sums, batch: Batch) -> Tensor:
        cost, mass = sums.of_term
        if self.alpha is not None:
            cost = self._alpha(self.alpha, batch).to(cost.dtype) * cost
        cost, size = weigh(cost, sums, self.class_weight, batch, by_weight=self.normalization == "weights")
        if self.normalization == "positives":
            size = mass[..., 1:].sum(2)
        return over_samples(torch.stack([cost.sum((1, 2)), size.sum(1)]), batch.sample_weight, dim=1)

    def value(self, totals: Tensor) -> Tensor:
        if self.normalization == "positives":
            return totals[0] / torch.where(totals[1] > 0, totals[1], torch.ones_like(totals[1]))
        return ratio(totals[0], totals[1])

    def _alpha(self, alpha: Tensor, batch: Batch) -> Tensor:
        """One for each class, as (1, G, K) or what broadcasts to it; the negative's is 1 - alpha if not given."""
        if batch.kind == "multiclass" or (batch.kind == "binary" and alpha.ndim):
            return alpha.view(1, 1, -1)
        positive = alpha.view(-1, 1)
        return torch.cat([1 - positive, positive], 1).unsqueeze(0)
