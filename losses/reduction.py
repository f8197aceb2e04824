"""The one reduction: what counts, what it weighs, and how the sums of several processes become one.

Every loss is a function of a few sums. A loss hands over the sums of its own process (``local_sums``), they
are added over all processes here, and the loss turns the total into a number (``value``). So void pixels,
padding samples, weights and DDP are settled in this file and nowhere else.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = [
    "accumulator",
    "counted_positions",
    "global_sum",
    "hide",
    "local_reduction",
    "mean_sums",
    "over_samples",
    "ratio",
]

_local_only: ContextVar[bool] = ContextVar("losses_local_only", default=False)


@contextmanager
def local_reduction() -> Generator[None, None, None]:
    """Within this block a loss sees the samples of its own process only, and starts no communication.

    Needed where not every process evaluates the loss (work on rank 0 alone), which would otherwise wait for
    ever.
    """
    token = _local_only.set(True)
    try:
        yield
    finally:
        _local_only.reset(token)


class _AllReduceSum(torch.autograd.Function):
    """Sum over the processes whose gradient is the local one times the number of processes.

    With ``S = sum_r x_r`` the true gradient is ``sum_r f'(S) dx_r``; DDP averages what the processes
    computed, so each must compute ``world * f'(S) dx_r``. ``f'(S)`` is the same everywhere: backward needs no
    communication.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, world: int) -> Tensor:
        ctx.world = world
        total = x.clone()
        dist.all_reduce(total, op=dist.ReduceOp.SUM)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return grad_outputs[0] * ctx.world, None


def global_sum(*parts: Tensor) -> tuple[Tensor, ...]:
    """Each tensor summed over all processes, in one all-reduce; the tensors themselves in a single process.

    Shapes must be the same on every process; batch sizes need not be, and a batch may be empty. All processes
    have to call it equally often. The gradient is such that DDP's average of the processes' gradients is the
    gradient of the loss on the union of their batches. ``local_reduction()`` switches it off.
    """
    if not (dist.is_available() and dist.is_initialized()) or _local_only.get():
        return parts
    world = dist.get_world_size()
    if world == 1:
        return parts
    flat = torch.cat([part.reshape(-1) for part in parts])
    total: Tensor = _AllReduceSum.apply(flat, world)  # pyright: ignore[reportAssignmentType]
    pieces = total.split([part.numel() for part in parts])
    return tuple(piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True))


def accumulator(device: torch.device) -> torch.dtype:
    """The dtype of sums: float64, in which 2^25 ones still add up, or float32 where the device has no more."""
    return torch.float32 if device.type == "mps" else torch.float64


def counted_positions(
    target: Tensor, ignore_index: int | None, sample_weight: Tensor | None
) -> Tensor | None:
    """True where a position counts, in the shape of ``target``; None if all do (seen on CPU only).

    A sample of weight 0 does not exist: it is treated like an ignored one, so that even NaN logits do no
    harm.
    """
    counted: Tensor | None = None
    if ignore_index is not None and target.dtype != torch.bool:
        counted = target != ignore_index
    if sample_weight is not None:
        exists = (sample_weight != 0).view(-1, *([1] * (target.ndim - 1)))
        counted = exists.expand_as(target) if counted is None else counted & exists
    # Looking is free on CPU and spares two passes; on an accelerator it would wait for the device.
    if counted is not None and counted.device.type == "cpu" and bool(counted.all()):
        return None
    return counted


def hide(x: Tensor, counted: Tensor | None) -> Tensor:
    """``x`` with 0 where a position does not count: neither a NaN there nor its gradient gets through.

    ``counted`` has the shape of ``x``, or lacks its class dimension: x (N, C, P), counted (N, P).
    """
    if counted is None:
        return x
    mask = counted if counted.ndim == x.ndim else counted.unsqueeze(1)
    return torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))


def over_samples(per_sample: Tensor, sample_weight: Tensor | None, dim: int = 0) -> Tensor:
    """Sum over the sample dimension, each sample times its weight (N,)."""
    if sample_weight is not None:
        shape = [1] * per_sample.ndim
        shape[dim] = -1
        per_sample = per_sample * sample_weight.view(shape)
    return per_sample.sum(dim)


def mean_sums(
    loss: Tensor, share: Tensor | None, counted: Tensor | None, sample_weight: Tensor | None
) -> Tensor:
    """The sums of a mean over positions: ``[sum of loss, sum of share]``, to be divided by ``ratio``.

    ``loss`` holds one number a position, (N, P) or (N, C, P), class weights included; ``share`` is what a
    position adds to the divisor (None: 1). Both leave out what does not count and weigh each sample.
    """
    dtype = accumulator(loss.device)
    total = hide(loss, counted).flatten(1).sum(1, dtype=dtype)
    if share is not None:
        size = hide(share, counted).flatten(1).sum(1, dtype=dtype)
    elif counted is not None:
        size = counted.flatten(1).sum(1).to(dtype)
    else:
        size = torch.full_like(total, loss[0].numel() if len(loss) else 0)
    return over_samples(torch.stack([total, size]), sample_weight, dim=1)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """``numerator / denominator``, and 0 with a finite gradient where the denominator is 0."""
    exists = denominator > torch.finfo(denominator.dtype).tiny
    quotient = numerator / torch.where(exists, denominator, torch.ones_like(denominator))
    return torch.where(exists, quotient, torch.zeros_like(quotient))
