"""Folders, manifests and splits: what is found, and what is refused before anything is read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules import Split
from datamodules.formats import find_masks, read_manifest
from datamodules.predict_paths import find_predict_paths
from datamodules.samples import Samples, name_some
from datamodules.splits import split_samples
from errors import LoupeError


def mask_samples(root: Path) -> Samples:
    return find_masks(root).samples


def picture(path: Path, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)
    return path


def pair(folder: Path, name: str, suffix: str = ".jpg") -> None:
    picture(folder / "images" / f"{name}{suffix}")
    picture(folder / "masks" / f"{name}.png", mode="L")


def samples(count: int, parts: list[str] | None = None) -> Samples:
    names = [f"images/{i:03d}" for i in range(count)]
    return Samples(names, [f"/{name}.png" for name in names], {}, parts or [""] * count)


# ---- folders


def test_images_and_masks_pair_by_name_whatever_the_suffix(tmp_path: Path) -> None:
    for name, suffix in [("b", ".JPG"), ("a", ".png"), ("deep/c", ".tiff")]:
        pair(tmp_path, name, suffix)
    picture(tmp_path / "images" / ".hidden.png")
    (tmp_path / "images" / "notes.txt").write_text("not a picture")
    found = mask_samples(tmp_path)
    assert found.names == ["images/a", "images/b", "images/deep/c"]
    assert [Path(p).name for p in found.paths] == ["a.png", "b.JPG", "c.tiff"]
    assert [Path(p).name for p in found.columns["mask"]] == ["a.png", "b.png", "c.png"]
    assert found.parts == ["", "", ""]


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_part_folders_by_any_usual_name(tmp_path: Path, val: str) -> None:
    for part in ("train", val, "test"):
        pair(tmp_path / part, "a")
    found = mask_samples(tmp_path)
    assert sorted(zip(found.names, found.parts, strict=True)) == sorted(
        [("train/images/a", "train"), (f"{val}/images/a", "val"), ("test/images/a", "test")]
    )


def test_partners_that_are_missing_are_counted_and_named(tmp_path: Path) -> None:
    for name in "abcde":
        picture(tmp_path / "images" / f"{name}.png")
    for name in "ax":
        picture(tmp_path / "masks" / f"{name}.png", mode="L")
    with pytest.raises(LoupeError) as caught:
        mask_samples(tmp_path)
    assert "4 of 5 pictures without a mask: b, c, d and 1 more" in str(caught.value)
    assert "1 of 2 masks without a picture: x" in str(caught.value)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    pair(tmp_path, "a", ".jpg")
    picture(tmp_path / "images" / "a.png")
    with pytest.raises(LoupeError, match=r"two files for one name: a.jpg and a.png"):
        mask_samples(tmp_path)


def test_folders_that_hold_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(LoupeError, match=r"no images/ and masks/.*it holds nothing"):
        mask_samples(tmp_path)
    with pytest.raises(LoupeError, match=r"absent does not exist"):
        mask_samples(tmp_path / "absent")
    (tmp_path / "Bilder").mkdir()
    with pytest.raises(LoupeError, match=r"it holds Bilder"):
        mask_samples(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(LoupeError, match=r"has images/ and no masks/"):
        mask_samples(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(LoupeError, match=r"images has no pictures"):
        mask_samples(tmp_path)
    with pytest.raises(LoupeError, match=r"only manifests are read: CSV"):
        mask_samples(picture(tmp_path / "a.png"))


def test_a_relative_path_is_told_from_where_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "project" / "runs"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    with pytest.raises(LoupeError) as caught:
        mask_samples(Path("cells/set1"))
    assert str(caught.value) == (
        f"data.root cells/set1 does not exist: a relative path counts from the current folder, and there is no "
        f"{here}/cells/set1; give the absolute path, /.../set1"
    )
    pair(tmp_path / "project" / "cells" / "set1", "a")
    with pytest.raises(LoupeError, match=rf"did you mean {tmp_path}/project/cells/set1\?"):
        mask_samples(Path("cells/set1"))
    with pytest.raises(LoupeError, match=rf"data.predict_path cells/a.png .* no {here}/cells/a.png"):
        find_predict_paths("cells/a.png")
    with pytest.raises(LoupeError) as caught:
        mask_samples(tmp_path / "absent")
    assert str(caught.value) == f"data.root {tmp_path}/absent does not exist"


def test_two_folders_for_one_part_are_refused(tmp_path: Path) -> None:
    for part in ("train", "val", "valid"):
        pair(tmp_path / part, "a")
    with pytest.raises(LoupeError, match=r"two folders for one part"):
        mask_samples(tmp_path)


# ---- manifests


def manifest(tmp_path: Path, text: str) -> Path:
    for name in "abc":
        picture(tmp_path / "pics" / f"{name}.png")
        picture(tmp_path / "pics" / f"{name}_m.png", mode="L")
    file = tmp_path / "manifest.csv"
    file.write_text(text, encoding="utf-8-sig")
    return file


def test_manifest_paths_are_relative_to_it(tmp_path: Path) -> None:
    text = "split, path ,mask\ntrain,pics/a.png,pics/a_m.png\nvalid,pics\\b.png, pics/b_m.png\n"
    file = manifest(tmp_path, text)
    for source in (file, tmp_path):  # the file itself, or the folder that has it
        found = mask_samples(source)
        assert found.names == ["pics/a.png", "pics/b.png"]
        assert found.paths == [str(tmp_path / "pics/a.png"), str(tmp_path / "pics/b.png")]
        assert found.columns["mask"] == [str(tmp_path / "pics/a_m.png"), str(tmp_path / "pics/b_m.png")]
        assert found.parts == ["train", "val"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\npics/a.png,1\n", r"lacks the column mask; it has: path, label"),
        ("", r"lacks the column path, mask"),
        ("path,mask\n", r"a header and no rows"),
        ("path,mask\npics/a.png,\n", r"line 2: the column mask is empty"),
        ("path,mask\npics/a.png\n", r"line 2: the column mask is empty"),
        ("path,mask\npics/a.png,pics/a_m.png,train\n", r"line 2 has more fields than the header"),
        (
            "path,mask\npics/a.png,pics/x.png\n",
            r"1 of 1 files in the column mask are missing, .*x.png; paths are",
        ),
        (
            "path,mask\npics/a.png,pics/a_m.png\npics/a.png,pics/b_m.png\n",
            r"1 picture: pics/a.png more than once",
        ),
        (
            "path,mask,split\npics/a.png,pics/a_m.png,trian\n",
            r"unknown split .* line 2 'trian' \(did you mean 'train'",
        ),
        (
            "path,mask,split\npics/a.png,pics/a_m.png, \n",
            r"line 2: the column split is empty; valid: train, val, test",
        ),
        ("path,Path ,mask\npics/a.png,pics/b.png,pics/a_m.png\n", r"has the column path more than once"),
    ],
)
def test_manifest_mistakes_name_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        mask_samples(manifest(tmp_path, text))


def test_a_manifest_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"path,mask\n\xff\xfe\x00,b\n")
    with pytest.raises(LoupeError, match=r"m.csv is not a CSV file in UTF-8"):
        read_manifest(tmp_path / "m.csv", required=["mask"])


def test_other_columns_are_kept_as_text(tmp_path: Path) -> None:
    found = read_manifest(manifest(tmp_path, "path,label\npics/a.png, cat \n"), required=["label"])
    assert found.columns == {"label": ["cat"]}


def test_column_names_in_any_letter_case(tmp_path: Path) -> None:
    text = " Path, MASK ,Split,Cell Type\npics/a.png,pics/a_m.png,val,Big\n"
    found = mask_samples(manifest(tmp_path, text))
    assert (found.names, found.parts) == (["pics/a.png"], ["val"])
    assert found.columns == {"mask": [str(tmp_path / "pics/a_m.png")], "Cell Type": ["Big"]}
    lists = tmp_path / "list.csv"
    lists.write_text("PATH\npics/b.png\n")
    assert find_predict_paths(str(lists)).paths == [str(tmp_path / "pics/b.png")]


@pytest.mark.parametrize(
    "spelling",
    [
        "./pics/a.png",
        "pics//a.png",
        "pics\\a.png",
        "../{folder}/pics/a.png",
        "{root}/pics/a.png",
        "link/a.png",
    ],
)
def test_one_picture_under_two_spellings_is_refused(tmp_path: Path, spelling: str) -> None:
    file = manifest(tmp_path, "")
    (tmp_path / "link").symlink_to(tmp_path / "pics")
    other = spelling.format(folder=tmp_path.name, root=tmp_path)
    file.write_text(f"path,mask,split\npics/a.png,pics/a_m.png,train\n{other},pics/a_m.png,val\n")
    with pytest.raises(LoupeError) as caught:
        mask_samples(file)
    also = "" if "\\" in other else f" (also as {other})"
    assert str(caught.value) == f"{file} lists 1 picture: pics/a.png{also} more than once"


def test_the_same_name_in_two_folders_is_two_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "more" / "a.png")
    file = manifest(tmp_path, "path,mask\npics/a.png,pics/a_m.png\nmore/a.png,pics/a_m.png\n")
    assert mask_samples(file).names == ["pics/a.png", "more/a.png"]


# ---- splits


def test_a_seeded_split_has_the_asked_sizes_and_every_sample_once() -> None:
    parts, origin = split_samples(samples(100), Split(val=0.2, test=0.1, seed=3))
    assert {part: len(chosen) for part, chosen in parts.items()} == {"train": 70, "val": 20, "test": 10}
    assert sorted(name for chosen in parts.values() for name in chosen.names) == samples(100).names
    assert all(chosen.names == sorted(chosen.names) for chosen in parts.values())
    assert origin == "val and test drawn with data.split.seed 3"


def test_a_split_does_not_depend_on_the_order_of_the_files() -> None:
    everything = samples(40)
    mixed = everything.take(np.random.default_rng(0).permutation(40).tolist())
    first, again = split_samples(everything, Split())[0], split_samples(mixed, Split())[0]
    for part in first:
        assert first[part] == again[part]
    assert split_samples(everything, Split(seed=1))[0]["val"] != first["val"]


def test_more_samples_move_few_of_the_others() -> None:
    before = set(split_samples(samples(200), Split(val=0.2, test=0.0))[0]["val"].names)
    after = set(split_samples(samples(204), Split(val=0.2, test=0.0))[0]["val"].names)
    assert len(before - after) <= 4


def test_parts_that_the_data_names_are_kept() -> None:
    named = ["train"] * 8 + ["test"] * 2
    parts, origin = split_samples(samples(10, named), Split(val=0.25, test=0.5))
    assert {part: len(chosen) for part, chosen in parts.items()} == {"train": 6, "val": 2, "test": 2}
    assert parts["test"].names == ["images/008", "images/009"]
    assert set(parts["val"].parts) == {"val"}
    assert origin == "train and test as the data names them, val drawn with data.split.seed 0 from train"

    parts, origin = split_samples(samples(10, ["train"] * 7 + ["val"] * 3), Split(val=0.25, test=0.5))
    assert {part: len(chosen) for part, chosen in parts.items()} == {"train": 7, "val": 3, "test": 0}
    assert origin == "parts as the data names them"


@pytest.mark.parametrize(
    ("count", "parts", "split", "message"),
    [
        (10, None, Split(val=1.2), r"data.split.val is 1.2"),
        (10, None, Split(test=-0.1), r"data.split.test is -0.1"),
        (10, None, Split(val=0.6, test=0.5), r"leave nothing to train on"),
        (2, None, Split(), r"2 pictures are too few"),
        (1, None, Split(test=0.0), r"1 pictures are too few"),
        (5, None, Split(val=0.0), r"data.split.val is 0 and the data names no val part"),
        (4, ["val"] * 4, Split(), r"only val pictures and none to train on"),
    ],
)
def test_splits_that_cannot_be(count: int, parts: list[str] | None, split: Split, message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        split_samples(samples(count, parts), split)


def test_small_shares_still_give_a_sample() -> None:
    parts, _ = split_samples(samples(3), Split(val=0.01, test=0.01))
    assert [len(parts[part]) for part in ("train", "val", "test")] == [1, 1, 1]


# ---- prediction


def test_predict_paths(tmp_path: Path) -> None:
    for name in ("b.png", "sub/a.JPG"):
        picture(tmp_path / "pics" / name)
    (tmp_path / "pics" / "readme.md").touch()
    everything = [str(tmp_path / "pics" / name) for name in ("b.png", "sub/a.JPG")]
    assert find_predict_paths(str(tmp_path / "pics")).paths == everything
    assert find_predict_paths(everything[0]).paths == everything[:1]
    (tmp_path / "list.csv").write_text("path,note\npics/sub/a.JPG,x\n")
    assert find_predict_paths(str(tmp_path / "list.csv")).paths == everything[1:]


def test_predict_paths_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for path, message in [
        (None, "give --data.predict_path"),
        (str(tmp_path / "absent"), "absent does not exist"),
        (str(tmp_path), "has no pictures"),
        (str(tmp_path / "notes.txt"), "neither a picture, a folder nor a manifest"),
    ]:
        with pytest.raises(LoupeError, match=message):
            find_predict_paths(path)


def test_name_some() -> None:
    assert name_some(["a"], "mask") == "1 mask: a"
    assert name_some(list("abcde")) == "a, b, c and 2 more"
