"""The explicit weight penalty of ``training.regularizer``, and which parameters count as weights."""

import torch
from torch import nn

__all__ = ["is_weight", "penalty"]


def is_weight(name: str, parameter: nn.Parameter) -> bool:
    """True for parameters of two or more dimensions that are no bias: what decay and penalty apply to.

    Biases, norms, scales and tokens of one dimension are left out (He et al. 2019, section 3.1).
    """
    return parameter.ndim >= 2 and not name.endswith("bias")


def penalty(model: nn.Module, l1: float = 0.0, l2: float = 0.0) -> torch.Tensor:
    """``l1 * sum |w| + l2 * sum w^2`` over the trainable weights of two or more dimensions, as a float32 scalar.

    Float64 weights give a float64 scalar. Keras's formula, without the 1/2 that others put before l2;
    differentiable.

    >>> penalty(nn.Linear(2, 1).requires_grad_(False), l1=1.0).item()
    0.0
    """
    weights = [p for name, p in model.named_parameters() if p.requires_grad and is_weight(name, p)]
    if not weights:
        first = next(model.parameters(), None)
        return torch.zeros((), device=None if first is None else first.device)
    with torch.autocast(weights[0].device.type, enabled=False):
        terms: list[torch.Tensor] = []
        for parameter in weights:
            weight = parameter if parameter.dtype == torch.float64 else parameter.float()
            if l1:
                terms.append(l1 * weight.abs().sum())
            if l2:
                terms.append(l2 * weight.square().sum())
        return torch.stack(terms).sum() if terms else torch.zeros((), device=weights[0].device)
