"""What `train.py check` says of pictures that are there twice, of classes, and of sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.tasks import CLASSIFICATION, SEGMENTATION, write_task
from tests.test_inspection_check import (
    Loupe,
    by_kind,
    cut,
    labels,
    names,
    photo,
    root,
    run_check,
    save,
    write_labels,
)

__all__ = ["root"]


def test_pictures_that_are_there_twice(loupe: Loupe, root: Path) -> None:
    save(root / "t0.png", photo(50))
    save(root / "v0.bmp", photo(50))  # the same pixels in another format: a leak
    save(root / "t2.png", photo(51))
    save(root / "t3.png", photo(51))  # two labels
    save(root / "t4.png", photo(58))
    save(root / "v2.jpg", photo(58), quality=85)  # saved again: a leak, perhaps
    save(root / "t6.png", photo(53))
    save(root / "t8.png", photo(53))  # twice with one label in one part
    rows = [("v0.bmp", "a", "val"), ("v2.jpg", "a", "val"), *labels(train=9)]
    write_labels(root, [row for row in rows if row[0] not in ("v0.png", "v2.png")])
    code, report = run_check(loupe, CLASSIFICATION, root)
    found = by_kind(report)
    assert code == 1
    assert {kind: (finding["severity"], sorted(names(finding))) for kind, finding in found.items()} == {
        "same picture, other annotation": ("error", ["t2.png", "t3.png"]),
        "same picture in two parts": ("error", ["t0.png", "v0.bmp"]),
        "near duplicates in two parts": ("warning", ["t4.png", "v2.jpg"]),
        "same picture twice": ("warning", ["t6.png", "t8.png"]),
    }
    save(root / "t0.png", photo(60))
    save(root / "t2.png", photo(61))
    code, report = run_check(loupe, CLASSIFICATION, root)
    assert code == 0 and len(report["findings"]) == 2


def test_equal_annotations_written_otherwise_are_no_conflict(loupe: Loupe, root: Path) -> None:
    """A mask saved in another way, and labels in another order."""
    write_task("segmentation", root)
    for kind, options in (("images", {}), ("masks", {"compress_level": 0})):
        twin = np.array(Image.open(root / f"train/{kind}/0.png"))
        save(root / f"train/{kind}/twin.png", twin, **options)
    code, report = run_check(loupe, SEGMENTATION, root)
    assert code == 0 and "same picture twice" in by_kind(report)
    cut(root / "train/masks/twin.png")
    kinds = set(by_kind(run_check(loupe, SEGMENTATION, root)[1]))
    assert {
        "unreadable mask",
        "same picture twice",
    } <= kinds and "same picture, other annotation" not in kinds
    twin[0, 0] = 1 - twin[0, 0]
    save(root / "train/masks/twin.png", twin)
    assert "same picture, other annotation" in by_kind(run_check(loupe, SEGMENTATION, root)[1])
    several = root.parent / "several"
    rows = [(path, label if path > "t3" else "a; b", part) for path, label, part in labels()]
    save(several / "t0.png", photo(90))
    save(several / "t1.png", photo(90))
    rows[1] = ("t1.png", "b;a", "train")
    write_labels(several, rows, header="path,labels,split")
    assert set(by_kind(run_check(loupe, CLASSIFICATION, several)[1])) == {"same picture twice"}


def test_classes_that_cannot_be_learnt_or_scored_well(loupe: Loupe, root: Path) -> None:
    rows = [(f"t{i}.png", "a" if i else "rare", "train") for i in range(12)]
    write_labels(root, [*rows, ("v0.png", "a", "val"), ("v1.png", "a", "val")])
    flag = "--data.read.class_names=[a, rare, never]"
    code, report = run_check(loupe, CLASSIFICATION, root, flag)
    found = by_kind(report)
    assert code == 0
    assert "a occurs 11 times as often as rare (11 and 1)" in found["classes out of balance"]["messages"][0]
    assert "no picture of rare;" in found["class without validation data"]["messages"][0]
    assert "nothing of never;" in found["class without training data"]["messages"][0]
    assert report["classes"]["a"] == {"train": 11, "val": 2, "test": 0}


def test_pictures_of_unusual_size(loupe: Loupe, root: Path) -> None:
    save(root / "t0.png", photo(0, (20, 40)))
    save(root / "t1.png", photo(1, (40, 201)))
    save(root / "t2.png", photo(2, (40, 200)))
    save(root / "t3.png", photo(3, (32, 32)))
    write_labels(root, labels())
    code, report = run_check(loupe, CLASSIFICATION, root)
    found = by_kind(report)
    assert code == 0
    assert {kind: names(finding) for kind, finding in found.items()} == {
        "tiny picture": ["t0.png"],
        "extreme shape": ["t1.png"],
    }
    assert "is 201x40 pixels" in found["extreme shape"]["messages"][0]
    assert report["sizes_px"]["width"] == {"min": 32, "median": 128, "max": 201}
