"""What all losses share: their common options, the checks, the precision, and the one reduction."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from losses import options
from losses.batch import Batch, prepare
from losses.class_balance import ClassWeight
from losses.position_sums import position_sums
from losses.precision import autocast_off
from losses.reduction import accumulator, global_sum
from losses.targets import RangeCheck
from losses.term import Term

__all__ = ["Loss"]


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
    gradient is written out (see ``Term``) and cannot be differentiated once more: that raises as well.
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

    def forward(self, logits: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        batch = prepare(
            logits,
            target,
            sample_weight,
            loss=self.name,
            multilabel=self.multilabel,
            ignore_index=self.ignore_index,
            probabilities=self.probabilities,
        )
        with autocast_off(batch.logits.device.type):
            weights, terms = zip(*self.terms(batch), strict=True)
            for term in terms:
                term.check(batch)
            if not any(term.per_image for term in terms):
                batch = batch.as_one_sample()
            sums = position_sums(batch, terms, self._range_check)
            totals = global_sum(*[term.local_sums(s, batch) for term, s in zip(terms, sums, strict=True)])
            values = [w * term.value(t) for w, term, t in zip(weights, terms, totals, strict=True)]
            total = torch.stack(values).sum()
            return total.clamp(max=torch.finfo(batch.dtype).max).to(batch.dtype)

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
