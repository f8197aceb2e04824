"""What all losses share: their common options, the checks, the precision, and the one reduction."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from errors import LoupeError
from losses import options
from losses.batch import Batch, prepare
from losses.reduction import accumulator, global_sum
from losses.targets import RangeCheck

__all__ = ["Loss", "autocast_off", "check_length"]


class Loss(nn.Module):
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
    shape, dtype or value; how values are checked on a GPU without waiting for it is told at ``RangeCheck``.
    """

    name: ClassVar[str]
    probabilities: bool = False  # whether floating point targets, class probabilities, are meaningful

    class_weight: Tensor | None

    def __init__(
        self,
        *,
        ignore_index: int | None = None,
        class_weight: list[float] | None = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        self.ignore_index = options.integer("ignore_index", ignore_index)
        self.multilabel = options.flag("multilabel", multilabel)
        # Not persistent: on resume the configuration decides, not an old checkpoint.
        self.register_buffer("class_weight", options.vector("class_weight", class_weight), persistent=False)
        self._range_check = RangeCheck()

    def forward(self, logits: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        with autocast_off(logits.device.type):
            batch = prepare(
                logits,
                target,
                sample_weight,
                loss=self.name,
                multilabel=self.multilabel,
                ignore_index=self.ignore_index,
                probabilities=self.probabilities,
                range_check=self._range_check,
            )
            self.check(batch)
            parts = self.parts()
            sums = global_sum(*[part.local_sums(batch) for _, part in parts])
            values = [weight * part.value(s) for (weight, part), s in zip(parts, sums, strict=True)]
            total = torch.stack(values).sum()
            return total.clamp(max=torch.finfo(batch.logits.dtype).max).to(batch.logits.dtype)

    def parts(self) -> list[tuple[float, "Loss"]]:
        """The weighted terms of this loss, which share one preparation, one softmax and one all-reduce."""
        return [(1.0, self)]

    def check(self, batch: Batch) -> None:
        """Raise if the options do not fit the batch, which is known only once the number of channels is."""
        need = 2 if batch.kind == "binary" else batch.channels
        check_length(self.name, "class_weight", self.class_weight, need, batch)

    def local_sums(self, batch: Batch) -> Tensor:
        """The sums over this process's batch that make up the loss, in the same shape on every process."""
        raise NotImplementedError

    def value(self, sums: Tensor) -> Tensor:
        """The loss, a scalar, from the sums over all processes."""
        raise NotImplementedError

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


def check_length(loss: str, option: str, values: Tensor | None, need: int, batch: Batch) -> None:
    """Raise if a vector does not have one value for each class."""
    if values is not None and values.ndim and len(values) != need:
        what = {"binary": " (one channel: negative, positive)", "multilabel": " (one for each label)"}
        raise LoupeError(
            f"{loss}: {option} has {len(values)} values, {need} are needed{what.get(batch.kind, '')}"
        )


def autocast_off(device_type: str) -> AbstractContextManager[Any]:
    """No autocast on this kind of device."""
    # is_autocast_available() would ask the same, but breaks the compiled graph on torch 2.8.
    if device_type != "meta":
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
