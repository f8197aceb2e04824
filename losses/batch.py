"""A batch as the losses compute with it: checked, flattened to (N, C, P), clean of what does not count."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from errors import LoupeError
from losses.reduction import accumulator, counted_positions, hide
from losses.targets import Kind, RangeCheck, bounds, kind_of

__all__ = ["Batch", "prepare"]


@dataclass
class Batch:
    """One batch, P positions a sample. What several parts of a loss need is computed once.

    logits: (N, C, P) float32 or float64, 0 where ignored. target: (N, P) int64 class numbers for a hard
    multiclass target, else (N, C, P), bool if hard and of the logits' dtype if soft. counted: bool (N, P),
    for multi-label (N, C, P), None where all count. sample_weight: (N,) in the dtype of sums, or None.
    """

    kind: Kind
    soft: bool
    logits: Tensor
    target: Tensor
    counted: Tensor | None
    sample_weight: Tensor | None

    @property
    def channels(self) -> int:
        return self.logits.shape[1]

    @cached_property
    def log_probs(self) -> Tensor:
        """Log of the softmax, (N, C, P)."""
        return torch.log_softmax(self.logits, dim=1)

    @cached_property
    def probs(self) -> Tensor:
        """Softmax, or sigmoid for binary and multi-label, (N, C, P)."""
        if self.kind != "multiclass":
            return torch.sigmoid(self.logits)
        if "log_probs" in self.__dict__:
            return self.log_probs.exp()
        return torch.softmax(self.logits, dim=1)

    @property
    def lowest(self) -> float:
        """A floor for log-probabilities, reached only by logits further apart than the dtype can hold."""
        return torch.finfo(self.logits.dtype).min / 4

    @cached_property
    def log_prob_of_target(self) -> Tensor:
        """Log-probability of the true class for a hard multiclass target, (N, P)."""
        picked = self.log_probs.gather(1, self.target.unsqueeze(1)).squeeze(1)
        return picked.clamp(min=self.lowest)


def prepare(
    logits: Tensor,
    target: Tensor,
    sample_weight: Tensor | None,
    *,
    loss: str,
    multilabel: bool,
    ignore_index: int | None,
    probabilities: bool,
    range_check: RangeCheck,
) -> Batch:
    """Check a batch and bring it into the form of ``Batch``. Raises LoupeError on whatever does not fit."""
    kind = kind_of(
        logits, target, sample_weight, loss=loss, multilabel=multilabel, probabilities=probabilities
    )
    soft = target.is_floating_point() and probabilities
    if kind == "multiclass" and soft and ignore_index is not None:
        raise LoupeError(f"{loss}: ignore_index={ignore_index} cannot mark a position in class probabilities")
    n, channels = logits.shape[:2]
    positions = logits[0, 0].numel() if n else 0
    x = logits.reshape(n, channels, positions)
    hard_classes = kind == "multiclass" and not soft
    t = target.reshape(n, positions) if hard_classes else target.reshape(n, channels, positions)
    if not t.is_floating_point() and t.dtype != torch.bool:
        t = t.long()  # before comparing: -100 is not a uint8

    if kind == "multiclass" and soft:
        counted = counted_positions(t[:, 0], None, sample_weight)
    else:
        counted = counted_positions(t, ignore_index, sample_weight)
    t = hide(t, counted)
    range_check(bounds(t, counted, sample_weight, loss=loss, kind=kind, channels=channels, soft=soft))

    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    if soft:
        t = t.to(dtype)
    elif kind != "multiclass":
        t = t.bool()
    elif t.device.type != "cpu":
        t = t.clamp(0, channels - 1)  # RangeCheck tells of classes out of range: no kernel should fail first
    weight = None if sample_weight is None else sample_weight.to(accumulator(logits.device))
    return Batch(kind, soft, hide(x, counted).to(dtype), t, counted, weight)
