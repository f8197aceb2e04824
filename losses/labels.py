"""Cross entropy of a label a picture, by torch's own: for so few numbers, starting an operation takes longest.

The general way asks sixty operations for a batch of labels, 0.5 ms on a CPU; this one asks fifteen, or on a CPU, where
nobody waits for a look at the values, a single one if nothing is out of the ordinary. What counts, what it weighs and
how processes are added up is the same, and so is the value but for rounding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from losses.batch import Batch
from losses.reduction import global_sum, hide, stands_alone
from losses.step import Step
from losses.targets import Bound, RangeCheck, bounds, weight_bound
from losses.term import Term

__all__ = ["fits", "mean_cost", "ordinary_mean_cost"]

_PRECISION = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
}
"""What is computed in, for logits of each."""

_NONE = -(2**63)  # torch would leave out class -100, which is refused here
_FAR = 2.0**100  # logits this far apart are held back a little, so that nothing overflows


def fits(batch: Batch, terms: Sequence[Term]) -> bool:
    """Whether each sample has one label, or one distribution over classes, and the loss is cross entropy."""
    one_label = batch.kind == "multiclass" and batch.logits.shape[2] == 1
    return one_label and len(terms) == 1 and terms[0].label_smoothing is not None


def ordinary_mean_cost(
    logits: Tensor,
    target: Tensor,
    sample_weight: Tensor | None,
    *,
    smoothing: float,
    ignore_index: int | None,
) -> Tensor | None:
    """The mean where every sample counts once and no value is out of range or extreme; None where that is not so.

    What a loss was given, unchecked: whatever is out of the ordinary is for others to judge.
    """
    if (
        not (isinstance(logits, Tensor) and isinstance(target, Tensor))
        or target.dtype != torch.int64
        or logits.dtype not in _PRECISION
        or target.ndim != 1
        or logits.ndim != 2
        or not 0 < target.shape[0] == logits.shape[0]
        or not (target.is_cpu and logits.is_cpu)
        or torch.compiler.is_compiling()
        or not stands_alone()
    ):
        return None
    if sample_weight is not None and not (
        isinstance(sample_weight, Tensor)
        and sample_weight.dtype == torch.bool
        and sample_weight.shape == target.shape
        and sample_weight.is_cpu
        and all(sample_weight.tolist())
    ):
        return None
    labels: list[int] = target.tolist()
    first, last, classes = min(labels), max(labels), logits.shape[1]
    if (
        first < 0
        or last >= classes
        or classes < 2
        or (ignore_index is not None and first <= ignore_index <= last)
    ):
        return None
    cost = F.cross_entropy(logits.to(_PRECISION[logits.dtype]), target, label_smoothing=smoothing)
    return cost if cost.item() * len(labels) < _FAR else None  # not where it is NaN, either


def mean_cost(batch: Batch, term: Term, range_check: RangeCheck, step: Step | None) -> Tensor:
    """The mean over the samples of all processes, a scalar in the batch's dtype; differentiable by the logits.

    Args:
        batch: One that ``fits``.
        term: Cross entropy.
        range_check: Looks at targets and weights.
        step: Of which the batch is a part; its mean is over the whole step then.
    """
    logits, target = batch.logits.squeeze(2).to(batch.dtype), batch.target.squeeze(2 if batch.soft else 1)
    given = batch.sample_weight
    target = target.to(batch.dtype) if batch.soft else target.long()  # before comparing: -100 is not a uint8
    counted = _counted(batch, target)
    logits, target = hide(logits, counted), hide(target, counted)
    range_check(_bounds(batch, target, counted))
    if not batch.soft and target.device.type != "cpu":
        target = target.clamp(0, batch.channels - 1)  # the check may come later than a kernel that would fail
    # differences of which a million add up to a number, so that a target of 0 times them is 0
    if logits.numel():
        logits = (logits - logits.detach().amax(1, keepdim=True)).clamp(
            min=torch.finfo(batch.dtype).min / 2**20
        )
    of_class = None if term.class_weight is None else term.class_weight.to(batch.dtype)
    # in float64 before the weights of samples, which may be smaller than float32 can tell
    cost = F.cross_entropy(
        logits,
        target,
        weight=of_class,
        ignore_index=_NONE,
        reduction="none",
        label_smoothing=term.label_smoothing or 0.0,
    ).to(batch.accumulator)
    size = _size(batch, term, target, counted)
    cost = hide(cost, counted)
    if given is not None and given.dtype != torch.bool:
        cost = cost * given
    total, size = global_sum(cost.sum(), size)
    if step is not None:
        size = step.sizes[0]
    share = torch.where(size > torch.finfo(size.dtype).tiny, size.reciprocal(), 0.0)
    return (total * share).clamp(max=torch.finfo(batch.dtype).max).to(batch.dtype)


def _counted(batch: Batch, target: Tensor) -> Tensor | None:
    """True where a sample counts, (N,); None if all do (seen on the CPU only)."""
    weight, counted = batch.sample_weight, None
    if weight is not None:
        counted = weight if weight.dtype == torch.bool else weight != 0
    if batch.ignore_index is not None and not batch.soft:
        labelled = target != batch.ignore_index
        counted = labelled if counted is None else counted & labelled
    if counted is not None and counted.device.type == "cpu" and bool(counted.all()):
        return None
    return counted


def _size(batch: Batch, term: Term, target: Tensor, counted: Tensor | None) -> Tensor:
    """What the sum of the costs is divided by, a scalar: the number of samples, or the weight of their classes."""
    shares: Tensor | None = counted
    if term.class_weight is not None and term.is_by_weight:
        of_class = term.class_weight.to(batch.accumulator)
        if batch.soft:
            shares = (of_class * target).sum(1)
        else:
            shares = hide(of_class[target], counted)
    given = batch.sample_weight
    if given is not None and given.dtype != torch.bool:
        shares = given if shares is None else shares * given
    if shares is None:
        return torch.full((), len(target), dtype=batch.accumulator, device=target.device)
    return shares.sum(dtype=batch.accumulator)


def _bounds(batch: Batch, target: Tensor, counted: Tensor | None) -> list[Bound]:
    found = bounds(target, counted, batch.loss, batch.kind, batch.channels, batch.soft)
    weight = batch.sample_weight
    if weight is not None and weight.dtype != torch.bool and weight.numel():
        found.append(weight_bound(weight, loss=batch.loss))
    return found
