"""Two real processes: the gradient that DDP arrives at is the gradient of one process on the union of the batches.

The file is also the program of the two processes: ``python test_losses_distributed.py RANK FOLDER``.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from losses import create_loss, local_reduction
from tests.two_ranks import run_two_ranks

SIZES = ((3, 1), (4, 0), (2, 2))  # samples on rank 0 and on rank 1: uneven, empty, even
WEIGHT = [0.2, 1.0, 0.5, 3.0]
COMMON: dict[str, Any] = {"ignore_index": 255, "class_weight": WEIGHT}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("categorical_crossentropy", COMMON),
    ("categorical_crossentropy", {**COMMON, "normalization": "count", "label_smoothing": 0.1}),
    ("focal", {**COMMON, "normalization": "positives"}),
    ("dice", COMMON),
    ("dice", {**COMMON, "per_image": True, "absent": "skip"}),
    ("dice_ce", COMMON),
    ("tversky", {**COMMON, "gamma": 0.75, "absent": "skip"}),
    ("label_smoothing", COMMON),
    ("iou", {**COMMON, "smooth": 1.0}),
    ("weighted_sum", {"losses": [{"type": "iou"}, {"type": "focal", "weight": 2.0}], "ignore_index": 255}),
]


DTYPES = (torch.float64, torch.float32)  # in plain torch, and in the compiled pass where it was built


def model(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(1)
    return nn.Conv2d(2, 4, 1).to(dtype)


def union(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, masks and weights; void is all over the second sample and rare in the first; class 3 in one only."""
    g = torch.Generator().manual_seed(n)
    images = torch.randn(n, 2, 5, 5, generator=g, dtype=torch.float64)
    target = torch.randint(0, 3, (n, 5, 5), generator=g)
    target[0, 0, 0] = 3
    target[1][torch.rand(5, 5, generator=g) < 0.8] = 255
    target[0, 1, 1] = 255
    return images, target, torch.linspace(0.5, 2, n, dtype=torch.float64)


def work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found: list[tuple[float, Tensor, float]] = []
    for (name, options), dtype in itertools.product(CASES, DTYPES):
        for sizes in SIZES:
            images, target, weight = union(sum(sizes))
            images = images.to(dtype)
            mine = slice(0, sizes[0]) if rank == 0 else slice(sizes[0], sum(sizes))
            net = DistributedDataParallel(model(dtype))
            loss = create_loss(name, **options)
            value = loss(net(images[mine]), target[mine], sample_weight=weight[mine])
            value.backward()
            with local_reduction(), torch.no_grad():
                alone = loss(net.module(images[mine]), target[mine], sample_weight=weight[mine])
            grad = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
            found.append((value.item(), grad, alone.item()))
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[list[tuple[float, Tensor, float]]]:
    folder = tmp_path_factory.mktemp("ddp")
    return run_two_ranks(__file__, folder)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda i: f"{CASES[i][0]}-{i}")
def test_two_processes_are_one(
    case: int, dtype: torch.dtype, two_processes: list[list[tuple[float, Tensor, float]]]
) -> None:
    name, options = CASES[case]
    rtol, atol = (1e-12, 1e-12) if dtype == torch.float64 else (1e-6, 1e-6)
    for i, sizes in enumerate(SIZES):
        images, target, weight = union(sum(sizes))
        images = images.to(dtype)
        net, loss = model(dtype), create_loss(name, **options)
        value = loss(net(images), target, sample_weight=weight)
        value.backward()
        grad = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        for rank, mine in enumerate((slice(0, sizes[0]), slice(sizes[0], sum(sizes)))):
            got, got_grad, alone = two_processes[rank][
                (case * len(DTYPES) + DTYPES.index(dtype)) * len(SIZES) + i
            ]
            assert got == pytest.approx(value.item(), rel=rtol)
            torch.testing.assert_close(
                got_grad, grad, rtol=1000 * rtol if dtype == torch.float64 else rtol, atol=atol
            )
            own = loss(net(images[mine]), target[mine], sample_weight=weight[mine])
            assert alone == pytest.approx(own.item(), rel=rtol)


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
