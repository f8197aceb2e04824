"""The box loss that compares coordinates."""

from torch import Tensor
from torch.nn import functional as F

from losses import options
from losses.box_loss import BoxLoss

__all__ = ["BoxSmoothL1Loss"]


class BoxSmoothL1Loss(BoxLoss):
    """Mean over the four coordinates of ``d^2 / (2 beta)`` for ``|d| < beta``, else ``|d| - beta / 2``.

    ``beta`` is in the unit of the boxes (in training: shares of the network's input); 0 gives ``|d|``.

    >>> import torch
    >>> loss = BoxSmoothL1Loss(beta=0.1)(torch.tensor([[0.0, 0.05, 1, 1]]), torch.tensor([[0.3, 0.0, 1, 1]]))
    >>> round(loss.item(), 6)  # (0.25 + 0.0125 + 0 + 0) / 4
    0.065625

    Source: Girshick 2015, Fast R-CNN, eq. 3 (there beta is 1).
    """

    name = "smooth_l1"

    def __init__(self, *, beta: float = 0.1, confidence_weight: float = 1.0) -> None:
        super().__init__(confidence_weight=confidence_weight)
        self.beta = options.number("beta", beta)

    def sample_loss(self, preds: Tensor, target: Tensor) -> Tensor:
        """The mean over the coordinates of each box."""
        return F.smooth_l1_loss(preds, target, beta=self.beta, reduction="none").mean(-1)
