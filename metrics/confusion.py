"""Counts of truth against prediction over a whole data set, from which the scores of classes are computed."""

from abc import abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric

from errors import LoupeError

__all__ = ["ConfusionMatrix", "histogram"]


class ConfusionMatrix(Metric):
    """Each position counted once over all batches and processes; a task's scores are a `compute` over it.

    ``num_classes=1`` (one output channel) is counted as background and foreground.

    Args:
        num_classes: At least 1.
        ignore_index: The target of positions that do not count.
        what: The name of a position in messages.
        kinds: Positions may be of several kinds, each of which is counted apart.
    """

    full_state_update = False
    higher_is_better = True
    counts: Tensor

    def __init__(
        self, num_classes: int, *, ignore_index: int | None = None, what: str = "pictures", kinds: int = 1
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise LoupeError(f"num_classes must be at least 1, got {num_classes}")
        self.size = max(2, num_classes)
        self.ignore_index = ignore_index
        self.what = what
        self.kinds = kinds
        # The last entry counts impossible classes, reported by compute(): a check here would wait for the device in
        # every step.
        states = self.size**2 * kinds + 1
        self.add_state("counts", torch.zeros(states, dtype=torch.int64), dist_reduce_fx="sum")

    def count(
        self, preds: Tensor, target: Tensor, valid: Tensor | None = None, *, kind: Tensor | None = None
    ) -> None:
        """Count class indices (B, *), and kinds 0..kinds-1 (B, *); ``valid`` (B,) is false for padding samples."""
        _check(preds, target)
        preds, target = preds.long(), target.long()
        possible = (target >= 0) & (target < self.size) & (preds >= 0) & (preds < self.size)
        pairs = target * self.size + preds
        if kind is not None:
            pairs = pairs * self.kinds + kind
        stray = self.size**2 * self.kinds
        unused = stray + 1
        bins = torch.where(possible, pairs, stray)
        if self.ignore_index is not None:
            bins = bins.masked_fill(target == self.ignore_index, unused)
        if valid is not None:
            bins = bins.masked_fill(~valid.view(-1, *(1,) * (target.ndim - 1)), unused)
        self.counts = self.counts + histogram(bins.flatten(), unused + 1)[:unused]

    @property
    def by_kind(self) -> Tensor:
        """Counts (K, K, kinds) of this process, rows truth, columns prediction."""
        return self.counts[:-1].view(self.size, self.size, self.kinds)

    @property
    def confusion(self) -> Tensor:
        """Counts (K, K) of this process, rows truth, columns prediction, of all kinds together."""
        return self.by_kind.sum(-1)

    def checked(self) -> Tensor:
        """The confusion matrix (K, K) as float64 on the CPU; LoupeError if there were impossible classes."""
        stray = int(self.counts[-1])
        if stray:
            void = "" if self.ignore_index is None else f" that is not void ({self.ignore_index}) either"
            raise LoupeError(
                f"masks or labels: {stray} {self.what} hold a class outside 0..{self.size - 1}{void}; "
                f"check them, or num_classes"
            )
        return self.confusion.cpu().double()

    @abstractmethod
    def compute(self) -> dict[str, Tensor]:
        """The task's scores over all processes."""


def _check(preds: Tensor, target: Tensor) -> None:
    if preds.shape != target.shape:
        raise ValueError(f"preds {tuple(preds.shape)} and target {tuple(target.shape)} differ in shape")
    if preds.is_floating_point() or target.is_floating_point():
        raise TypeError(f"class indices are integers, got preds {preds.dtype} and target {target.dtype}")


def histogram(bins: Tensor, size: int) -> Tensor:
    """Counts of the values 0..size-1 of an int64 vector, without waiting for the device."""
    # On a GPU bincount asks for the largest value and waits; histc with integers neither waits nor rounds, but is not
    # allowed where deterministic algorithms are asked for: bincount is, and waits.
    if bins.device.type == "cuda" and not torch.are_deterministic_algorithms_enabled():
        return torch.histc(bins, bins=size, min=0, max=size).long()
    if bins.device.type in ("cpu", "cuda"):
        return torch.bincount(bins, minlength=size)
    return torch.zeros(size, dtype=torch.int64, device=bins.device).scatter_add_(
        0, bins, torch.ones_like(bins)
    )
