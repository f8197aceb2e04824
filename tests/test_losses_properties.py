"""Rules that hold for every input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from losses import Loss, create_loss

NAMES = ["categorical_crossentropy", "focal", "dice", "dice_ce", "tversky", "label_smoothing", "iou"]
every_loss = pytest.mark.parametrize("name", NAMES)
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Logits (N, C, P) float64 up to 30 in size, classes (N, P), some of them absent, C from 2 to 5."""
    n, c, p = draw(st.integers(1, 3)), draw(st.integers(2, 5)), draw(st.integers(1, 6))
    number = st.floats(-30, 30, allow_subnormal=False)
    values = draw(st.lists(number, min_size=n * c * p, max_size=n * c * p))
    classes = draw(st.lists(st.integers(0, c - 1), min_size=n * p, max_size=n * p))
    return torch.tensor(values, dtype=torch.float64).view(n, c, p), torch.tensor(classes).view(n, p)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@every_loss
@few
@given(batches(), st.floats(-100, 100))
def test_a_common_shift_of_the_logits_changes_nothing(
    name: str, batch: tuple[Tensor, Tensor], shift: float
) -> None:
    x, y = batch
    close(create_loss(name)(x + shift, y), create_loss(name)(x, y))


@every_loss
@few
@given(batches(), st.randoms())
def test_the_order_of_pixels_changes_nothing(name: str, batch: tuple[Tensor, Tensor], random: object) -> None:
    x, y = batch
    order = list(range(x.shape[2]))
    random.shuffle(order)  # type: ignore[attr-defined]
    close(create_loss(name)(x[..., order], y[..., order]), create_loss(name)(x, y))


@every_loss
@few
@given(batches(), st.randoms())
def test_the_names_of_classes_change_nothing(name: str, batch: tuple[Tensor, Tensor], random: object) -> None:
    x, y = batch
    order = list(range(x.shape[1]))
    random.shuffle(order)  # type: ignore[attr-defined]
    new_name = torch.tensor(order).argsort()
    weight = torch.linspace(0.1, 1, x.shape[1], dtype=torch.float64)
    old = create_loss(name, class_weight=weight.tolist())
    new = create_loss(name, class_weight=weight[order].tolist())
    close(new(x[:, order], new_name[y]), old(x, y))


@every_loss
@few
@given(batches(), batches())
def test_ignored_pixels_never_matter(
    name: str, batch: tuple[Tensor, Tensor], more: tuple[Tensor, Tensor]
) -> None:
    x, y = batch
    void = (
        more[0]
        .reshape(-1)[: x.shape[0]]
        .repeat(x.shape[0])[: x.shape[0]]
        .view(-1, 1, 1)
        .expand(-1, x.shape[1], 2)
    )
    loss = create_loss(name, ignore_index=9)
    padded = torch.cat([x, void], 2), torch.cat([y, torch.full((len(y), 2), 9)], 1)
    close(loss(*padded), loss(x, y))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "label_smoothing"])
@few
@given(batches(), st.floats(0.01, 10), st.data())
def test_a_better_prediction_never_costs_more(
    name: str, batch: tuple[Tensor, Tensor], step: float, data: st.DataObject
) -> None:
    x, y = batch
    i, p = data.draw(st.integers(0, len(x) - 1)), data.draw(st.integers(0, x.shape[2] - 1))
    better = x.clone()
    better[i, y[i, p], p] += step
    assert create_loss(name)(better, y) <= create_loss(name)(x, y) + 1e-12


def same(a: Loss, b: Loss, batch: tuple[Tensor, Tensor]) -> None:
    close(a(*batch), b(*batch))


@few
@given(batches(), st.floats(0, 10), st.booleans(), st.sampled_from(["keep", "skip"]))
def test_tversky_contains_dice_and_iou(
    batch: tuple[Tensor, Tensor], s: float, per_image: bool, absent: str
) -> None:
    options = {"per_image": per_image, "absent": absent}
    half = create_loss("tversky", alpha=0.5, beta=0.5, smooth=s, **options)
    same(half, create_loss("dice", smooth=2 * s, **options), batch)
    full = create_loss("tversky", alpha=1.0, beta=1.0, smooth=s, **options)
    same(full, create_loss("iou", smooth=s, **options), batch)


@few
@given(batches())
def test_special_cases_are_what_they_are_called(batch: tuple[Tensor, Tensor]) -> None:
    plain = create_loss("categorical_crossentropy")
    same(create_loss("focal", alpha=None, gamma=0.0), plain, batch)
    same(create_loss("label_smoothing", smoothing=0.0), plain, batch)
    smooth = create_loss("categorical_crossentropy", label_smoothing=0.1)
    same(create_loss("label_smoothing"), smooth, batch)
    same(create_loss("dice_ce", dice_weight=0.0), plain, batch)


@few
@given(batches())
def test_per_image_is_the_mean_over_images(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    for name in ("dice", "iou", "tversky"):
        single = torch.stack([create_loss(name)(x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
        close(create_loss(name, per_image=True)(x, y), single.mean())
