"""A piece of a batch that fits the processor's cache, in the one form that all terms compute with: softmax."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from losses.batch import Batch
from losses.reduction import hide
from losses.targets import Bound, bounds

__all__ = ["Chunk", "Piece", "cut", "pieces"]

# Logits in a piece. 2 MiB in float32: on the CPU the passes over it stay in the cache (measured best of 2^18 to 2^20);
# on an accelerator a kernel should have more to do than to start.
_CPU_LOGITS = 2**19
_ACCELERATOR_LOGITS = 2**26

# Where a piece lies: samples and positions.
Piece = tuple[slice, slice]


@dataclass
class Chunk:
    """R rows of P positions with K exclusive classes. What several terms need is computed once.

    A row is a sample; with multi-label a channel of a sample. One channel x is the softmax of (0, x): classes negative
    and positive. logits: (R, K, P) float32 or float64. target: (R, P) class numbers, -1 where not counted, or
    probabilities (R, K, P), 0 where not counted. counted: (R, P), None where all are.
    """

    logits: Tensor
    target: Tensor
    counted: Tensor | None
    softmax: Tensor | None = None  # of the logits where it is known; (R, K, P), may be written to

    @property
    def hard(self) -> bool:
        """Whether each position belongs to one class."""
        return not self.target.is_floating_point()

    @cached_property
    def probs(self) -> Tensor:
        """Softmax, (R, K, P), 0 where not counted: whatever the logits there are, NaN as well."""
        probs = torch.softmax(self.logits, 1) if self.softmax is None else self.softmax
        return probs if self.counted is None else probs.masked_fill_(~self.counted.unsqueeze(1), 0.0)

    @cached_property
    def mass(self) -> Tensor:
        """How much of a position belongs to a class, (R, K, P): 0 or 1, or a probability; 0 where not counted."""
        if not self.hard:
            return self.target
        classes = torch.arange(self.logits.shape[1], dtype=self.logits.dtype, device=self.logits.device)
        # Class numbers are compared as floats, which vectorises: four times as fast as int64 on the CPU.
        return (self.target.to(self.logits.dtype).unsqueeze(1) - classes.view(1, -1, 1)).eq_(0)

    @cached_property
    def mass_sums(self) -> Tensor:
        """Mass of each class, (R, K)."""
        return self.mass.sum(2)

    @property
    def lowest(self) -> float:
        """A floor for log-probabilities, reached only by logits further apart than the dtype can hold."""
        return torch.finfo(self.logits.dtype).min / 4

    @cached_property
    def _top(self) -> tuple[Tensor, Tensor]:
        """The largest logit and the log of its probability, (R, P) each: ``log p = logit - largest + log p_top``."""
        top = self.probs.amax(1)
        if self.counted is not None:
            top = torch.where(self.counted, top, 1.0)
        return self.logits.amax(1), top.log_()

    @cached_property
    def log_probs(self) -> Tensor:
        """Log of the softmax, (R, K, P), 0 where not counted."""
        largest, log_top = self._top
        log_probs = (self.logits - largest.unsqueeze(1)).add_(log_top.unsqueeze(1)).clamp_(min=self.lowest)
        return hide(log_probs, self.counted)

    @cached_property
    def log_prob_of_target(self) -> Tensor:
        """Log-probability of the true class for a hard target, (R, P), 0 where not counted."""
        largest, log_top = self._top
        index = self.target.clamp(0, self.logits.shape[1] - 1).unsqueeze(1)
        log_prob = self.logits.gather(1, index).squeeze(1).sub_(largest).add_(log_top).clamp_(min=self.lowest)
        return hide(log_prob, self.counted)

    @cached_property
    def rest_of_target(self) -> Tensor:
        """One minus the probability of the true class for a hard target, (R, P); of a likely one the others' sum."""
        own = self.probs * self.mass
        others = (self.probs - own).sum(1)
        return torch.where(others < 0.5, others, 1 - own.sum(1))

    @cached_property
    def rests(self) -> Tensor:
        """One minus each probability, (R, K, P). Only the largest can be near 1, where the others tell it better."""
        top = self.probs.argmax(1, keepdim=True)
        others = self.probs.scatter(1, top, 0.0).sum(1, keepdim=True)
        return (1 - self.probs).scatter_(1, top, others)


def pieces(batch: Batch) -> Iterator[Piece]:
    """The batch in pieces: positions of one sample where it is large, else several samples."""
    n, channels, positions = batch.logits.shape
    limit = _CPU_LOGITS if batch.logits.device.type == "cpu" else _ACCELERATOR_LOGITS
    if n == 0 or positions == 0:
        return
    samples = max(1, limit // (channels * positions))
    width = positions if channels * positions <= limit else max(1, limit // channels)
    for i in range(0, n, samples):
        for j in range(0, positions, width):
            yield slice(i, min(i + samples, n)), slice(j, min(j + width, positions))


def cut(
    batch: Batch, piece: Piece, *, softmax: Tensor | None = None, found: list[Bound] | None = None
) -> Chunk:
    """That piece of the batch. ``softmax``: of the whole batch, (N, C, P). ``found``: gets what must hold of values."""
    samples, positions = piece
    weight = None if batch.sample_weight is None else batch.sample_weight[samples]
    hard_classes = batch.kind == "multiclass" and not batch.soft
    target = batch.target[samples, positions] if hard_classes else batch.target[samples, :, positions]
    if not target.is_floating_point() and target.dtype != torch.bool:
        target = target.long()  # before comparing: -100 is not a uint8
    counted = _counted(batch, target[:, 0] if batch.kind == "multiclass" and batch.soft else target, weight)
    target = hide(target, counted)
    if found is not None:
        found += bounds(target, counted, batch.loss, batch.kind, batch.channels, batch.soft)
    logits = batch.logits[samples, :, positions].to(batch.dtype)
    if batch.kind == "multiclass":
        known = None if softmax is None else softmax[samples, :, positions]
        if batch.soft:
            return Chunk(logits, target.to(batch.dtype), counted, known)
        return Chunk(logits, target if counted is None else target.masked_fill_(~counted, -1), counted, known)
    logits, target = logits.reshape(-1, 1, logits.shape[-1]), target.reshape(-1, target.shape[-1])
    if counted is not None:
        counted = counted.reshape(target.shape)
    if batch.soft:
        positive = target.to(batch.dtype)
        target = hide(torch.stack([1 - positive, positive], 1), counted)
    else:
        target = target.long()
        target = target if counted is None else target.masked_fill(~counted, -1)
    return Chunk(torch.cat([torch.zeros_like(logits), logits], 1), target, counted)


def _counted(batch: Batch, target: Tensor, weight: Tensor | None) -> Tensor | None:
    """True where a position counts, in the shape of ``target``; None if all do (seen on CPU only).

    A sample of weight 0 does not exist: it is treated like an ignored one, so that even NaN logits do no harm.
    """
    counted: Tensor | None = None
    if batch.ignore_index is not None and target.dtype != torch.bool:
        counted = target != batch.ignore_index
    if weight is not None:
        exists = (weight != 0).view(-1, *([1] * (target.ndim - 1)))
        counted = exists.expand_as(target) if counted is None else counted & exists
    # Looking is free on CPU and spares passes; on an accelerator it would wait for the device.
    if counted is not None and counted.device.type == "cpu" and bool(counted.all()):
        return None
    return counted
