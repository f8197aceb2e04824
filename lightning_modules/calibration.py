"""What validation data said of a model's probabilities: a temperature, and where a yes begins."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Calibration", "decide"]


@dataclass(frozen=True)
class Calibration:
    """What is kept in a checkpoint's card; the default changes nothing.

    Attributes:
        temperature: What logits are divided by before they become probabilities.
        thresholds: From which probability on the answer is yes. One number where there are two classes (the second
            one's), one output channel, or a box (its confidence); one a class where there are several labels; None: a
            half, or the likeliest class.
        metric: What the thresholds are the best for, as in ``f1``; "" where none were chosen.
        figures: What was measured: the part of the data, how many pictures, scores before and after; plain values.
    """

    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    metric: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> "Calibration":
        """That of a checkpoint's card, whose content `inference.read_checkpoint` has looked at."""
        given = card.get("calibration")
        if given is None:
            return cls()
        thresholds = given["thresholds"]
        return cls(
            float(given["temperature"]),
            None if thresholds is None else tuple(float(value) for value in thresholds),
            str(given["metric"]),
            dict(given["figures"]),
        )

    def to_card(self) -> dict[str, Any]:
        """Plain values for a checkpoint's card."""
        thresholds = None if self.thresholds is None else list(self.thresholds)
        return {**asdict(self), "thresholds": thresholds, "figures": dict(self.figures)}

    def threshold(self, position: int = 0) -> float:
        """From which probability on the answer at this position is yes."""
        return 0.5 if self.thresholds is None else self.thresholds[position]


def decide(logits: Tensor, thresholds: Sequence[float] | None, *, several: bool = False) -> Tensor:
    """Logits (B, K, ...) -> answers: class numbers (B, ...) int64, or with ``several`` yes or no, (B, K, ...) bool.

    One channel is a yes (1) or no (0). Without thresholds the likeliest class, or a probability above 0.5. With them a
    yes is a probability above the threshold, compared as log-odds, so that 0.5 decides as no threshold does.

    >>> decide(torch.tensor([[0.0, 1.0]]), None).tolist(), decide(torch.tensor([[0.0, 1.0]]), (0.8,)).tolist()
    ([1], [0])
    """
    if several:
        return logits > _limits(logits, thresholds)
    if logits.shape[1] == 1:
        return (logits[:, 0] > _limit(thresholds)).long()
    if thresholds is None or logits.shape[1] != 2:
        return logits.argmax(1)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return (logits[:, 1] - logits[:, 0] > _limit(thresholds)).long()


def _limit(thresholds: Sequence[float] | None) -> float:
    return 0.0 if thresholds is None else _log_odds(thresholds[0])


def _limits(logits: Tensor, thresholds: Sequence[float] | None) -> Tensor | float:
    if thresholds is None:
        return 0.0
    limits = torch.tensor([_log_odds(value) for value in thresholds], dtype=logits.dtype)
    return limits.to(logits.device, non_blocking=True).view(1, -1, *(1,) * (logits.ndim - 2))


def _log_odds(probability: float) -> float:
    if probability <= 0 or probability >= 1:
        return math.inf if probability >= 1 else -math.inf
    return math.log(probability) - math.log1p(-probability)
