"""How much an answer in tiles differs from that for the whole picture."""

from typing import NamedTuple

import torch
from torch import Tensor

from inference.tiles import Tiled

__all__ = ["TileDifference", "tile_difference"]


class TileDifference(NamedTuple):
    """Of all classes and pixels of some pictures.

    Attributes:
        largest: Of the probabilities, in 0..1.
        mean: Likewise.
        changed: The share of pixels whose likeliest class is another one.
    """

    largest: float
    mean: float
    changed: float


@torch.inference_mode()
def tile_difference(tiled: Tiled, image: Tensor) -> TileDifference:
    """What tiles make of pictures (B, C, H, W), against the same network's answer to the whole of them.

    The latter takes the memory that tiles are there to save.
    """
    device = next(tiled.parameters()).device
    whole, joined = (
        tiled.link.probs(answers(image.to(device))).double() for answers in (tiled.response, tiled)
    )
    apart = (whole - joined).abs()
    classes = [(probs > 0.5) if probs.shape[1] == 1 else probs.argmax(1) for probs in (whole, joined)]
    changed = (classes[0] != classes[1]).double().mean()
    return TileDifference(float(apart.max()), float(apart.mean()), float(changed))
