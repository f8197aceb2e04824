"""The largest connected piece of a mask, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from datamodules.pieces import largest_piece


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.05, 0.95), st.integers(0, 10**6))
def test_as_scipy_labels_it(height: int, width: int, share: float, seed: int) -> None:
    inside = np.random.default_rng(seed).random((height, width)) < share
    pieces, count = ndimage.label(inside, structure=np.ones((3, 3)))
    found = largest_piece(inside)
    if not count:
        assert not found.any()
        return
    sizes = np.bincount(pieces.ravel())[1:]
    (number,) = np.unique(pieces[found])
    assert number and np.array_equal(found, pieces == number)
    assert sizes[number - 1] == sizes.max()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (300, 200)])
def test_full_and_empty(size: tuple[int, int]) -> None:
    for inside in (np.ones(size, dtype=bool), np.zeros(size, dtype=bool)):
        assert np.array_equal(largest_piece(inside), inside)


def test_pieces_that_meet_at_a_corner_are_one_and_those_in_neighbouring_rows_ends_are_two() -> None:
    corner = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=bool)
    assert np.array_equal(largest_piece(corner), corner)
    apart = np.array(
        [[0, 0, 0, 1], [1, 1, 0, 0]], dtype=bool
    )  # the end of one row is not beside the next one's start
    assert largest_piece(apart).tolist() == [[False] * 4, [True, True, False, False]]
