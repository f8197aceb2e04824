"""MixUp and CutMix: chosen where samples are drawn, done on the device."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datamodules.options import Augment
from datamodules.sampler import Draw
from errors import LoupeError

__all__ = ["Mixing", "create_mixing", "mix_batch"]

Batch = dict[str, Any]  # of tensors; ``ahead`` holds batches


class Mixing:
    """Decides how each two neighbours of the global batch are mixed: a pure function of seed, epoch and position.

    MixUp (Zhang et al. 2018, section 2) and CutMix (Yun et al. 2019, section 3.1), one of them by lot where both are
    set. A pair is mixed both ways, by one number lam from Beta(alpha, alpha); one without a partner stays as it is.

    Args:
        mixup: alpha, 0 for none.
        cutmix: alpha, 0 for none.
        seed: of the run.
    """

    def __init__(self, mixup: float, cutmix: float, seed: int) -> None:
        self.mixup = mixup
        self.cutmix = cutmix
        self.seed = seed

    def plan(self, draws: Sequence[Draw], size_hw: tuple[int, int]) -> Tensor:
        """(B, 5) float32: the share of the sample itself, and what is taken from the partner, x1, y1, x2, y2 pixels.

        An empty box means MixUp (or nothing, where the share is 1). The partner of sample i is sample i ^ 1.
        """
        plan = torch.zeros(len(draws), 5)
        plan[:, 0] = 1.0
        for first in range(0, len(draws) - 1, 2):
            draw = draws[first]
            rng = np.random.default_rng([self.seed, draw.epoch, draw.position, 2])
            cut = self.cutmix > 0 and (self.mixup == 0 or rng.random() < 0.5)
            alpha = self.cutmix if cut else self.mixup
            share = float(rng.beta(alpha, alpha))
            entry = [share, 0.0, 0.0, 0.0, 0.0]
            if cut:
                box = _box(share, size_hw, rng)
                area = (box[2] - box[0]) * (box[3] - box[1]) / (size_hw[0] * size_hw[1])
                entry = [1.0 - area, *map(float, box)]
            plan[first] = plan[first + 1] = torch.tensor(entry)
        return plan


def create_mixing(augment: Augment, gives: Sequence[str], seed: int) -> Mixing | None:
    """What the settings name; LoupeError where the task's answers cannot be mixed so."""
    for key in ("mixup", "cutmix"):
        alpha = getattr(augment, key)
        if not 0 <= alpha < float("inf"):
            raise LoupeError(
                f"data.augment.{key} is {alpha}; it is the alpha of a Beta distribution, 0 for none"
            )
    if augment.mixup == augment.cutmix == 0:
        return None
    if augment.mixup and "label" not in gives:
        has = (
            "masks are class numbers, of which there is no mean" if "mask" in gives else "boxes have no mean"
        )
        raise LoupeError(f"data.augment.mixup mixes labels; {has}")
    if "box" in gives:
        raise LoupeError(
            "data.augment.cutmix mixes labels or masks; the box of a picture with two parts is undefined"
        )
    return Mixing(augment.mixup, augment.cutmix, seed)


def mix_batch(batch: Batch, num_classes: int) -> Batch:
    """The batch with its `mix` carried out: image, and `label` as probabilities (B, K) or `mask`.

    Where MixUp is among it the images are floats in 0..1 afterwards. The batches in `ahead`, which have no pictures,
    are mixed alike.
    """
    plan = batch["mix"]
    mixed = {key: value for key, value in batch.items() if key != "mix"}
    count = len(plan)
    partner = torch.arange(count, device=plan.device) ^ 1
    partner = torch.where(partner < count, partner, torch.arange(count, device=plan.device))
    share, box = plan[:, 0], plan[:, 1:]
    blends = (box[:, 2] <= box[:, 0]) & (share < 1)
    if "ahead" in batch:
        mixed["ahead"] = [mix_batch(other, num_classes) for other in batch["ahead"]]
    if "image" in batch:
        inside = _inside(box, batch["image"].shape[-2:])
        mixed["image"] = _mix_images(batch["image"], share, inside, partner, blends)
    if "mask" in batch:
        inside = _inside(box, batch["mask"].shape[-2:])
        mixed["mask"] = torch.where(inside, batch["mask"][partner], batch["mask"])
    if "label" in batch:
        label = batch["label"]
        probs = label if label.is_floating_point() else functional.one_hot(label, num_classes).float()
        mixed["label"] = share[:, None] * probs + (1 - share[:, None]) * probs[partner]
    return mixed


def _inside(box: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """The pixels of the boxes (B, 4), x1, y1, x2, y2: (B, H, W) bool."""
    y = torch.arange(size_hw[0], device=box.device)[None, :, None]
    x = torch.arange(size_hw[1], device=box.device)[None, None, :]
    x1, y1, x2, y2 = (box[:, k, None, None] for k in range(4))
    return (x >= x1) & (x < x2) & (y >= y1) & (y < y2)


def _mix_images(image: Tensor, share: Tensor, inside: Tensor, partner: Tensor, blends: Tensor) -> Tensor:
    """CutMix with the partner's pixels inside, and MixUp where a sample blends."""
    image = torch.where(inside[:, None], image[partner], image)
    if not bool(blends.any()):
        return image
    unit = image if image.is_floating_point() else image.to(torch.float32) / 255
    own = torch.where(blends, share, 1.0).view(-1, 1, 1, 1)
    return own * unit + (1 - own) * unit[partner]


def _box(share: float, size_hw: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of about 1 - share of the area, its middle anywhere, cut at the border."""
    height, width = size_hw
    side = np.sqrt(1.0 - share)
    cut_height, cut_width = int(height * side), int(width * side)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    return (
        max(0, x - cut_width // 2),
        max(0, y - cut_height // 2),
        min(width, x + (cut_width + 1) // 2),
        min(height, y + (cut_height + 1) // 2),
    )
