"""What all losses share: their common options, the checks, the precision, and the one reduction."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from losses import labels, options
from losses.batch import Batch, prepare
from losses.class_balance import ClassWeight
from losses.position_sums import position_sums
from losses.precision import autocast_off
from losses.reduction import accumulator, global_sum
from losses.step import Step, local_sizes, part_of_step, weight_of_samples
from losses.targets import RangeCheck
from losses.term import Term

__all__ = ["Loss"]

#: To ask a loss for its terms where there is no batch.
_NOTHING = Batch("", "multiclass", False, None, torch.zeros(0, 2, 0), torch.zeros(0, 0), None)


class Loss(nn.Module, ABC):
    """A loss from logits and targets to one number.

    ``loss(logits, target, *, sample_weight=None)``: multiclass logits (N, C, *) with C >= 2 and integers (N,
    *); binary logits (N, 1, *) and 0 or 1 in (N, *); with ``multilabel`` 0 or 1 in the shape of the logits.
    ``*`` may be empty. ``sample_weight`` (N,), bool or at least 0, multiplies whatever a sample contributes;
    0 means that the sample does not exist.

    Positions whose target is ``ignore_index`` are absent from every sum and count, whatever their logits, and
    a batch with nothing to count gives exactly 0 with zero gradient. ``class_weight``: one weight for each
    class; with one channel two, negative and positive; with ``multilabel`` one for each channel.

    Computes in float32 (float64 for float64 logits) with autocast off, sums in float64, and returns a float32
    or float64 scalar, finite for finite logits. Under torch.distributed the value and the gradient are those
    of the union of all processes' batches (see ``global_sum``). Raises LoupeError, a ValueError, for a wrong
    shape, dtype or value; how values are checked on a GPU without waiting for it is told at ``RangeCheck``. The
    gradient is written out (see ``Term``) and cannot be differentiated once more: that raises as well (cross entropy of
    a label a sample can be).

    Where the batch of an optimizer step comes in micro-batches, ``loss.step`` looks at the targets of all of them, and
    ``loss(logits, target, step=step)`` is the part of one of them. The parts, and their gradients, add up to the loss
    of the whole batch where ``adds_up`` is true.

    >>> import torch, losses
    >>> logits, target = torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 255, 1])
    >>> loss = losses.create_loss("categorical_crossentropy", ignore_index=255)
    >>> step = loss.step(logits, [(target[:2], None), (target[2:], None)])
    >>> parts = [loss(logits[:2], target[:2], step=step), loss(logits[2:], target[2:], step=step)]
    >>> round(sum(parts).item(), 6), round(loss(logits, target).item(), 6)
    (1.720095, 1.720095)
    """

    name: ClassVar[str]
    probabilities: bool = False  # whether floating point targets, class probabilities, are meaningful

    class_weight: Tensor | None

    def __init__(
        self,
        *,
        ignore_index: int | None = None,
        class_weight: ClassWeight = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        self.ignore_index = options.integer("ignore_index", ignore_index)
        self.multilabel = options.flag("multilabel", multilabel)
        # Not persistent: on resume the configuration decides, not an old checkpoint.
        self.register_buffer("class_weight", options.vector("class_weight", class_weight), persistent=False)
        self._range_check = RangeCheck()

    def forward(
        self, logits: Tensor, target: Tensor, *, sample_weight: Tensor | None = None, step: Step | None = None
    ) -> Tensor:
        one_answer = step is None and not self.multilabel and getattr(logits, "ndim", 0) == 2
        smoothing = self._plain_smoothing() if one_answer else None
        if smoothing is not None:
            cost = labels.ordinary_mean_cost(
                logits, target, sample_weight, smoothing=smoothing, ignore_index=self.ignore_index
            )
            if cost is not None:
                return cost
        batch = self._prepare(logits, target, sample_weight)
        with autocast_off(batch.logits.device.type):
            weights, terms = self._checked_terms(batch)
            if labels.fits(batch, terms) and weights == (1.0,):
                return labels.mean_cost(batch, terms[0], self._range_check, step)
            exist = [] if step is None else [weight_of_samples(batch)]
            if not any(term.per_image for term in terms):
                batch = batch.as_one_sample()
            sums = position_sums(batch, terms, self._range_check)
            local = [term.local_sums(s, batch) for term, s in zip(terms, sums, strict=True)]
            totals = global_sum(*local, *exist)
            if step is None:
                values = [term.value(t) for term, t in zip(terms, totals, strict=True)]
            else:
                parts = zip(terms, totals[:-1], step.sizes, strict=True)
                values = [part_of_step(term, t, size, totals[-1]) for term, t, size in parts]
            total = torch.stack([w * value for w, value in zip(weights, values, strict=True)]).sum()
            return total.clamp(max=torch.finfo(batch.dtype).max).to(batch.dtype)

    def step(self, logits: Tensor, parts: Sequence[tuple[Tensor, Tensor | None]]) -> Step:
        """What the loss must know of an optimizer step before its first micro-batch; one all-reduce.

        Args:
            logits: Those of any of the micro-batches: only their channels, dtype and device matter.
            parts: Target and sample weights of each micro-batch that this process has; at least one.
        """
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        nothing = torch.zeros((), dtype=dtype, device=logits.device)
        sizes: list[Tensor] = []
        with torch.no_grad(), autocast_off(logits.device.type):
            for target, sample_weight in parts:
                positions = target.shape[target.ndim + 2 - logits.ndim :]
                zeros = nothing.expand(len(target), logits.shape[1], *positions)  # takes no memory
                batch = self._prepare(zeros, target, sample_weight)
                _, terms = self._checked_terms(batch)
                if not any(term.per_image for term in terms):
                    batch = batch.as_one_sample()
                sizes.append(local_sizes(batch, terms))
            return Step(*global_sum(torch.stack(sizes).sum(0)))

    @property
    def adds_up(self) -> bool:
        """Whether the parts that micro-batches make (``step``) add up to exactly the loss of the whole batch.

        They do for means over positions or pictures, and do not for a ratio over the batch, such as dice without
        ``per_image``: its parts are the values of the micro-batches, averaged by samples.
        """
        return all(term.is_mean for _, term in self.terms(_NOTHING))

    def _plain_smoothing(self) -> float | None:
        """The label smoothing of a loss that is cross entropy without class weights; None: it is something else."""
        (weight, term), *more = self.terms(_NOTHING)
        return None if more or weight != 1 or term.class_weight is not None else term.label_smoothing

    def _prepare(self, logits: Tensor, target: Tensor, sample_weight: Tensor | None) -> Batch:
        return prepare(
            logits,
            target,
            sample_weight,
            loss=self.name,
            multilabel=self.multilabel,
            ignore_index=self.ignore_index,
            probabilities=self.probabilities,
        )

    def _checked_terms(self, batch: Batch) -> tuple[tuple[float, ...], tuple[Term, ...]]:
        weights, terms = zip(*self.terms(batch), strict=True)
        for term in terms:
            term.check(batch)
        return weights, terms

    @abstractmethod
    def terms(self, batch: Batch) -> list[tuple[float, Term]]:
        """The weighted terms that the loss is the sum of; they share one pass over the batch and one all-reduce."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Loss":
        # Weights follow the module to its device but keep their precision: .bfloat16() would leave 8 bits of
        # them, and float64 has to go before the move where the device has none.
        own = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        self._buffers.update(dict.fromkeys(own))
        super()._apply(fn, recurse)
        for name, buffer in own.items():
            device = fn(torch.empty(0, device=buffer.device)).device
            self._buffers[name] = buffer.to(accumulator(device)).to(device)
        return self
