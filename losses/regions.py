"""What dice, iou and tversky share: sums over regions, and the mean of a loss of each over classes and images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from errors import LoupeError
from losses import options
from losses.batch import Batch
from losses.chunk import Chunk
from losses.reduction import accumulator, over_samples, ratio
from losses.term import Quantity, Sums, Term

__all__ = ["ClassLoss", "RegionOptions", "RegionTerm"]

# From overlap sum(p g), predicted mass sum(p) and true mass sum(g), each (..., C), to the loss of each class.
ClassLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class RegionOptions:
    """How the losses of single regions become one number.

    A class counts where it has at least one counted position, and with ``absent="skip"`` at least one that
    belongs to it. ``per_image``: the loss of each image on its own, then the mean over the images in which
    something counts; otherwise the whole batch is one region a class. ``include_background=False`` leaves
    class 0 out. ``squared``: the predicted mass is ``sum(p^2)``. Raises LoupeError for a wrong value.
    """

    per_image: bool
    include_background: bool
    absent: str
    squared: bool = False

    def __post_init__(self) -> None:
        for name in ("per_image", "include_background", "squared"):
            options.flag(name, getattr(self, name))
        options.choice("absent", self.absent, ["keep", "skip"])


@dataclass(frozen=True, eq=False)
class RegionTerm(Term):
    """The mean of ``class_loss`` over regions, see ``RegionOptions``; ``class_weight`` weighs the mean over classes."""

    class_loss: ClassLoss
    regions: RegionOptions

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return (
            Quantity.OVERLAP,
            Quantity.SQUARED if self.regions.squared else Quantity.PREDICTED,
            Quantity.MASS,
        )

    @property
    def per_image(self) -> bool:
        return self.regions.per_image

    @property
    def is_mean(self) -> bool:
        return self.regions.per_image

    def check(self, batch: Batch) -> None:
        if not self.regions.include_background and batch.kind != "multiclass":
            raise LoupeError(
                f"{self.loss}: include_background=False needs at least two exclusive classes; got {batch.kind}"
            )
        if self.class_weight is not None and batch.kind == "binary":
            raise LoupeError(
                f"{self.loss}: class_weight has no effect with one channel, which is one region; leave it out"
            )
        super().check(batch)

    def sums(self, chunk: Chunk) -> Tensor:
        probs = chunk.probs
        predicted = (probs.square() if self.regions.squared else probs).sum(2)
        overlap = (probs * chunk.mass).sum(2)
        return torch.stack([overlap, predicted, chunk.mass_sums]).to(accumulator(probs.device))

    def slopes(self, chunk: Chunk, grad: Tensor) -> Tensor:
        overlap, predicted = grad[0].unsqueeze(2), grad[1].unsqueeze(2)
        if self.regions.squared:
            predicted = 2 * predicted * chunk.probs
        return torch.addcmul(predicted, chunk.mass, overlap).mul_(chunk.probs)

    def local_sums(self, sums: Sums, batch: Batch) -> Tensor:
        """Overlap, predicted and true mass, size: (4, C); with ``per_image`` loss and weight over images: (2,)."""
        # Exclusive classes are a region each; of negative and positive the positive is.
        regions = sums.of_term[:, :, 0] if batch.kind == "multiclass" else sums.of_term[..., 1]
        size = sums.counted.expand(regions.shape[1:])
        regions = torch.cat([regions, size.unsqueeze(0)])
        if not self.regions.include_background:
            regions = regions[..., 1:]
        if not self.per_image:
            return over_samples(regions, batch.sample_weight, dim=1)
        loss, weight = self._over_classes(regions)
        counts = (weight > 0).to(loss.dtype)
        return over_samples(torch.stack([ratio(loss, weight), counts]), batch.sample_weight, dim=1)

    def value(self, totals: Tensor) -> Tensor:
        if self.per_image:
            return ratio(totals[0], totals[1])
        return ratio(*self._over_classes(totals))

    def _over_classes(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        overlap, predicted, truth, size = regions.unbind(0)
        counts = truth > 0 if self.regions.absent == "skip" else size > 0
        weight = counts.to(regions.dtype)
        if self.class_weight is not None and regions.shape[-1] > 1:  # one region alone has nothing to weigh
            weight = weight * self.class_weight[-regions.shape[-1] :].to(regions.dtype)
        return (weight * self.class_loss(overlap, predicted, truth)).sum(-1), weight.sum(-1)
