"""What validation data said of a model's probabilities: a temperature, and where a yes begins."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from metrics import log_odds_of

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
    yes is a probability above the threshold, compared as log-odds, so that 0.5 decides as no threshold does. They
    are compared in float32 (float64 for float64), also where the logits are of 16 bits: so a test, a prediction and a
    calibration say the same.

    >>> decide(torch.tensor([[0.0, 1.0]]), None).tolist(), decide(torch.tensor([[0.0, 1.0]]), (0.8,)).tolist()
    ([1], [0])
    """
    if thresholds is None:
        return (
            logits > 0 if several else (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)
        )
    if several:
        wide = _wide(logits)
        limits = torch.tensor([log_odds_of(value) for value in thresholds], dtype=wide.dtype)
        return wide > limits.to(wide.device, non_blocking=True).view(1, -1, *(1,) * (wide.ndim - 2))
    if logits.shape[1] > 2:
        return logits.argmax(1)
    log_odds = _wide(logits[:, 0]) if logits.shape[1] == 1 else _wide(logits[:, 1]) - _wide(logits[:, 0])
    # through a tensor, so that the threshold is rounded as `several` does, on each device
    limit = torch.tensor(log_odds_of(thresholds[0]), dtype=log_odds.dtype).item()
    return (log_odds > limit).long()


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
