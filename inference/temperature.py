"""The temperature that makes a model's probabilities right: one number, from validation data."""

import math
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from errors import LoupeError
from metrics.calibration import bin_confidence

__all__ = ["HIGHEST", "LOWEST", "Kind", "fit_temperature", "negative_log_likelihood", "reliability"]

#: Of temperatures; what lies beyond is of a model that is never wrong, or knows nothing.
LOWEST, HIGHEST = 0.005, 20.0

Kind: TypeAlias = Literal["softmax", "sigmoid"]

_ROWS = 65_536
#: Logits are taken from the largest on; lower ones than this say "impossible" at any temperature.
_FAR = -1e6


def fit_temperature(logits: Tensor, target: Tensor, *, kind: Kind) -> float:
    """The temperature T in 0.005..20 with the least mean negative log likelihood of ``logits / T``.

    Guo et al. 2017, section 4.2. The mean is convex in 1/T, and its minimum is found by Newton's method between bounds,
    in float64: ``d/db mean(logsumexp(b z) - b z_y) = mean(E_p[z] - z_y)``, and the second derivative is the mean
    variance of z under p. A bound is the answer where the minimum lies beyond it: 0.005 where every answer is right
    (the likelihood then grows without end), 20 where the logits tell nothing of the truth, or the contrary. Where all
    logits of a sample are equal in every sample, any temperature is as good, and it is 1.

    Args:
        logits: softmax: (N, K), up to a number of each row's own, so log-probabilities too. sigmoid: (N, K) or (N,),
            each a yes or no.
        target: softmax: class numbers (N,); sigmoid: 0 or 1, of the shape of the logits.
        kind: What makes probabilities of the logits.

    Raises:
        LoupeError: Without a sample, or where logits are NaN.

    >>> logits = torch.tensor([[2.0, 0.0]] * 4)
    >>> T = fit_temperature(logits, torch.tensor([0, 0, 0, 1]), kind="softmax")
    >>> round(T, 6), round(2 / math.log(3), 6)  # 3 of 4 are right: p = 0.75 = sigmoid(2 / T)
    (1.820478, 1.820478)
    """
    _refuse(logits)
    lowest, highest = 1 / HIGHEST, 1 / LOWEST
    slope, bend = _derivatives(logits, target, 1.0, kind)
    if slope == 0 and bend == 0:
        return 1.0
    if _derivatives(logits, target, lowest, kind)[0] >= 0:
        return HIGHEST
    if _derivatives(logits, target, highest, kind)[0] <= 0:
        return LOWEST
    beta = 1.0
    for _ in range(200):
        lowest, highest = (lowest, beta) if slope > 0 else (beta, highest)
        following = beta - slope / bend if bend > 0 else 0.0
        if not lowest < following < highest:
            following = math.sqrt(lowest * highest)
        if abs(following - beta) <= 1e-12 * beta:
            break
        beta = following
        slope, bend = _derivatives(logits, target, beta, kind)
        if slope == 0:
            break
    return 1 / beta


def negative_log_likelihood(logits: Tensor, target: Tensor, temperature: float, *, kind: Kind) -> float:
    """The mean over samples, and over labels where there are several, in nats; arguments as `fit_temperature`'s."""
    _refuse(logits)

    def lost(rows: Tensor, truth: Tensor) -> Tensor:
        if kind == "sigmoid":
            return -logsigmoid(_toward(rows, truth) / temperature).sum()
        return -(rows / temperature).log_softmax(1).gather(1, truth[:, None]).sum()

    total = _total(logits, target, kind, lost)
    return float(total) / (logits.numel() if kind == "sigmoid" else len(logits))


def reliability(logits: Tensor, target: Tensor, temperature: float, *, kind: Kind, bins: int = 15) -> Tensor:
    """The table of `metrics.calibration.bin_confidence`, float64 (bins, 3): of the likeliest class, or of each yes or
    no. It is about probabilities, whatever the thresholds.
    """

    def table(rows: Tensor, truth: Tensor) -> Tensor:
        if kind == "sigmoid":
            return bin_confidence(
                (rows.abs() / temperature).sigmoid().flatten(), ((rows > 0) == (truth > 0.5)).flatten(), bins
            )
        confidence, answer = (rows / temperature).softmax(1).max(1)
        return bin_confidence(confidence, answer == truth, bins)

    return _total(logits, target, kind, table)


def _derivatives(logits: Tensor, target: Tensor, beta: float, kind: Kind) -> tuple[float, float]:
    """First and second derivative of the negative log likelihood, the sums over samples, at beta = 1 / T."""

    def both(rows: Tensor, truth: Tensor) -> Tensor:
        if kind == "sigmoid":
            toward = _toward(rows, truth)
            wrong = (-beta * toward).sigmoid()
            return torch.stack([-(toward * wrong).sum(), (toward.square() * wrong * (1 - wrong)).sum()])
        probs = (beta * rows).softmax(1)
        mean = (probs * rows).sum(1)
        own = rows.gather(1, truth[:, None])[:, 0]
        spread = (probs * (rows - mean[:, None]).square()).sum(1)
        return torch.stack([(mean - own).sum(), spread.sum()])

    slope, bend = _total(logits, target, kind, both).tolist()
    return slope, bend


def _total(logits: Tensor, target: Tensor, kind: Kind, part: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The sum of ``part`` over blocks of rows, so that float64 is never needed of all at once."""
    parts = [part(rows, truth) for rows, truth in _blocks(logits, target, kind)]
    return torch.stack(parts).sum(0)


def _blocks(logits: Tensor, target: Tensor, kind: Kind) -> Iterator[tuple[Tensor, Tensor]]:
    for first in range(0, len(logits), _ROWS):
        rows = logits[first : first + _ROWS].double()
        truth = target[first : first + _ROWS]
        if kind == "softmax":
            yield (rows - rows.amax(1, keepdim=True)).clamp(min=_FAR), truth.long()
        else:
            yield rows.clamp(_FAR, -_FAR), truth.double()


def _toward(rows: Tensor, truth: Tensor) -> Tensor:
    """The logits of what is true."""
    return rows * (2 * truth - 1)


def _refuse(logits: Tensor) -> None:
    if not logits.numel():
        raise LoupeError("calibration: there is no sample to learn a temperature from")
    if bool(logits.isnan().any()):
        raise LoupeError("calibration: the model's outputs are NaN; its weights are damaged, train it again")
