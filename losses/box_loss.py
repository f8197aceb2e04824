"""What the box losses share: the checks, what counts, the confidence, and the means over all processes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from errors import LoupeError
from losses import options
from losses.precision import autocast_off
from losses.reduction import accumulator, global_sum, ratio
from losses.step import Step
from losses.targets import Bound, RangeCheck, weight_bound

__all__ = ["BoxLoss"]


class BoxLoss(nn.Module, ABC):
    """A loss between one predicted and one true box a sample, and of the confidence that there is an object.

    ``loss(box, target, *, has_box=None, confidence=None, sample_weight=None)``: boxes (N, 4) as ``x1, y1, x2, y2``
    with x1 <= x2 and y1 <= y2, in any unit; ``has_box`` (N,) bool: whether there is an object (None: everywhere);
    ``confidence`` (N,): logits of that; ``sample_weight`` (N,), bool or at least 0, 0 = the sample does not exist.

    The value is the weighed mean of the box term over the samples with an object, plus ``confidence_weight`` times the
    weighed mean binary cross entropy of the confidence over all samples. Where there is no object the boxes are absent,
    whatever they hold. With nothing to count a term is exactly 0 with zero gradient. Computes in float32 (float64 for
    float64 boxes) with autocast off, sums in float64; under torch.distributed value and gradient are those of all
    processes' samples together (see ``losses.global_sum``). Raises LoupeError for wrong shapes and dtypes and for
    inverted boxes; how values are checked on a GPU without waiting for it is told at ``losses.targets.RangeCheck``.
    Where an optimizer step comes in micro-batches ``step`` makes the parts of it add up, as with ``Loss``.
    """

    name: ClassVar[str]

    def __init__(self, *, confidence_weight: float = 1.0) -> None:
        super().__init__()
        self.confidence_weight = options.number("confidence_weight", confidence_weight)
        self._range_check = RangeCheck()

    def forward(
        self,
        box: Tensor,
        target: Tensor,
        *,
        has_box: Tensor | None = None,
        confidence: Tensor | None = None,
        sample_weight: Tensor | None = None,
        step: Step | None = None,
    ) -> Tensor:
        return self.terms(
            box, target, has_box=has_box, confidence=confidence, sample_weight=sample_weight, step=step
        ).sum()

    def terms(
        self,
        box: Tensor,
        target: Tensor,
        *,
        has_box: Tensor | None = None,
        confidence: Tensor | None = None,
        sample_weight: Tensor | None = None,
        step: Step | None = None,
    ) -> Tensor:
        """What the loss is the sum of: the box term, and with ``confidence`` its cross entropy, (1,) or (2,)."""
        _check_shapes(self.name, box, target, has_box, confidence, sample_weight)
        ones = torch.ones(len(box), dtype=torch.bool, device=box.device)
        has_box = ones if has_box is None else has_box
        weight = (ones if sample_weight is None else sample_weight).to(accumulator(box.device))
        dtype = torch.float64 if box.dtype == torch.float64 else torch.float32
        with autocast_off(box.device.type):
            # A unit square stands in for a box that is absent: neither its NaN nor its gradient gets through.
            counted = has_box & (weight != 0)
            unit = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=dtype, device=box.device)
            preds = torch.where(counted[:, None], box.to(dtype), unit)
            truth = torch.where(counted[:, None], target.to(dtype), unit)
            self._range_check(_bounds(self.name, preds, truth, weight))
            sums = _sums(self.sample_loss(preds, truth), weight * counted)
            if confidence is None:
                (total,) = global_sum(sums)
                return ratio(total[0], total[1] if step is None else step.sizes[0]).to(dtype)[None]
            # 0 for a sample that does not exist: its weight would not stop a NaN.
            logits = torch.where(
                weight != 0, confidence.to(dtype), torch.zeros((), dtype=dtype, device=box.device)
            )
            unsure = _sums(F.softplus(torch.where(has_box, -logits, logits)), weight)
            boxes, sureness = global_sum(sums, unsure)
            boxes_in, samples_in = (boxes[1], sureness[1]) if step is None else step.sizes
            box_term, other = ratio(boxes[0], boxes_in), ratio(sureness[0], samples_in)
            return torch.stack([box_term, self.confidence_weight * other]).to(dtype)

    def step(self, parts: Sequence[tuple[Tensor, Tensor]]) -> Step:
        """What the loss must know of an optimizer step before its first micro-batch; one all-reduce.

        Args:
            parts: has_box and sample_weight of each micro-batch that this process has; at least one.
        """
        sizes: list[Tensor] = []
        for has_box, sample_weight in parts:
            weight = sample_weight.to(accumulator(has_box.device))
            sizes.append(torch.stack([(weight * has_box).sum(), weight.sum()]))
        return Step(*global_sum(torch.stack(sizes).sum(0)))

    @property
    def adds_up(self) -> bool:
        """Whether the parts that micro-batches make add up to exactly the loss of the whole batch: always."""
        return True

    @abstractmethod
    def sample_loss(self, preds: Tensor, target: Tensor) -> Tensor:
        """The box term of each sample, from boxes (N, 4) that are not inverted: (N,)."""


def _sums(loss: Tensor, weight: Tensor) -> Tensor:
    """Sum of the weighed losses, and of the weights: (2,)."""
    return torch.stack([(loss.to(weight.dtype) * weight).sum(), weight.sum()])


def _check_shapes(
    loss: str,
    box: Tensor,
    target: Tensor,
    has_box: Tensor | None,
    confidence: Tensor | None,
    sample_weight: Tensor | None,
) -> None:
    got = f"boxes {tuple(box.shape)} {box.dtype}, target {tuple(target.shape)} {target.dtype}"
    if box.ndim != 2 or box.shape[1] != 4 or box.shape != target.shape:
        raise LoupeError(f"{loss}: boxes and target must both be (N, 4), x1 y1 x2 y2; got {got}")
    if not (box.is_floating_point() and target.is_floating_point()):
        raise LoupeError(f"{loss}: boxes are floating point; got {got}")
    for what, values in (("has_box", has_box), ("confidence", confidence), ("sample_weight", sample_weight)):
        if values is not None and tuple(values.shape) != (len(box),):
            raise LoupeError(
                f"{loss}: {what} must hold one value a sample, ({len(box)},); got {tuple(values.shape)}"
            )
    if has_box is not None and has_box.dtype != torch.bool:
        raise LoupeError(f"{loss}: has_box must be bool; got {has_box.dtype}")
    if confidence is not None and not confidence.is_floating_point():
        raise LoupeError(f"{loss}: confidence must be logits, floating point; got {confidence.dtype}")


def _bounds(loss: str, preds: Tensor, target: Tensor, weight: Tensor) -> list[Bound]:
    found: list[Bound] = []
    if not len(preds):
        return found
    for what, box in (("predicted", preds), ("true", target)):
        text = f"{loss}: a {what} box is inverted, x2 - x1 or y2 - y1 is {{found}}; valid: at least 0"
        found.append(Bound(*(box[:, 2:] - box[:, :2]).aminmax(), 0, torch.finfo(box.dtype).max, text))
    found.append(weight_bound(weight, loss=loss))
    return found
