"""The pass over a batch in plain torch, for any device, dtype and kind of target.

It goes piece by piece, so that what is computed on the way stays in the cache and takes little memory. The softmax of
the forward pass, where its dtype and shape are those of the gradient, is kept, in
the memory that the gradient then takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from losses.batch import Batch
from losses.chunk import cut, pieces
from losses.targets import RangeCheck
from losses.term import Term

__all__ = ["Kept", "backward", "forward"]


@dataclass
class Kept:
    """From forward to backward: the softmax, (N, C, P) or None, and for each piece what the terms keep."""

    softmax: Tensor | None = None
    of_terms: list[dict[object, Tensor]] = field(default_factory=list[dict[object, Tensor]])


def forward(
    batch: Batch, terms: Sequence[Term], range_check: RangeCheck, kept: Kept | None
) -> tuple[Tensor, list[Tensor]]:
    """Positions counted, (N, G), and the sums of each term, (S, N, G, K); fills ``kept`` if given."""
    n, groups, dtype, device = len(batch.logits), batch.groups, batch.accumulator, batch.logits.device
    counted = torch.zeros(n, groups, dtype=dtype, device=device)
    sums = [
        torch.zeros(len(term.quantities), n, groups, batch.classes, dtype=dtype, device=device)
        for term in terms
    ]
    softmax = None
    if kept is not None and batch.kind == "multiclass" and batch.logits.dtype == batch.dtype:
        softmax = kept.softmax = torch.softmax(batch.logits, 1)
    for piece in pieces(batch):
        samples = piece[0]
        chunk = cut(batch, piece, softmax=softmax, range_check=range_check)
        if chunk.counted is None:
            counted[samples] += chunk.logits.shape[-1]
        else:
            counted[samples] += chunk.counted.sum(1).view(-1, groups)
        for term, total in zip(terms, sums, strict=True):
            part = term.sums(chunk)
            total[:, samples] += part.view(len(part), -1, groups, batch.classes)
        if kept is not None:
            kept.of_terms.append(chunk.kept)
    return counted, sums


def backward(batch: Batch, terms: Sequence[Term], grad_sums: Sequence[Tensor], kept: Kept) -> Tensor:
    """Gradient of the logits from that of the sums: with q that by log p, ``dx_k = q_k - p_k sum_j q_j``."""
    softmax, kept.softmax = kept.softmax, None  # a second backward pass has to compute it again
    result = torch.empty_like(batch.logits) if softmax is None else softmax
    for piece, of_terms in zip(pieces(batch), kept.of_terms, strict=True):
        samples, positions = piece
        chunk = cut(batch, piece, softmax=softmax)
        chunk.kept = of_terms
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
