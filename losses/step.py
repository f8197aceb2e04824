"""What a loss must know of an optimizer step beforehand, to be exact where the step comes in micro-batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from losses.batch import Batch
from losses.piecewise import masses
from losses.reduction import ratio
from losses.term import Quantity, Sums, Term

__all__ = ["Step", "local_sizes", "part_of_step", "weight_of_samples"]


@dataclass(frozen=True)
class Step:
    """The whole of an optimizer step, all its micro-batches on all processes, as ``step`` of a loss tells it.

    sizes: (T,), one number for each term: what a mean over the whole step divides its sum by; for a ratio over the
    batch the weight of the step's samples.
    """

    sizes: Tensor


def weight_of_samples(batch: Batch) -> Tensor:
    """The sum of the sample weights, their number where there are none: a scalar."""
    if batch.sample_weight is None:
        # torch.tensor would have a GPU waited for
        return torch.full((), len(batch.logits), dtype=batch.accumulator, device=batch.logits.device)
    return batch.sample_weight.to(batch.accumulator).sum()


def local_sizes(batch: Batch, terms: Sequence[Term]) -> Tensor:
    """What this batch adds to ``Step.sizes``, (T,). Its logits are not looked at."""
    counted, mass = masses(batch)
    sizes: list[Tensor] = []
    for term in terms:
        if term.is_mean:
            of_term = torch.zeros(len(term.quantities), *mass.shape, dtype=mass.dtype, device=mass.device)
            of_term[term.quantities.index(Quantity.MASS)] = mass
            sizes.append(term.local_sums(Sums(of_term, counted), batch)[1])
        else:
            sizes.append(weight_of_samples(batch))
    return torch.stack(sizes)


def part_of_step(term: Term, totals: Tensor, size: Tensor, weight: Tensor) -> Tensor:
    """What a micro-batch adds to the term's value over the step, a scalar.

    A mean is its sum here over the size there, so that the parts add up to the step's mean. Of a ratio over the batch
    there are no such parts: its values are averaged, weighed by the samples.

    Args:
        term: The term.
        totals: Its sums over the micro-batch on all processes.
        size: That of the step, from ``Step.sizes``.
        weight: Of the samples in the micro-batch on all processes.
    """
    if term.is_mean:
        return term.value(torch.stack([totals[0], size]))
    return term.value(totals) * ratio(weight, size)
