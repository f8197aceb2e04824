"""Windows of pictures: where they lie, what they show, and that masks, boxes and the way back follow them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from datamodules import (
    Augment,
    ClassificationDataModule,
    CropDataModule,
    Fit,
    InputReader,
    Loader,
    SegmentationDataModule,
    plan_fit,
)
from datamodules.cropping import BoxTarget
from datamodules.crops import RandomCrop, create_crop
from datamodules.options import Resize
from errors import LoupeError
from tests.tasks import write_task

WINDOW = (20, 40, 60, 100)  # y, x, height, width


def places(height: int, width: int) -> Tensor:
    """A picture that says where it is: red is x of the pixel's middle, green its y, both over 255."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)]) / 255


def assert_leads_back(fit: Fit, atol: float) -> None:
    """Each network pixel, a step away from the border, shows the place of the original that `to_original` names."""
    shown = fit.image(places(*fit.size_hw_px))[:2] * 255
    (top, left), (height, width) = fit.corner_yx, fit.inner_hw
    y, x = torch.meshgrid(torch.arange(height) + top + 0.5, torch.arange(width) + left + 0.5, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)]).reshape(3, -1)
    back = (fit.to_original @ points).reshape(2, height, width)
    inner = shown[:, top : top + height, left : left + width]
    edge = 3
    assert min(height, width) > 2 * edge
    torch.testing.assert_close(
        inner[:, edge:-edge, edge:-edge], back[:, edge:-edge, edge:-edge], atol=atol, rtol=0
    )


def test_a_window_by_hand() -> None:
    """60 x 100 pixels from (x 40, y 20) in an input of 50 x 50: half the size, 10 rows of grey above and below."""
    fit = Fit((120, 200), (50, 50), (30, 50), (10, 0), window=WINDOW)
    assert fit.to_original.tolist() == [[2.0, 0.0, 40.0], [0.0, 2.0, 0.0]]
    assert (fit.to_original @ torch.tensor([25.0, 25.0, 1.0])).tolist() == [90.0, 50.0]
    assert fit.seen == WINDOW
    assert fit.whole_hw == (60, 100)
    assert_leads_back(fit, 1e-3)
    grey = fit.image(places(120, 200))[:, :10]
    assert torch.equal(grey, torch.full_like(grey, 114 / 255))
    mask = torch.zeros(120, 200, dtype=torch.uint8)
    mask[30:50, 60:100] = 1
    moved = fit.mask(mask)
    expected = torch.full((50, 50), 255, dtype=torch.uint8)
    expected[10:40] = 0
    expected[15:25, 10:30] = 1
    assert torch.equal(moved, expected)
    assert fit.box(torch.tensor([60.0, 30.0, 100.0, 50.0])).tolist() == [10.0, 15.0, 30.0, 25.0]


def test_a_window_at_its_own_size_is_a_plain_cut() -> None:
    picture = torch.randint(0, 256, (3, 120, 200), dtype=torch.uint8)
    fit = Fit((120, 200), (60, 100), (60, 100), (0, 0), window=WINDOW)
    assert torch.equal(fit.image(picture), picture[:, 20:80, 40:140])
    assert torch.equal(fit.mask(picture[0]), picture[0, 20:80, 40:140])


@pytest.mark.parametrize(
    ("box", "expected", "seen"),
    [
        ((20, 30, 60, 200), (0, 15, 10, 40), True),  # cut at the left and at the lower edge of the window
        ((0, 0, 200, 120), (0, 10, 50, 40), True),  # larger than the window
        ((10, 30, 40, 50), None, False),  # ends where the window begins
        ((150, 90, 190, 110), None, False),
    ],
)
def test_a_box_is_cut_at_the_window_or_gone(
    box: tuple[int, ...], expected: tuple[int, ...] | None, seen: bool
) -> None:
    fit = Fit((120, 200), (50, 50), (30, 50), (10, 0), window=WINDOW)
    target = BoxTarget(np.array([box], np.float32))
    sample = target(0, fit)
    assert sample["has_box"].item() is seen
    if expected is not None:
        assert sample["box"][0].tolist() == list(expected)
        done = target.finish({"image": torch.zeros(3, 50, 50), **sample})
        torch.testing.assert_close(done["box"], torch.tensor(expected) / 50)
    empty = BoxTarget(np.full((1, 4), np.nan, np.float32))(0, fit)
    assert not empty["has_box"]


sides = st.integers(16, 200)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["random_resized", "scale_jitter"]),
    picture=st.tuples(sides, sides),
    size=st.tuples(st.integers(8, 96), st.integers(8, 96)),
    resize=st.sampled_from(["letterbox", "stretch"]),
    seed=st.integers(0, 1000),
    at=st.none() | st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_windows_are_inside_and_hold_the_point(
    kind: str,
    picture: tuple[int, int],
    size: tuple[int, int],
    resize: Resize,
    seed: int,
    at: tuple[float, float] | None,
) -> None:
    crop = create_crop(Augment(crop=kind, foreground=1.0), has_point=True)  # type: ignore[arg-type]
    assert crop is not None
    whole = plan_fit(picture, size, resize)
    point = None if at is None else (at[0] * picture[0], at[1] * picture[1])
    fit = crop.plan(whole, np.random.default_rng(seed), point)
    y, x, height, width = fit.seen
    assert height >= 1 and width >= 1
    assert 0 <= y <= y + height <= picture[0] and 0 <= x <= x + width <= picture[1]
    for axis in (0, 1):
        assert fit.inner_hw[axis] >= 1
        assert 0 <= fit.corner_yx[axis] <= fit.size_hw[axis] - fit.inner_hw[axis]
    assert fit.size_hw == size and fit.size_hw_px == picture
    assert fit.image(torch.zeros(3, *picture, dtype=torch.uint8)).shape == (3, *size)
    if point is not None:
        assert y <= point[0] < y + height and x <= point[1] < x + width
    if resize == "letterbox" and min(fit.inner_hw) >= 8:  # both scales agree, up to a rounded pixel
        ratio = (fit.inner_hw[0] / height) / (fit.inner_hw[1] / width)
        slack = sum(0.5 / side for side in (*fit.inner_hw, height, width))
        assert abs(math.log(ratio)) <= 2 * slack


@pytest.mark.parametrize("picture", [(300, 300), (200, 300), (300, 200)])
def test_the_area_is_within_the_scale_and_the_shape_within_its_range(picture: tuple[int, int]) -> None:
    crop = create_crop(Augment(crop="random_resized", crop_scale=(0.2, 0.5)), has_point=False)
    assert crop is not None
    rng = np.random.default_rng(0)
    fits = [crop.plan(plan_fit(picture, (64, 64), "stretch"), rng) for _ in range(300)]
    shares = [fit.seen[2] * fit.seen[3] / (picture[0] * picture[1]) for fit in fits]
    assert min(shares) >= 0.195 and max(shares) <= 0.505
    assert min(shares) < 0.24 and max(shares) > 0.46, "the whole range is used"
    ratios = [fit.seen[3] / fit.seen[2] for fit in fits]
    assert min(ratios) >= 0.74 and max(ratios) <= 1.35 and min(ratios) < 0.85 and max(ratios) > 1.2
    assert {fit.inner_hw for fit in fits} == {(64, 64)}, "stretch fills the input"


@pytest.mark.parametrize("picture", [(300, 300), (200, 300)])
def test_letterbox_keeps_the_shape_of_windows_of_square_pictures_too(picture: tuple[int, int]) -> None:
    crop = RandomCrop("random_resized", (0.3, 0.6), 0.0)
    rng = np.random.default_rng(1)
    for _ in range(50):
        fit = crop.plan(plan_fit(picture, (64, 64), "letterbox"), rng)
        _, _, height, width = fit.seen
        scale = 64 / max(height, width)
        assert fit.inner_hw == (round(height * scale), round(width * scale))


@pytest.mark.parametrize(
    ("factor", "window", "inner"),
    [(2.0, (100, 100), (64, 64)), (4.0, (50, 50), (64, 64)), (0.5, (100, 200), (16, 32))],
)
def test_scale_jitter_by_hand(factor: float, window: tuple[int, int], inner: tuple[int, int]) -> None:
    """100 x 200 in 64 x 64 is 32 x 64; twice as large 64 x 128, of which 64 x 64 fit: all the height, half across."""
    crop = RandomCrop("scale_jitter", (factor, factor), 0.0)
    fit = crop.plan(plan_fit((100, 200), (64, 64), "letterbox"), np.random.default_rng(0))
    assert fit.seen[2:] == window
    assert fit.inner_hw == inner


def test_a_random_window_leads_back() -> None:
    rng = np.random.default_rng(3)
    for kind in ("random_resized", "scale_jitter"):
        crop = create_crop(Augment(crop=kind), has_point=False)  # type: ignore[arg-type]
        assert crop is not None
        for _ in range(20):  # resizing weighs whole pixels: a little beside the middle
            assert_leads_back(crop.plan(plan_fit((180, 240), (96, 96), "letterbox"), rng), 0.2)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("channels", [1, 3])
def test_windows_of_large_jpegs_are_those_of_the_whole_picture(
    tmp_path: Path, channels: int, orientation: int
) -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((1500, 1000), Image.Resampling.BICUBIC)).astype(int)
    grain = np.clip(smooth + rng.integers(-9, 9, (1000, 1500, 1)), 0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(grain).save(tmp_path / "a.jpg", quality=95, exif=exif)
    assert (tmp_path / "a.jpg").stat().st_size > 100_000
    contract = {"image_size": [80, 80], "resize": "letterbox", "in_channels": channels}
    reader = InputReader(contract)
    whole = reader.decode(tmp_path / "a.jpg")
    crop = RandomCrop("random_resized", (0.3, 0.9), 0.0)
    for seed in range(12):
        sample, fit = reader.sample(
            tmp_path / "a.jpg", window=lambda fit, s=seed: crop.plan(fit, np.random.default_rng(s))
        )
        assert fit == crop.plan(reader.fit((whole.shape[1], whole.shape[2])), np.random.default_rng(seed))
        expected = fit.image(whole)
        assert sample["image"].shape == expected.shape == (channels, 80, 80)
        difference = (sample["image"].int() - expected.int()).abs().float()
        assert difference.mean() < 1.0
        assert torch.equal(sample["to_original"], fit.to_original)
        shifted = replace(fit, window=(fit.seen[0], fit.seen[1] - 30, *fit.seen[2:]))
        if fit.seen[1] >= 30:  # the judge would see a window that is two network pixels off
            assert (shifted.image(whole).int() - expected.int()).abs().float().mean() > 2


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (Augment(crop_scale=(0.5, 1.0)), "crop_scale is set and data.augment.crop is none"),
        (Augment(foreground=0.5), "foreground is set and data.augment.crop is none"),
        (Augment(crop="scale_jitter", foreground=1.5), "foreground is 1.5; it is a chance from 0 to 1"),
        (Augment(crop="random_resized", crop_scale=(0.5, 1.5)), r"crop_scale is \[0.5, 1.5\]; .* shares"),
        (Augment(crop="random_resized", crop_scale=(0.0, 1.0)), "0 < smallest"),
        (
            Augment(crop="scale_jitter", crop_scale=(2.0, 0.5)),
            r"\[2, 0.5\]; for scale_jitter they are factors",
        ),
        (Augment(crop="scale_jitter", crop_scale=(1.0, float("inf"))), "factors"),
        (Augment(crop="scale_jitter", crop_scale=(float("nan"), 1.0)), "factors"),
    ],
)
def test_bad_settings_are_refused_by_name(augment: Augment, message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        create_crop(augment, has_point=True)


def test_a_classifier_has_no_foreground_and_a_cache_no_windows(tmp_path: Path) -> None:
    root = str(write_task("classification", tmp_path / "c"))
    for augment, loader, message in (
        (Augment(crop="scale_jitter", foreground=0.5), Loader(), "a classifier's pictures have none"),
        (Augment(crop="scale_jitter"), Loader(cache="memory"), "leave one of them out"),
    ):
        data = ClassificationDataModule(root, image_size=32, augment=augment, loader=loader)
        data.setup("fit")
        with pytest.raises(LoupeError, match=message):
            data.train_dataloader()


@pytest.mark.parametrize("kind", ["random_resized", "scale_jitter"])
def test_training_samples_show_objects_and_validation_the_whole(tmp_path: Path, kind: str) -> None:
    """With foreground 1 each window has a pixel of the object; image, mask and box agree about where it is."""
    augment = Augment(crop=kind, foreground=1.0)  # type: ignore[arg-type]
    loader = Loader(batch_size=4, num_workers=0)
    masks = SegmentationDataModule(
        str(write_task("segmentation", tmp_path / "s")), image_size=32, augment=augment, loader=loader
    )
    boxes = CropDataModule(
        str(write_task("cropping", tmp_path / "b")), image_size=32, augment=augment, loader=loader
    )
    for data in (masks, boxes):
        data.setup("fit")
    for epoch in range(3):
        train_masks, train_boxes = masks.train_dataloader(), boxes.train_dataloader()
        for loader_ in (train_masks, train_boxes):
            loader_.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch in train_masks:
            assert (batch["mask"] == 1).flatten(1).any(1).all()
            bright = batch["image"].float().mean(1)
            for picture, mask in zip(bright, batch["mask"], strict=True):
                assert picture[mask == 1].mean() > 150
        for batch in train_boxes:
            for picture, box, has, index in zip(
                batch["image"], batch["box"], batch["has_box"], batch["index"], strict=True
            ):
                assert has.item() == (index.item() != 3)
                if has:
                    x1, y1, x2, y2 = (box * 32).round().int().tolist()
                    if x2 > x1 and y2 > y1:
                        assert picture[:, y1:y2, x1:x2].float().mean() > 140
    for batch in masks.val_dataloader():
        assert torch.equal(batch["to_original"], torch.eye(2, 3).expand(4, 2, 3))
