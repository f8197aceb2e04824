"""Pictures that are there twice, in every pixel or nearly."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from inspection.pictures import PictureFacts

__all__ = ["exact_groups", "near_pairs"]

_BITS = 3  # that may differ between two fingerprints
_BANDS = 4  # of 16 bits: where at most 3 bits differ, one band is the same in both
_CROWD = 2_000  # pictures in one band's bucket that are compared with each other; more are as good as empty pictures
_ALIKE = 0.98  # smallest correlation of two thumbnails
_FLAT = 4.0  # standard deviation of a thumbnail, grey levels, below which a picture shows nothing


def exact_groups(facts: PictureFacts) -> list[list[int]]:
    """Rows of pictures that are equal in every pixel, two or more together."""
    found: dict[bytes, list[int]] = {}
    for row, digest in enumerate(facts.digests):
        if digest:
            found.setdefault(digest, []).append(row)
    return [rows for rows in found.values() if len(rows) > 1]


def near_pairs(facts: PictureFacts) -> list[tuple[int, int]]:
    """Pairs of rows that show the same but are not equal: saved again, resized, sharpened.

    Two fingerprints differ in at most 3 of 63 bits, and the thumbnails correlate by 0.98; pictures that show nothing
    are not compared. Sorted.
    """
    thumbs = facts.thumbs.reshape(len(facts.thumbs), -1)
    # one by one: as floats all thumbnails together take four times their memory, gigabytes for a million
    spread = np.fromiter((thumb.std(dtype=np.float32) for thumb in thumbs), np.float32, len(thumbs))
    usable = np.flatnonzero(
        (spread > _FLAT) & np.array([bool(digest) for digest in facts.digests], dtype=bool)
    )
    pairs: set[tuple[int, int]] = set()
    for one, other in _candidates(facts.prints, usable):
        if (one, other) in pairs or facts.digests[one] == facts.digests[other]:
            continue
        if int(facts.prints[one] ^ facts.prints[other]).bit_count() > _BITS:
            continue
        a, b = (thumbs[row].astype(np.float32) - thumbs[row].mean() for row in (one, other))
        if float(a @ b) / (len(a) * float(spread[one]) * float(spread[other])) >= _ALIKE:
            pairs.add((one, other))
    return sorted(pairs)


def _candidates(prints: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs that have a band in common."""
    for band in range(_BANDS):
        keys = (prints[rows] >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(keys, kind="stable")
        edges = np.flatnonzero(np.diff(keys[order])) + 1
        for bucket in np.split(rows[order], edges):
            if 1 < len(bucket) <= _CROWD:
                yield from combinations(sorted(bucket.tolist()), 2)
