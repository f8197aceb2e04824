"""A segmenter's answer as a mask of the picture as it was."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_modules.calibration import decide
from lightning_modules.restore import original_strips

__all__ = ["OriginalMask", "original_mask", "two_classes"]


class OriginalMask(NamedTuple):
    """At the size of the upright original.

    Attributes:
        mask: (H0, W0) uint8 class numbers, on the device of the probabilities.
        counts: (K,) int64, how many pixels each class has.
        probs: (K, H0, W0) float16 on the CPU, where they were asked for.
    """

    mask: Tensor
    counts: Tensor
    probs: Tensor | None


def original_mask(
    strips: Iterable[tuple[int, Tensor]],
    batch: Mapping[str, Tensor],
    position: int,
    thresholds: Sequence[float] | None,
    *,
    with_probs: bool = False,
) -> OriginalMask:
    """Restore probabilities and decide, a few rows at a time, so that no (K, H0, W0) floats are ever there.

    Args:
        strips: (top, (K, h, W)) as `original_strips` takes them, of at least two classes.
        batch: With ``size_hw_px``, ``to_original`` and, where not all of the picture was seen, ``window_px``.
        position: Of the sample in the batch.
        thresholds: As ``decide`` takes them.
        with_probs: Also give the probabilities, 2 bytes a class and pixel.
    """
    height, width = batch["size_hw_px"][position].tolist()
    window = batch["window_px"][position].tolist() if "window_px" in batch else None
    mask: Tensor | None = None
    kept: Tensor | None = None
    counts = torch.zeros(0, dtype=torch.int64)
    for top, probs in original_strips(strips, batch["to_original"][position], (height, width), window):
        if mask is None:
            mask = torch.empty((height, width), dtype=torch.uint8, device=probs.device)
            counts = torch.zeros(len(probs), dtype=torch.int64, device=probs.device)
            kept = torch.empty((len(probs), height, width), dtype=torch.float16) if with_probs else None
        rows = slice(top, top + probs.shape[1])
        answer = decide(probs[None] if thresholds is None else probs.log()[None], thresholds)[0]
        mask[rows] = answer
        counts += torch.bincount(answer.flatten(), minlength=len(probs))
        if kept is not None:
            kept[:, rows] = probs
    assert mask is not None, "a picture has rows"
    return OriginalMask(mask, counts, kept)


def two_classes(probs: Tensor) -> Tensor:
    """Probabilities (B, K, H, W); of a single yes or no those of both."""
    return torch.cat([1 - probs, probs], dim=1) if probs.shape[1] == 1 else probs
