"""Outlines and run lengths as pixels: by hand, and as pycocotools has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as judge

from datamodules.polygons import decode_run_lengths, fill_polygon

# --- polygons -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corners", "rows"),
    [
        ([1, 1, 4, 1, 4, 3, 1, 3], [".....", ".###.", ".###.", "....."]),
        # a pixel belongs to it where its middle does: 0.5 up to and without 2.5 are the columns 0 and 1
        ([0.5, 0, 2.5, 0, 2.5, 1, 0.5, 1], ["##...", ".....", ".....", "....."]),
        ([0.51, 0, 2.51, 0, 2.51, 1, 0.51, 1], [".##..", ".....", ".....", "....."]),
        # row y has its middle at y + 0.5, where this triangle is y + 0.5 wide
        ([0, 0, 4, 4, 0, 4], [".....", "#....", "##...", "###.."]),
        # it reaches beyond the canvas on every side
        ([-9, -9, 99, -9, 99, 2, -9, 2], ["#####", "#####", ".....", "....."]),
        # a ring by even-odd: its inner square is run through in the same direction
        ([0, 0, 5, 0, 5, 4, 0, 4, 0, 0, 1, 1, 4, 1, 4, 3, 1, 3, 1, 1, 0, 0], ["#####", "#...#", "#...#", "#####"]),
        ([1, 1, 4, 1, 2, 1], [".....", ".....", ".....", "....."]),
        ([9, 9, 12, 9, 12, 12], [".....", ".....", ".....", "....."]),
    ],
)  # fmt: skip
def test_polygons_by_hand(corners: list[float], rows: list[str]) -> None:
    for turned in (corners, [v for pair in zip(corners[-2::-2], corners[::-2], strict=True) for v in pair]):
        canvas = np.zeros((4, 5), dtype=bool)
        fill_polygon(canvas, turned)
        assert ["".join(".#"[int(v)] for v in row) for row in canvas] == rows


def test_filling_adds_to_what_is_there() -> None:
    canvas = np.zeros((4, 5), dtype=bool)
    canvas[1, 1] = canvas[3, 4] = True
    fill_polygon(canvas, [1, 1, 3, 1, 3, 2, 1, 2])
    assert np.argwhere(canvas).tolist() == [[1, 1], [1, 2], [3, 4]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside pycocotools 2.0
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0, 30)), min_size=3, max_size=12))
def test_polygons_as_pycocotools_to_within_the_border(points: list[tuple[float, float]]) -> None:
    """Theirs counts pixels by rounded corners, so the two may differ where a pixel's middle is near an edge."""
    corners = [value for point in points for value in point]
    canvas = np.zeros((30, 40), dtype=bool)
    fill_polygon(canvas, corners)
    theirs = judge.decode(judge.merge(judge.frPyObjects([corners], 30, 40))).astype(bool)
    yy, xx = np.mgrid[:30, :40] + 0.5
    near = np.zeros((30, 40), dtype=bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        share = np.clip(((xx - x0) * (x1 - x0) + (yy - y0) * (y1 - y0)) / length, 0, 1) if length else 0
        near |= np.hypot(xx - x0 - share * (x1 - x0), yy - y0 - share * (y1 - y0)) < 1.0
    assert (canvas == theirs)[~near].all()


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 10**6))
def test_run_lengths_as_pycocotools_exactly(height: int, width: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    packed = judge.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert (decode_run_lengths(packed["counts"].decode(), (height, width)) == mask).all()
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    runs = [0, *runs] if flat[0] else runs
    assert (decode_run_lengths(runs, (height, width)) == mask).all()


def test_long_runs_are_uncompressed_too() -> None:
    """Numbers of more than five bits, and differences below zero."""
    mask = np.zeros((1000, 900), np.uint8)
    mask[3:990, 5:880] = 1
    mask[400, 5:880] = 0
    packed = judge.encode(np.asfortranarray(mask))["counts"].decode()
    assert (decode_run_lengths(packed, (1000, 900)) == (mask == 1)).all()


@pytest.mark.parametrize("counts", [[3], [5], [-1, 5], "4", "3", "\x7f", "T", "é"])
def test_run_lengths_of_another_size(counts: str | list[int]) -> None:
    if counts == "4":
        assert not decode_run_lengths(counts, (2, 2)).any()
        return
    with pytest.raises(ValueError, match="run lengths"):
        decode_run_lengths(counts, (2, 2))
