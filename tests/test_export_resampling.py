"""The resize rule in exported models: to the last pixel that of the reader, and the way back that of `predict`."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import Fit, InputReader, plan_fit, seen_through
from export.resampling import Resample, interpolating, place
from lightning_modules.cropping import to_original_box
from lightning_modules.restore import to_original_size

RULES = list(product(("bilinear", "bicubic"), ("letterbox", "stretch")))


def contract(
    size: tuple[int, int], resize: str = "letterbox", interpolation: str = "bilinear"
) -> dict[str, Any]:
    return {"image_size": list(size), "resize": resize, "interpolation": interpolation, "in_channels": 3}


def whole(height: int, width: int) -> torch.Tensor:
    return torch.tensor([[0, 0, height, width]])


def noise(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("size", [(224, 224), (256, 192), (37, 65)])
def test_the_letterbox_is_that_of_the_reader_for_every_size(size: tuple[int, int]) -> None:
    sizes = np.random.default_rng(0).integers(1, 3000, (8000, 2))
    windows = torch.from_numpy(np.concatenate([np.zeros_like(sizes), sizes], axis=1))
    where = place(windows, size, "letterbox")
    fits = [plan_fit((h, w), size, "letterbox") for h, w in sizes.tolist()]
    assert where.inner.tolist() == [list(fit.inner_hw) for fit in fits]
    assert where.corner.tolist() == [list(fit.corner_yx) for fit in fits]


def test_halves_are_rounded_to_even_numbers() -> None:
    # 64 / 128 of 5 and of 7 rows is 2.5 and 3.5
    assert place(torch.tensor([[0, 0, 5, 128], [0, 0, 7, 128]]), (64, 64), "letterbox").inner[
        :, 0
    ].tolist() == [2, 4]


def test_three_pixels_become_one_by_the_triangle() -> None:
    where = place(whole(1, 3), (1, 1), "stretch")
    weights = interpolating(where, 1, 3, 1, "bilinear", whole=False)[0, 0]
    assert weights.tolist() == pytest.approx([2 / 7, 3 / 7, 2 / 7])  # 1 - |distance| / 3: 2/3, 1, 2/3
    rounded = interpolating(where, 1, 3, 1, "bilinear", whole=True)[0, 0]
    assert (rounded * 2**16).tolist() == [18725, 28087, 18725]  # 3/7 of 2^16 is below 2^15, of 2^17 it is not


@pytest.mark.parametrize(("interpolation", "resize"), RULES)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_bytes_are_those_of_torchvision(interpolation: str, resize: str, channels: int) -> None:
    rng = np.random.default_rng(channels)
    other = total = 0
    for number in range(30):
        low, high = ((1, 40), (40, 500))[number % 2]
        height, width, *size = (*rng.integers(low, high, 2).tolist(), *rng.integers(16, 200, 2).tolist())
        picture = noise(rng, height, width, channels).permute(2, 0, 1)
        picture = picture.contiguous() if number % 3 else picture  # as PNGs come, and as JPEGs come
        want = plan_fit((height, width), tuple(size), resize, interpolation).image(picture)
        found, _ = Resample(contract(tuple(size), resize, interpolation))(picture[None])
        difference = (found[0].int() - want.int()).abs()
        assert int(difference.max()) <= 1, (height, width, size)
        other, total = other + int(difference.sum()), total + difference.numel()
    # What is left: sums of float32 that end a last bit away from a half. Measured: 5e-6 bilinear, 1e-4 bicubic.
    assert other / total < (2e-5 if interpolation == "bilinear" else 3e-4)


@pytest.mark.parametrize(("interpolation", "resize"), RULES)
def test_floats_are_those_of_torchvision(interpolation: str, resize: str) -> None:
    rng = np.random.default_rng(1)
    for height, width, *size in [(90, 120, 64, 64), (31, 17, 64, 48), (200, 100, 33, 65), (64, 64, 64, 64)]:
        picture = noise(rng, 3, height, width) / 255
        want = plan_fit((height, width), tuple(size), resize, interpolation).image(picture)
        found, _ = Resample(contract(tuple(size), resize, interpolation), floats=True)(picture[None])
        torch.testing.assert_close(found[0], want, atol=2e-5, rtol=0)


def windows_of(rng: np.random.Generator, height: int, width: int, count: int) -> torch.Tensor:
    tall, wide = rng.integers(1, height + 1, count), rng.integers(1, width + 1, count)
    top, left = (rng.integers(0, side - part + 1) for side, part in ((height, tall), (width, wide)))
    return torch.from_numpy(np.stack([top, left, tall, wide], axis=1))


def fit_of(window: torch.Tensor, picture: tuple[int, int], rule: dict[str, Any]) -> Fit:
    fit = plan_fit(picture, tuple(rule["image_size"]), rule["resize"], rule["interpolation"])
    top, left, height, width = window.tolist()
    return seen_through(fit, (top, left, height, width))


@pytest.mark.parametrize(("interpolation", "resize"), RULES)
def test_each_picture_of_a_batch_is_seen_through_its_own_window(interpolation: str, resize: str) -> None:
    rng = np.random.default_rng(2)
    rule, pictures = contract((48, 64), resize, interpolation), noise(rng, 12, 3, 90, 130)
    windows = windows_of(rng, 90, 130, 12)
    found, _ = Resample(rule)(pictures, windows)
    for picture, window, shown in zip(pictures, windows, found, strict=True):
        want = fit_of(window, (90, 130), rule).image(picture)
        assert int((shown.int() - want.int()).abs().max()) <= 1
        assert float((shown == want).float().mean()) > 0.999


@pytest.mark.parametrize("size", [(90, 130), (48, 64)])
def test_a_fixed_size_changes_nothing(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    rule, pictures = contract((48, 64)), noise(rng, 2, 3, *size)
    (free, way), (fixed, constant) = (
        Resample(rule, picture_size=given, maps=True)(pictures) for given in (None, size)
    )
    assert torch.equal(free, fixed)
    assert all(torch.equal(one, other) for one, other in zip(way, constant, strict=True))


def test_a_picture_of_the_networks_size_is_left_as_it_is() -> None:
    picture = noise(np.random.default_rng(4), 1, 3, 48, 64)
    assert torch.equal(Resample(contract((48, 64), interpolation="bicubic"))(picture)[0], picture)


def test_files_of_the_reader_are_met(tmp_path: Any) -> None:
    """The whole chain that a program without Loupe has: Pillow's pixels, then the exported rule."""
    from PIL import Image

    rng = np.random.default_rng(5)
    array = noise(rng, 75, 50, 3).numpy()
    Image.fromarray(array).save(tmp_path / "p.png")
    want = InputReader(contract((64, 64)))(tmp_path / "p.png")["image"]
    pixels = torch.from_numpy(np.array(Image.open(tmp_path / "p.png"))).permute(2, 0, 1)
    assert torch.equal(Resample(contract((64, 64)))(pixels[None])[0][0], want)


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("picture", [(90, 130), (20, 33), (48, 64), (300, 11)])
def test_maps_go_back_as_predict_puts_them_back(resize: str, picture: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    rule = contract((48, 64), resize)
    windows = torch.cat([windows_of(rng, *picture, 5), whole(*picture)])
    probs = torch.rand(6, 3, 48, 64).softmax(1)
    _, way = Resample(rule, maps=True)(noise(rng, 6, 3, *picture), windows)
    found = way.maps_back(probs)
    for one, window, restored in zip(probs, windows, found, strict=True):
        fit = fit_of(window, picture, rule)
        want = to_original_size(one, fit.to_original, picture, fit.seen)
        torch.testing.assert_close(restored, want, atol=1e-4, rtol=0)


def test_boxes_go_back_and_are_cut_at_the_border() -> None:
    rng = np.random.default_rng(7)
    rule, picture = contract((48, 64)), (90, 130)
    windows = windows_of(rng, *picture, 20)
    corners = torch.rand(20, 4) * 1.4 - 0.2
    _, way = Resample(rule)(noise(rng, 20, 3, *picture), windows)
    moves = torch.stack([fit_of(window, picture, rule).to_original for window in windows])
    limit = torch.tensor([130.0, 90.0, 130.0, 90.0])
    want = torch.minimum(to_original_box(corners, (48, 64), moves).clamp(min=0), limit)
    torch.testing.assert_close(way.boxes_back(corners), want, atol=1e-3, rtol=1e-6)
    assert bool(((way.boxes_back(corners) == 0) | (way.boxes_back(corners) == limit)).any())
