"""Boundary IoU: against the erosion that the paper's code does, over a data set, with void and padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from torch import Tensor

from metrics import SegmentationScores
from metrics.boundary import boundary_distance, inner_boundary

VOID = 255


def eroded_boundary(mask: np.ndarray, distance: int, void: np.ndarray) -> np.ndarray:
    """`mask_to_boundary` of Cheng et al. 2021: a frame of zeros, ``distance`` erosions by 3 x 3, what is gone.

    Void is taken to be of the class, so that it takes nothing away.
    """
    framed = np.pad(mask | void, 1)
    kept = binary_erosion(framed, np.ones((3, 3)), iterations=distance)[1:-1, 1:-1]
    return mask & ~kept


def slow_boundary_iou(preds: np.ndarray, target: np.ndarray, classes: int) -> list[float]:
    distance = max(1, round(0.02 * np.hypot(*target.shape[1:])))
    both, either = np.zeros(classes), np.zeros(classes)
    for guess, truth in zip(preds, target, strict=True):
        void = truth == VOID
        for number in range(classes):
            first, second = (
                eroded_boundary((map_ == number) & ~void, distance, void) for map_ in (guess, truth)
            )
            both[number] += (first & second).sum()
            either[number] += (first | second).sum()
    with np.errstate(invalid="ignore"):
        return list(both / either)


def blobs(count: int, size_hw: tuple[int, int], classes: int, seed: int) -> Tensor:
    """Maps of coarse patches: large areas, small ones, and some void."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size_hw
    coarse = torch.randint(0, classes, (count, -(-height // 9), -(-width // 13)), generator=generator)
    maps = coarse.repeat_interleave(9, 1).repeat_interleave(13, 2)[:, :height, :width].contiguous()
    maps[torch.rand(maps.shape, generator=generator) < 0.003] = classes - 1
    return maps


@pytest.mark.parametrize(("size_hw", "classes"), [((40, 40), 2), ((97, 61), 4), ((5, 160), 3), ((1, 3), 2)])
@pytest.mark.parametrize("void", [False, True])
def test_as_erosion(size_hw: tuple[int, int], classes: int, void: bool) -> None:
    target, preds = blobs(5, size_hw, classes, 1), blobs(5, size_hw, classes, 2)
    preds[:, : size_hw[0] // 2] = target[:, : size_hw[0] // 2]
    if void:
        target[:, :, -size_hw[1] // 3 :] = VOID
        target[1] = VOID
        target[torch.rand(target.shape, generator=torch.Generator().manual_seed(3)) < 0.02] = VOID
    scores = SegmentationScores(classes + 1)  # one class is absent
    for part in (slice(0, 2), slice(2, 5)):
        scores.update(preds[part], target[part])
    found = scores.compute()
    expected = slow_boundary_iou(preds.numpy(), target.numpy(), classes + 1)
    assert found["boundary_iou_per_class"].tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert np.isnan(expected[-1])
    assert found["boundary_iou"].item() == pytest.approx(np.nanmean(expected))


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 7, 8, 20])
def test_every_width(distance: int) -> None:
    maps = blobs(2, (30, 50), 3, distance)
    nothing = torch.zeros_like(maps, dtype=torch.bool)
    found = inner_boundary(maps, nothing, distance, 3)
    for one, boundary in zip(maps.numpy(), found.numpy(), strict=True):
        expected = sum(eroded_boundary(one == c, distance, np.zeros_like(one, bool)) for c in range(3))
        assert np.array_equal(boundary, expected > 0)


@pytest.mark.parametrize("classes", [253, 254, 300])
def test_many_classes(classes: int) -> None:
    """Numbers up to the last that fits into 8 bits, and beyond."""
    maps = torch.full((1, 12, 12), classes - 1)
    maps[:, :, :6] = classes - 2
    found = inner_boundary(maps, torch.zeros_like(maps, dtype=torch.bool), 1, classes)[0]
    assert found[5].tolist() == [True, *[False] * 4, True, True, *[False] * 4, True]
    assert found[0].all() and found[-1].all()


def test_a_ragged_border_costs_boundary_iou_more_than_iou() -> None:
    target = torch.zeros(1, 100, 100).long()
    target[:, 20:80, 20:80] = 1
    preds = target.clone()
    preds[:, 80:83, 20:80] = 1  # three rows too many, the distance is 3
    assert boundary_distance(100, 100) == 3
    scores = SegmentationScores(2)
    scores.update(preds, target)
    found = scores.compute()
    assert found["iou"].item() == 60 * 60 / (63 * 60)
    # frames of 3 pixels, 684 and 702 of them; the lower bands lie side by side
    assert found["boundary_iou"].item() == (684 - 54 * 3) / (702 + 54 * 3)
    assert found["boundary_iou_per_class"][1] == found["boundary_iou"], (
        "the background is left out of two classes"
    )


def test_padding_samples_count_nothing() -> None:
    target, preds = blobs(3, (40, 40), 3, 4), blobs(3, (40, 40), 3, 5)
    padded, plain = SegmentationScores(3), SegmentationScores(3)
    padded.update(preds, target, torch.tensor([True, False, True]))
    plain.update(preds[[0, 2]], target[[0, 2]])
    assert torch.equal(padded.counts, plain.counts)
