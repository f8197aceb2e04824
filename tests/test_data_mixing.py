"""MixUp and CutMix: by hand on small tensors, and the same on any number of processes and micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datamodules import (
    Augment,
    ClassificationDataModule,
    Draw,
    GlobalBatchSampler,
    Loader,
    SegmentationDataModule,
)
from datamodules.mixing import Mixing, create_mixing, mix_batch
from datamodules.sampler import training_sampler
from errors import LoupeError
from tests.conftest import Outcome
from tests.tasks import SIZE, write_task

Loupe = Callable[..., Outcome]
NOTHING = [1.0, 0, 0, 0, 0]


def batch_of(image: Tensor, plan: list[list[float]], **answer: Tensor) -> dict[str, Tensor]:
    return {"image": image, "mix": torch.tensor(plan), "index": torch.arange(len(image)), **answer}


def test_mixup_by_hand() -> None:
    """A quarter of 0 and three quarters of 255, and the other way round; the third has no partner."""
    image = torch.stack([torch.full((3, 2, 2), value, dtype=torch.uint8) for value in (0, 255, 51)])
    plan = [[0.25, 0, 0, 0, 0], [0.25, 0, 0, 0, 0], NOTHING]
    mixed = mix_batch(batch_of(image, plan, label=torch.tensor([0, 2, 1])), 3)
    assert mixed["image"].dtype == torch.float32
    torch.testing.assert_close(mixed["image"][:, 0, 0, 0], torch.tensor([0.75, 0.25, 0.2]))
    assert mixed["label"].tolist() == [[0.25, 0, 0.75], [0.75, 0, 0.25], [0, 1, 0]]


def test_cutmix_by_hand() -> None:
    """Two of twelve pixels are the other's: 10/12 and 2/12 of the labels, and bytes stay bytes."""
    image = torch.stack([torch.full((1, 3, 4), value, dtype=torch.uint8) for value in (7, 9)])
    share = 10 / 12
    mixed = mix_batch(batch_of(image, [[share, 1, 0, 2, 2]] * 2, label=torch.tensor([1, 0])), 2)
    assert mixed["image"].dtype == torch.uint8 and "mix" not in mixed
    assert mixed["image"][0, 0].tolist() == [[7, 9, 7, 7], [7, 9, 7, 7], [7, 7, 7, 7]]
    assert mixed["image"][1, 0].tolist() == [[9, 7, 9, 9], [9, 7, 9, 9], [9, 9, 9, 9]]
    torch.testing.assert_close(mixed["label"], torch.tensor([[2 / 12, 10 / 12], [10 / 12, 2 / 12]]))


def test_masks_are_pasted_with_their_pictures() -> None:
    image = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    mask = torch.tensor([1, 255]).view(2, 1, 1).expand(2, 4, 4).contiguous()
    mixed = mix_batch(batch_of(image, [[0.75, 2, 2, 4, 4]] * 2, mask=mask), 2)
    assert mixed["mask"].dtype == torch.int64 and "label" not in mixed
    assert mixed["mask"][0].tolist() == [[1] * 4] * 2 + [[1, 1, 255, 255]] * 2
    assert mixed["mask"][1].tolist() == [[255] * 4] * 2 + [[255, 255, 1, 1]] * 2
    for one, other in ((0, 1), (1, 0)):
        assert torch.equal(mixed["image"][one, :, 2:, 2:], image[other, :, 2:, 2:])
        assert torch.equal(mixed["image"][one, :, :2], image[one, :, :2])


def test_both_in_one_batch_and_several_labels() -> None:
    image = torch.rand(4, 3, 8, 8)
    label = torch.tensor([[1.0, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]])
    plan = [[0.4, 0, 0, 0, 0]] * 2 + [[0.75, 0, 0, 4, 4]] * 2
    mixed = mix_batch(batch_of(image, plan, label=label), 3)
    torch.testing.assert_close(mixed["image"][0], 0.4 * image[0] + 0.6 * image[1])
    assert torch.equal(mixed["image"][2, :, :4, :4], image[3, :, :4, :4])
    assert torch.equal(mixed["image"][2, :, 4:], image[2, :, 4:])
    torch.testing.assert_close(
        mixed["label"], torch.tensor([[0.4, 1, 0], [0.6, 1, 0], [0, 0, 0.25], [0, 0, 0.75]])
    )


def draws(count: int, *, first: int = 0, epoch: int = 0) -> list[Draw]:
    return [Draw(index=7, epoch=epoch, position=first + k, valid=True) for k in range(count)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    alpha=st.sampled_from([0.05, 1.0, 5.0]),
)
def test_the_share_of_cutmix_is_the_exact_area(seed: int, size: tuple[int, int], alpha: float) -> None:
    plan = Mixing(0.0, alpha, seed).plan(draws(9), size)
    for share, x1, y1, x2, y2 in plan.tolist():
        assert 0 <= x1 <= x2 <= size[1] and 0 <= y1 <= y2 <= size[0]
        assert share == pytest.approx(1 - (x2 - x1) * (y2 - y1) / (size[0] * size[1]), abs=1e-7)
    assert torch.equal(plan[0::2][:4], plan[1::2])
    assert plan[8].tolist() == NOTHING
    image = torch.zeros(9, 1, *size, dtype=torch.uint8)
    image[1::2] = 1
    mixed = mix_batch(batch_of(image, plan.tolist(), label=torch.arange(9) % 2), 2)
    if mixed["image"].dtype == torch.uint8:
        seen = mixed["image"][:, 0].float().mean((1, 2))  # the share of the odd ones, counted
        torch.testing.assert_close(mixed["label"][:, 1], seen)


def test_mixup_draws_from_its_beta_and_one_of_two_by_lot() -> None:
    plan = Mixing(0.4, 0.0, 0).plan(draws(4000), (32, 32))
    share = plan[::2, 0].double()
    assert (plan[:, 1:] == 0).all()
    assert share.mean().item() == pytest.approx(0.5, abs=0.03)
    assert share.var().item() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.06)  # of Beta(a, a)
    both = Mixing(0.4, 1.0, 0).plan(draws(4000), (32, 32))
    assert (both[::2, 3] > both[::2, 1]).double().mean().item() == pytest.approx(0.48, abs=0.04)


def test_the_plan_depends_on_seed_epoch_and_position_alone() -> None:
    def plan(seed: int = 0, epoch: int = 0, first: int = 0) -> Tensor:
        torch.rand(1)
        return Mixing(0.2, 1.0, seed).plan(draws(8, first=first, epoch=epoch), (32, 32))

    assert torch.equal(plan(), plan())
    assert torch.equal(plan()[4:], plan(first=4)[:4])
    for other in (plan(seed=1), plan(epoch=1), plan(first=2)):
        assert not torch.equal(plan(), other)


@pytest.mark.parametrize("seed", range(20))
def test_labels_are_probabilities(seed: int) -> None:
    plan = Mixing(0.2, 1.0, seed).plan(draws(7), (16, 16))
    image = torch.randint(0, 256, (7, 3, 16, 16), dtype=torch.uint8)
    mixed = mix_batch(batch_of(image, plan.tolist(), label=torch.tensor([0, 1, 2, 2, 1, 0, 1])), 3)
    label = mixed["label"]
    torch.testing.assert_close(label.sum(1), torch.ones(7))
    assert label.min() >= 0 and label[6].tolist() == [0, 1, 0]
    torch.testing.assert_close(label[3], torch.tensor([0.0, 0, 1]))  # two of one class stay of it
    last = mixed["image"][6]
    torch.testing.assert_close(
        last, image[6] if last.dtype == torch.uint8 else image[6] / 255, msg="the last one has no partner"
    )


@pytest.mark.parametrize(
    ("augment", "gives", "message"),
    [
        (
            Augment(mixup=0.2),
            ("mask",),
            "mixup mixes labels; masks are class numbers, of which there is no mean",
        ),
        (Augment(mixup=0.2), ("box", "has_box"), "mixup mixes labels; boxes have no mean"),
        (
            Augment(cutmix=1.0),
            ("box", "has_box"),
            "cutmix mixes labels or masks; the box of a picture with two",
        ),
        (
            Augment(mixup=-0.1),
            ("label",),
            "mixup is -0.1; it is the alpha of a Beta distribution, 0 for none",
        ),
        (Augment(cutmix=float("inf")), ("label",), "cutmix is inf"),
        (Augment(cutmix=float("nan")), ("label",), "cutmix is nan"),
    ],
)
def test_what_cannot_be_mixed_is_refused(augment: Augment, gives: tuple[str, ...], message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        create_mixing(augment, gives, 0)
    assert create_mixing(Augment(), gives, 0) is None


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(2, 50), units=st.integers(1, 3), world=st.integers(1, 3), accumulate=st.integers(1, 3)
)
def test_pairs_stay_together_on_any_number_of_processes(
    size: int, units: int, world: int, accumulate: int
) -> None:
    batch_size = 2 * units * world * accumulate

    def sampler(rank: int, world: int, accumulate: int) -> GlobalBatchSampler:
        return GlobalBatchSampler(
            size,
            batch_size=batch_size,
            shuffle=True,
            world=world,
            rank=rank,
            accumulate=accumulate,
            pairs=True,
        )

    alone = list(sampler(0, 1, 1))
    ranks = [list(sampler(rank, world, accumulate)) for rank in range(world)]
    assert {len(rank) for rank in ranks} == {len(alone) * accumulate}
    for step, batch in enumerate(alone):
        cells = [
            ranks[rank][step * accumulate + micro] for micro in range(accumulate) for rank in range(world)
        ]
        assert [draw for cell in cells for draw in cell if draw.valid] == batch
        for cell in cells:  # the neighbour i ^ 1 of a cell is the neighbour in the global batch
            assert (cell[0].position - batch[0].position) % 2 == 0
        odd = [cell for cell in cells if len(cell) % 2 and cell[0].valid]
        assert len(odd) == len(batch) % 2
        if len(batch) == batch_size:
            assert {len(cell) for cell in cells} == {2 * units}


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(2, 50), units=st.integers(1, 3), world=st.integers(1, 3), accumulate=st.integers(1, 3)
)
def test_batch_norm_never_sees_one_picture(size: int, units: int, world: int, accumulate: int) -> None:
    """And nothing is left out where it would not."""

    def cells(drop_single: bool) -> list[list[Draw]]:
        samplers = [
            GlobalBatchSampler(
                size,
                batch_size=2 * units * world * accumulate,
                world=world,
                rank=rank,
                accumulate=accumulate,
                drop_single=drop_single,
                pairs=True,
            )
            for rank in range(world)
        ]
        return list(chain(*samplers))

    kept = cells(drop_single=True)
    assert all(len(cell) >= 2 and cell[0].valid for cell in kept)
    everything = cells(drop_single=False)
    if all(len(cell) >= 2 for cell in everything):
        assert kept == everything
    assert size - sum(map(len, kept)) < 2 * world * accumulate


@pytest.mark.parametrize(
    ("batch_size", "world", "message"),
    [(2, 2, "use at least 4"), (1, 1, "use at least 2"), (6, 2, "use 4 or 8"), (9, 3, "6 or 12")],
)
def test_a_share_that_cannot_be_paired_is_refused(batch_size: int, world: int, message: str) -> None:
    """Nine on three processes would be 4, 4 and 1: batch norm would see one, and the others more than their share."""
    with pytest.raises(LoupeError, match=f"mixes two .*{message}"):
        training_sampler(
            40,
            batch_size=batch_size,
            shuffle=True,
            seed=0,
            world=world,
            rank=0,
            accumulate=1,
            single_ok=True,
            pairs=True,
        )


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 2), (2, 2)])
def test_mixed_batches_are_the_same_in_shares(tmp_path: Path, task: str, world: int, accumulate: int) -> None:
    """Thirteen places in batches of eight: the last is five, whose last one stays as it is."""
    root = str(write_task(task, tmp_path / "data"))
    mixed = {"mixup": 0.4, "cutmix": 1.0} if task == "classification" else {"cutmix": 1.0}
    kind = ClassificationDataModule if task == "classification" else SegmentationDataModule
    data = kind(root, image_size=SIZE, augment=Augment(preset="light", **mixed), loader=Loader(num_workers=0))
    data.setup("fit")
    dataset = data.train_dataloader().dataset
    answer = "label" if task == "classification" else "mask"

    def step(draws: list[Draw]) -> dict[str, Tensor]:
        places = [Draw(draw.index % 8, draw.epoch, draw.position, draw.valid) for draw in draws]
        return data.on_after_batch_transfer(dataset[places], 0)  # type: ignore[index]

    def samplers(world: int, accumulate: int) -> list[GlobalBatchSampler]:
        return [
            GlobalBatchSampler(
                13, batch_size=8, shuffle=True, world=world, rank=rank, accumulate=accumulate, pairs=True
            )
            for rank in range(world)
        ]

    def by_position(cells: list[list[Draw]]) -> dict[int, tuple[Tensor, Tensor]]:
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for cell in cells:
            batch = step(cell)
            image = batch["image"] if batch["image"].is_floating_point() else batch["image"] / 255
            for draw, *sample in zip(cell, image, batch[answer], strict=True):
                if draw.valid:
                    assert draw.position not in found
                    found[draw.position] = (sample[0], sample[1])
        return found

    alone = by_position(list(samplers(1, 1)[0]))
    shared = by_position(list(chain(*samplers(world, accumulate))))
    assert sorted(alone) == sorted(shared) == list(range(13))
    for position, (image, value) in alone.items():
        assert torch.equal(image, shared[position][0])
        assert torch.equal(value, shared[position][1])
