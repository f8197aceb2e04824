"""Losses of an optimizer step that comes in micro-batches: the parts add up, on one process and on two."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from errors import LoupeError
from losses import BOX_LOSSES, LOSSES, BoxLoss, Loss, create_box_loss, create_loss, global_sum
from losses.native import switched_off
from tests.two_ranks import run_two_ranks

WEIGHTS = [0.5, 1.0, 3.0, 2.0]
VOID = {"ignore_index": 255}
PER_IMAGE = {"per_image": True, "class_weight": WEIGHTS, **VOID}
#: kind of target, loss, options: all that add up.
EXACT: list[tuple[str, str, dict[str, Any]]] = [
    ("masks", "categorical_crossentropy", VOID),
    ("masks", "categorical_crossentropy", {"class_weight": WEIGHTS, "label_smoothing": 0.1, **VOID}),
    ("masks", "categorical_crossentropy", {"class_weight": WEIGHTS, "normalization": "count", **VOID}),
    ("masks", "label_smoothing", {"class_weight": WEIGHTS, **VOID}),
    ("masks", "focal", {"class_weight": WEIGHTS, **VOID}),
    ("masks", "focal", {"class_weight": WEIGHTS, "normalization": "weights", **VOID}),
    ("masks", "focal", {"normalization": "positives", "alpha": WEIGHTS, **VOID}),
    ("masks", "dice", PER_IMAGE),
    ("masks", "dice", {"squared": True, "absent": "skip", "include_background": False, **PER_IMAGE}),
    ("masks", "iou", PER_IMAGE),
    ("masks", "tversky", {"gamma": 0.75, "absent": "skip", **PER_IMAGE}),
    ("masks", "dice_ce", PER_IMAGE),
    ("masks", "dice_ce", {"dice_weight": 0.0, **VOID}),
    (
        "masks",
        "weighted_sum",
        {"losses": [{"type": "iou", "per_image": True}, {"type": "focal", "weight": 2.0}], **VOID},
    ),
    ("binary", "dice_ce", {"per_image": True, "class_weight": [1.0, 4.0], **VOID}),
    ("binary", "focal", {"normalization": "positives", **VOID}),
    ("many labels", "categorical_crossentropy", {"multilabel": True, "class_weight": WEIGHTS}),
    ("many labels", "focal", {"multilabel": True, "normalization": "weights", "class_weight": WEIGHTS}),
    ("many labels", "tversky", {"multilabel": True, "per_image": True, "absent": "skip"}),
    ("labels", "categorical_crossentropy", {"class_weight": WEIGHTS}),
    ("labels", "label_smoothing", {}),
    ("labels", "focal", {"normalization": "positives"}),
    ("mixed labels", "categorical_crossentropy", {"class_weight": WEIGHTS}),
    ("mixed labels", "label_smoothing", {"class_weight": WEIGHTS, "normalization": "count"}),
    ("mixed labels", "focal", {"normalization": "weights", "class_weight": WEIGHTS}),
]
BATCH = 11  # a last batch: no micro-batch size divides it


def example(kind: str, n: int = BATCH, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of 4 classes (or one channel), float64, and targets; the second sample is nearly all void."""
    g = torch.Generator().manual_seed(seed)
    positions = () if "label" in kind else (5, 6)
    channels = 1 if kind == "binary" else len(WEIGHTS)
    logits = torch.randn(n, channels, *positions, generator=g, dtype=torch.float64)
    match kind:
        case "labels":
            target = torch.randint(0, 4, (n,), generator=g)
        case "mixed labels":
            target = torch.softmax(2 * torch.randn(n, 4, generator=g, dtype=torch.float64), 1)
        case "many labels":
            target = torch.randint(0, 2, (n, 4), generator=g)
        case "masks" | "binary":
            target = torch.randint(0, 2 if kind == "binary" else 3, (n, *positions), generator=g)
            target[0, 0, 0] = 1 if kind == "binary" else 3
            target[1][torch.rand(positions, generator=g) < 0.9] = 255
            target[n // 2] = 255
        case _:
            raise AssertionError(kind)
    return logits, target


def samples(weighed: str, n: int = BATCH) -> Tensor | None:
    match weighed:
        case "valid":
            return torch.arange(n) % 4 != 2
        case "weights":
            return torch.linspace(0, 2, n, dtype=torch.float64)
        case _:
            return None


def cut(n: int, parts: int) -> list[slice]:
    """In that many parts, as even as it goes, as the sampler does."""
    each, larger = divmod(n, parts)
    edges = [i * each + min(i, larger) for i in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def pick(values: Tensor | None, part: slice) -> Tensor | None:
    return None if values is None else values[part]


def in_parts(
    loss: Loss, logits: Tensor, target: Tensor, weight: Tensor | None, parts: list[slice]
) -> tuple[Tensor, Tensor]:
    """The sum of the parts, and the gradient that the logits have in the end."""
    logits = logits.clone().requires_grad_()
    step = loss.step(logits[parts[0]], [(target[part], pick(weight, part)) for part in parts])
    total = torch.zeros((), dtype=logits.dtype)
    for part in parts:
        value = loss(logits[part], target[part], sample_weight=pick(weight, part), step=step)
        value.backward()
        total += value.detach()
    assert logits.grad is not None
    return total, logits.grad


def at_once(loss: Loss, logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits, target, sample_weight=weight)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


@pytest.mark.parametrize("weighed", ["", "valid", "weights"])
@pytest.mark.parametrize("case", range(len(EXACT)), ids=lambda i: f"{EXACT[i][0]}-{EXACT[i][1]}-{i}")
def test_the_parts_add_up(case: int, weighed: str) -> None:
    kind, name, options = EXACT[case]
    loss, weight = create_loss(name, **options), samples(weighed)
    assert loss.adds_up
    logits, target = example(kind)
    value, grad = at_once(loss, logits, target, weight)
    assert value > 0
    for parts in (1, 2, 4, BATCH + 1):  # the last: one of them has nothing
        total, in_the_end = in_parts(loss, logits, target, weight, cut(BATCH, parts))
        torch.testing.assert_close(total, value, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(in_the_end, grad, rtol=1e-12, atol=1e-15)


def test_a_mean_of_means_is_another_thing() -> None:
    """What the parts are there for: hand numbers, 3 of 4 positions in one half and 1 of 4 in the other."""
    loss = create_loss("categorical_crossentropy", ignore_index=255)
    logits = torch.tensor([0.0, 2.0], dtype=torch.float64).view(1, 2, 1).repeat(2, 1, 4)
    target = torch.tensor([[0, 0, 0, 255], [1, 255, 255, 255]])
    wrong, right = 2.126928, 0.126928  # log(1 + e^2), log(1 + e^-2)
    total, _ = in_parts(loss, logits, target, None, [slice(0, 1), slice(1, 2)])
    assert total.item() == pytest.approx((3 * wrong + right) / 4, rel=1e-6)
    means = [loss(logits[i : i + 1], target[i : i + 1]).item() for i in range(2)]
    assert sum(means) / 2 == pytest.approx((wrong + right) / 2, rel=1e-6)


@given(
    case=st.integers(0, len(EXACT) - 1),
    edges=st.lists(st.integers(0, 7), max_size=4),
    n=st.integers(2, 7),
    seed=st.integers(0, 2**16),
    weighed=st.sampled_from(["", "valid", "weights"]),
)
def test_wherever_it_is_cut(case: int, edges: list[int], n: int, seed: int, weighed: str) -> None:
    kind, name, options = EXACT[case]
    loss, weight = create_loss(name, **options), samples(weighed, n)
    logits, target = example(kind, n, seed)
    value, grad = at_once(loss, logits, target, weight)
    borders = sorted({0, n, *(min(edge, n) for edge in edges)})
    parts = [slice(a, b) for a, b in itertools.pairwise(borders)]
    total, in_the_end = in_parts(loss, logits, target, weight, parts)
    torch.testing.assert_close(total, value, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(in_the_end, grad, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_compiled_pass_takes_a_step_too(dtype: torch.dtype) -> None:
    loss = create_loss("dice_ce", per_image=True, class_weight=WEIGHTS, ignore_index=255)
    logits, target = example("masks")
    logits = logits.to(dtype)
    found = in_parts(loss, logits, target, samples("valid"), cut(BATCH, 4))
    with switched_off():
        expected = in_parts(loss, logits, target, samples("valid"), cut(BATCH, 4))
    torch.testing.assert_close(found, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)


def test_nothing_to_count_in_the_whole_step_is_zero() -> None:
    loss = create_loss("categorical_crossentropy", ignore_index=255)
    logits, target = example("masks")
    value, grad = in_parts(loss, logits, torch.full_like(target, 255), None, cut(BATCH, 3))
    assert value == 0 and not grad.any()


@pytest.mark.parametrize("name", ["dice", "iou", "tversky", "dice_ce"])
def test_ratios_over_the_batch_are_averaged_by_samples(name: str) -> None:
    loss = create_loss(name, ignore_index=255, **({"ce_weight": 0.0} if name == "dice_ce" else {}))
    assert not loss.adds_up
    logits, target = example("masks")
    weight = torch.arange(BATCH) < BATCH - 1  # the last sample is padding
    parts = [slice(0, 4), slice(4, 7), slice(7, 10), slice(10, 11)]
    value, grad = in_parts(loss, logits, target, weight, parts)
    leaf = logits.clone().requires_grad_()
    shares = zip((0.4, 0.3, 0.3), parts[:3], strict=True)
    expected = torch.stack([share * loss(leaf[part], target[part]) for share, part in shares]).sum()
    expected.backward()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(grad, leaf.grad, rtol=1e-12, atol=1e-15)


def test_of_a_sum_the_exact_parts_stay_exact() -> None:
    both = create_loss("dice_ce", ignore_index=255, class_weight=WEIGHTS)
    logits, target = example("masks")
    parts = cut(BATCH, 4)
    whole, _ = in_parts(both, logits, target, None, parts)
    dice, _ = in_parts(both.dice, logits, target, None, parts)  # pyright: ignore[reportArgumentType]
    entropy, _ = at_once(both.cross_entropy, logits, target, None)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(whole, dice + entropy, rtol=1e-12, atol=0)


def test_every_loss_says_whether_it_adds_up() -> None:
    never_a_ratio = {"categorical_crossentropy", "label_smoothing", "focal"}
    for name in LOSSES:
        options = {"losses": [{"type": "focal"}, {"type": "dice"}]} if name == "weighted_sum" else {}
        assert create_loss(name, **options).adds_up == (name in never_a_ratio), name
    assert all(create_box_loss(name).adds_up for name in BOX_LOSSES)


def test_a_wrong_target_ahead_is_an_error_that_names_it() -> None:
    loss = create_loss("categorical_crossentropy", class_weight=WEIGHTS)
    logits, target = example("labels")
    with pytest.raises(LoupeError, match="target must have shape"):
        loss.step(logits, [(target, None), (target.view(-1, 1), None)])
    with pytest.raises(LoupeError, match="class_weight has 4 values, 3 are needed"):
        loss.step(logits[:, :3], [(target, None)])


# --- boxes --------------------------------------------------------------------------------------------------------


def boxes() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Predicted and true boxes, confidence, and where there is an object: not in the whole of the second third."""
    g = torch.Generator().manual_seed(5)
    corners = torch.rand(2, BATCH, 4, generator=g, dtype=torch.float64).view(2, BATCH, 2, 2).sort(2).values
    preds, truth = corners.flatten(2)
    has_box = torch.tensor([True, False, True, True, False, False, False, False, True, False, True])
    return preds, truth, torch.randn(BATCH, generator=g, dtype=torch.float64), has_box


def box_grads(
    loss: BoxLoss, weight: Tensor, parts: list[slice], *, steps: bool
) -> tuple[Tensor, Tensor, Tensor]:
    preds, truth, confidence, has_box = boxes()
    preds.requires_grad_()
    confidence.requires_grad_()
    step = loss.step([(has_box[part], weight[part]) for part in parts]) if steps else None
    total = torch.zeros(2, dtype=torch.float64)
    for part in parts:
        terms = loss.terms(
            preds[part],
            truth[part],
            has_box=has_box[part],
            confidence=confidence[part],
            sample_weight=weight[part],
            step=step,
        )
        terms.sum().backward()
        total += terms.detach()
    assert preds.grad is not None and confidence.grad is not None
    return total, preds.grad, confidence.grad


@pytest.mark.parametrize("weighed", ["valid", "weights"])
@pytest.mark.parametrize("name", BOX_LOSSES)
def test_boxes_add_up(name: str, weighed: str) -> None:
    loss, weight = create_box_loss(name, confidence_weight=0.7), samples(weighed)
    assert weight is not None
    expected = box_grads(loss, weight, [slice(0, BATCH)], steps=False)
    for parts in (1, 2, 4):
        found = box_grads(loss, weight, cut(BATCH, parts), steps=True)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)


def test_boxes_without_a_confidence_add_up() -> None:
    loss = create_box_loss("giou")
    preds, truth, _, has_box = boxes()
    ones = torch.ones(BATCH, dtype=torch.bool)
    parts = cut(BATCH, 3)
    step = loss.step([(has_box[part], ones[part]) for part in parts])
    values = [loss(preds[part], truth[part], has_box=has_box[part], step=step) for part in parts]
    torch.testing.assert_close(
        torch.stack(values).sum(), loss(preds, truth, has_box=has_box), rtol=1e-12, atol=0
    )


# --- two processes ------------------------------------------------------------------------------------------------

SHARED = [
    case for case in range(len(EXACT)) if case % 3 == 0
]  # masks, many labels, labels; means and per image
#: Of the samples, those of process 0 and 1 in micro-batch 0 and 1: uneven, and one share without a sample.
SHARES = ((slice(0, 4), slice(6, 10)), (slice(4, 6), slice(10, 10)))


def work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    calls = _counted_calls()
    found: list[tuple[Tensor, Tensor, int]] = []
    for case in SHARED:
        kind, name, options = EXACT[case]
        logits, target = example(kind, 10)
        before = calls()
        value, grad = in_parts(
            create_loss(name, **options), logits, target, samples("weights", 10), [*SHARES[rank]]
        )
        found.append((value, grad / 2, calls() - before))  # DistributedDataParallel averages gradients
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def _counted_calls() -> Callable[[], int]:
    """How many all-reduces there were."""
    count = 0
    real = dist.all_reduce

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return real(*args, **kwargs)

    dist.all_reduce = counted
    return lambda: count


def test_two_processes_with_two_micro_batches_are_one_batch(tmp_path: Path) -> None:
    assert global_sum(torch.ones(1)) == (torch.ones(1),), "this process is alone"
    results = run_two_ranks(__file__, tmp_path)
    for place, case in enumerate(SHARED):
        kind, name, options = EXACT[case]
        logits, target = example(kind, 10)
        value, grad = at_once(create_loss(name, **options), logits, target, samples("weights", 10))
        for rank, found in enumerate(results):
            got, got_grad, calls = found[place]
            torch.testing.assert_close(got, value, rtol=1e-12, atol=0)
            mine = torch.cat([torch.arange(10)[part] for part in SHARES[rank]])
            torch.testing.assert_close(got_grad[mine], grad[mine], rtol=1e-12, atol=1e-15)
            assert calls == 3, "one for the step, one for each micro-batch"


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
