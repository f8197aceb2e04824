"""Where a yes should begin: the threshold that makes a score best on validation data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEASURES", "Rule", "ValueCounts", "best_threshold", "counts_above", "measure"]

Numbers = NDArray[np.float64]

#: Log-odds nearer than this, as a share of themselves, are equal: another batch or device rounds them otherwise.
_EQUAL = 1e-6
_ROUNDING = 1e-12


def _share(part: Numbers, whole: Numbers) -> Numbers:
    """``part / whole``, NaN where there is nothing."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _both_f1(tp: Numbers, fp: Numbers, fn: Numbers, tn: Numbers) -> Numbers:
    return (_share(2 * tp, 2 * tp + fp + fn) + _share(2 * tn, 2 * tn + fp + fn)) / 2


#: From hits, false alarms, misses and rejections, float64 (C,) each, to scores (C,); NaN: nothing can be said.
MEASURES: Mapping[str, Callable[[Numbers, Numbers, Numbers, Numbers], Numbers]] = {
    "accuracy": lambda tp, fp, fn, tn: _share(tp + tn, tp + fp + fn + tn),
    "balanced_accuracy": lambda tp, fp, fn, tn: (_share(tp, tp + fn) + _share(tn, tn + fp)) / 2,
    "f1": lambda tp, fp, fn, tn: _share(2 * tp, 2 * tp + fp + fn),
    "f1_of_both": _both_f1,
    "dice": lambda tp, fp, fn, tn: _share(2 * tp, 2 * tp + fp + fn),
    "iou": lambda tp, fp, fn, tn: _share(tp, tp + fp + fn),
    "precision": lambda tp, fp, fn, tn: _share(tp, tp + fp),
    "recall": lambda tp, fp, fn, tn: _share(tp, tp + fn),
}


@dataclass(frozen=True)
class Rule:
    """What makes a threshold best.

    Attributes:
        measure: Of `MEASURES`.
        at_least: Of precision or recall: this much of it, and then the best of the other; None: the best of it.
    """

    measure: str
    at_least: float | None = None


@dataclass(frozen=True)
class ValueCounts:
    """How often each value of the log-odds occurs where the truth is yes, and where it is no, fold by fold.

    Attributes:
        low: A threshold up to here, (V,) rising, leaves the value above it.
        high: A threshold from here on, (V,), has the value below it or at it.
        yes: Samples that are true, (F, V).
        no: Samples that are not, (F, V).
    """

    low: Numbers
    high: Numbers
    yes: Numbers
    no: Numbers

    @classmethod
    def of_scores(cls, log_odds: Numbers, truth: NDArray[np.bool_], fold: NDArray[np.int64]) -> "ValueCounts":
        """Of single samples, (N,) each; values that only rounding tells apart are one."""
        order = np.argsort(log_odds, kind="stable")
        values = log_odds[order].astype(np.float64)
        gap = np.diff(values) > _EQUAL * np.maximum(1, np.abs(values[1:]))
        starts = np.flatnonzero(np.r_[True, gap]) if len(values) else np.zeros(0, np.int64)
        ends = np.r_[starts[1:], len(values)] - 1
        number = np.r_[0, gap.cumsum()] if len(values) else starts
        folds = int(fold.max(initial=0)) + 1
        counts = np.zeros((2, folds, len(starts)))
        np.add.at(counts, (truth[order].astype(np.int64), fold[order], number), 1)
        # decide() says yes above the threshold, so just below the value is the last place that leaves it a yes
        return cls(np.nextafter(values[starts], -np.inf), values[ends[: len(starts)]], counts[1], counts[0])

    @classmethod
    def of_bins(cls, edges: Numbers, yes: Numbers, no: Numbers) -> "ValueCounts":
        """Of a histogram whose bin v holds what is above ``edges[v]``, up to ``edges[v + 1]``; counts (F, V)."""
        return cls(edges[:-1], edges[1:], yes, no)

    def of_folds(self, chosen: NDArray[np.bool_]) -> "ValueCounts":
        """The samples of some of the folds, (F,), together as one, less the values that none of them has."""
        yes, no = self.yes[chosen].sum(0, keepdims=True), self.no[chosen].sum(0, keepdims=True)
        there = (yes + no)[0] > 0
        return ValueCounts(self.low[there], self.high[there], yes[:, there], no[:, there])


def best_threshold(counts: ValueCounts, rule: Rule, *, limit: float = 27.0) -> float | None:
    """The threshold of the log-odds with the best score; yes is what lies above it.

    All cuts between two neighbouring values are tried, so no threshold is better on these samples. Of equally good ones
    it is that nearest to 0, a probability of a half, and 0 itself where that is among them; it stands halfway between
    its neighbours, in log-odds, so that it also serves samples a little off these. Below the lowest and above the
    highest value it stands one off.

    Args:
        counts: Of the samples; all folds count.
        rule: What is best.
        limit: The threshold is at most this far from 0.

    Returns:
        None where nothing can be chosen: there is no yes or no no among the samples, or what is wanted at least is
        never reached.

    >>> counts = ValueCounts.of_scores(np.array([-1.0, 1, 2, 4]), np.array([0, 0, 1, 1]) > 0, np.zeros(4, int))
    >>> best_threshold(counts, Rule("accuracy"))
    1.5
    """
    counts = counts.of_folds(np.ones(len(counts.yes), np.bool_))
    if not counts.yes.sum() or not counts.no.sum():
        return None
    place, tp, fp = _cuts(counts)
    fn, tn = counts.yes.sum() - tp, counts.no.sum() - fp
    wanted, then = _ordered(rule, tp, fp, fn, tn)
    allowed = np.isfinite(place) & (np.abs(place) <= limit) & ~np.isnan(wanted)
    if not allowed.any():
        return None
    for values in (wanted, then, -np.abs(place)):
        values = np.where(allowed & ~np.isnan(values), values, -np.inf)
        allowed &= values >= values.max() - _ROUNDING
    return float(place[allowed][0])


def _cuts(counts: ValueCounts) -> tuple[Numbers, Numbers, Numbers]:
    """Each place where a threshold can stand, (V + 1,), with the hits and the false alarms above it."""
    below = np.r_[counts.low[0] - 2, counts.high]  # the last place that has the value before it below
    above = np.r_[counts.low, counts.high[-1] + 2]
    place = (below + above) / 2
    place[(below <= 0) & (above >= 0)] = 0.0
    return place, *(np.r_[kind[0][::-1].cumsum()[::-1], 0.0] for kind in (counts.yes, counts.no))


def _ordered(rule: Rule, tp: Numbers, fp: Numbers, fn: Numbers, tn: Numbers) -> tuple[Numbers, Numbers]:
    """What is made as large as possible, and what next of equal ones; NaN where it is not wanted at all."""
    value = MEASURES[rule.measure](tp, fp, fn, tn)
    if rule.at_least is None:
        return value, np.zeros_like(value)
    other = MEASURES["recall" if rule.measure == "precision" else "precision"](tp, fp, fn, tn)
    return np.where(value >= rule.at_least - _ROUNDING, other, np.nan), value


def counts_above(counts: ValueCounts, threshold: float) -> Numbers:
    """Hits, false alarms, misses and rejections of a threshold, all folds together, (4,)."""
    above = (counts.low + counts.high) / 2 > threshold
    tp, fp = counts.yes[:, above].sum(), counts.no[:, above].sum()
    return np.array([tp, fp, counts.yes.sum() - tp, counts.no.sum() - fp])


def measure(name: str, counts: Numbers) -> float:
    """A score from what `counts_above` gives; NaN where nothing can be said.

    >>> measure("iou", np.array([3.0, 1, 2, 5]))
    0.5
    """
    tp, fp, fn, tn = counts[:, None]
    return float(MEASURES[name](tp, fp, fn, tn)[0])
