"""The order in which samples are drawn: global batches, cut over micro-batches and processes."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DistributedSampler, SequentialSampler

from errors import LoupeError

__all__ = ["Draw", "GlobalBatchSampler", "Weights", "check_shares", "micro_batch_size", "training_sampler"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample of one epoch: everything that its picture may depend on.

    Args:
        index: position in the split.
        epoch: zero-based.
        position: place in the global order of this epoch.
        valid: False for padding, which weighs nothing.
    """

    index: int
    epoch: int
    position: int
    valid: bool


def micro_batch_size(batch_size: int, *, world: int = 1, accumulate: int = 1) -> int:
    """Images that one process sees at a time, `batch_size / (world * accumulate)`.

    Raises LoupeError where that is not a whole number, with the nearest sizes that are.

    >>> micro_batch_size(32, world=4, accumulate=2)
    4
    """
    cells = world * accumulate
    if batch_size < 1:
        raise LoupeError(f"training.batch_size is {batch_size}; it must be at least 1")
    if batch_size % cells:
        below = batch_size // cells * cells
        sizes = f"{below} or {below + cells}" if below else f"{cells}"
        raise LoupeError(
            f"training.batch_size {batch_size} cannot be shared equally by {world} processes x {accumulate} "
            f"micro-batches (training.accumulate); use {sizes}"
        )
    return batch_size // cells


@dataclass(frozen=True)
class Weights:
    """Samples drawn in proportion to a weight, exactly: a group occurs as often as its share says, to the next number.

    By systematic sampling (Madow 1949): the samples stand in a row, group by group and shuffled within, each as wide as
    its weight, and equally spaced points are drawn from it.

    Args:
        weight: of each sample, at least 0, some above.
        group: the number of each sample's group, within which the order is random.
    """

    weight: np.ndarray
    group: np.ndarray

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """As many sample indices as there are samples, shuffled."""
        size = len(self.weight)
        row = rng.permutation(size)
        row = row[np.argsort(self.group[row], kind="stable")]
        edges = np.cumsum(self.weight[row], dtype=np.float64)
        points = (np.arange(size) + rng.random()) * (edges[-1] / size)
        places = np.searchsorted(edges, points, side="right").clip(max=size - 1)
        return rng.permutation(row[places])


# Lightning exchanges samplers that it does not know: for a plain SequentialSampler under overfit_batches, for a
# wrapped one under DDP (Lightning 2.6, `_resolve_overfit_batches` and `_requires_distributed_sampler`). It leaves
# these two types alone, so ours is both. Neither constructor runs, nothing of theirs is used.
class GlobalBatchSampler(SequentialSampler, DistributedSampler):  # type: ignore[type-arg]
    """Yields this process's share of each global batch, one list of `Draw` per micro-batch.

    Optimizer step `b` takes samples `b * batch_size ...` of the epoch's order, cut into `accumulate * world`
    contiguous shares that differ by at most one; an empty share becomes one padding draw. All processes yield the
    same number of lists. The order is a pure function of (seed, epoch).

    Args:
        size: samples in the split.
        batch_size: samples per optimizer step over all processes and micro-batches.
        shuffle: a new order in each epoch; otherwise 0, 1, 2, ...
        drop_single: leave out the last short batch where a process would see one sample only.
        pairs: keep the samples at places 2k and 2k + 1 in one share: they are mixed with each other.
        weights: how often each sample occurs, as a share of all; None: each once.

    >>> [[draw.index for draw in batch] for batch in GlobalBatchSampler(5, batch_size=4, world=2, rank=1)]
    [[2, 3], [4]]
    """

    def __init__(
        self,
        size: int,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        world: int = 1,
        rank: int = 0,
        accumulate: int = 1,
        drop_single: bool = False,
        pairs: bool = False,
        weights: "Weights | None" = None,
    ) -> None:
        assert 0 <= rank < world
        self.size = size
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.world = world
        self.rank = rank
        self.accumulate = accumulate
        self.epoch = 0
        self.start = 0
        self.unit = 2 if pairs else 1
        self.weights = weights
        rest = size % batch_size
        self.dropped = 0
        if drop_single:
            cells = world * accumulate
            half_a_pair = rest % self.unit and -(-rest // self.unit) // cells == 1  # alone in the last share
            self.dropped = rest if 0 < rest < 2 * cells else int(bool(half_a_pair))
        self.num_global_batches = -(-(size - self.dropped) // batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass; one of another epoch than that to go on with leaves out nothing."""
        if epoch != self.epoch:
            self.start = 0
        self.epoch = epoch

    def resume(self, epoch: int, start: int) -> None:
        """Chooses the order of the next pass, and leaves out its first `start` lists, which an earlier run had."""
        self.epoch = epoch
        self.start = start

    def order(self) -> np.ndarray:
        """The sample index at each global position of the current epoch, shape (size,)."""
        if not self.shuffle:
            return np.arange(self.size)
        rng = np.random.default_rng([self.seed, self.epoch])
        return rng.permutation(self.size) if self.weights is None else self.weights.draw(rng)

    def __len__(self) -> int:
        return self.num_global_batches * self.accumulate

    def __iter__(self) -> Iterator[list[Draw]]:  # type: ignore[override]
        order = self.order()
        skip, self.start = self.start, 0
        cells = self.accumulate * self.world
        for step in range(self.num_global_batches):
            first = step * self.batch_size
            here = min(self.batch_size, self.size - self.dropped - first)
            each, larger = divmod(-(-here // self.unit), cells)
            for micro in range(self.accumulate):
                if step * self.accumulate + micro < skip:
                    continue
                cell = micro * self.world + self.rank
                begin = first + self.unit * (cell * each + min(cell, larger))
                end = min(begin + self.unit * (each + (cell < larger)), first + here)
                if begin >= end:
                    yield [Draw(int(order[first]), self.epoch, first, False)]
                else:
                    yield [Draw(int(order[at]), self.epoch, at, True) for at in range(begin, end)]


def check_shares(
    batch_size: int, *, world: int, accumulate: int, pairs: bool = False, single_ok: bool = True
) -> None:
    """LoupeError where a step cannot be shared out, with the sizes that can; the arguments of `training_sampler`."""
    each, cells = micro_batch_size(batch_size, world=world, accumulate=accumulate), world * accumulate
    if each == 1 and not single_ok:
        raise LoupeError(
            f"training.batch_size {batch_size} leaves one image to a process at a time, and this model's batch norm "
            f"needs two; use at least {2 * cells}"
        )
    if pairs and each % 2 and (each == 1 or cells > 1):  # odd shares would differ by a pair
        sizes = f"at least {2 * cells}" if each == 1 else f"{(each - 1) * cells} or {(each + 1) * cells}"
        raise LoupeError(
            f"training.batch_size {batch_size} leaves {each} image{'s' if each > 1 else ''} to a process at a time, "
            f"and data.augment mixes two (mixup, cutmix); use {sizes}"
        )


def training_sampler(
    size: int,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    world: int,
    rank: int,
    accumulate: int,
    single_ok: bool,
    pairs: bool = False,
    weights: Weights | None = None,
) -> GlobalBatchSampler:
    """The sampler of the training part, with the arguments of `GlobalBatchSampler`.

    Where `single_ok` is false batch norm needs two pictures at a time: a batch of one is refused, a last one left out.
    Raises LoupeError where no step could be made.
    """
    check_shares(batch_size, world=world, accumulate=accumulate, pairs=pairs, single_ok=single_ok)
    sampler = GlobalBatchSampler(
        size,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        world=world,
        rank=rank,
        accumulate=accumulate,
        drop_single=not single_ok,
        pairs=pairs,
        weights=weights,
    )
    if sampler.num_global_batches == 0:
        raise LoupeError("the training part has a single picture, and this model's batch norm needs two")
    if sampler.dropped:
        log.warning(
            "the last %d training pictures of each epoch are left out: batch norm needs two", sampler.dropped
        )
    return sampler
