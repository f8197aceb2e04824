"""The place of a picture in the network input, and the way back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules import fit_to, plan_fit
from datamodules.geometry import GREY, VOID
from errors import LoupeError

sides = st.integers(1, 700)


def test_letterbox_centres_a_wide_picture_between_grey_bars() -> None:
    image = torch.full((3, 50, 100), 200, dtype=torch.uint8)
    out, to_original = fit_to(image, (64, 64), "letterbox")
    assert out.shape == (3, 64, 64)
    assert out.dtype == torch.uint8
    assert (out[:, 16:48] == 200).all()
    assert (out[:, :16] == GREY).all()
    assert (out[:, 48:] == GREY).all()
    # 100 px became 64: x * 100/64; rows start at 16: (y - 16) * 50/32
    assert to_original.tolist() == [[1.5625, 0.0, 0.0], [0.0, 1.5625, -25.0]]


def test_stretch_fills_the_input() -> None:
    out, to_original = fit_to(torch.full((3, 50, 100), 9, dtype=torch.uint8), (64, 32), "stretch")
    assert out.shape == (3, 64, 32)
    assert (out == 9).all()
    assert to_original.tolist() == [[3.125, 0.0, 0.0], [0.0, 0.78125, 0.0]]


def test_a_picture_of_the_right_size_is_untouched() -> None:
    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    out, to_original = fit_to(image, (40, 60), "letterbox")
    assert torch.equal(out, image)
    assert to_original.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_shrinking_averages() -> None:
    """Alternate black and white columns become grey, where plain bilinear sampling keeps stripes."""
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, :, ::2] = 254
    out, _ = fit_to(image, (8, 8), "letterbox")
    assert (out.int() - 127).abs().max() <= 9


def test_mask_keeps_its_values_and_is_void_around() -> None:
    mask = torch.zeros(50, 100, dtype=torch.uint8)
    mask[:, 50:] = 7
    out = plan_fit((50, 100), (64, 64), "letterbox").mask(mask)
    assert out.shape == (64, 64)
    assert (out[16:48, :32] == 0).all()
    assert (out[16:48, 32:] == 7).all()
    assert (out[:16] == VOID).all()
    assert (out[48:] == VOID).all()


def test_mask_and_image_land_on_the_same_pixels() -> None:
    """A picture that is its own mask: after a threshold both agree but for the edge."""
    mask = torch.zeros(90, 120, dtype=torch.uint8)
    mask[20:70, 30:100] = 1
    fit = plan_fit((90, 120), (64, 64), "letterbox")
    image = fit.image((mask * 255).expand(3, -1, -1).contiguous())[0]
    kept = fit.mask(mask)
    inside = kept != VOID
    assert ((image > 127) == (kept == 1))[inside].float().mean() > 0.98


@given(height=sides, width=sides, target=st.tuples(st.integers(8, 300), st.integers(8, 300)))
def test_to_original_maps_the_inner_corners_to_the_picture_corners(
    height: int, width: int, target: tuple[int, int]
) -> None:
    for resize in ("letterbox", "stretch"):
        fit = plan_fit((height, width), target, resize)
        (top, left), (inner_h, inner_w) = fit.corner_yx, fit.inner_hw
        assert 0 <= top <= target[0] - inner_h
        assert 0 <= left <= target[1] - inner_w
        assert inner_h == target[0] or inner_w == target[1]
        corners = torch.tensor([[left, top, 1.0], [left + inner_w, top + inner_h, 1.0]]).T
        back = fit.to_original @ corners
        torch.testing.assert_close(back, torch.tensor([[0.0, width], [0.0, height]]), atol=1e-2, rtol=1e-4)


def test_a_very_long_picture_keeps_at_least_a_pixel() -> None:
    out, _ = fit_to(torch.zeros(3, 1, 5000, dtype=torch.uint8), (32, 32), "letterbox")
    assert out.shape == (3, 32, 32)
    assert plan_fit((1, 5000), (32, 32), "letterbox").inner_hw == (1, 32)


def test_an_unknown_rule_is_refused_by_name() -> None:
    with pytest.raises(LoupeError, match="'leterbox' \\(did you mean 'letterbox'"):
        plan_fit((10, 10), (10, 10), "leterbox")  # type: ignore[arg-type]
