"""Each loss against formulas written a second time in NumPy, one-hot and in loops; and against torch and SMP."""

from __future__ import annotations

import doctest
import importlib
import itertools
import pkgutil
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

import losses
from losses import LOSSES, create_loss, native

Array = NDArray[np.float64]
NAMES = ["categorical_crossentropy", "focal", "dice", "dice_ce", "tversky", "label_smoothing", "iou"]


# --- The reference. A position is a row: logits (R, C), one-hot target (R, C), weight (R,), sample (R,). ----------


def log_softmax(x: Array) -> Array:
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def rows(kind: str, logits: Array, target: Any, ignore: int | None, weight: Array) -> dict[str, Array]:
    """Only what counts. Binary and multi-label become rows of the two classes (negative, positive), logits (0, z)."""
    n, c = logits.shape[:2]
    found: list[tuple[Array, Array, float, int, int]] = []
    flat = logits.reshape(n, c, -1)
    labels = (
        np.asarray(target).reshape(n, -1) if kind != "multilabel" else np.asarray(target).reshape(n, c, -1)
    )
    for i in range(n):
        for p in range(flat.shape[2]):
            if kind == "multiclass":
                if labels[i, p] != ignore and weight[i]:
                    found.append((flat[i, :, p], np.eye(c)[labels[i, p]], weight[i], i, 0))
                continue
            for k in range(c):
                y = labels[i, p] if kind == "binary" else labels[i, k, p]
                if y != ignore and weight[i]:
                    found.append((np.array([0.0, flat[i, k, p]]), np.eye(2)[int(y)], weight[i], i, k))
    width = c if kind == "multiclass" else 2
    z, t, s, i, k = zip(*found, strict=True) if found else ((), (), (), (), ())
    return {
        "z": np.array(z).reshape(-1, width), "t": np.array(t).reshape(-1, width), "s": np.array(s, float),
        "i": np.array(i, int), "k": np.array(k, int),
    }  # fmt: skip


def reference_pointwise(kind: str, r: dict[str, Array], o: dict[str, Any], *, focal: bool) -> float:
    if not len(r["z"]):
        return 0.0
    c = r["z"].shape[1]
    log_p = log_softmax(r["z"])
    w = np.ones((len(log_p), c)) if o["class_weight"] is None else np.array(o["class_weight"], float)
    if o["class_weight"] is not None:
        w = np.repeat(w[r["k"]][:, None], c, 1) if kind == "multilabel" else np.repeat(w[None], len(log_p), 0)
    if focal:
        alpha = o["alpha"]
        if alpha is None:
            a = np.ones_like(w)
        elif kind == "multiclass":
            a = np.broadcast_to(np.array(alpha, float), w.shape)
        elif isinstance(alpha, float):
            a = np.broadcast_to(np.array([1 - alpha, alpha]), w.shape)
        elif kind == "binary":
            a = np.broadcast_to(np.array(alpha), w.shape)
        else:
            a = np.stack([1 - np.array(alpha)[r["k"]], np.array(alpha)[r["k"]]], 1)
        cost = (r["t"] * w * a * (1 - np.exp(log_p)) ** o["gamma"] * -log_p).sum(1)
    else:
        e = o["smoothing"]
        cost = (((1 - e) * r["t"] + e / c) * w * -log_p).sum(1)
    divisor = {
        "count": r["s"].sum(),
        "weights": (r["s"] * (w * r["t"]).sum(1)).sum(),
        "positives": (r["s"] * (1 - r["t"][:, 0])).sum() or 1.0,
    }[o["normalization"]]
    return float((r["s"] * cost).sum() / divisor) if divisor else 0.0


def reference_regions(kind: str, r: dict[str, Array], o: dict[str, Any], channels: int) -> float:
    p = np.exp(log_softmax(r["z"]))

    def mean_over_classes(use: Array, s: Array) -> float | None:
        total = weights = 0.0
        for c in range(channels):
            if c == 0 and not o["include_background"]:
                continue
            mine = use if kind == "multiclass" else use & (r["k"] == c)
            column = c if kind == "multiclass" else 1
            g, q, m = r["t"][mine, column], p[mine, column], s[mine]
            if not len(m) or (o["absent"] == "skip" and not (m * g).sum()):
                continue
            tp, fp, fn = (m * q * g).sum(), (m * q * (1 - g)).sum(), (m * (1 - q) * g).sum()
            if o["type"] == "dice":
                size = (m * (q**2 if o["squared"] else q)).sum() + (m * g).sum()
                loss = 1 - (2 * tp + o["smooth"]) / (size + o["smooth"])
            elif o["type"] == "iou":
                loss = 1 - (tp + o["smooth"]) / (tp + fp + fn + o["smooth"])
            else:
                t = (tp + o["smooth"]) / (tp + o["alpha"] * fp + o["beta"] * fn + o["smooth"])
                loss = max(1 - t, 0.0) ** o["gamma"]
            w = 1.0 if o["class_weight"] is None else o["class_weight"][c]
            total, weights = total + w * loss, weights + w
        return total / weights if weights else None

    if not o["per_image"]:
        return mean_over_classes(np.ones(len(p), bool), r["s"]) or 0.0
    images = [
        (mean_over_classes(r["i"] == i, np.ones(len(p))), r["s"][r["i"] == i][0]) for i in np.unique(r["i"])
    ]
    counted = [(loss, s) for loss, s in images if loss is not None]
    return sum(loss * s for loss, s in counted) / sum(s for _, s in counted) if counted else 0.0


def reference(
    name: str, kind: str, logits: Array, target: Any, weight: Array, options: dict[str, Any]
) -> float:
    o: dict[str, Any] = {"class_weight": None, "ignore_index": None, "include_background": True, "absent": "keep",
                         "per_image": False, "squared": False, "smooth": 1e-5, **options}  # fmt: skip
    r = rows(kind, logits, target, o["ignore_index"], weight)
    if name == "focal":
        return reference_pointwise(
            kind, r, {"alpha": 0.25, "gamma": 2.0, "normalization": "count", **o}, focal=True
        )
    if name in ("categorical_crossentropy", "label_smoothing", "dice_ce"):
        smoothing = o.get("smoothing", 0.1) if name == "label_smoothing" else o.get("label_smoothing", 0.0)
        ce = reference_pointwise(
            kind, r, {"normalization": "weights", **o, "smoothing": smoothing}, focal=False
        )
        if name != "dice_ce":
            return ce
        region = o if kind != "binary" else {**o, "class_weight": None}
        dice = reference_regions(kind, r, {**region, "type": "dice"}, logits.shape[1])
        return o.get("dice_weight", 1.0) * dice + o.get("ce_weight", 1.0) * ce
    return reference_regions(
        kind, r, {"alpha": 0.3, "beta": 0.7, "gamma": 1.0, **o, "type": name}, logits.shape[1]
    )


# --- Loss against reference ---------------------------------------------------------------------------------------

POINTWISE = [{}, {"class_weight": "yes"}, {"class_weight": "yes", "normalization": "count"}]
REGION = [
    {},
    {"smooth": 1.0, "per_image": True, "absent": "skip"},
    {"smooth": 0.0, "absent": "skip"},
    {"class_weight": "yes", "per_image": True},
    {"class_weight": "yes", "include_background": False},
]
CASES: dict[str, list[dict[str, Any]]] = {
    "categorical_crossentropy": [
        *POINTWISE,
        {"label_smoothing": 0.2, "class_weight": "yes"},
        {"label_smoothing": 0.3},
    ],
    "label_smoothing": [*POINTWISE, {"smoothing": 0.4, "normalization": "count"}],
    "focal": [
        *POINTWISE,
        {"alpha": None, "gamma": 0.5},
        {"alpha": "yes", "gamma": 0.0, "normalization": "positives"},
        {"alpha": "yes", "class_weight": "yes", "normalization": "weights", "gamma": 3.0},
    ],
    "dice": [*REGION, {"squared": True}, {"squared": True, "per_image": True, "smooth": 0.5}],
    "iou": REGION,
    "tversky": [*REGION, {"alpha": 0.8, "beta": 0.1, "gamma": 0.75}, {"gamma": 2.0, "per_image": True}],
    "dice_ce": [
        *REGION,
        {"dice_weight": 0.3, "ce_weight": 2.0, "label_smoothing": 0.1, "normalization": "count"},
    ],
}
GRID = [
    (name, i, kind)
    for name in NAMES
    for i, kind in itertools.product(range(len(CASES[name])), ("multiclass", "binary", "multilabel"))
]


def filled(options: dict[str, Any], name: str, kind: str, channels: int) -> dict[str, Any]:
    """The options with vectors of the right length, less those that have no meaning for this kind."""
    vector = [0.2, 0.7] if kind == "binary" else [0.1, 0.9, 0.4, 0.7][:channels]
    chosen = {key: vector if value == "yes" else value for key, value in options.items()}
    if kind == "binary" and name in ("dice", "iou", "tversky"):
        chosen.pop("class_weight", None)
    if kind != "multiclass":
        chosen.pop("include_background", None)
    return chosen


def example(kind: str, ignore: int | None, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, target and sample weights, float64: three samples, the last with void only where there is void."""
    g = torch.Generator().manual_seed(seed)
    channels = 1 if kind == "binary" else 4
    logits = 3 * torch.randn(3, channels, 2, 3, generator=g, dtype=torch.float64)
    shape = logits.shape if kind == "multilabel" else (3, 2, 3)
    target = torch.randint(0, 3 if kind == "multiclass" else 2, shape, generator=g)  # class 3 is absent
    if ignore is not None:
        target[torch.rand(shape, generator=g) < 0.3] = ignore
        target[2] = ignore
    return logits, target, torch.tensor([1.0, 0.25, 2.0], dtype=torch.float64)


@pytest.mark.parametrize(("name", "case", "kind"), GRID)
def test_every_loss_agrees_with_the_reference(
    name: str, case: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ignore, weighted in itertools.product((None, 255, 1), (False, True)):
        logits, target, weight = example(kind, ignore)
        weight = weight if weighted else torch.ones_like(weight)
        options = filled(CASES[name][case], name, kind, logits.shape[1])
        expected = reference(
            name, kind, logits.numpy(), target.numpy(), weight.numpy(), {**options, "ignore_index": ignore}
        )
        loss = create_loss(name, **options, ignore_index=ignore, multilabel=kind == "multilabel")
        given = {"sample_weight": weight} if weighted else {}
        assert loss(logits, target, **given).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
        monkeypatch.setattr(native, "_FEW_POSITIONS", 1)  # where it was built, also for as few as these
        single = loss(logits.float(), target, **given)
        assert single.dtype == torch.float32
        with native.switched_off():
            in_torch = loss(logits.float(), target, **given)
        rounded = reference(
            name,
            kind,
            logits.float().double().numpy(),
            target.numpy(),
            weight.numpy(),
            {**options, "ignore_index": ignore},
        )
        for value in (single.item(), in_torch.item()):
            assert abs(value - rounded) <= 1e-6 * max(1, abs(rounded))


@pytest.mark.parametrize(("name", "case", "kind"), GRID)
def test_gradients_are_those_of_the_value(name: str, case: int, kind: str) -> None:
    logits, target, weight = example(kind, 255)
    options = filled(CASES[name][case], name, kind, logits.shape[1])
    loss = create_loss(name, **options, ignore_index=255, multilabel=kind == "multilabel")
    assert torch.autograd.gradcheck(
        lambda x: loss(x, target, sample_weight=weight), (logits.requires_grad_(),), atol=1e-7
    )


@pytest.mark.parametrize("name", ["categorical_crossentropy", "label_smoothing", "focal"])
@pytest.mark.parametrize("kind", ["multiclass", "binary", "multilabel"])
def test_one_hot_probabilities_are_class_numbers(name: str, kind: str) -> None:
    logits, target, weight = example(kind, None)
    soft = F.one_hot(target, 4).movedim(-1, 1).double() if kind == "multiclass" else target.double()
    options: dict[str, Any] = {"class_weight": [0.3, 0.8] if kind == "binary" else [0.1, 0.5, 0.4, 2.0]}
    if name == "focal":
        options["gamma"] = 0.5
    for normalization in ("weights", "count") if name != "focal" else ("weights", "count", "positives"):
        loss = create_loss(name, **options, normalization=normalization, multilabel=kind == "multilabel")
        hard = loss(logits, target, sample_weight=weight)
        torch.testing.assert_close(loss(logits, soft, sample_weight=weight), hard, rtol=1e-12, atol=1e-12)
        if kind == "binary":
            torch.testing.assert_close(loss(logits, soft.unsqueeze(1), sample_weight=weight), hard)


def test_focal_with_probabilities_is_the_mixture_of_its_hard_values() -> None:
    logits = torch.tensor([[4.0, -1.0, 0.5]], dtype=torch.float64)
    loss = create_loss("focal", alpha=[0.2, 0.5, 0.9], gamma=1.5)
    mixed = loss(logits, torch.tensor([[0.7, 0.3, 0.0]], dtype=torch.float64))
    hard = [loss(logits, torch.tensor([c])) for c in (0, 1)]
    torch.testing.assert_close(mixed, 0.7 * hard[0] + 0.3 * hard[1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_torchs(smoothing: float, weighted: bool) -> None:
    logits, target, _ = example("multiclass", 255)
    w = [0.1, 0.9, 0.4, 0.7] if weighted else None
    ours = create_loss(
        "categorical_crossentropy", label_smoothing=smoothing, class_weight=w, ignore_index=255
    )
    theirs = F.cross_entropy(
        logits,
        target,
        weight=None if w is None else torch.tensor(w, dtype=torch.float64),
        ignore_index=255,
        label_smoothing=smoothing,
    )
    torch.testing.assert_close(ours(logits, target), theirs, rtol=1e-12, atol=0)


def test_soft_and_binary_cross_entropy_are_torchs() -> None:
    logits, _, _ = example("multiclass", None)
    soft = torch.softmax(torch.randn_like(logits), 1)
    loss = create_loss("categorical_crossentropy", label_smoothing=0.1)
    torch.testing.assert_close(loss(logits, soft), F.cross_entropy(logits, soft, label_smoothing=0.1))
    multi = create_loss("categorical_crossentropy", multilabel=True)
    torch.testing.assert_close(multi(logits, soft), F.binary_cross_entropy_with_logits(logits, soft))
    x, y = torch.tensor([[0.3], [-2.0]]), torch.tensor([1, 0])
    binary = create_loss("categorical_crossentropy")(x, y)
    torch.testing.assert_close(binary, F.binary_cross_entropy_with_logits(x[:, 0], y.float()))


def test_overlap_losses_are_smps_where_those_are_right() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch").losses
    logits, target, _ = example("multiclass", None)
    target[target == 0] = 3
    target[0, 0, 0] = 0  # all four classes present: SMP counts an absent one as solved
    for name, theirs, smooth in (("dice", smp.DiceLoss, 2.0), ("iou", smp.JaccardLoss, 1.0)):
        ours = create_loss(name, smooth=smooth)  # SMP's smooth is Tversky's: for dice half of ours
        torch.testing.assert_close(ours(logits, target), theirs("multiclass", smooth=1.0)(logits, target))
    theirs = smp.TverskyLoss("multiclass", alpha=0.2, beta=0.9, smooth=0.1)
    ours = create_loss("tversky", alpha=0.2, beta=0.9, smooth=0.1)
    torch.testing.assert_close(ours(logits, target), theirs(logits, target))


def test_binary_focal_is_torchvisions() -> None:
    from torchvision.ops import sigmoid_focal_loss

    x, y = torch.tensor([[0.3], [-2.0], [1.0]]), torch.tensor([1, 0, 0])
    theirs = sigmoid_focal_loss(x[:, 0], y.float(), alpha=0.25, gamma=2.0, reduction="mean")
    torch.testing.assert_close(create_loss("focal")(x, y), theirs)


def test_one_channel_is_two_softmax_channels() -> None:
    x, y, s = example("binary", 255)
    two = torch.cat([torch.zeros_like(x), x], 1)
    for name, options in [
        ("categorical_crossentropy", {"class_weight": [0.3, 0.9], "label_smoothing": 0.2}),
        (
            "focal",
            {"alpha": [0.6, 0.2], "class_weight": [0.3, 0.9], "gamma": 0.7, "normalization": "positives"},
        ),
    ]:
        loss = create_loss(name, **options, ignore_index=255)
        torch.testing.assert_close(loss(x, y, sample_weight=s), loss(two, y, sample_weight=s))
    one, pair = (
        create_loss("dice", ignore_index=255),
        create_loss("dice", ignore_index=255, include_background=False),
    )
    torch.testing.assert_close(one(x, y), pair(two, y))


def test_a_weighted_sum_is_the_sum_of_its_parts() -> None:
    logits, target, s = example("multiclass", 255)
    parts = [
        {"type": "tversky", "beta": 0.9},
        {"type": "dice_ce", "weight": 0.5, "ce_weight": 3.0, "per_image": True},
    ]
    both = create_loss("weighted_sum", losses=parts, ignore_index=255)(logits, target, sample_weight=s)
    a = create_loss("tversky", beta=0.9, ignore_index=255)(logits, target, sample_weight=s)
    b = create_loss("dice_ce", ce_weight=3.0, per_image=True, ignore_index=255)(
        logits, target, sample_weight=s
    )
    torch.testing.assert_close(both, a + 0.5 * b)


def test_documented_numbers_hold() -> None:
    run = 0
    for module in pkgutil.iter_modules(losses.__path__, "losses."):
        if module.name == "losses.native._kernels":  # a library that native.py loads, no module
            continue
        result = doctest.testmod(importlib.import_module(module.name))
        assert not result.failed, module.name
        run += result.attempted
    assert run >= 2 * len(LOSSES)
