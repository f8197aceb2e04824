"""Losses of a label a picture, which are computed by a way of their own: that of all other batches must agree."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from errors import LoupeError
from losses import CrossEntropyLoss, create_loss, labels

CASES: list[tuple[str, dict[str, Any]]] = [
    ("categorical_crossentropy", {}),
    ("categorical_crossentropy", {"class_weight": [0.2, 1.0, 3.0, 0.0]}),
    ("categorical_crossentropy", {"class_weight": [0.2, 1.0, 3.0, 0.0], "normalization": "count"}),
    ("categorical_crossentropy", {"label_smoothing": 0.2, "class_weight": [0.2, 1.0, 3.0, 0.5]}),
    ("categorical_crossentropy", {"ignore_index": 255}),
    ("categorical_crossentropy", {"ignore_index": -1, "label_smoothing": 0.1}),
    ("label_smoothing", {}),
    ("label_smoothing", {"normalization": "count", "class_weight": [0.2, 1.0, 3.0, 0.5]}),
]
WEIGHTS: dict[str, Any] = {
    "none": None,
    "all": torch.ones(6, dtype=torch.bool),
    "some": torch.tensor([True, True, False, True, False, True]),
    "shares": torch.tensor([0.5, 2.0, 0.0, 1.0, 0.0, 1e-3]),
    "nobody": torch.zeros(6),
}


def _asked(fits: Any, asked: list[bool], short: bool, *what: Any) -> bool:
    asked.append(fits(*what))
    return short and asked[-1]


def _none(*what: Any, **more: Any) -> None:
    """No answer."""


def both(loss: Any, logits: Tensor, target: Tensor, weight: Tensor | None, step: bool) -> list[Tensor]:
    """Value and gradient, here and by the way of all other batches."""
    found: list[Tensor] = []
    for short in (True, False):
        leaf = logits.clone().requires_grad_()
        asked: list[bool] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(labels, "ordinary_mean_cost", _none)
            patch.setattr(labels, "fits", partial(_asked, labels.fits, asked, short))
            given: dict[str, Any] = {"sample_weight": weight}
            if step:
                parts = [(target, weight), (target[:2], None if weight is None else weight[:2])]
                given["step"] = loss.step(logits, parts)
            value = loss(leaf, target, **given)
        assert asked == [True]
        (3.0 * value).backward()
        assert leaf.grad is not None
        found += [value.detach(), leaf.grad]
    return found


@pytest.mark.parametrize("step", [False, True], ids=["batch", "micro-batch"])
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("soft", [False, True], ids=["numbers", "probabilities"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_it_is_what_other_batches_get(
    name: str, options: dict[str, Any], soft: bool, weight: str, step: bool
) -> None:
    if soft and "ignore_index" in options:
        pytest.skip("class probabilities cannot be ignored")
    torch.manual_seed(0)
    loss = create_loss(name, **options)
    logits = torch.randn(6, 4) * 3
    target = torch.tensor([0, 3, 2, 1, 1, options.get("ignore_index", 2)])
    if soft:
        target = torch.rand(6, 4).softmax(1)
    given = WEIGHTS[weight]
    if given is not None and not bool(given.all()):
        logits[2] = torch.nan  # a sample that is not there
    for dtype, tolerance in ((torch.float32, 2e-6), (torch.float64, 1e-12), (torch.bfloat16, 1e-2)):
        value, grad, other_value, other_grad = both(loss, logits.to(dtype), target, given, step)
        assert value.dtype == other_value.dtype and grad.dtype == other_grad.dtype == dtype
        torch.testing.assert_close(value, other_value, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(grad, other_grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weight", ["none", "all"])
@pytest.mark.parametrize("amp", [False, True], ids=["", "autocast"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("categorical_crossentropy", {}),
        ("categorical_crossentropy", {"ignore_index": 9, "label_smoothing": 0.3}),
        ("label_smoothing", {"normalization": "count"}),
    ],
)
def test_nothing_out_of_the_ordinary_is_one_operation(
    name: str, options: dict[str, Any], amp: bool, weight: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    loss, asked = create_loss(name, **options), list[bool]()
    logits, target = (torch.randn(6, 4) * 3).to(dtype), torch.tensor([0, 3, 2, 1, 1, 2])
    leaf = logits.clone().requires_grad_()
    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", enabled=amp):
        patch.setattr(labels, "fits", partial(_asked, labels.fits, asked, True))
        value = loss(leaf, target, sample_weight=WEIGHTS[weight])
    assert asked == []
    (3.0 * value).backward()
    other_value, other_grad = both(loss, logits, target, WEIGHTS[weight], False)[:2]
    assert value.dtype == other_value.dtype and leaf.grad is not None and leaf.grad.dtype == dtype
    tolerance = {torch.float32: 2e-6, torch.float64: 1e-12}.get(dtype, 1e-2)
    torch.testing.assert_close(value.detach(), other_value, rtol=min(tolerance, 2e-6), atol=0)
    torch.testing.assert_close(leaf.grad, other_grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "changed",
    [
        {"target": torch.tensor([0, 4])},
        {"target": torch.tensor([-100, 1])},
        {"target": torch.tensor([0, 1, 1])},
        {"target": torch.tensor([0.0, 1.0])},
        {"target": [0, 1]},
        {"sample_weight": torch.ones(3, dtype=torch.bool)},
        {"sample_weight": torch.tensor([1.0, torch.nan])},
        {"logits": torch.zeros(2, 3, 1)},
        {"logits": torch.zeros(2, 3, dtype=torch.long)},
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any]) -> None:
    given: dict[str, Any] = {"logits": torch.zeros(2, 3), "target": torch.tensor([0, 1]), **changed}
    with pytest.raises(LoupeError, match="categorical_crossentropy"):
        create_loss("categorical_crossentropy")(**given)


def test_a_class_of_its_own_keeps_its_terms() -> None:
    class Twice(CrossEntropyLoss):
        def terms(self, batch: Any) -> Any:
            return [(2 * weight, term) for weight, term in super().terms(batch)]

    logits, target = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    assert Twice()(logits, target).item() == pytest.approx(2 * CrossEntropyLoss()(logits, target).item())


def test_a_logit_that_is_no_number_stays_one() -> None:
    loss = create_loss("categorical_crossentropy")
    assert loss(torch.tensor([[torch.nan, 0.0]]), torch.tensor([1])).isnan()


@pytest.mark.parametrize("far", [50.0, 1e4, 1e38, 3e38])
def test_logits_far_apart_give_numbers(far: float) -> None:
    logits = torch.tensor([[far, -far, 0.0], [-far, far, 0.0]], requires_grad=True)
    value = create_loss("categorical_crossentropy")(logits, torch.tensor([1, 1]))
    value.backward()
    assert bool(value.isfinite()) and logits.grad is not None and bool(logits.grad.isfinite().all())
    assert value.item() == pytest.approx(min(far, torch.finfo(torch.float32).max / 2**21), rel=1e-6)
    assert logits.grad[0, 0] == 0.5, "the class that is far too likely is held back"


def test_a_far_logit_among_many_is_held_back_as_one_alone() -> None:
    logits = torch.zeros(2048, 2)
    logits[7, 0] = 2e32
    target = torch.zeros(2048, dtype=torch.long)
    target[7] = 1
    loss = create_loss("categorical_crossentropy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "ordinary_mean_cost", _none)
        held_back = loss(logits, target)
    assert loss(logits, target) == held_back < 1e29


def test_what_is_refused_elsewhere_is_refused_here() -> None:
    loss = create_loss("categorical_crossentropy")
    with pytest.raises(LoupeError, match="target holds 3, but 3 channels mean classes 0 to 2"):
        loss(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(LoupeError, match="sample_weight holds -1"):
        loss(torch.zeros(2, 3), torch.tensor([0, 1]), sample_weight=torch.tensor([1.0, -1.0]))


def test_it_can_be_differentiated_twice() -> None:
    """Which the losses of other batches refuse."""
    torch.manual_seed(0)
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    loss = create_loss("label_smoothing", class_weight=[1.0, 2.0, 0.5, 1.0])
    assert torch.autograd.gradgradcheck(lambda x: loss(x, torch.tensor([0, 3, 1])), (logits,))


def test_a_batch_without_samples_is_nothing() -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    value = create_loss("categorical_crossentropy")(logits, torch.zeros(0, dtype=torch.int64))
    value.backward()
    assert value.item() == 0.0
