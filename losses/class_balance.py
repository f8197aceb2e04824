"""Class weights from how often each class occurs."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from errors import LoupeError, unknown

__all__ = ["ClassCounts", "ClassWeight", "class_weights", "with_class_weights"]

#: What an option ``class_weight`` may be.
ClassWeight = list[float] | Literal["balanced", "effective_number"] | None

#: How often each class occurs in the training data; None where there are no classes.
ClassCounts = Callable[[], Sequence[int] | None]

_BETA = 0.9999


def class_weights(counts: Sequence[int], scheme: Literal["balanced", "effective_number"]) -> list[float]:
    """One weight for each class, such that the weights average 1 over the samples that were counted.

    ``balanced``: inverse to the count. ``effective_number``: inverse to ``(1 - b^n) / (1 - b)`` with b = 0.9999, which
    grows with the count n at first and hardly beyond 10,000. A class without samples weighs nothing. Raises LoupeError
    for an unknown scheme and where nothing was counted.

    >>> class_weights([30, 10], "balanced")
    [0.6666666666666666, 2.0]

    Source: King and Zeng 2001, Logistic Regression in Rare Events Data (balanced); Cui et al. 2019, Class-Balanced Loss
    Based on Effective Number of Samples, eq. 2.
    """
    match scheme:
        case "balanced":
            sizes = [float(n) for n in counts]
        case "effective_number":
            sizes = [-math.expm1(n * math.log(_BETA)) / (1 - _BETA) for n in counts]
        case _:
            raise unknown("class_weight", scheme, ["balanced", "effective_number"])
    if not sum(counts):
        raise LoupeError(f"class_weight {scheme}: no class has a sample")
    inverse = [1 / size if size else 0.0 for size in sizes]
    average = sum(n * w for n, w in zip(counts, inverse, strict=True)) / sum(counts)
    return [w / average for w in inverse]


def with_class_weights(options: Mapping[str, Any], counts: ClassCounts) -> dict[str, Any]:
    """A loss's options with numbers for ``class_weight: balanced``, also in the parts of a weighted sum.

    ``counts`` is asked only where it is needed. Raises LoupeError where it has nothing to say.
    """
    found = dict(options)
    if isinstance(found.get("losses"), list):
        found["losses"] = [
            with_class_weights(part, counts) if isinstance(part, Mapping) else part
            for part in found["losses"]
        ]
    scheme = found.get("class_weight")
    if isinstance(scheme, str):
        known = counts()
        if known is None:
            raise LoupeError(f"class_weight {scheme} needs classes to count, which this data does not have")
        found["class_weight"] = class_weights(known, scheme)  # pyright: ignore[reportArgumentType]
    return found
