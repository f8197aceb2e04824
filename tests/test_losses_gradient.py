"""The written-out gradient: repeatable, not differentiable; on one pixel and one class; of what has not changed."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor

from errors import LoupeError
from losses import create_loss, native

NAMES = ["categorical_crossentropy", "focal", "dice", "dice_ce", "tversky", "label_smoothing", "iou"]
every_loss = pytest.mark.parametrize("name", NAMES)
compiled_or_not = pytest.mark.parametrize("compiled", [True, False])


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches go through the compiled pass, or, with ``compiled=False``, everything through torch."""
    monkeypatch.setattr(native, "_FEW_POSITIONS", 1)
    if not request.node.callspec.params.get("compiled", True):
        monkeypatch.setattr(native, "available", lambda: False)


def data(*shape: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=g).requires_grad_()
    return logits, torch.randint(0, max(shape[1], 2), (shape[0], *shape[2:]), generator=g)


@every_loss
@compiled_or_not
def test_backward_can_be_repeated(name: str, compiled: bool) -> None:
    logits, target = data(2, 3, 30)
    loss = create_loss(name)(logits, target)
    first = torch.autograd.grad(loss, logits, retain_graph=True)[0].clone()
    second = torch.autograd.grad(loss, logits, retain_graph=True)[0].clone()
    third = torch.autograd.grad(3 * loss, logits)[0]
    torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(third, 3 * first, rtol=1e-5, atol=1e-7)


@every_loss
@compiled_or_not
def test_logits_that_are_used_twice_get_both_gradients(name: str, compiled: bool) -> None:
    logits, target = data(2, 3, 30)
    a, b = create_loss(name), create_loss("dice", smooth=1.0)
    (a(logits, target) + b(logits, target) + logits.square().sum()).backward()
    expected = sum(
        torch.autograd.grad(part, logits)[0]
        for part in (a(logits, target), b(logits, target), logits.square().sum())
    )
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected)


@every_loss
@pytest.mark.parametrize("channels", [1, 3])
@compiled_or_not
def test_a_second_derivative_is_refused_by_name(name: str, channels: int, compiled: bool) -> None:
    logits, target = data(2, channels, 30)
    (grad,) = torch.autograd.grad(create_loss(name)(logits, target), logits, create_graph=True)
    with pytest.raises(LoupeError, match=f"^{name}: .*cannot be differentiated once more"):
        grad.square().sum().backward()


@every_loss
@compiled_or_not
def test_what_changed_before_backward_is_noticed(name: str, compiled: bool) -> None:
    for what in ("logits", "target"):
        leaf, target = data(2, 3, 30)
        logits = leaf * 1
        loss = create_loss(name)(logits, target)
        (logits if what == "logits" else target).zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@every_loss
@compiled_or_not
def test_nothing_is_written_into_what_is_given(name: str, compiled: bool) -> None:
    logits, target = data(2, 3, 30)
    target[0, 0] = 255
    weight = torch.tensor([0.0, 2.0])
    kept = [t.detach().clone() for t in (logits, target, weight)]
    create_loss(name, ignore_index=255)(logits, target, sample_weight=weight).backward()
    for before, now in zip(kept, (logits, target, weight), strict=True):
        assert torch.equal(before, now)


@every_loss
@compiled_or_not
def test_one_pixel_and_one_class(name: str, compiled: bool) -> None:
    for shape in ((1, 2), (1, 3, 1), (1, 3, 1, 1), (2, 2, 1, 5)):
        logits, _ = data(*shape)
        target = torch.ones(shape[0], *shape[2:], dtype=torch.int64)
        loss = create_loss(name)
        value = loss(logits, target)
        (grad,) = torch.autograd.grad(value, logits)
        exact = loss(logits.double(), target)
        torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=1e-6)
        assert grad.isfinite().all()
        better = logits.detach() - 0.01 * grad / grad.abs().max()
        assert loss(better, target) < value


@every_loss
@compiled_or_not
def test_without_gradient_nothing_is_kept(name: str, compiled: bool) -> None:
    logits, target = data(2, 3, 30)
    expected = create_loss(name)(logits, target)
    with torch.no_grad():
        assert torch.equal(create_loss(name)(logits, target), expected)
    with torch.inference_mode():
        assert torch.equal(create_loss(name)(logits * 1, target), expected)
    assert not create_loss(name)(logits.detach(), target).requires_grad


@compiled_or_not
def test_backward_within_autocast_is_not_rounded(compiled: bool) -> None:
    logits, target = data(2, 3, 30)
    expected = torch.autograd.grad(create_loss("dice_ce")(logits, target), logits)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.autograd.grad(create_loss("dice_ce")(logits, target), logits)[0]
    assert torch.equal(found, expected)


@every_loss
@compiled_or_not
def test_the_batch_is_let_go_after_backward(name: str, compiled: bool) -> None:
    leaf, target = data(2, 3, 30)
    logits = leaf * 1
    alive = weakref.ref(logits)
    value = create_loss(name)(logits, target)
    value.backward()
    del logits
    gc.collect()
    assert alive() is None
    assert value.isfinite()


@pytest.mark.parametrize("name", ["categorical_crossentropy", "focal", "dice", "tversky"])
@compiled_or_not
def test_a_class_that_is_ruled_out_is_no_harm(name: str, compiled: bool) -> None:
    logits, target = data(2, 4, 30)
    target = target % 3
    inside = torch.cat([logits[:, :3], torch.full_like(logits[:, :1], -200.0)], 1)
    outside = torch.cat([logits[:, :3], torch.full_like(logits[:, :1], -torch.inf)], 1)
    for dtype in (torch.float32, torch.float64):
        loss = create_loss(name)
        torch.testing.assert_close(loss(outside.to(dtype), target), loss(inside.to(dtype), target))
        (grad,) = torch.autograd.grad(loss(outside.to(dtype), target), logits)
        (expected,) = torch.autograd.grad(loss(inside.to(dtype), target), logits)
        torch.testing.assert_close(grad, expected)


@compiled_or_not
def test_many_classes_keep_the_digits(compiled: bool) -> None:
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        logits, target = 3 * torch.randn(1, 1000, generator=g), torch.randint(0, 1000, (1,), generator=g)
        for loss in (create_loss("focal", alpha=None, gamma=5.0), create_loss("label_smoothing")):
            exact = loss(logits.double(), target).item()
            assert abs(loss(logits, target).item() - exact) <= 1e-6 * max(1.0, abs(exact))
