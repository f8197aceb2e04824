"""Losses on what real training throws at them: nothing to count, NaN, huge logits, odd memory, and mistakes."""

from __future__ import annotations

import copy
import inspect
import pickle
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from errors import LoupeError
from losses import LOSSES, Loss, create_loss, native
from losses.targets import RangeCheck

NAMES = ["categorical_crossentropy", "focal", "dice", "dice_ce", "tversky", "label_smoothing", "iou"]
CROSS_ENTROPIES = ["categorical_crossentropy", "label_smoothing", "focal"]
RATIOS = ["dice", "tversky", "iou"]
every_loss = pytest.mark.parametrize("name", NAMES)


def data(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shape = shape or (2, 3, 4, 5)
    return torch.randn(shape, generator=g), torch.randint(
        0, max(shape[1], 2), (shape[0], *shape[2:]), generator=g
    )


def run(loss: Loss, logits: Tensor, target: Tensor, **more: Tensor) -> tuple[Tensor, Tensor]:
    x = logits.detach().clone().requires_grad_()
    value = loss(x, target, **more)
    value.backward()
    assert x.grad is not None
    return value.detach(), x.grad


@every_loss
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "options", [{}, {"per_image": True}, {"absent": "skip", "smooth": 0.0}, {"normalization": "weights"}]
)
def test_nothing_to_count_is_exactly_zero(name: str, channels: int, options: dict[str, Any]) -> None:
    options = {k: v for k, v in options.items() if k in inspect.signature(LOSSES[name].__init__).parameters}
    loss = create_loss(name, ignore_index=255, **options)
    logits, target = data(2, channels, 4)
    weights = torch.zeros(2)
    empty = torch.zeros(0, channels, 4), torch.zeros(0, 4, dtype=torch.int64)
    for value, grad in (
        run(loss, logits, torch.full_like(target, 255)),
        run(loss, torch.full_like(logits, float("nan")), torch.full_like(target, 255)),
        run(loss, logits, target, sample_weight=weights),
        run(loss, *empty),
        run(loss, torch.zeros(2, channels, 0), torch.zeros(2, 0, dtype=torch.int64)),
    ):
        assert value.item() == 0
        assert not grad.any()


@every_loss
@pytest.mark.parametrize("ignore", [255, -100, 1])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_logits_at_ignored_positions_change_nothing(name: str, ignore: int, bad: float) -> None:
    loss = create_loss(name, ignore_index=ignore)
    logits, target = data()
    target[:, ::2] = ignore
    expected = run(loss, logits, target)
    spoilt = torch.where((target == ignore).unsqueeze(1), bad, logits)
    value, grad = run(loss, spoilt, target)
    assert value == expected[0]
    assert torch.equal(grad, expected[1])
    assert not grad[:, :, ::2].any()


@every_loss
@pytest.mark.parametrize("per_image", [False, True])
def test_a_sample_of_weight_zero_does_not_exist(name: str, per_image: bool) -> None:
    options = {"per_image": per_image} if name in (*RATIOS, "dice_ce") else {}
    loss = create_loss(name, **options)
    logits, target = data(3, 3, 4)
    spoilt = logits.clone()
    spoilt[1] = float("nan")
    target[1] = 77
    keep = torch.tensor([True, False, True])
    value, grad = run(loss, spoilt, target, sample_weight=keep)
    expected, expected_grad = run(loss, logits[keep], target[keep])
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grad[keep], expected_grad)
    assert not grad[1].any()
    scaled = run(loss, spoilt, target, sample_weight=4.0 * keep)[
        0
    ]  # a common factor cancels, but for dice's smooth
    torch.testing.assert_close(scaled, expected, rtol=1e-4, atol=0)


@every_loss
def test_a_weight_of_two_is_the_sample_twice(name: str) -> None:
    loss = create_loss(name)
    logits, target = data(2, 3, 4)
    twice = torch.tensor([0, 1, 1])
    torch.testing.assert_close(
        loss(logits, target, sample_weight=torch.tensor([1, 2])), loss(logits[twice], target[twice])
    )


@every_loss
def test_memory_layout_does_not_matter(name: str) -> None:
    loss = create_loss(name, ignore_index=2)
    logits, target = data(2, 3, 4, 6)
    expected = loss(logits, target)
    layouts = [
        (logits.contiguous(memory_format=torch.channels_last), target),
        (logits.transpose(2, 3).contiguous().transpose(2, 3), target.mT.contiguous().mT),
        (torch.stack([logits, logits], -1)[..., 0], torch.stack([target, target], -1)[..., 1]),
        (logits.repeat_interleave(2, 3)[..., ::2], target),
        (logits.reshape(2, 3, 24), target.reshape(2, 24)),
        (logits.movedim(1, -1).reshape(-1, 3), target.reshape(-1)),
        (logits.reshape(2, 3, 2, 3, 4), target.to(torch.uint8).reshape(2, 2, 3, 4)),
    ]
    for x, y in layouts:
        torch.testing.assert_close(loss(x, y), expected, rtol=1e-6, atol=0)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3])
def test_half_precision_is_finite_and_right(name: str, dtype: torch.dtype, channels: int) -> None:
    logits, target = data(2, channels, 64, 64)
    for scale in (1.0, 1e4):
        half = (logits.clamp(-1, 1) * scale).to(dtype)
        loss = create_loss(name)
        value, grad = run(loss, half, target)
        assert value.dtype == torch.float32
        assert grad.dtype == dtype
        torch.testing.assert_close(value, run(loss, half.float(), target)[0], rtol=1e-6, atol=1e-6)
        assert value.isfinite()
        assert grad.isfinite().all()


@every_loss
@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("size", [1e4, 1e30, torch.finfo(torch.float32).max])
@pytest.mark.parametrize("multilabel", [False, True])
def test_saturated_logits_are_finite(name: str, gamma: float, size: float, multilabel: bool) -> None:
    options: dict[str, Any] = {"class_weight": [1.0, 0.0, 3.0]}
    if name == "focal" or (name == "tversky" and gamma):
        options["gamma"] = gamma
    elif gamma:
        return
    x = size * torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])
    for c in range(3):
        y = torch.full((4,), c)
        targets = [torch.nn.functional.one_hot(y, 3)] if multilabel else [y]
        if name in CROSS_ENTROPIES:
            targets.append(torch.nn.functional.one_hot(y, 3).float())
        for target in targets:
            value, grad = run(create_loss(name, **options, multilabel=multilabel), x, target)
            assert value.isfinite()
            assert grad.isfinite().all()


@every_loss
def test_autocast_changes_nothing(name: str) -> None:
    logits, target = data()
    loss = create_loss(name, class_weight=[0.1, 0.7, 0.9])
    expected = loss(logits, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(logits, target), expected)


@pytest.mark.parametrize("name", ["categorical_crossentropy", "dice"])
@pytest.mark.parametrize("compiled", [True, False])
def test_sums_over_many_pixels_keep_their_digits(name: str, compiled: bool) -> None:
    # Float32 counters stop at 2^24. Two classes, p = 0.75 for the true one everywhere.
    n = 2**25
    logits = torch.tensor([0.0, 1.0986122886681098]).view(1, 2, 1).expand(1, 2, n)
    target = torch.ones((), dtype=torch.uint8).expand(1, n)
    expected = {"categorical_crossentropy": 0.2876820724517809, "dice": (1 + (1 - 2 * 0.75 / 1.75)) / 2}[name]
    with nullcontext() if compiled else native.switched_off():
        assert create_loss(name)(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_an_absent_class_is_kept_or_skipped() -> None:
    logits = torch.zeros(1, 3, 2)  # p = 1/3
    target = torch.tensor([[0, 1]])
    present, absent = 1 - (2 / 3) / (2 / 3 + 1), 1.0
    kept = create_loss("dice", smooth=0.0)(logits, target)
    assert kept.item() == pytest.approx((2 * present + absent) / 3)
    assert create_loss("dice", smooth=0.0, absent="skip")(logits, target).item() == pytest.approx(present)
    assert create_loss("dice", absent="skip")(torch.zeros(1, 1, 2), torch.zeros(1, 2).long()).item() == 0


def test_a_perfect_prediction_costs_nothing() -> None:
    target = torch.tensor([[0, 1, 2, 1]])
    logits = 1000.0 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1)
    for name in NAMES:
        options: dict[str, Any] = {"smoothing": 0.0} if name == "label_smoothing" else {}
        options |= {"gamma": 0.5} if name == "tversky" else {}
        value, grad = run(create_loss(name, **options), logits, target)
        assert value.item() == 0
        assert grad.isfinite().all()


WRONG: list[tuple[str, Any, Any]] = [
    ("must have shape", torch.zeros(2, 3, 4), torch.zeros(2, 1).long()),  # would broadcast
    ("must have shape", torch.zeros(2, 3, 4), torch.zeros(2, 1, 4).long()),
    ("multilabel=True", torch.zeros(2, 3, 4), torch.zeros(2, 3, 4).long()),
    ("squeeze", torch.zeros(2, 1, 4), torch.zeros(2, 1, 4).long()),
    ("holds 3", torch.zeros(2, 3), torch.tensor([3, 0])),
    ("holds -1", torch.zeros(2, 3), torch.tensor([-1, 0])),
    ("one channel", torch.zeros(2, 1), torch.tensor([2, 0])),
    ("floating point", torch.zeros(2, 3).long(), torch.tensor([1, 0])),
    ("booleans", torch.zeros(2, 3), torch.tensor([True, False])),
    ("C channels", torch.zeros(3), torch.tensor([1, 0, 1])),
    ("float32", torch.zeros(2, 3, 4), torch.zeros(2, 4)),
]


@every_loss
@pytest.mark.parametrize(("message", "logits", "target"), WRONG)
def test_what_does_not_fit_is_refused(name: str, message: str, logits: Tensor, target: Tensor) -> None:
    with pytest.raises(ValueError, match=message) as error:
        create_loss(name)(logits, target)
    assert isinstance(error.value, LoupeError)
    assert name in str(error.value)


@every_loss
def test_sample_weights_are_checked(name: str) -> None:
    logits, target = data(2, 3)
    for weight in (
        torch.ones(1),
        torch.ones(2, 1),
        torch.tensor([1.0, -1.0]),
        torch.tensor([1.0, float("nan")]),
    ):
        with pytest.raises(LoupeError, match="sample_weight"):
            create_loss(name)(logits, target, sample_weight=weight)


def test_class_probabilities_where_they_have_a_meaning() -> None:
    logits, soft = torch.zeros(2, 3), torch.full((2, 3), 1 / 3)
    for name in ("dice", "dice_ce", "tversky", "iou"):
        with pytest.raises(LoupeError, match="not class probabilities"):
            create_loss(name)(logits, soft)
        labels = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])  # 0 and 1 as float are how labels travel
        loss = create_loss(name, multilabel=True)
        assert loss(logits, labels) == loss(logits, labels.long())
        with pytest.raises(LoupeError, match="in between"):
            loss(logits, soft)
    for name in CROSS_ENTROPIES:
        loss = create_loss(name)
        with pytest.raises(LoupeError, match="add up to 2"):
            loss(logits, torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
        with pytest.raises(LoupeError, match="from 0 to 1"):
            loss(logits, torch.tensor([[1.5, -0.5, 0.0], [1.0, 0.0, 0.0]]))
        with pytest.raises(LoupeError, match="from 0 to 1"):
            loss(logits, torch.full((2, 3), float("nan")))
        with pytest.raises(LoupeError, match="cannot mark"):
            create_loss(name, ignore_index=255)(logits, soft)
        soft[1] = 9  # a padding sample may hold anything
        assert loss(logits, soft, sample_weight=torch.tensor([1, 0])).isfinite()
        soft[1] = 1 / 3


BAD_OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("dice", {"gamma": 2.0}, "loss 'dice' has no option 'gamma'; it has: smooth, squared, per_image"),
    ("iou", {"squared": True}, "no option 'squared'"),
    ("label_smoothing", {"label_smoothing": 0.1}, "did you mean 'smoothing'"),
    ("dise", {}, "did you mean 'dice'"),
    ("focal", {"gamma": -1}, "gamma is -1; valid: a number of at least 0"),
    ("focal", {"gamma": "2"}, "gamma is '2'"),
    ("focal", {"alpha": [0.1, -1]}, r"alpha\[1\]"),
    ("focal", {"normalization": "sum"}, "unknown normalization 'sum'"),
    ("dice", {"absent": "drop"}, "valid: keep, skip"),
    ("dice", {"smooth": float("nan")}, "smooth is nan"),
    ("dice", {"per_image": 1}, "true or false"),
    ("dice", {"ignore_index": 2.5}, "an integer or null"),
    ("dice", {"class_weight": []}, "one number for each class"),
    ("dice", {"class_weight": [0.0, 0.0]}, "at least one class"),
    ("tversky", {"gamma": 0}, "a number above 0"),
    ("tversky", {"alpha": 0, "beta": 0}, "both 0"),
    ("dice_ce", {"dice_weight": 0, "ce_weight": 0}, "both 0"),
    ("categorical_crossentropy", {"label_smoothing": 1.5}, "a number from 0 to 1"),
    ("weighted_sum", {}, "needs losses"),
    ("weighted_sum", {"losses": [{"weight": 1.0}]}, r"losses\[0\].type"),
    ("weighted_sum", {"losses": [{"type": "dice", "weight": 0}]}, r"losses\[0\].weight"),
    ("weighted_sum", {"losses": [{"type": "dice", "ignore_index": 1}]}, "beside losses"),
    ("weighted_sum", {"losses": "dice"}, "losses is 'dice'; valid: a list"),
    ("weighted_sum", {"losses": [3]}, "valid: a list"),
    ("weighted_sum", {"losses": {"type": "dice"}}, "valid: a list"),
    ("dice", {"ignore_index": 2**64 + 1}, "64-bit"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD_OPTIONS)
def test_a_wrong_option_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        create_loss(name, **options)


def test_options_that_do_not_fit_the_number_of_channels_are_named() -> None:
    y = torch.tensor([0, 1])
    cases = [
        ("dice", {"class_weight": [1.0, 2.0]}, 3, "class_weight has 2 values, 3 are needed"),
        ("focal", {"alpha": [1.0, 2.0]}, 3, "alpha has 2 values, 3 are needed"),
        ("categorical_crossentropy", {"class_weight": [1.0]}, 1, "negative, positive"),
        ("iou", {"class_weight": [1.0, 2.0]}, 1, "class_weight has no effect"),
        ("dice_ce", {"include_background": False}, 1, "include_background=False needs"),
        ("dice_ce", {"ce_weight": 0.0, "class_weight": [1.0, 5.0]}, 1, "class_weight has no effect"),
        ("focal", {"alpha": 2.0}, 1, "1 - alpha"),
    ]
    for name, options, channels, message in cases:
        with pytest.raises(LoupeError, match=message):
            create_loss(name, **options)(torch.zeros(2, channels), y)


def test_options_can_be_discovered() -> None:
    assert set(NAMES) <= set(LOSSES)
    for name, kind in LOSSES.items():
        parameters = dict(inspect.signature(kind.__init__).parameters)
        parameters.pop("self")
        assert {"ignore_index", "multilabel"} <= set(parameters)
        for parameter in parameters.values():
            assert parameter.kind is parameter.KEYWORD_ONLY
            assert parameter.annotation is not parameter.empty
            assert not isinstance(parameter.annotation, str)
        if name != "weighted_sum":
            create_loss(name, **{key: p.default for key, p in parameters.items()})
    defaults = {key: p.default for key, p in inspect.signature(LOSSES["tversky"].__init__).parameters.items()}
    assert (defaults["alpha"], defaults["beta"], defaults["gamma"], defaults["smooth"]) == (
        0.3,
        0.7,
        1.0,
        1e-5,
    )


@pytest.mark.parametrize("name", ["focal", "dice_ce", "tversky"])
def test_weights_are_a_buffer_that_keeps_its_precision(name: str) -> None:
    weight = [0.1, 0.7, 0.9]
    loss = create_loss(name, class_weight=torch.tensor(weight, dtype=torch.float64))
    logits, target = data()
    expected = create_loss(name, class_weight=weight)(logits.double(), target)
    assert "class_weight" in dict(loss.named_buffers())
    assert not loss.state_dict()  # on resume the configuration decides
    for moved in (
        loss.bfloat16(),
        loss.to("cpu", torch.float16),
        copy.deepcopy(loss),
        pickle.loads(pickle.dumps(loss)),
    ):
        assert torch.equal(moved(logits.double(), target), expected)
    assert loss.to("meta").class_weight is not None
    assert loss.class_weight is not None
    assert loss.class_weight.device.type == "meta"


def test_compiled_is_the_same() -> None:
    logits, target = data()
    for name in ("dice_ce", "focal"):
        loss = create_loss(name, ignore_index=1)
        compiled = torch.compile(loss, backend="eager")
        torch.testing.assert_close(compiled(logits, target), loss(logits, target))


@pytest.mark.gpu
@every_loss
def test_on_a_gpu(name: str) -> None:
    logits, target = data(2, 3, 8, 8)
    target[:, 0] = 255
    loss = create_loss(name, ignore_index=255, class_weight=[0.1, 0.7, 0.9])
    expected = run(loss, logits, target, sample_weight=torch.tensor([1.0, 0.5]))
    loss = loss.cuda()
    x, y, s = logits.cuda(), target.cuda(), torch.tensor([1.0, 0.5]).cuda()
    value, grad = run(loss, x, y, sample_weight=s)
    torch.testing.assert_close(value.cpu(), expected[0])
    torch.testing.assert_close(grad.cpu(), expected[1])
    torch.cuda.set_sync_debug_mode("error")  # after the first call nothing waits for the device
    try:
        run(loss, x, y, sample_weight=s)
        run(loss, x, torch.full_like(y, 7), sample_weight=s)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    with pytest.raises(LoupeError, match=r"holds 7.*earlier batch"):
        loss(x, y)
    with pytest.raises(LoupeError, match="holds 7"):
        create_loss(name)(x, torch.full_like(y, 7))


def test_what_is_no_tensor_is_named() -> None:
    x, y = torch.zeros(2, 3), torch.tensor([0, 1])
    for given in ((x, [0, 1]), (x.numpy(), y), (x, None)):
        with pytest.raises(LoupeError, match="must be a tensor; got"):
            create_loss("dice")(*given)
    with pytest.raises(LoupeError, match="sample_weight must be a tensor; got list"):
        create_loss("dice")(x, y, sample_weight=[1, 1])


@pytest.mark.parametrize("channels", [1, 3])
def test_all_values_are_looked_at_in_one_check(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a GPU only the first check of a loss waits for its answer, so it has to hold everything.
    monkeypatch.setattr("losses.chunk._CPU_LOGITS", 50)
    calls: list[int] = []
    loss = create_loss("dice", ignore_index=255)
    monkeypatch.setattr(loss, "_range_check", lambda found: calls.append(len(found)))
    with native.switched_off():
        loss(*data(3, channels, 40), sample_weight=torch.ones(3))
    assert len(calls) == 1
    assert calls[0] > 3


def test_a_copied_range_check_starts_anew() -> None:
    check = RangeCheck()
    check._on_the_way.append((None, torch.zeros(2), []))
    assert not copy.deepcopy(check)._on_the_way


def test_one_overflowing_position_does_not_silence_the_others() -> None:
    largest = torch.finfo(torch.float32).max
    logits = torch.tensor([[largest, -largest, 0.0], [1.0, 0.0, 0.0]])
    for name in CROSS_ENTROPIES:
        _, grad = run(create_loss(name), logits, torch.tensor([1, 1]))
        assert grad[1].all()
