"""Any weighted sum of losses."""

from typing import Any

from torch import nn

from errors import LoupeError
from losses import options
from losses.batch import Batch
from losses.loss import Loss
from losses.term import Term

__all__ = ["WeightedSumLoss"]


class WeightedSumLoss(Loss):
    """``sum_i weight_i * loss_i``, each part given as ``{type: ..., weight: 1.0, **its options}``.

    ``ignore_index`` and ``multilabel`` say how the target is to be read and so hold for all parts; all other
    options belong to the parts. The parts share one softmax and one all-reduce.

    >>> import torch
    >>> loss = WeightedSumLoss(losses=[{"type": "dice", "smooth": 0.0}, {"type": "focal", "weight": 2.0}])
    >>> round(loss(torch.zeros(1, 2, 4), torch.tensor([[0, 0, 0, 1]])).item(), 6)  # 0.533333 + 2 * 0.043322
    0.619977
    """

    name = "weighted_sum"

    def __init__(
        self, *, losses: list[dict[str, Any]], ignore_index: int | None = None, multilabel: bool = False
    ) -> None:
        from losses.create import create_loss  # here, as create lists this class among the others

        super().__init__(ignore_index=ignore_index, multilabel=multilabel)
        if not isinstance(losses, list) or not losses or not all(isinstance(part, dict) for part in losses):
            raise LoupeError(
                f"weighted_sum: losses is {losses!r}; valid: a list of {{type: ..., weight: 1.0, options}}"
            )
        self.weights: list[float] = []
        self.losses = nn.ModuleList()
        for i, part in enumerate(losses):
            own = dict(part)
            kind = own.pop("type", None)
            if kind is None or kind == self.name:
                raise LoupeError(
                    f"losses[{i}].type is {kind!r}; valid: the name of a single loss, such as dice"
                )
            for shared in ("ignore_index", "multilabel"):
                if shared in own:
                    raise LoupeError(
                        f"losses[{i}].{shared}: set it once, beside losses; it holds for all parts"
                    )
            self.weights.append(options.number(f"losses[{i}].weight", own.pop("weight", 1.0), above=True))
            self.losses.append(create_loss(kind, **own, ignore_index=ignore_index, multilabel=multilabel))
        self.probabilities = all(loss.probabilities for loss in self._losses())

    def terms(self, batch: Batch) -> list[tuple[float, Term]]:
        return [
            (weight * inner, term)
            for weight, loss in zip(self.weights, self._losses(), strict=True)
            for inner, term in loss.terms(batch)
        ]

    def _losses(self) -> list[Loss]:
        return [loss for loss in self.losses if isinstance(loss, Loss)]
