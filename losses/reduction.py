"""The one reduction: what counts, what it weighs, and how the sums of several processes become one.

Every loss is a function of a few sums. A term hands over the sums of its own process (``local_sums``), they
are added over all processes here, and the term turns the total into a number (``value``).
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
    "global_sum",
    "hide",
    "local_reduction",
    "over_samples",
    "ratio",
    "stands_alone",
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


def stands_alone() -> bool:
    """Whether the sums of this process are all there is: one process, or ``local_reduction()``."""
    if not (dist.is_available() and dist.is_initialized()):
        return True
    return _local_only.get() or dist.get_world_size() == 1


def global_sum(*parts: Tensor) -> tuple[Tensor, ...]:
    """Each tensor summed over all processes, in one all-reduce; the tensors themselves in a single process.

    Shapes must be the same on every process; batch sizes need not be, and a batch may be empty. All processes
    have to call it equally often. The gradient is such that DDP's average of the processes' gradients is the
    gradient of the loss on the union of their batches. ``local_reduction()`` switches it off.
    """
    if stands_alone():
        return parts
    world = dist.get_world_size()
    flat = torch.cat([part.reshape(-1) for part in parts])
    total: Tensor = _AllReduceSum.apply(flat, world)  # pyright: ignore[reportAssignmentType]
    pieces = total.split([part.numel() for part in parts])
    return tuple(piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True))


def accumulator(device: torch.device) -> torch.dtype:
    """The dtype of sums: float64, in which 2^25 ones still add up, or float32 where the device has no more."""
    return torch.float32 if device.type == "mps" else torch.float64


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


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """``numerator / denominator``, and 0 with a finite gradient where the denominator is 0. NaN stays NaN."""
    nothing = denominator <= torch.finfo(denominator.dtype).tiny  # written so that NaN is not nothing
    quotient = numerator / torch.where(nothing, torch.ones_like(denominator), denominator)
    return torch.where(nothing, torch.zeros_like(quotient), quotient)
