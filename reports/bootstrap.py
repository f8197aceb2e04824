"""How far a score may be off because the data could have been other pictures: percentile intervals."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["RESAMPLES", "Interval", "intervals", "resamples"]

RESAMPLES = 1000
_SEED = 20_260_101
_BLOCK_ELEMENTS = 2_000_000  # weights at a time: 8 MB
_ABSENT = 0.05  # share of resamples in which a score may be absent

#: Weights (N, R) of the pictures in R resamples -> scores, each (R,), or (K, R) where it is of classes.
Scores = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Interval:
    """The 95 % intervals of one score, or of one score of each class.

    Attributes:
        low: The lower ends, () or (K,); NaN where there is no interval.
        high: The upper ends, likewise.
        values: The score in each resample, (R,) or (K, R).
    """

    low: np.ndarray
    high: np.ndarray
    values: np.ndarray


def resamples(size: int, group: np.ndarray | None = None, *, count: int = RESAMPLES) -> Iterator[np.ndarray]:
    """How often each picture is drawn, float32 (N, R), in blocks of R resamples, ``count`` over all blocks.

    Each resample draws as many pictures as there are, with replacement; with groups as many groups as there are, each
    with all its pictures (Davison and Hinkley 1997, section 3.8). The seed is fixed: the same data give the same
    weights, so that two runs on the same pictures are resampled alike.

    Args:
        size: Number of pictures N.
        group: Pictures of the same number are not independent of each other, (N,).
        count: Number of resamples.

    >>> [block.sum(0).tolist() for block in resamples(5, count=3)]
    [[5.0, 5.0, 5.0]]
    """
    rng = np.random.default_rng(_SEED)
    member = np.arange(size) if group is None else np.unique(group, return_inverse=True)[1].reshape(-1)
    units = int(member.max()) + 1 if size else 0
    step = max(1, min(64, _BLOCK_ELEMENTS // max(1, size)))
    for first in range(0, count, step):
        block = min(step, count - first)
        drawn = [np.bincount(rng.integers(0, units, units), minlength=units) for _ in range(block)]
        weights = np.stack(drawn, axis=1).astype(np.float32)  # whole numbers, exact below 2^24
        yield weights if group is None else weights[member]


def intervals(
    scores: Scores, size: int, group: np.ndarray | None = None, *, count: int = RESAMPLES
) -> dict[str, Interval]:
    """95 % percentile intervals: the 2.5 % and 97.5 % quantiles of a score over the resamples.

    Efron and Tibshirani 1993, chapter 13 (equation 13.5). A resample in which a score is absent (NaN: a class without
    a picture) is left out; a score absent in more than 5 % of them has no interval. One that is the same in all of them
    has none either: of pictures that all are right, resamples say nothing about those that would not be.

    >>> hit = np.array([1.0] * 80 + [0.0] * 20)
    >>> found = intervals(lambda w: {"accuracy": hit @ w / w.sum(0)}, 100)["accuracy"]
    >>> round(float(found.low), 2), round(float(found.high), 2)  # 0.8 -+ 1.96 * sqrt(0.8 * 0.2 / 100)
    (0.73, 0.87)
    """
    units = size if group is None else len(np.unique(group))
    if units < 2:
        return {}
    blocks: dict[str, list[np.ndarray]] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for weights in resamples(size, group, count=count):
            for name, values in scores(weights).items():
                blocks.setdefault(name, []).append(values)
    found = {name: interval(np.concatenate(values, axis=-1)) for name, values in blocks.items()}
    return {name: _unless_constant(one) for name, one in found.items()}


def _unless_constant(found: Interval) -> Interval:
    low, high = (np.where(found.low == found.high, np.nan, end) for end in (found.low, found.high))
    return Interval(low, high, found.values)


def interval(values: np.ndarray) -> Interval:
    """The percentile interval over the last dimension."""
    absent = np.isnan(values)
    whole = np.where(absent.all(-1, keepdims=True), 0.0, values)  # nanquantile warns of nothing but NaN
    low, high = np.nanquantile(whole, (0.025, 0.975), axis=-1)
    none = absent.mean(-1) > _ABSENT
    return Interval(np.where(none, np.nan, low), np.where(none, np.nan, high), values)
