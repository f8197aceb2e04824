"""How often each training picture occurs in an epoch."""

from collections.abc import Callable, Sequence

import numpy as np

from datamodules.sampler import Weights
from datamodules.samples import Samples
from datamodules.texts import Texts
from errors import LoupeError, unknown

__all__ = ["WEIGHT", "create_weights"]

#: The manifest's column of sampling weights.
WEIGHT = "weight"


def create_weights(
    sampling: str, samples: Samples, strata: Callable[[Samples], Sequence[str] | None]
) -> Weights | None:
    """The weights of the samples; None: each occurs once.

    Args:
        sampling: `uniform`, `balanced` (each stratum as often as any other) or `weighted` (by the column `weight`).
        samples: the training part.
        strata: gives the class of each sample, None where there are no classes of pictures.
    """
    match sampling:
        case "uniform":
            return None
        case "balanced":
            classes = strata(samples)
            if classes is None:
                raise LoupeError(
                    "data.loader.sampling=balanced needs a class for each picture; masks have one for each pixel: give "
                    "the manifest a column weight, and data.loader.sampling=weighted"
                )
            codes, _ = Texts.of(classes).codes()
            return Weights(1.0 / np.bincount(codes)[codes], codes)
        case "weighted":
            return Weights(_weights(samples), np.arange(len(samples)))
        case _:
            raise unknown("data.loader.sampling", sampling, ["uniform", "balanced", "weighted"])


def _weights(samples: Samples) -> np.ndarray:
    if WEIGHT not in samples.columns:
        raise LoupeError("data.loader.sampling=weighted needs a manifest with the column weight")
    entries = list(samples.columns[WEIGHT])
    weights = np.zeros(len(entries))
    for row, entry in enumerate(entries):
        try:
            weights[row] = float(entry)
        except ValueError:
            weights[row] = -1.0
        if not 0 <= weights[row] < np.inf:
            raise LoupeError(f"{samples.names[row]} has the weight '{entry}'; valid: a number of at least 0")
    if not weights.any():
        raise LoupeError("the column weight is 0 for every training picture; some must be above 0")
    return weights / weights.max()  # so that no sum overflows
