"""The pass over a batch in plain torch, for any device, dtype and kind of target.

It goes piece by piece, so that what is computed on the way stays in the cache and takes little memory. The softmax of
the forward pass, where its dtype and shape are those of the gradient, lies in the memory that the gradient then takes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.batch import Batch
from losses.chunk import Chunk, cut, pieces
from losses.targets import Bound
from losses.term import Term

__all__ = ["backward", "forward", "masses"]


def forward(
    batch: Batch, terms: Sequence[Term], *, learns: bool
) -> tuple[Tensor, list[Tensor], list[Bound], Tensor | None]:
    """Positions counted, (N, G), the sums of each term, (S, N, G, K), what must hold of the values, and the softmax.

    The softmax, (N, C, P), is for ``backward``, which takes its memory; None where it is of no use there.
    """
    n, groups, dtype, device = len(batch.logits), batch.groups, batch.accumulator, batch.logits.device
    counted = torch.zeros(n, groups, dtype=dtype, device=device)
    sums = [
        torch.zeros(len(term.quantities), n, groups, batch.classes, dtype=dtype, device=device)
        for term in terms
    ]
    keeps = learns and batch.kind == "multiclass" and batch.logits.dtype == batch.dtype
    softmax = torch.softmax(batch.logits, 1) if keeps else None
    found: list[Bound] = []
    for piece in pieces(batch):
        samples = piece[0]
        chunk = cut(batch, piece, softmax=softmax, found=found)
        counted[samples] += _count(chunk, groups)
        for term, total in zip(terms, sums, strict=True):
            part = term.sums(chunk)
            total[:, samples] += part.view(len(part), -1, groups, batch.classes)
    return counted, sums, found, softmax


def masses(batch: Batch) -> tuple[Tensor, Tensor]:
    """Positions counted, (N, G), and the mass of each class, (N, G, K): what the targets alone tell."""
    n, groups, dtype, device = len(batch.logits), batch.groups, batch.accumulator, batch.logits.device
    counted = torch.zeros(n, groups, dtype=dtype, device=device)
    mass = torch.zeros(n, groups, batch.classes, dtype=dtype, device=device)
    for piece in pieces(batch):
        chunk = cut(batch, piece)
        counted[piece[0]] += _count(chunk, groups)
        mass[piece[0]] += chunk.mass_sums.view(-1, groups, batch.classes)
    return counted, mass


def _count(chunk: Chunk, groups: int) -> Tensor | int:
    """How many positions of each row count, (N, G), or a number that holds for all."""
    return chunk.logits.shape[-1] if chunk.counted is None else chunk.counted.sum(1).view(-1, groups)


def backward(
    batch: Batch, terms: Sequence[Term], grad_sums: Sequence[Tensor], softmax: Tensor | None
) -> Tensor:
    """Gradient of the logits from that of the sums: with q that by log p, ``dx_k = q_k - p_k sum_j q_j``."""
    result = torch.empty_like(batch.logits) if softmax is None else softmax
    for piece in pieces(batch):
        samples, positions = piece
        chunk = cut(batch, piece, softmax=softmax)
        slopes: Tensor | None = None
        for term, grad in zip(terms, grad_sums, strict=True):
            more = term.slopes(chunk, grad[:, samples].flatten(1, 2))
            slopes = more if slopes is None else slopes.add_(more)
        assert slopes is not None
        total = slopes.sum(1, keepdim=True)
        here = result[samples, :, positions]
        if batch.kind == "multiclass":
            here.copy_(slopes.addcmul_(chunk.probs, total, value=-1))
        else:  # negative and positive of one channel: its logit is the positive one's
            here.copy_(torch.addcmul(slopes[:, 1:], chunk.probs[:, 1:], total, value=-1).view(here.shape))
    return result
