"""What pictures are recognised by: equal pixels, and fingerprints that survive another file."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from scipy import fft

from datamodules import read_image
from errors import LoupeError
from inspection.duplicates import _candidates, exact_groups, near_pairs
from inspection.pictures import SIDE, PictureFacts, _fingerprint, look_at

SIZE = (160, 120)


def scene(seed: int) -> Image.Image:
    """Shapes over a slope of grey, with grain: edges as photos have them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    values = 70 + 60 * rng.random() * x / SIZE[0] + 60 * rng.random() * y / SIZE[1]
    for _ in range(14):
        cx, cy, r = rng.integers(0, SIZE[0]), rng.integers(0, SIZE[1]), rng.integers(8, 40)
        inside = (
            ((x - cx) ** 2 + (y - cy) ** 2 < r * r) if rng.random() < 0.5 else (abs(x - cx) + abs(y - cy) < r)
        )
        values[inside] = rng.integers(20, 230)
    pixels = values[..., None] + rng.normal(0, 4, (*values.shape, 3)) + rng.integers(-15, 16, 3)
    return Image.fromarray(pixels.clip(0, 240).astype(np.uint8))


def resaved(picture: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=75)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


VERSIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "resaved": resaved,
    "half": lambda picture: picture.resize((SIZE[0] // 2, SIZE[1] // 2), Image.Resampling.BICUBIC),
    "larger": lambda picture: picture.resize((SIZE[0] * 3 // 2, SIZE[1] * 3 // 2), Image.Resampling.BILINEAR),
    "brighter": lambda picture: Image.eval(picture, lambda value: value + 10),
    "sharpened": lambda picture: picture.filter(ImageFilter.UnsharpMask(1, 60)),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
}


def facts_of(pictures: list[Image.Image]) -> PictureFacts:
    arrays = [torch.from_numpy(np.array(picture).transpose(2, 0, 1).copy()) for picture in pictures]
    return look_at([str(n) for n in range(len(arrays))], lambda name: arrays[int(name)], progress=False)


@pytest.mark.parametrize("version", VERSIONS)
def test_versions_of_a_picture_are_near_duplicates(version: str) -> None:
    originals = [scene(seed) for seed in range(10)]
    facts = facts_of([*originals, *map(VERSIONS[version], originals)])
    found = near_pairs(facts)
    expected = {(row, row + 10) for row in range(10)}
    assert set(found) <= expected, "never two different pictures"
    assert len(found) >= 8, f"{len(found)} of 10"
    assert exact_groups(facts) == []


def test_different_pictures_are_no_duplicates() -> None:
    facts = facts_of([scene(seed) for seed in range(300)])
    assert near_pairs(facts) == [] and exact_groups(facts) == []
    assert len({int(value) for value in facts.prints}) == 300


def test_one_object_more_is_another_picture() -> None:
    one = scene(3)
    pixels = np.array(one)
    pixels[30:90, 40:110] = 235 - pixels[30:90, 40:110]
    mirrored = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert near_pairs(facts_of([one, Image.fromarray(pixels), mirrored])) == []


def test_pictures_that_show_nothing_are_not_compared() -> None:
    rng = np.random.default_rng(0)
    flat = [
        Image.fromarray((base + rng.normal(0, 6, (SIZE[1], SIZE[0], 3))).clip(0, 255).astype(np.uint8))
        for base in (0, 90, 90, 128, 128, 255, 255)
    ]
    facts = facts_of(flat)
    assert near_pairs(facts) == [] and exact_groups(facts) == []
    assert exact_groups(facts_of([*flat[:3], flat[1]])) == [[1, 3]], "equal ones are told all the same"


def test_exact_groups_go_by_pixels(tmp_path: Path) -> None:
    picture = scene(1)
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.bmp")
    picture.save(tmp_path / "c.png", compress_level=0)
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    turned.save(tmp_path / "d.png", exif=exif)
    pixels = np.array(picture)
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(tmp_path / "e.png")
    scene(2).save(tmp_path / "f.png")
    scene(2).convert("RGBA").save(tmp_path / "g.png")
    picture.save(tmp_path / "h.jpg")
    (tmp_path / "i.png").write_bytes(b"no picture")
    (tmp_path / "j.png").write_bytes(b"no picture")
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    facts = look_at(files, read_image, progress=False)
    assert exact_groups(facts) == [[0, 1, 2, 3], [5, 6]]
    assert [bool(error) for error in facts.errors] == [False] * 8 + [True, True]
    assert files[8] in facts.errors[8] and not facts.size_hw[8:].any()
    assert facts.size_hw[0].tolist() == [SIZE[1], SIZE[0]]
    assert {(0, 4), (0, 7)} <= set(near_pairs(facts)), "a grey level off, and saved again"
    assert not {8, 9} & {row for pair in near_pairs(facts) for row in pair}


def test_other_shapes_of_the_same_bytes_are_other_pictures() -> None:
    white = [Image.new("RGB", size, "white") for size in ((20, 10), (10, 20), (20, 10))]
    assert exact_groups(facts_of(white)) == [[0, 2]]


def test_every_picture_is_looked_at_whatever_its_depth() -> None:
    rng = np.random.default_rng(0)
    deep = torch.from_numpy(rng.random((1, 40, 50), dtype=np.float32))
    many = torch.from_numpy(rng.integers(0, 256, (5, 40, 50), dtype=np.uint8))
    pictures = {"deep": deep, "deep again": deep, "many": many, "tiny": many[:, :1, :1]}
    facts = look_at(list(pictures), pictures.__getitem__, progress=False)
    assert exact_groups(facts) == [[0, 1]] and facts.size_hw.tolist() == [[40, 50]] * 3 + [[1, 1]]

    def broken(path: str) -> torch.Tensor:
        raise LoupeError(f"cannot read {path}")

    assert look_at(["x"], broken, progress=False).errors == ["cannot read x"]


@given(
    prints=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=12),
    bits=st.sets(st.integers(0, 62), max_size=3),
    row=st.integers(0, 11),
)
@settings(max_examples=300, deadline=None)
def test_a_pair_of_at_most_three_bits_is_always_a_candidate(
    prints: list[int], bits: set[int], row: int
) -> None:
    near = prints[row % len(prints)]
    for bit in bits:
        near ^= 1 << bit
    every = np.array([*prints, near], dtype=np.uint64)
    rows = np.arange(len(every))
    found = set(_candidates(every, rows))
    for one, other in combinations(range(len(every)), 2):
        if (int(every[one]) ^ int(every[other])).bit_count() <= 3:
            assert (one, other) in found
    assert (row % len(prints), len(prints)) in found


@given(st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=40), st.data())
@settings(max_examples=50, deadline=None)
def test_near_pairs_are_those_that_comparing_all_would_find(prints: list[int], data: st.DataObject) -> None:
    changed = [
        value ^ (1 << data.draw(st.integers(0, 62))) ^ (1 << data.draw(st.integers(0, 62)))
        for value in prints
    ]
    every = np.array([*prints, *changed], dtype=np.uint64)
    thumb = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)
    count = len(every)
    facts = PictureFacts(
        errors=[""] * count,
        unreadable=np.zeros(count, dtype=bool),
        size_hw=np.full((count, 2), 9, np.int32),
        digests=[row.to_bytes(16, "big") for row in range(1, count + 1)],
        prints=every,
        thumbs=np.repeat(thumb[None], count, axis=0),
    )
    expected = [
        (one, other)
        for one, other in combinations(range(count), 2)
        if (int(every[one]) ^ int(every[other])).bit_count() <= 3
    ]
    assert near_pairs(facts) == expected


def test_a_fingerprint_is_of_the_cosine_transform() -> None:
    thumb = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE), dtype=np.uint8)
    low = fft.dctn(thumb.astype(np.float64), norm="ortho")[:8, :8].ravel()[1:]
    expected = int("".join("1" if value > np.median(low) else "0" for value in low), 2)
    assert int(_fingerprint(thumb)) == expected
