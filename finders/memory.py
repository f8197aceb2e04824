"""What fits into memory: the largest batch, or the fewest micro-batches of a given one.

Lightning's own search, `Tuner.scale_batch_size` (2.6), is not used. It never ends where a batch as large as the data
does not fit, and it returns sizes that it has not tried, or that failed:
https://github.com/Lightning-AI/pytorch-lightning/issues/18426,
https://github.com/Lightning-AI/pytorch-lightning/issues/20231.
"""

from collections.abc import Callable

from datamodules import check_shares
from errors import LoupeError
from finders.trial import Trial

__all__ = ["find_accumulate", "find_batch_size", "largest"]

_FIRST = 8
_ADVICE = (
    "use a smaller data.image_size, a smaller model, or training.mixed_precision=true, or free some memory"
)


def find_batch_size(trial: Trial, *, processes: int, accumulate: int) -> int:
    """Images per optimizer step: the most that one device trains at a time, times processes and micro-batches.

    At most as many as there are samples to train on. LoupeError where not even the fewest fit.
    """
    cells = processes * accumulate
    most = trial.samples // cells
    unit = 2 if trial.data.mixes else 1
    if most < unit:
        raise LoupeError(
            f"training.batch_size: auto needs {unit * cells} training samples or more for {processes} processes x "
            f"{accumulate} micro-batches (training.accumulate), and there are {trial.samples}"
        )

    def fits(images: int) -> bool:
        if images == 1 and not trial.single_ok:
            return False
        return trial.fits(images * accumulate, accumulate)

    found = largest(fits, most - most % unit, unit=unit)
    if found is None:
        raise LoupeError(f"training.batch_size: auto found none that fits into memory; {_ADVICE}")
    return found * cells


def find_accumulate(trial: Trial, *, processes: int, batch_size: int) -> int:
    """The fewest micro-batches of equal size into which a step has to be cut, 1 where it fits as it is."""
    check_shares(batch_size, world=processes, accumulate=1, pairs=trial.data.mixes)
    each = batch_size // processes
    for accumulate in range(1, each + 1):
        if not _can_be_shared(trial, batch_size, processes, accumulate):
            continue
        if trial.fits(each, accumulate):
            return accumulate
    raise LoupeError(
        f"training.accumulate: auto found no number of micro-batches with which training.batch_size {batch_size} "
        f"fits into memory; validation comes in batches of that size too: use a smaller one, or {_ADVICE[4:]}"
    )


def _can_be_shared(trial: Trial, batch_size: int, processes: int, accumulate: int) -> bool:
    try:
        check_shares(
            batch_size,
            world=processes,
            accumulate=accumulate,
            pairs=trial.data.mixes,
            single_ok=trial.single_ok,
        )
    except LoupeError:
        return False
    return True


def largest(fits: Callable[[int], bool], most: int, *, unit: int = 1, first: int = _FIRST) -> int | None:
    """The largest number from ``unit`` to ``most`` that fits, to an eighth of it; None where none does.

    Doubles until one does not fit, and halves the gap between; numbers below ``most`` are multiples of ``unit`` with
    few digits in binary, such as 40 or 352.

    >>> [largest(lambda n: n <= room, 1000) for room in (2000, 700, 99, 3, 1, 0)]
    [1000, 640, 96, 3, 1, None]
    """
    good, bad = 0, most + 1
    size = min(first, most)
    while True:
        if fits(size):
            good = size
        else:
            bad = size
        if bad > most:  # none has failed yet
            if good == most:
                return good
            size = min(2 * good, most)
            continue
        grid = max(unit, 1 << max(0, good.bit_length() - 4))
        size = (good + bad) // 2 // grid * grid
        if size <= good:
            return good or None
