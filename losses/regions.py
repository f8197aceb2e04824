"""Overlap losses (dice, iou, tversky): sums over regions, and their mean over classes and images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from errors import LoupeError
from losses.batch import Batch
from losses.reduction import accumulator, hide, over_samples, ratio

__all__ = ["ClassLoss", "RegionMean", "region_sums"]

# From overlap sum(p g), predicted mass sum(p) and true mass sum(g), each (..., C), to the loss of each class.
ClassLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def region_sums(batch: Batch, squared: bool = False) -> Tensor:
    """``sum(p g)``, ``sum(p)`` (``squared``: p^2), ``sum(g)`` and the count of positions, (4, N, C)."""
    dtype = accumulator(batch.logits.device)
    n, channels, positions = batch.logits.shape
    probs = hide(batch.probs, batch.counted)
    if batch.kind == "multiclass":
        zeros = torch.zeros(n, channels, dtype=dtype, device=probs.device)
        hits = probs.gather(1, batch.target.unsqueeze(1)).squeeze(1)
        ones = torch.ones((), dtype=dtype, device=probs.device).expand(n, positions)
        present = ones if batch.counted is None else batch.counted.to(dtype)
        overlap = zeros.scatter_add(1, batch.target, hits.to(dtype))
        truth = zeros.scatter_add(1, batch.target, present)
    else:
        overlap = hide(probs, batch.target).sum(2, dtype=dtype)
        truth = batch.target.sum(2).to(dtype)
    predicted = (probs.square() if squared else probs).sum(2).to(dtype)
    if batch.counted is None:
        size = torch.full_like(truth, positions)
    else:
        size = batch.counted.sum(-1).to(dtype).view(n, -1).expand(n, channels)
    return torch.stack([overlap, predicted, truth, size])


@dataclass(frozen=True)
class RegionMean:
    """How the losses of single regions become one number.

    A class counts where it has at least one counted position, and with ``absent="skip"`` at least one that
    belongs to it; ``class_weight`` weighs the mean over those. ``per_image``: the loss of each image on its
    own, then the mean over the images in which something counts; otherwise the whole batch is one region a
    class.
    """

    per_image: bool
    include_background: bool
    absent: str
    squared: bool = False

    def check(self, batch: Batch, loss: str, class_weight: Tensor | None) -> None:
        """Raise if an option has no meaning for this kind of problem."""
        if not self.include_background and batch.kind != "multiclass":
            raise LoupeError(
                f"{loss}: include_background=False needs at least two exclusive classes; got {batch.kind}"
            )
        if class_weight is not None and batch.kind == "binary":
            raise LoupeError(
                f"{loss}: class_weight has no effect with one channel, which is one region; leave it out"
            )

    def local_sums(self, batch: Batch, class_loss: ClassLoss, class_weight: Tensor | None) -> Tensor:
        """(4, C), or with ``per_image`` the sum over images of loss and weight, (2,)."""
        sums = region_sums(batch, self.squared)
        if not self.include_background:
            sums = sums[..., 1:]
        if not self.per_image:
            return over_samples(sums, batch.sample_weight, dim=1)
        loss, weight = self._over_classes(sums, class_loss, class_weight)
        counts = (weight > 0).to(loss.dtype)
        return over_samples(torch.stack([ratio(loss, weight), counts]), batch.sample_weight, dim=1)

    def value(self, sums: Tensor, class_loss: ClassLoss, class_weight: Tensor | None) -> Tensor:
        """The loss from what ``local_sums`` gave, summed over all processes."""
        if self.per_image:
            return ratio(sums[0], sums[1])
        return ratio(*self._over_classes(sums, class_loss, class_weight))

    def _over_classes(
        self, sums: Tensor, class_loss: ClassLoss, class_weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        overlap, predicted, truth, size = sums.unbind(0)
        counts = truth > 0 if self.absent == "skip" else size > 0
        weight = counts.to(sums.dtype)
        if (
            class_weight is not None and sums.shape[-1] > 1
        ):  # a single region has nothing to be weighed against
            weight = weight * class_weight[-sums.shape[-1] :].to(sums.dtype)
        return (weight * class_loss(overlap, predicted, truth)).sum(-1), weight.sum(-1)
