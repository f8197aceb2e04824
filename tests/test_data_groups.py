"""Groups stay together, and folds share the samples out, whatever their sizes and classes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules import ClassificationDataModule, Split
from datamodules.samples import Samples
from datamodules.splits import split_samples
from errors import LoupeError


def samples(groups: list[str], parts: list[str] | None = None) -> Samples:
    names = [f"{i}.png" for i in range(len(groups))]
    return Samples(names, names, {"group": groups}, parts or [""] * len(groups))


def side(parts: dict[str, Samples]) -> dict[str, set[str]]:
    """The parts in which each group is."""
    found: dict[str, set[str]] = {}
    for part, inside in parts.items():
        for group in inside.columns["group"]:
            found.setdefault(group, set()).add(part)
    return found


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from("abcdefghij"), min_size=12, max_size=80),
    st.integers(0, 5),
    st.lists(st.sampled_from("xyz"), min_size=80, max_size=80),
)
def test_a_group_is_in_one_part(groups: list[str], seed: int, classes: list[str]) -> None:
    data = samples(groups)
    for strata in (None, classes[: len(groups)]):
        for split in (Split(seed=seed), Split(test=0.0, seed=seed, num_folds=3, fold=1)):
            try:
                parts, _ = split_samples(data, split, strata)
            except LoupeError:
                assert len(set(groups)) < 10  # too few groups to split or deal out
                continue
            assert all(len(where) == 1 for where in side(parts).values())
            names = [name for part in parts.values() for name in part.names]
            assert sorted(names) == sorted(data.names)
            assert len(parts["train"])
            assert len(parts["val"])
            if strata:  # every class can be learned
                kept = {strata[data.names.index(name)] for name in parts["train"].names}
                if split.fold is None:
                    assert kept == set(strata)


def test_shares_are_met_as_near_as_groups_allow() -> None:
    groups = [f"patient {i % 40}" for i in range(400)]  # 40 groups of 10
    parts, origin = split_samples(samples(groups), Split(val=0.2, test=0.1))
    assert {part: len(inside) for part, inside in parts.items()} == {"train": 280, "val": 80, "test": 40}
    assert origin == "val and test drawn with data.split.seed 0, whole groups"
    again, _ = split_samples(samples(groups), Split(val=0.2, test=0.1))
    assert again == parts
    other, _ = split_samples(samples(groups), Split(val=0.2, test=0.1, seed=1))
    assert other != parts


def test_classes_are_spread_although_groups_are_whole() -> None:
    groups = [f"{i // 4}" for i in range(400)]
    classes = ["rare" if i // 4 % 10 == 0 else "common" for i in range(400)]  # 40 of 400, in 10 groups
    parts, _ = split_samples(samples(groups), Split(val=0.2, test=0.0), classes)
    held = Counter(classes[int(name.removesuffix(".png"))] for name in parts["val"].names)
    assert held == {"rare": 8, "common": 72}


def test_an_empty_group_is_a_picture_by_itself() -> None:
    parts, _ = split_samples(samples([""] * 100), Split(val=0.25, test=0.0))
    assert len(parts["val"]) == 25


@pytest.mark.parametrize("grouped", [False, True])
def test_folds_hold_every_sample_once_and_classes_evenly(grouped: bool) -> None:
    groups = [f"{i // 3}" for i in range(300)]
    names = [f"{i}.png" for i in range(300)]
    data = samples(groups) if grouped else Samples(names, names, {}, [""] * 300)
    classes = ["abc"[i // 3 % 3] for i in range(300)]
    held: list[str] = []
    tests: list[list[str]] = []
    for fold in range(5):
        parts, origin = split_samples(data, Split(test=0.1, num_folds=5, fold=fold), classes)
        held += parts["val"].names
        tests.append(parts["test"].names)
        counts = Counter(classes[int(name.removesuffix(".png"))] for name in parts["val"].names)
        assert max(counts.values()) - min(counts.values()) <= 3
        assert abs(len(parts["val"]) - 54) <= 3
        assert f"val fold {fold} of 5" in origin
    assert all(test == tests[0] for test in tests)
    assert len(held) == len(set(held)) == 300 - len(tests[0])
    assert not set(held) & set(tests[0])


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(fold=1), "num_folds is not; folds need both"),
        (Split(num_folds=5), "fold is not; folds need both"),
        (Split(num_folds=1, fold=0), "at least 2"),
        (Split(num_folds=3, fold=3), "it is 0 to 2"),
        (Split(num_folds=3, fold=-1), "it is 0 to 2"),
        (Split(num_folds=50, fold=0), "only .* pictures are there to deal out"),
    ],
)
def test_folds_that_cannot_be(split: Split, message: str) -> None:
    names = [f"{i}.png" for i in range(20)]
    with pytest.raises(LoupeError, match=message):
        split_samples(Samples(names, names, {}, [""] * 20), split)


def test_groups_that_cannot_be() -> None:
    with pytest.raises(LoupeError, match="1 groups of 20 pictures are too few"):
        split_samples(samples(["a"] * 20), Split())
    torn = samples(["a", "a", "b", "c"], ["train", "val", "train", "val"])
    with pytest.raises(LoupeError, match=r"in more than one part: 1 group: a \(train, val\)"):
        split_samples(torn, Split())
    named = samples(["a", "b", "c"], ["train", "val", "train"])
    with pytest.raises(LoupeError, match="the data names its val part"):
        split_samples(named, Split(num_folds=2, fold=0))


def test_a_manifest_names_the_groups(tmp_path: Path) -> None:
    rows = ["path,label,Group"]
    for i in range(40):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]},patient {i // 4}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    data = ClassificationDataModule(str(tmp_path))
    data.setup("fit")
    assert all(len(where) == 1 for where in side(data.samples).values())
    assert len(side(data.samples)) == 10
    assert "whole groups" in data.describe()[0]
