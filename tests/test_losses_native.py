"""The compiled pass of the losses says what torch says, on any layout, and NaN stays NaN."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example as also
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from losses import Loss, create_loss, native

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(
    not native.available() and shutil.which("cc") is None, reason="no C compiler: torch computes the losses"
)

CASES: list[tuple[str, dict[str, Any]]] = [
    ("categorical_crossentropy", {"label_smoothing": 0.2}),
    ("categorical_crossentropy", {"normalization": "count"}),
    ("label_smoothing", {}),
    ("focal", {}),
    ("focal", {"gamma": 0.5, "alpha": [0.1, 0.5, 0.9], "normalization": "positives"}),
    ("focal", {"gamma": 0.0, "alpha": None}),
    ("dice", {"squared": True, "per_image": True, "absent": "skip"}),
    ("dice_ce", {"include_background": False, "label_smoothing": 0.1}),
    ("iou", {"per_image": True}),
    ("tversky", {"gamma": 0.75}),
    (
        "weighted_sum",
        {"losses": [{"type": "dice", "squared": True}, {"type": "iou"}, {"type": "focal", "weight": 2}]},
    ),
]


@pytest.fixture(autouse=True)
def for_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_FEW_POSITIONS", 1)
    monkeypatch.setattr(native, "_FEW_LOGITS", 1)


def both(
    loss: Loss, logits: Tensor, target: Tensor, **more: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Value and gradient, compiled and in torch."""
    x = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    ours = loss(x, target, **more)
    with native.switched_off():
        theirs = loss(x, target, **more)
    return (ours, torch.autograd.grad(ours, x)[0]), (theirs, torch.autograd.grad(theirs, x)[0])


def same(loss: Loss, logits: Tensor, target: Tensor, **more: Tensor) -> None:
    (a, grad_a), (b, grad_b) = both(loss, logits, target, **more)
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    scale = float(grad_b.abs().max()) or 1.0
    tolerance = 1e-5 if logits.dtype == torch.float32 else 1e-2
    torch.testing.assert_close(grad_a, grad_b, rtol=tolerance, atol=tolerance * scale)
    assert grad_a.dtype == logits.dtype


def example(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(shape, generator=g)
    target = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=g)
    target[torch.rand(target.shape, generator=g) < 0.2] = 255
    return logits, target


def test_it_was_built() -> None:
    assert native.available(), "reinstall: pip install -e . (the build, or an older one, is out of date)"


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_torchs(name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    weight = {} if name == "weighted_sum" else {"class_weight": [0.2, 1.0, 3.0]}
    loss = create_loss(name, ignore_index=255, **options, **weight)
    calls: list[int] = []
    run = native.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "forward", lambda *a: calls.append(1) or run(*a))
        for shape in ((2, 3, 7, 9), (3, 3, 64, 64), (2, 3, 200, 200), (40, 3), (1, 3, 1)):
            logits, target = example(*shape)
            same(loss, logits.to(dtype), target)
            weights = torch.linspace(0, 2, shape[0])  # the first sample does not exist
            same(loss, logits.to(dtype), target, sample_weight=weights)
            same(loss, logits.to(dtype), target, sample_weight=weights > 0)
    labels_too = name not in ("categorical_crossentropy", "label_smoothing")  # those go by `labels`
    assert len(calls) >= (
        12 if labels_too else 9
    )  # a batch of which torch made something else would prove nothing


def as_exact_as_torch(loss: Loss, logits: Tensor, target: Tensor) -> None:
    """No farther from the float64 gradient than torch's own float32 is, which is far where logits are saturated."""
    (value, ours), (expected, torchs) = both(loss, logits, target)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)
    exact = both(loss, logits.double(), target)[1][1]
    allowed = 1e-5 * float(exact.abs().max()) + 2 * float((torchs - exact).abs().max())
    allowed += torch.finfo(torch.float32).tiny  # below it float32 has fewer digits, and down to none
    assert float((ours - exact).abs().max()) <= allowed


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(2, 40), st.integers(1, 300)),
    st.sampled_from([1e-3, 1.0, 30.0, 1e4, 1e30]),
    st.sampled_from(["dice_ce", "focal", "label_smoothing", "tversky"]),
    st.integers(0, 99),
)
@also((3, 3, 70), 1e4, "tversky", 3)  # a gradient of 1e-44
def test_any_shape_and_size(shape: tuple[int, int, int], size: float, name: str, seed: int) -> None:
    logits, target = example(*shape, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_FEW_POSITIONS", 1)
        patch.setattr(native, "_FEW_LOGITS", 1)
        as_exact_as_torch(create_loss(name, ignore_index=255), size * logits, target)


def test_layouts_and_target_dtypes() -> None:
    logits, target = example(2, 3, 20, 30)
    loss = create_loss("dice_ce", ignore_index=255, squared=True)
    expected = loss(logits, target)
    odd = torch.zeros(2, 3, 20, 60)[..., ::2].copy_(logits)
    for x in (logits.contiguous(memory_format=torch.channels_last), odd, logits.mT.contiguous().mT):
        for dtype in (torch.uint8, torch.int16, torch.int32, torch.int64):
            same(loss, x, target.to(dtype))
            torch.testing.assert_close(loss(x, target.to(dtype)), expected, rtol=1e-7, atol=0)
        same(loss, x.bfloat16(), target)


def test_the_number_of_threads_changes_no_bit() -> None:
    logits, target = example(2, 5, 300, 300)
    loss, threads = create_loss("dice_ce", ignore_index=255), torch.get_num_threads()
    found: list[tuple[Tensor, Tensor]] = []
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            found.append(both(loss, logits, target)[0])
    finally:
        torch.set_num_threads(threads)
    for value, grad in found:
        assert torch.equal(value, found[0][0])
        assert torch.equal(grad, found[0][1])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_what_is_not_a_number_is_not_hidden(name: str, options: dict[str, Any]) -> None:
    loss = create_loss(name, ignore_index=255, **options)
    for bad in (float("nan"), float("inf")):
        logits, target = example(2, 3, 20)
        logits[1, 1, 3] = bad
        target[1, 3] = 0
        ours, torchs = both(loss, logits, target)
        assert not ours[0].isfinite()
        assert not torchs[0].isfinite()
        target[1, 3] = 255
        assert loss(logits, target).isfinite()
        same(loss, torch.where(logits.isfinite(), logits, 0.0), target)


def test_a_class_that_does_not_exist_is_named() -> None:
    logits, target = example(2, 3, 50)
    for wrong in (3, -1, 2**40, -(2**62)):
        target[1, 7] = wrong
        with pytest.raises(ValueError, match="target holds"):
            create_loss("dice", ignore_index=255)(logits, target)


@pytest.mark.parametrize("whose", ["compiled", "torch"])
@pytest.mark.parametrize("name", ["dice_ce", "focal"])
def test_memory_is_the_gradients_and_little_more(name: str, whose: str) -> None:
    program = f"""
import contextlib, torch
from losses import create_loss, native
torch.set_num_threads(1)
def held(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024
loss = create_loss("{name}")
def step(shape):
    x = torch.randn(shape).requires_grad_()
    y = torch.randint(0, 8, (shape[0], *shape[2:]))
    open("/proc/self/clear_refs", "w").write("5")  # forget the highest so far
    before = held("VmRSS")
    loss(x, y).backward()
    return (held("VmHWM") - before) / (4 * x.numel())
with native.switched_off() if "{whose}" == "torch" else contextlib.nullcontext():
    step((1, 8, 64, 64))
    print(step((4, 8, 512, 512)))
"""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the highest resident size can be reset on Linux only")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 2.2


def test_defaults_of_torch_do_not_matter() -> None:
    logits, target = example(1, 3, 40)
    loss = create_loss("dice_ce", ignore_index=255)
    value, grad = both(loss, logits, target)[0]
    before = torch.get_default_dtype()
    try:
        for dtype in (torch.float64, torch.bfloat16):
            torch.set_default_dtype(dtype)
            again, again_grad = both(loss, logits, target)[0]
            assert torch.equal(again, value)
            assert torch.equal(again_grad, grad)
    finally:
        torch.set_default_dtype(before)
    x = logits.clone().requires_grad_()
    with torch.device("meta"):
        again = loss(x, target)
        (again_grad,) = torch.autograd.grad(again, x)
    assert torch.equal(again_grad, grad)


def test_memory_that_does_not_hold_what_is_meant_is_left_to_torch() -> None:
    logits, target = example(1, 3, 40)
    loss = create_loss("dice", ignore_index=255)
    lazy = torch.complex(torch.zeros_like(logits), -logits).conj().imag
    assert lazy.is_neg()
    torch.testing.assert_close(loss(lazy, target), loss(logits, target))
    zero = torch._efficientzerotensor((1, 3, 40))
    torch.testing.assert_close(loss(zero, target), loss(torch.zeros(1, 3, 40), target))


def test_many_samples_of_few_positions_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(*_: Any) -> Any:
        raise AssertionError

    logits, target = example(300, 500, 16)
    loss = create_loss("dice", ignore_index=255)
    expected = loss(logits.double(), target)
    monkeypatch.setattr(native, "forward", unexpected)  # its sums would be as large as the logits
    torch.testing.assert_close(loss(logits, target).double(), expected, rtol=1e-6, atol=0)
