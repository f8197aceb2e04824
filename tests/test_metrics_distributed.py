"""Two real processes: every score is that of one process on the union of their samples, padding left out.

The file is also the program of the two processes: ``python test_metrics_distributed.py RANK FOLDER``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from metrics import (
    BoxScores,
    ClassificationScores,
    MeanLoss,
    MultiLabelScores,
    SampleCount,
    SegmentationScores,
)
from tests.two_ranks import run_two_ranks

COUNT = 11
# In batches of up to 3, uneven: rank 0 has one sample more, for which rank 1 has a padding one, a repeat.
SHARES = {
    0: [([0, 1, 2], None), ([6, 7, 8], None), ([10], None)],
    1: [([3, 4, 5], None), ([9, 0, 0], [True, False, False]), ([3], [False])],
}


def data() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    corners = torch.rand(2, COUNT, 2, 2, generator=g) * 100
    boxes = torch.cat([corners.amin(2), corners.amax(2)], dim=2)
    boxes[0, 3:9] = boxes[1, 3:9] + torch.rand(6, 4, generator=g) * torch.arange(1, 7)[:, None]
    mask, guess = (
        torch.randint(0, 3, (2, COUNT, 5, 5), generator=g).repeat_interleave(4, 2).repeat_interleave(4, 3)
    )
    mask[2, :7] = 255
    return {
        "logits": torch.randn(COUNT, 7, generator=g),
        "label": torch.randint(0, 6, (COUNT,), generator=g),
        "labels": (torch.rand(COUNT, 7, generator=g) < 0.4).float(),
        "mask": mask,
        "guess": torch.where(torch.rand(mask.shape, generator=g) < 0.5, guess, mask % 255),
        "box": boxes[0],
        "true_box": boxes[1],
        "confidence": torch.randn(COUNT, generator=g).round(decimals=1),  # ties
        "has_box": torch.arange(COUNT) % 4 > 0,
        "index": torch.arange(COUNT),
    }


Update = Callable[[Any, dict[str, Tensor], Tensor], None]
METRICS: dict[str, tuple[Callable[[], Metric], Update]] = {
    "classification": (
        lambda: ClassificationScores(7),
        lambda metric, some, valid: metric.update(some["logits"], some["label"], valid),
    ),
    "multi_label": (
        lambda: MultiLabelScores(7),
        lambda metric, some, valid: metric.update(some["logits"], some["labels"], valid),
    ),
    "segmentation": (
        lambda: SegmentationScores(3),
        lambda metric, some, valid: metric.update(some["guess"], some["mask"], valid),
    ),
    "boxes": (
        BoxScores,
        lambda metric, some, valid: metric.update(
            some["box"], some["confidence"], some["true_box"], some["has_box"], valid
        ),
    ),
    "samples": (SampleCount, lambda metric, some, valid: metric.update(some["index"], valid)),
}


def filled(name: str, batches: list[tuple[list[int], list[bool] | None]]) -> Any:
    make, update = METRICS[name]
    metric, whole = make(), data()
    for rows, valid in batches:
        mask = torch.tensor(valid or [True] * len(rows))
        update(metric, {key: value[rows] for key, value in whole.items()}, mask)
    return metric


#: One row a sample, in the order of the processes.
PER_SAMPLE = ("scored", "unread", "label", "log_odds", "regions", "ious", "confidence", "has_box")


def work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found: dict[str, Any] = {name: filled(name, SHARES[rank]).compute() for name in METRICS}
    loss = MeanLoss()
    loss.update(torch.tensor(3.0), 3 if rank == 0 else 2)
    loss.update(torch.tensor(6.0), 1 if rank == 0 else 0)
    found["loss"] = loss.compute()
    # The second picture of the part cannot be read. Rank 1 meets it as a stand-in as well, and 4 that 3 is never seen.
    count = SampleCount()
    count.update(torch.tensor([0, 2] if rank == 0 else [4, 4, 5]), torch.tensor([True] * (2 + rank)))
    count.leave_out([1] if rank == 0 else [])
    found["complaint"] = count.complaint(6)
    excused = SampleCount()
    excused.update(
        torch.tensor([0, 2] if rank == 0 else [2, 3]),
        torch.tensor([True, rank == 0] if rank == 0 else [False, True]),
    )
    excused.leave_out([1])
    found["no complaint"] = excused.complaint(4)
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def in_order(rows: Tensor) -> Tensor:
    """The rows of (N, ...) by their values."""
    flat = rows.reshape(len(rows), rows[:1].numel())
    return flat[sorted(range(len(flat)), key=lambda row: flat[row].tolist())]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ddp")
    return run_two_ranks(__file__, folder)


@pytest.mark.parametrize("name", METRICS)
def test_two_processes_are_one(name: str, two_processes: list[dict[str, Any]]) -> None:
    alone: dict[str, Tensor] = filled(name, [(list(range(8)), None), (list(range(8, COUNT)), None)]).compute()
    for found in two_processes:
        assert found[name].keys() == alone.keys()
        for key, expected in alone.items():
            value = found[name][key]
            if key in PER_SAMPLE and value.ndim:  # one process after the other
                value, expected = in_order(value), in_order(expected)
            # sums of float64 in another order; all that is made of counts is the same to the last bit
            float_sum = key in ("calibration_error", "reliability", "box_iou") or "average_precision" in key
            torch.testing.assert_close(
                value, expected, rtol=1e-12 if float_sum else 0, atol=0, equal_nan=True
            )


def test_the_comparison_is_of_real_scores() -> None:
    """No score of the data above is absent, 0 or 1, which would be equal by accident."""
    for name in set(METRICS) - {"samples"}:
        scores = filled(name, [(list(range(COUNT)), None)]).compute()
        for key, value in scores.items():
            assert value.ndim or 0 < value.item() < 1, (name, key, value)


def test_global_mean_loss(two_processes: list[dict[str, Any]]) -> None:
    for found in two_processes:
        assert found["loss"].item() == 3.5  # (5 * 3 + 1 * 6) / 6


def test_each_sample_is_accounted_for(two_processes: list[dict[str, Any]]) -> None:
    for found in two_processes:
        assert found["complaint"] == "1 of 6 samples never (first 3), 1 of 6 samples more than once (first 4)"
        assert found["no complaint"] == ""


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
