"""The answers that thresholds make of log-odds, wherever a table of them is kept."""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["answers_of", "log_odds_of"]


def log_odds_of(probability: float) -> float:
    """``log(p / (1 - p))``, endless at 0 and 1.

    >>> log_odds_of(0.5), round(log_odds_of(0.8), 6)  # log 4
    (0.0, 1.386294)
    """
    if probability <= 0 or probability >= 1:
        return math.inf if probability >= 1 else -math.inf
    return math.log(probability) - math.log1p(-probability)


def answers_of(log_odds: np.ndarray, thresholds: Sequence[float] | None, *, several: bool) -> np.ndarray:
    """What a classifier answers, (N, K) bool for several labels, else class numbers (N,).

    As `lightning_modules.calibration.decide` does with the outputs: a yes is a log-odds above the threshold's, both in
    the type of ``log_odds``.

    Args:
        log_odds: Of each class, (N, K).
        thresholds: Probabilities: one a class of several labels, the second class's one of two; None: a half, or the
            likeliest class.
        several: Whether each class is a yes or no of its own.

    >>> answers_of(np.array([[-1.0, 1.0]]), (0.8,), several=False).tolist()  # sigmoid(1) = 0.73
    [0]
    """
    limits = np.array([log_odds_of(value) for value in thresholds or ()], log_odds.dtype)
    if several:
        return log_odds > (limits if thresholds is not None else 0)
    if thresholds is None or log_odds.shape[1] != 2:
        return log_odds.argmax(1)
    return (log_odds[:, 1] > limits[0]).astype(np.int64)
