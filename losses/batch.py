"""A batch as the losses compute with it: checked for what fits together, and flattened; nothing is copied yet."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from errors import LoupeError
from losses.reduction import accumulator
from losses.targets import Kind, kind_of

__all__ = ["Batch", "prepare"]

_ABSENT = -(2**62)  # what marks a position as absent where the user named no number for that


@dataclass(frozen=True)
class Batch:
    """One batch of N samples with P positions each.

    logits: (N, C, P), as they came. target: (N, P) class numbers for a hard multiclass target, else (N, C, P), as it
    came. sample_weight: (N,) or None. soft: the target holds probabilities.
    """

    loss: str
    kind: Kind
    soft: bool
    ignore_index: int | None
    logits: Tensor
    target: Tensor
    sample_weight: Tensor | None

    @property
    def channels(self) -> int:
        return self.logits.shape[1]

    @property
    def groups(self) -> int:
        """How many questions are answered at a position: one, or with multi-label one for each channel."""
        return self.channels if self.kind == "multilabel" else 1

    @property
    def classes(self) -> int:
        """How many answers exclude each other: the channels, or negative and positive."""
        return self.channels if self.kind == "multiclass" else 2

    @property
    def dtype(self) -> torch.dtype:
        """The precision of what is computed for a position."""
        return torch.float64 if self.logits.dtype == torch.float64 else torch.float32

    @property
    def accumulator(self) -> torch.dtype:
        """The precision of sums."""
        return accumulator(self.logits.device)

    def as_one_sample(self) -> "Batch":
        """The same with samples of one position, such as pictures with labels, as the positions of a single sample.

        That is how they are added up fast. Only where nothing tells the samples apart but which of them exist.
        """
        weight = self.sample_weight
        if self.kind != "multiclass" or self.soft or self.logits.shape[2] != 1 or len(self.logits) < 2:
            return self
        target, ignore = self.target.T, self.ignore_index
        if weight is not None:
            if weight.dtype != torch.bool:
                return self
            ignore = _ABSENT if ignore is None else ignore
            target = target.long().masked_fill(~weight, ignore)
        logits = self.logits.squeeze(2).T.unsqueeze(0)
        return replace(self, logits=logits, target=target, sample_weight=None, ignore_index=ignore)


def prepare(
    logits: Tensor,
    target: Tensor,
    sample_weight: Tensor | None,
    *,
    loss: str,
    multilabel: bool,
    ignore_index: int | None,
    probabilities: bool,
) -> Batch:
    """Check shapes and dtypes and bring them into the form of ``Batch``. Raises LoupeError on what does not fit."""
    kind = kind_of(
        logits, target, sample_weight, loss=loss, multilabel=multilabel, probabilities=probabilities
    )
    soft = target.is_floating_point() and probabilities
    if kind == "multiclass" and soft and ignore_index is not None:
        raise LoupeError(f"{loss}: ignore_index={ignore_index} cannot mark a position in class probabilities")
    n, channels, positions = logits.shape[0], logits.shape[1], math.prod(logits.shape[2:])
    shape = (n, positions) if kind == "multiclass" and not soft else (n, channels, positions)
    return Batch(
        loss,
        kind,
        soft,
        ignore_index,
        logits.reshape(n, channels, positions),
        target.reshape(shape),
        sample_weight,
    )
