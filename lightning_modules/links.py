"""Between what a network gives and probabilities, and back."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Link"]


@dataclass(frozen=True)
class Link:
    """How the outputs of a task's network become probabilities, and probabilities outputs again.

    ``softmax``: logits (B, K, ...) over classes that exclude each other. ``sigmoid``: logits (B, K, ...), each a yes or
    no. ``box``: (B, 5), a box in 0..1 and the logit of its confidence. The way back lets whatever takes outputs take a
    mean of probabilities: ``probs(outputs(p)) == p`` up to rounding; where the probability is 0 or 1 the output is
    finite.

    >>> link = Link("softmax")
    >>> link.probs(torch.tensor([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    >>> link.probs(link.outputs(torch.tensor([[0.25, 0.75]]))).tolist()
    [[0.25, 0.75]]
    """

    kind: Literal["softmax", "sigmoid", "box"]

    def probs(self, outputs: Tensor) -> Tensor:
        """Outputs -> probabilities, float32 (float64 for float64); of a box the corners' coordinates as they are."""
        outputs = _wide(outputs)
        match self.kind:
            case "softmax":
                return outputs.softmax(1)
            case "sigmoid":
                return outputs.sigmoid()
            case "box":
                return torch.cat([outputs[:, :4], outputs[:, 4:].sigmoid()], dim=1)

    def outputs(self, probs: Tensor) -> Tensor:
        """Probabilities -> outputs that stand for them."""
        probs = _wide(probs)
        match self.kind:
            case "softmax":
                return probs.clamp(min=torch.finfo(probs.dtype).tiny).log()
            case "sigmoid":
                return probs.logit(eps=torch.finfo(probs.dtype).eps)
            case "box":
                confidence = probs[:, 4:].logit(eps=torch.finfo(probs.dtype).eps)
                return torch.cat([probs[:, :4], confidence], dim=1)

    def cooled(self, outputs: Tensor, temperature: float) -> Tensor:
        """Logits divided by ``temperature`` (Guo et al. 2017, equation 9); a box stays where it is."""
        if temperature == 1.0:
            return outputs
        if self.kind == "box":
            return torch.cat([outputs[:, :4], outputs[:, 4:] / temperature], dim=1)
        return _wide(outputs) / temperature


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
