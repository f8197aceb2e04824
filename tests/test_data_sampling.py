"""Balanced and weighted sampling: exact shares in each epoch, the same on any number of processes and on resume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules import (
    ClassificationDataModule,
    CropDataModule,
    GlobalBatchSampler,
    Loader,
    Samples,
    SegmentationDataModule,
)
from datamodules.sampler import Weights
from datamodules.sampling import create_weights
from errors import LoupeError
from tests.conftest import Outcome
from tests.tasks import CLASSIFICATION, write_task

Loupe = Callable[..., Outcome]


def balanced(strata: Sequence[str]) -> Weights:
    names = [f"{k}.png" for k in range(len(strata))]
    weights = create_weights("balanced", Samples(names, names), lambda _: strata)
    assert weights is not None
    return weights


def sampler(weights: Weights, *, world: int = 1, rank: int = 0, batch_size: int = 12) -> GlobalBatchSampler:
    return GlobalBatchSampler(
        len(weights.weight),
        batch_size=batch_size,
        shuffle=True,
        seed=3,
        world=world,
        rank=rank,
        weights=weights,
    )


def counts(order: np.ndarray, strata: Sequence[str]) -> Counter[str]:
    return Counter(strata[index] for index in order)


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    seed=st.integers(0, 50),
    epoch=st.integers(0, 5),
)
def test_of_each_class_as_many(sizes: list[int], seed: int, epoch: int) -> None:
    strata = [f"class {k}" for k, size in enumerate(sizes) for _ in range(size)]
    total, classes = len(strata), len(sizes)
    drawing = GlobalBatchSampler(total, batch_size=8, shuffle=True, seed=seed, weights=balanced(strata))
    drawing.set_epoch(epoch)
    order = drawing.order()
    assert len(order) == total
    found = counts(order, strata)
    assert all(total // classes <= found[name] <= -(-total // classes) for name in set(strata))
    for k, size in enumerate(sizes):  # and each picture of a class as often as any other of it
        own = np.bincount(order, minlength=total)[
            [i for i, name in enumerate(strata) if name == f"class {k}"]
        ]
        assert own.max() - own.min() <= 1
        assert len(own) == size


def test_ninety_and_ten_become_fifty_and_fifty() -> None:
    strata = ["common"] * 90 + ["rare"] * 10
    weights = balanced(strata)
    order = weights.draw(np.random.default_rng(0))
    assert counts(order, strata) == {"common": 50, "rare": 50}
    assert (np.bincount(order)[90:] == 5).all(), "each rare one five times"
    assert len(set(order[order < 90])) == 50, "fifty different common ones"
    halves = counts(order[:50], strata)
    assert 10 < halves["rare"] < 40, "shuffled, not one class after the other"


@settings(max_examples=200, deadline=None)
@given(
    weight=st.lists(st.just(0.0) | st.floats(1e-3, 1e3), min_size=1, max_size=50).filter(any),
    seed=st.integers(0, 10_000),
)
def test_each_sample_in_proportion_to_its_weight(weight: list[float], seed: int) -> None:
    values = np.array(weight)
    order = Weights(values, np.arange(len(values))).draw(np.random.default_rng(seed))
    share = values / values.sum() * len(values)
    found = np.bincount(order, minlength=len(values))
    assert len(order) == len(values)
    assert (found >= np.floor(share - 1e-6)).all() and (found <= np.ceil(share + 1e-6)).all()
    assert (found[values == 0] == 0).all()


def test_over_many_epochs_the_shares_are_met_on_average() -> None:
    values = np.array([0.5, 1.0, 1.5, 0.25, 0.75])
    drawn = np.concatenate(
        [Weights(values, np.arange(5)).draw(np.random.default_rng([0, epoch])) for epoch in range(4000)]
    )
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), values / values.sum(), atol=0.01)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_out_what_one_draws(world: int) -> None:
    weights = balanced(["a"] * 31 + ["b"] * 6 + ["c"] * 3)
    for epoch in range(2):
        alone = sampler(weights)
        ranks = [sampler(weights, world=world, rank=rank) for rank in range(world)]
        for each in (alone, *ranks):
            each.set_epoch(epoch)
        expected = [draw for batch in alone for draw in batch]
        found = [draw for batch in chain(*ranks) for draw in batch if draw.valid]
        assert sorted((draw.position, draw.index) for draw in found) == [
            (position, draw.index) for position, draw in enumerate(expected)
        ]
        assert sorted(counts(alone.order(), "a" * 31 + "b" * 6 + "c" * 3).values()) == [13, 13, 14]


def test_another_order_in_each_epoch_and_the_same_on_resume() -> None:
    weights = balanced(["a"] * 30 + ["b"] * 10)
    first = sampler(weights)
    epochs = []
    for epoch in range(3):
        first.set_epoch(epoch)
        epochs.append([[draw.index for draw in batch] for batch in first])
    assert epochs[0] != epochs[1] != epochs[2]
    resumed = sampler(weights)
    resumed.resume(1, 2)
    assert [[draw.index for draw in batch] for batch in resumed] == epochs[1][2:]
    resumed.set_epoch(2)
    assert [[draw.index for draw in batch] for batch in resumed] == epochs[2]


def write_manifest(folder: Path, weights: Sequence[str], *, column: str = "weight") -> Path:
    """One training picture for each weight, a and b by turns, and two to validate."""
    folder.mkdir()
    rows = [f"path,label,split,{column}"]
    for number, weight in enumerate([*weights, "0", "0"]):
        Image.new("RGB", (32, 32), (60 * (number % 2), 90, number)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},{'train' if number < len(weights) else 'val'},{weight}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


def classifier(root: Path, sampling: str) -> ClassificationDataModule:
    loader = Loader(batch_size=4, num_workers=0, sampling=sampling)  # type: ignore[arg-type]
    data = ClassificationDataModule(str(root), image_size=32, loader=loader)
    data.setup("fit")
    return data


@pytest.mark.parametrize("column", ["weight", "Weight"])
def test_weights_of_a_manifest(tmp_path: Path, column: str) -> None:
    """Ten pictures, weights that sum to ten: as often as they say, those of 0 never; validation is as it was."""
    weights = ["3", "0", "1", "2.0", "1e0", "1", "0", "0", "0.0", "2"]
    data = classifier(write_manifest(tmp_path / "d", weights, column=column), "weighted")
    batches = list(data.train_dataloader())
    drawn = Counter(int(index) for batch in batches for index in batch["index"])
    assert drawn == {0: 3, 2: 1, 3: 2, 4: 1, 5: 1, 9: 2}
    assert [len(batch["index"]) for batch in batches] == [4, 4, 2]
    assert [index for batch in data.val_dataloader() for index in batch["index"].tolist()] == [0, 1]
    assert "weighted sampling" in data.describe()[2]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (["1", "-1", "1", "1"], r"1\.png has the weight '-1'; valid: a number of at least 0"),
        (["1", "1", "much", "1"], r"2\.png has the weight 'much'"),
        (["1", "1", "", "1"], r"2\.png has the weight ''"),
        (["nan", "1", "1", "1"], r"0\.png has the weight 'nan'"),
        (["1", "1", "1", "inf"], r"3\.png has the weight 'inf'"),
        (["0", "0", "0", "0"], "the column weight is 0 for every training picture"),
    ],
)
def test_bad_weights_are_refused_by_name(tmp_path: Path, weights: list[str], message: str) -> None:
    data = classifier(write_manifest(tmp_path / "d", weights), "weighted")
    with pytest.raises(LoupeError, match=message):
        data.train_dataloader()


def test_what_sampling_needs(tmp_path: Path) -> None:
    folders = classifier(write_task("classification", tmp_path / "c"), "weighted")
    with pytest.raises(LoupeError, match="weighted needs a manifest with the column weight"):
        folders.train_dataloader()
    root = str(write_task("segmentation", tmp_path / "s"))
    masks = SegmentationDataModule(root, loader=Loader(num_workers=0, sampling="balanced"))
    masks.setup("fit")
    with pytest.raises(
        LoupeError, match="balanced needs a class for each picture; masks have one for each pixel"
    ):
        masks.train_dataloader()
    strange = classifier(tmp_path / "c", "balancd")
    with pytest.raises(LoupeError, match=r"'balancd' \(did you mean 'balanced'"):
        strange.train_dataloader()


def test_a_cropper_balances_objects_and_none(tmp_path: Path) -> None:
    """Seven pictures with an object and one without: four of each."""
    data = CropDataModule(
        str(write_task("cropping", tmp_path / "b")),
        image_size=32,
        loader=Loader(batch_size=4, num_workers=0, sampling="balanced"),
    )
    data.setup("fit")
    has = [bool(has) for batch in data.train_dataloader() for has in batch["has_box"]]
    assert Counter(has) == {True: 4, False: 4}


def test_several_labels_are_balanced_by_the_rarest(tmp_path: Path) -> None:
    rows = ["path,labels,split"]
    labels = ["a"] * 6 + ["a;b"] * 2 + ["a", "b"]
    for number, entry in enumerate(labels):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{entry},{'train' if number < 8 else 'val'}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    data = classifier(tmp_path, "balanced")
    drawn = [int(index) for batch in data.train_dataloader() for index in batch["index"]]
    assert Counter(index >= 6 for index in drawn) == {False: 4, True: 4}


def test_one_fit_with_balanced_classes(loupe: Loupe, tmp_path: Path) -> None:
    data = write_task("classification", tmp_path / "data")
    for name in ("0", "2", "4"):
        (data / "train" / "left" / f"{name}.png").unlink()  # one left, four right
    outcome = loupe(
        "fit",
        *CLASSIFICATION.words,
        f"--data.root={data}",
        "--data.loader.sampling=balanced",
        "--training.epochs=2",
    )
    assert outcome.code == 0, outcome.err
    assert "balanced sampling" in outcome.out
