"""The one pass over a batch: sums over positions, and the gradient of the logits from the gradient of the sums."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from errors import LoupeError
from losses import native, piecewise
from losses.batch import Batch
from losses.precision import autocast_off
from losses.targets import RangeCheck, weight_bound
from losses.term import Sums, Term

__all__ = ["position_sums"]


def position_sums(batch: Batch, terms: Sequence[Term], range_check: RangeCheck) -> list[Sums]:
    """The sums that the terms ask for, one ``Sums`` each, differentiable once by the logits.

    ``native`` makes the pass where it fits, else ``piecewise`` does. A compiled graph is left for it, and goes on then.
    """
    return (_outside_graphs if torch.compiler.is_compiling() else _position_sums)(batch, terms, range_check)


def _position_sums(batch: Batch, terms: Sequence[Term], range_check: RangeCheck) -> list[Sums]:
    learns = torch.is_grad_enabled() and batch.logits.requires_grad
    found: Any = _PositionSums.apply(batch.logits, batch, terms, range_check, learns)
    counted, *sums = found
    return [Sums(s, counted) for s in sums]


# torch.compiler.disable would do, but imports the compiler at once: a second for everybody who does not compile.
_outside_graphs: Any = torch._disable_dynamo(_position_sums)  # pyright: ignore[reportPrivateUsage]


class _PositionSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, batch: Batch, terms: Sequence[Term], range_check: RangeCheck, learns: bool
    ) -> tuple[Tensor, ...]:
        if native.fits(batch, terms):
            counted, sums, found = native.forward(batch, terms)
            ctx.softmax = None
        else:
            counted, sums, found, ctx.softmax = piecewise.forward(batch, terms, learns=learns)
        if batch.sample_weight is not None and batch.sample_weight.numel():
            found.append(weight_bound(batch.sample_weight, loss=batch.loss))
        range_check(found)
        ctx.facts, ctx.terms = (batch.loss, batch.kind, batch.soft, batch.ignore_index), terms
        ctx.save_for_backward(logits, batch.target, batch.sample_weight)
        ctx.mark_non_differentiable(counted)
        return counted, *sums

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        batch = Batch(*ctx.facts, *ctx.saved_tensors)
        softmax, ctx.softmax = ctx.softmax, None  # a second backward pass has to compute it again
        with torch.no_grad(), autocast_off(batch.logits.device.type):
            largest = torch.finfo(batch.dtype).max
            grad_sums = [g.clamp(-largest, largest).to(batch.dtype) for g in grad_outputs[1:]]
            if softmax is None and native.fits(batch, ctx.terms):
                grad = native.backward(batch, ctx.terms, grad_sums)
            else:
                grad = piecewise.backward(batch, ctx.terms, grad_sums, softmax)
        if torch.is_grad_enabled() and any(g.requires_grad for g in grad_outputs[1:]):
            grad = _OnlyOnce.apply(grad, batch.loss, *grad_outputs[1:])
        return grad, None, None, None, None


class _OnlyOnce(torch.autograd.Function):
    """The gradient as it is, connected to what it depends on, so that a second derivative is refused, not zero."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, loss: str, *grad_sums: Tensor) -> Tensor:
        ctx.loss = loss
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise LoupeError(
            f"{ctx.loss}: the gradient of this loss cannot be differentiated once more; "
            "second derivatives need a loss of plain torch operations"
        )
