"""Global batches: the same samples on any number of processes, each once, in shares as equal as can be."""

import pickle
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from datamodules import Draw, GlobalBatchSampler
from datamodules.sampler import micro_batch_size
from errors import LoupeError


def indices(sampler: GlobalBatchSampler) -> list[list[int]]:
    return [[draw.index for draw in batch] for batch in sampler]


def test_one_process_in_order_keeps_the_short_last_batch() -> None:
    sampler = GlobalBatchSampler(7, batch_size=3)
    assert indices(sampler) == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(sampler) == 3


def test_two_processes_take_halves_of_each_global_batch() -> None:
    ranks = [GlobalBatchSampler(10, batch_size=4, world=2, rank=rank) for rank in range(2)]
    assert indices(ranks[0]) == [[0, 1], [4, 5], [8]]
    assert indices(ranks[1]) == [[2, 3], [6, 7], [9]]


def test_micro_batches_are_cut_before_processes() -> None:
    """Step 0 is samples 0..7: micro-batch 0 is 0..3 over two ranks, micro-batch 1 is 4..7."""
    ranks = [GlobalBatchSampler(8, batch_size=8, world=2, rank=rank, accumulate=2) for rank in range(2)]
    assert indices(ranks[0]) == [[0, 1], [4, 5]]
    assert indices(ranks[1]) == [[2, 3], [6, 7]]


def test_an_empty_share_is_one_padding_draw_that_repeats_a_sample() -> None:
    ranks = [list(GlobalBatchSampler(5, batch_size=4, world=4, rank=rank)) for rank in range(4)]
    last = [rank[1] for rank in ranks]
    assert [len(batch) for batch in last] == [1, 1, 1, 1]
    assert [batch[0].valid for batch in last] == [True, False, False, False]
    assert {batch[0].index for batch in last} == {4}


def test_shuffle_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = GlobalBatchSampler(50, batch_size=8, shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        torch.rand(3)  # the global random state has no say
        return indices(sampler)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert sorted(chain(*order(3, 7))) == list(range(50))


def test_the_order_is_the_one_that_earlier_runs_had() -> None:
    """Frozen: a resumed run must find the order of the version that wrote its checkpoint."""
    sampler = GlobalBatchSampler(8, batch_size=8, shuffle=True, seed=1)
    sampler.set_epoch(2)
    assert indices(sampler) == [[6, 0, 7, 5, 1, 4, 3, 2]]


@given(
    size=st.integers(1, 60),
    shares=st.integers(1, 4),
    world=st.integers(1, 3),
    accumulate=st.integers(1, 3),
    epoch=st.integers(0, 3),
)
def test_every_sample_once_in_the_same_global_batches(
    size: int, shares: int, world: int, accumulate: int, epoch: int
) -> None:
    batch_size = shares * world * accumulate
    alone = GlobalBatchSampler(size, batch_size=batch_size, shuffle=True, seed=5)
    ranks = [
        GlobalBatchSampler(
            size, batch_size=batch_size, shuffle=True, seed=5, world=world, rank=rank, accumulate=accumulate
        )
        for rank in range(world)
    ]
    for sampler in (alone, *ranks):
        sampler.set_epoch(epoch)
    expected, lists = list(alone), [list(sampler) for sampler in ranks]
    assert {len(rank) for rank in lists} == {len(ranks[0])} == {len(expected) * accumulate}
    for step, batch in enumerate(expected):
        cells = [
            lists[rank][step * accumulate + micro] for micro in range(accumulate) for rank in range(world)
        ]
        assert [draw for cell in cells for draw in cell if draw.valid] == batch
        sizes = [sum(draw.valid for draw in cell) for cell in cells]
        assert max(sizes) - min(sizes) <= 1
        assert all(len(cell) >= 1 for cell in cells)
        if len(batch) == batch_size:
            assert set(sizes) == {shares}


def test_position_is_the_place_in_the_global_order() -> None:
    sampler = GlobalBatchSampler(6, batch_size=4, world=2, rank=1)
    assert [[draw.position for draw in batch] for batch in sampler] == [[2, 3], [5]]


@pytest.mark.parametrize(
    ("size", "world", "accumulate", "dropped"),
    [(9, 1, 1, 1), (10, 1, 1, 0), (8, 1, 1, 0), (11, 2, 1, 3), (12, 2, 1, 0), (11, 1, 2, 3), (15, 2, 2, 7)],
)
def test_drop_single_leaves_out_a_last_batch_that_gives_a_process_one(
    size: int, world: int, accumulate: int, dropped: int
) -> None:
    sampler = GlobalBatchSampler(size, batch_size=8, world=world, accumulate=accumulate, drop_single=True)
    assert sampler.dropped == dropped
    assert min(len(batch) for batch in sampler) >= 2


def test_micro_batch_size_refuses_what_does_not_divide_and_proposes_the_nearest() -> None:
    assert micro_batch_size(32, world=4, accumulate=2) == 4
    with pytest.raises(LoupeError, match=r"batch_size 30 .* 4 processes .* use 28 or 32"):
        micro_batch_size(30, world=4)
    with pytest.raises(LoupeError, match=r"batch_size 3 .* use 8"):
        micro_batch_size(3, world=4, accumulate=2)
    with pytest.raises(LoupeError, match=r"at least 1"):
        micro_batch_size(0)


def test_draws_travel_to_worker_processes() -> None:
    draw = Draw(3, 1, 7, True)
    assert pickle.loads(pickle.dumps(draw)) == draw


class _Echo(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, draws: list[Draw]) -> torch.Tensor:
        return torch.tensor([[draw.index, draw.epoch] for draw in draws])


def test_persistent_workers_see_the_next_epoch() -> None:
    sampler = GlobalBatchSampler(10, batch_size=4, shuffle=True)
    loader = DataLoader(_Echo(), sampler=sampler, batch_size=None, num_workers=1, persistent_workers=True)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        rows = torch.cat(list(loader))
        assert rows[:, 0].sort().values.tolist() == list(range(10))
        assert set(rows[:, 1].tolist()) == {epoch}
