"""Box losses: values by hand, parity with torchvision where that is right, gradients, what does not count."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import (
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
)

from errors import LoupeError
from losses import BOX_LOSSES, create_box_loss

NAMES = list(BOX_LOSSES)
OVERLAP = ["iou", "giou", "diou", "ciou"]
UNIT = [0.0, 0.0, 1.0, 1.0]


def boxes(*rows: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(rows, dtype=dtype)


def one(name: str, preds: list[float], target: list[float], **options: Any) -> float:
    return create_box_loss(name, **options)(boxes(preds), boxes(target)).item()


def random_boxes(count: int, seed: int, scale: float = 1.0) -> Tensor:
    corner = (
        torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    )
    return torch.cat([corner.amin(1), corner.amax(1) + 0.02 * scale], dim=1)


@pytest.mark.parametrize(
    ("name", "preds", "target", "expected"),
    [
        ("iou", UNIT, UNIT, 0.0),
        ("iou", UNIT, [0.5, 0, 1.5, 1], 1 - 0.5 / 1.5),
        ("iou", UNIT, [2.0, 0, 3, 1], 1.0),
        ("iou", UNIT, [1.0, 0, 2, 1], 1.0),  # they touch
        ("giou", UNIT, [0.5, 0, 1.5, 1], 1 - 0.5 / 1.5),  # the hull is the union
        ("giou", UNIT, [1.0, 1, 2, 2], 1 + 2 / 4),
        ("diou", UNIT, [0.5, 0, 1.5, 1], 1 - 0.5 / 1.5 + 0.25 / (1.5**2 + 1)),
        ("diou", UNIT, [0.25, 0.25, 0.75, 0.75], 0.75),  # one centre
        ("ciou", UNIT, [0.25, 0.25, 0.75, 0.75], 0.75),  # both square
        ("smooth_l1", UNIT, [0.0, 0, 1, 1.05], 0.05**2 / 0.2 / 4),
        ("smooth_l1", UNIT, [0.0, 0, 1, 1.5], (0.5 - 0.05) / 4),
    ],
)
def test_values_worked_out_by_hand(
    name: str, preds: list[float], target: list[float], expected: float
) -> None:
    assert one(name, preds, target) == pytest.approx(expected, abs=1e-12)


def test_ciou_adds_the_aspect_ratio() -> None:
    preds, target = [0.0, 0, 2, 1], [0.0, 0, 1, 2]
    v = 4 / math.pi**2 * (math.atan(0.5) - math.atan(2.0)) ** 2
    iou = 1 / 3
    expected = 1 - iou + 0.5 / 8 + v * v / (1 - iou + v)
    assert one("ciou", preds, target) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("giou", generalized_box_iou_loss),
        ("diou", distance_box_iou_loss),
        ("ciou", complete_box_iou_loss),
    ],
)
def test_as_torchvision_on_boxes_in_pixels(name: str, theirs: Any) -> None:
    preds, target = random_boxes(200, 1, 500), random_boxes(200, 2, 500)
    ours_at, theirs_at = preds.clone().requires_grad_(), preds.clone().requires_grad_()
    ours = create_box_loss(name)(ours_at, target)
    expected = theirs(theirs_at, target, reduction="mean")
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    ours.backward()
    expected.backward()
    torch.testing.assert_close(ours_at.grad, theirs_at.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", OVERLAP)
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e4])
def test_exact_in_any_unit(name: str, scale: float) -> None:
    """torchvision adds 1e-7 to the areas: its loss of two equal boxes of side 1e-4 is 0.9."""
    preds, target = random_boxes(50, 3), random_boxes(50, 4)
    loss = create_box_loss(name)
    torch.testing.assert_close(loss(preds * scale, target * scale), loss(preds, target), rtol=1e-9, atol=0)
    assert loss(target * scale, target * scale).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_value(name: str) -> None:
    target = random_boxes(12, 5)
    loss = create_box_loss(name, confidence_weight=0.7)
    has_box = torch.arange(12) % 3 > 0

    def f(preds: Tensor, confidence: Tensor) -> Tensor:
        return loss(preds, target, has_box=has_box, confidence=confidence)

    preds = random_boxes(12, 6).requires_grad_()
    confidence = torch.linspace(-3, 3, 12, dtype=torch.float64).requires_grad_()
    if name == "ciou":  # alpha is a constant for the gradient, on purpose
        torch.autograd.gradcheck(lambda c: f(preds.detach(), c), (confidence,))
    else:
        torch.autograd.gradcheck(f, (preds, confidence))


DEGENERATE = {
    "apart": ([0.0, 0, 0.1, 0.1], [0.8, 0.8, 0.9, 0.9]),
    "target a point": ([0.2, 0.2, 0.4, 0.4], [0.9, 0.9, 0.9, 0.9]),
    "target a line": ([0.2, 0.2, 0.4, 0.4], [0.5, 0.1, 0.5, 0.9]),
    "prediction a point": ([0.9, 0.9, 0.9, 0.9], [0.2, 0.2, 0.4, 0.4]),
    "point in box": ([0.2, 0.2, 0.4, 0.4], [0.3, 0.35, 0.3, 0.35]),
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_stay_finite_and_pull(name: str, case: str, dtype: torch.dtype) -> None:
    preds, target = DEGENERATE[case]
    at = boxes(preds, dtype=dtype).requires_grad_()
    loss = create_box_loss(name)(at, boxes(target, dtype=dtype))
    loss.backward()
    assert at.grad is not None
    assert bool(torch.isfinite(loss)) and bool(torch.isfinite(at.grad).all())
    # Within a box a target of no area has IoU 0 and the box as hull, wherever it is: GIoU is flat there by definition.
    if name != "iou" and (name, case) != ("giou", "point in box"):
        assert bool((at.grad != 0).any())


@pytest.mark.parametrize("name", NAMES)
def test_two_equal_points_are_finite(name: str) -> None:
    at = boxes([0.5, 0.5, 0.5, 0.5]).requires_grad_()
    loss = create_box_loss(name)(at, boxes([0.5, 0.5, 0.5, 0.5]))
    loss.backward()
    assert bool(torch.isfinite(loss)) and at.grad is not None and bool(torch.isfinite(at.grad).all())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(data=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 8), min_size=1, max_size=6))
def test_any_boxes_give_a_finite_loss_and_gradient(name: str, data: list[tuple[float, ...]]) -> None:
    raw = torch.tensor(data, dtype=torch.float32).view(-1, 2, 2, 2)
    pair = torch.cat([raw.amin(2), raw.amax(2)], dim=2)
    at = pair[:, 0].clone().requires_grad_()
    loss = create_box_loss(name)(at, pair[:, 1])
    loss.backward()
    assert at.grad is not None
    assert bool(torch.isfinite(loss)) and bool(torch.isfinite(at.grad).all())
    assert -1e-6 <= loss.item() <= 4


@pytest.mark.parametrize("name", NAMES)
def test_pictures_without_an_object_train_the_confidence_only(name: str) -> None:
    nan = [math.nan] * 4
    preds = boxes(UNIT, [0.1, 0.1, 0.2, 0.2]).requires_grad_()
    confidence = torch.tensor([2.0, 0.5], dtype=torch.float64, requires_grad=True)
    loss = create_box_loss(name, confidence_weight=0.5)
    has_box = torch.tensor([True, False])
    value = loss(preds, boxes([0.5, 0, 1.5, 1], nan), has_box=has_box, confidence=confidence)
    cross_entropy = (math.log1p(math.exp(-2.0)) + math.log1p(math.exp(0.5))) / 2
    box_term = one(name, UNIT, [0.5, 0, 1.5, 1])
    assert value.item() == pytest.approx(box_term + 0.5 * cross_entropy, rel=1e-12)
    value.backward()
    assert preds.grad is not None and confidence.grad is not None
    assert preds.grad[1].tolist() == [0.0] * 4
    assert bool((confidence.grad != 0).all()) and bool(torch.isfinite(preds.grad).all())


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_repetitions_and_zero_is_absence(name: str) -> None:
    preds, target = random_boxes(3, 7), random_boxes(3, 8)
    confidence = torch.tensor([1.0, -1.0, 0.3], dtype=torch.float64)
    has_box = torch.tensor([True, True, False])
    loss = create_box_loss(name)
    twice = torch.tensor([0, 0, 1, 2])
    repeated = loss(preds[twice], target[twice], has_box=has_box[twice], confidence=confidence[twice])
    weight = torch.tensor([2.0, 1.0, 1.0])
    weighed = loss(preds, target, has_box=has_box, confidence=confidence, sample_weight=weight)
    torch.testing.assert_close(weighed, repeated, rtol=1e-12, atol=0)
    preds[1], confidence[1] = math.nan, math.nan
    absent = loss(
        preds, target, has_box=has_box, confidence=confidence, sample_weight=torch.tensor([True, False, True])
    )
    left = [0, 2]
    alone = loss(preds[left], target[left], has_box=has_box[left], confidence=confidence[left])
    torch.testing.assert_close(absent, alone, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_count_is_exactly_zero(name: str) -> None:
    at = random_boxes(2, 9).requires_grad_()
    confidence = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    loss = create_box_loss(name)
    none = loss(
        at,
        at.detach(),
        has_box=torch.tensor([True, True]),
        confidence=confidence,
        sample_weight=torch.zeros(2),
    )
    none.backward()
    assert none.item() == 0.0
    assert at.grad is not None and not bool(at.grad.any())
    assert confidence.grad is not None and not bool(confidence.grad.any())
    assert loss(at, at.detach(), has_box=torch.tensor([False, False])).item() == 0.0
    assert loss(torch.zeros(0, 4), torch.zeros(0, 4)).item() == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_computes_in_float32(name: str) -> None:
    preds, target = random_boxes(8, 10).bfloat16(), random_boxes(8, 11).bfloat16()
    loss = create_box_loss(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(preds, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(preds.float(), target.float()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"box": torch.zeros(2, 5)}, r"must both be \(N, 4\)"),
        ({"target": torch.zeros(1, 4)}, r"must both be \(N, 4\)"),
        ({"target": torch.zeros(2, 4, dtype=torch.int64)}, r"floating point"),
        ({"has_box": torch.tensor([1, 0])}, r"has_box must be bool"),
        ({"has_box": torch.tensor([True])}, r"has_box must hold one value a sample, \(2,\)"),
        ({"confidence": torch.zeros(2, 1)}, r"confidence must hold one value a sample"),
        ({"confidence": torch.tensor([1, 0])}, r"must be logits"),
        ({"sample_weight": torch.tensor([1.0, -1.0])}, r"sample_weight holds -1"),
        ({"box": boxes([1.0, 0, 0, 1], UNIT)}, r"a predicted box is inverted, .* is -1"),
        ({"target": boxes(UNIT, [0.0, 1, 1, 0.5])}, r"a true box is inverted, .* is -0.5"),
        ({"box": boxes([math.nan, 0, 1, 1], UNIT)}, r"a predicted box is inverted"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Tensor], message: str) -> None:
    given = {"box": boxes(UNIT, UNIT), "target": boxes(UNIT, UNIT), **arguments}
    with pytest.raises(LoupeError, match=message):
        create_box_loss("giou")(given.pop("box"), given.pop("target"), **given)


def test_names_and_options() -> None:
    with pytest.raises(LoupeError, match=r"unknown box loss 'dice'; valid: iou, giou, diou, ciou, smooth_l1"):
        create_box_loss("dice")
    with pytest.raises(LoupeError, match=r"confidence_weight is -1"):
        create_box_loss("iou", confidence_weight=-1)
    with pytest.raises(LoupeError, match=r"box loss 'iou' has no option 'beta'; it has: confidence_weight"):
        create_box_loss("iou", beta=1)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_on_cuda_as_on_the_cpu(name: str) -> None:
    preds, target = random_boxes(16, 12).float(), random_boxes(16, 13).float()
    confidence, has_box = torch.linspace(-2, 2, 16), torch.arange(16) % 3 > 0
    loss = create_box_loss(name)
    found = loss(preds.cuda(), target.cuda(), has_box=has_box.cuda(), confidence=confidence.cuda())
    expected = loss(preds, target, has_box=has_box, confidence=confidence)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-6)
