"""The fused pass of ``kernels.c`` over a batch, for what it was written for: exclusive classes, on the CPU.

It is compiled at installation where there is a C compiler. Without it, and for everything else, ``position_sums``
computes the same with torch; which of the two is at work shows in the time only.
"""

import ctypes
import importlib.util
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor

from losses.batch import Batch
from losses.chunk import cut, pieces
from losses.targets import Bound
from losses.term import Quantity, Term

__all__ = ["available", "backward", "fits", "forward", "switched_off"]

_VERSION = (
    1  # of the interface, as in kernels.c: an older build, left by an editable installation, is not used
)
_SEGMENT = 2**15  # positions that are added up in one go; part of the result's last digits, so not a setting
_FEW_POSITIONS = 16  # in a sample: below that the tiles are mostly empty, and torch is faster
_FEW_LOGITS = 2**16  # for each thread: starting one takes as long as these

_NOTHING_IGNORED = -(2**63)  # a number that no target holds

_on: ContextVar[bool] = ContextVar("losses_native", default=True)


class _Job(ctypes.Structure):
    """``job`` of kernels.c."""

    _fields_ = [
        ("logits", ctypes.c_void_p),
        ("logits_stride", ctypes.c_int64 * 3),
        ("half", ctypes.c_int64),
        ("target", ctypes.c_void_p),
        ("target_bytes", ctypes.c_int64),
        ("exists", ctypes.c_void_p),
        ("shape", ctypes.c_int64 * 3),
        ("has_ignore", ctypes.c_int64),
        ("ignore", ctypes.c_int64),
        ("wanted", ctypes.c_int64),
        ("gamma", ctypes.c_double),
        ("segment", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("sums", ctypes.c_void_p),
        ("facts", ctypes.c_void_p),
        ("slopes", ctypes.c_void_p),
        ("grad", ctypes.c_void_p),
        ("grad_stride", ctypes.c_int64 * 3),
    ]


@cache
def _library() -> ctypes.CDLL | None:
    found = importlib.util.find_spec("losses.native._kernels")
    if found is None or found.origin is None:
        return None
    try:
        library = ctypes.CDLL(found.origin)
    except OSError:  # built for another system: an installation that was copied
        return None
    library.loupe_losses_version.restype = ctypes.c_int64
    library.loupe_losses_run.restype = ctypes.c_int64
    library.loupe_losses_run.argtypes = [ctypes.POINTER(_Job)]
    return library if library.loupe_losses_version() == _VERSION else None


def available() -> bool:
    """Whether the compiled pass was found."""
    return _library() is not None


@contextmanager
def switched_off() -> Generator[None, None, None]:
    """Within this block torch computes everything, for comparison."""
    token = _on.set(False)
    try:
        yield
    finally:
        _on.reset(token)


def fits(batch: Batch, terms: Sequence[Term]) -> bool:
    """Whether the compiled pass is there and knows this kind of batch and what the terms ask for."""
    return (
        batch.kind == "multiclass"
        and not batch.soft
        and batch.logits.device.type == "cpu"
        and batch.logits.dtype in (torch.float32, torch.bfloat16)
        and _is_plain(batch.logits)
        and _is_plain(batch.target)
        and batch.logits.shape[2] >= _FEW_POSITIONS
        and _sums_are_small(batch)
        and len({term.exponent for term in terms} - {None}) <= 1
        and _on.get()
        and available()
    )


def _is_plain(tensor: Tensor) -> bool:
    """Whether what the tensor means is what lies in its memory: it is no fake, no lazy negative, no lazy zero."""
    return (
        type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_neg() and not tensor._is_zerotensor()  # pyright: ignore[reportPrivateUsage]
    )


def _sums_are_small(batch: Batch) -> bool:
    """They are kept for each sample and segment, which would be much for many samples of few positions."""
    n, classes, _ = batch.logits.shape
    return 8 * n * _segments(batch) * len(Quantity) * classes <= max(2**20, batch.logits.numel() // 2)


def _segments(batch: Batch) -> int:
    return -(-batch.logits.shape[2] // _SEGMENT)


def forward(batch: Batch, terms: Sequence[Term]) -> tuple[Tensor, list[Tensor], list[Bound]]:
    """Positions counted, (N, 1), the sums of each term, (S, N, 1, K), float64, and what must hold of the values."""
    n, classes, _ = batch.logits.shape
    sums = torch.zeros(n, _segments(batch), len(Quantity), classes, dtype=torch.float64, device="cpu")
    facts = torch.zeros(n, _segments(batch), 2, dtype=torch.int64, device="cpu")
    _run(batch, terms, sums=sums, facts=facts)
    counted, unknown = facts.sum(1, keepdim=True).unbind(2)
    found: list[Bound] = []
    if bool(unknown.any()):  # torch finds out what it is
        for piece in pieces(batch):
            cut(batch, piece, found=found)
    by_quantity = sums.sum(1).unsqueeze(2).unbind(1)
    return (
        counted.double(),
        [torch.stack([by_quantity[q.value] for q in term.quantities]) for term in terms],
        found,
    )


def backward(batch: Batch, terms: Sequence[Term], grad_sums: Sequence[Tensor]) -> Tensor:
    """Gradient of the logits from that of the sums."""
    n, classes, _ = batch.logits.shape
    slopes = torch.zeros(len(Quantity), n, classes, dtype=torch.float32, device="cpu")
    for term, grad in zip(terms, grad_sums, strict=True):
        for quantity, g in zip(term.quantities, grad, strict=True):
            slopes[quantity.value] += g[:, 0]
    grad = torch.empty_like(batch.logits)
    if batch.sample_weight is not None:
        grad[batch.sample_weight == 0] = 0
    _run(batch, terms, slopes=slopes, grad=grad)
    return grad


def _run(
    batch: Batch,
    terms: Sequence[Term],
    *,
    sums: Tensor | None = None,
    facts: Tensor | None = None,
    slopes: Tensor | None = None,
    grad: Tensor | None = None,
) -> None:
    library = _library()
    assert library is not None
    target = batch.target.contiguous()
    if target.dtype not in (torch.int64, torch.int32, torch.uint8):
        target = target.long()
    exists = None if batch.sample_weight is None else (batch.sample_weight != 0).contiguous()
    exponents = [term.exponent for term in terms if term.exponent is not None]
    ignore = batch.ignore_index
    job = _Job(
        logits=batch.logits.data_ptr(),
        logits_stride=batch.logits.stride(),
        half=batch.logits.dtype == torch.bfloat16,
        target=target.data_ptr(),
        target_bytes=target.element_size(),
        exists=None if exists is None else exists.data_ptr(),
        shape=tuple(batch.logits.shape),
        has_ignore=ignore is not None,
        ignore=_NOTHING_IGNORED if ignore is None else ignore,
        wanted=sum(1 << q.value for q in {q for term in terms for q in term.quantities}),
        gamma=exponents[0] if exponents else 0.0,
        segment=_SEGMENT,
        threads=max(1, min(torch.get_num_threads(), batch.logits.numel() // _FEW_LOGITS)),
        sums=None if sums is None else sums.data_ptr(),
        facts=None if facts is None else facts.data_ptr(),
        slopes=None if slopes is None else slopes.data_ptr(),
        grad=None if grad is None else grad.data_ptr(),
        grad_stride=batch.logits.stride() if grad is None else grad.stride(),
    )
    if library.loupe_losses_run(ctypes.byref(job)) != 0:
        raise MemoryError(f"{batch.loss}: no memory for the buffers of a thread")
