"""The mean of a loss over an epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["MeanLoss"]


class MeanLoss(Metric):
    """``sum(value * weight) / sum(weight)`` over batches, NaN before the first sample.

    The value is that of the *global* batch (the losses reduce over all processes themselves), the weight is this
    process's share of it. Both sums are added over processes when the mean is computed, so each global batch counts
    by all its samples, and every process gets the same number. A batch of weight 0 counts for nothing, whatever its
    value. Sums are float64, or float32 where a machine has Apple's GPU.

    A loss of several ``terms`` whose means run over different samples (boxes over the pictures with an object) is the
    sum of the terms' own means; a term that weighs nothing is 0 beside others.

    >>> loss = MeanLoss()
    >>> loss.update(torch.tensor(1.0), 3); loss.update(torch.tensor(2.0), 1); loss.compute().item()
    1.25
    >>> both = MeanLoss(terms=2)
    >>> both.update(torch.tensor([1.0, 0.5]), torch.tensor([1, 2]))
    >>> both.update(torch.tensor([3.0, 0.0]), torch.tensor([0, 2]))
    >>> both.compute().item()  # 1 + (0.5 * 2 + 0 * 2) / 4
    1.25
    """

    full_state_update = False
    higher_is_better = False
    total: Tensor
    weight: Tensor

    def __init__(self, terms: int = 1) -> None:
        super().__init__()
        # Apple's GPU has no float64, and the state travels with the module.
        dtype = torch.float32 if torch.backends.mps.is_available() else torch.float64
        self.add_state("total", torch.zeros(terms, dtype=dtype), dist_reduce_fx="sum")
        self.add_state("weight", torch.zeros(terms, dtype=dtype), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: Tensor | float = 1.0) -> None:
        """Add the loss of a global batch, with the number of samples on this process that it is the mean of.

        Both are scalars, or vectors of one number a term.
        """
        if isinstance(weight, Tensor) and weight.ndim == 0 and weight.is_cpu:
            weight = weight.item()
        if not isinstance(weight, Tensor) and value.ndim == 0 and value.is_cpu and self.total.is_cpu:
            # two operations for nine
            if weight > 0:
                self.total = torch.add(self.total, value.detach(), alpha=float(weight))
            self.weight = self.weight + weight
            return
        weight = torch.as_tensor(weight, dtype=self.weight.dtype, device=self.weight.device).view(-1)
        value = value.detach().to(self.total).view(-1)
        self.total = self.total + torch.where(weight > 0, value * weight, 0.0)
        self.weight = self.weight + weight

    @property
    def sums(self) -> Tensor:
        """What this process has added up: values times weights, and weights, (2, T)."""
        return torch.stack([self.total, self.weight])

    def restore(self, sums: Tensor) -> None:
        """Go on from the ``sums`` of an earlier run."""
        self.update(
            torch.zeros_like(self.total), torch.zeros_like(self.weight)
        )  # torchmetrics counts updates
        self.total, self.weight = sums.to(self.total).unbind(0)

    def compute(self) -> Tensor:
        """The mean so far, a scalar."""
        means = torch.where(self.weight > 0, self.total / self.weight, 0.0)
        return torch.where((self.weight > 0).any(), means.sum(), torch.nan)
