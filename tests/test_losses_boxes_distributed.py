"""Box losses on two processes: value and averaged gradient are those of one process with all samples."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from losses import BOX_LOSSES, create_box_loss


def samples() -> tuple[torch.Tensor, ...]:
    corner = torch.rand(7, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    preds = torch.cat([corner[:, :2].amin(1), corner[:, :2].amax(1)], dim=1)
    target = torch.cat([corner[:, 2:].amin(1), corner[:, 2:].amax(1)], dim=1)
    has_box = torch.tensor([True, False, False, True, True, False, True])
    return preds, target, has_box, torch.linspace(-1, 2, 7, dtype=torch.float64)


def on_two(rank: int, file: str) -> None:
    """Unequal shares (5 and 2 samples), objects unequally spread, and a padding sample."""
    preds, target, has_box, confidence = samples()
    rows = torch.tensor([0, 1, 2, 3, 4] if rank == 0 else [5, 6, 6])
    valid = torch.tensor([True] * 5 if rank == 0 else [True, True, False])
    for name in BOX_LOSSES:
        loss = create_box_loss(name, confidence_weight=0.3)
        whole_box, whole_confidence = preds.clone().requires_grad_(), confidence.clone().requires_grad_()
        expected = loss(whole_box, target, has_box=has_box, confidence=whole_confidence)
        expected.backward()
        dist.init_process_group("gloo", init_method=f"file://{file}.{name}", rank=rank, world_size=2)
        box, logits = preds.clone().requires_grad_(), confidence.clone().requires_grad_()
        found = loss(
            box[rows], target[rows], has_box=has_box[rows], confidence=logits[rows], sample_weight=valid
        )
        found.backward()
        assert box.grad is not None and logits.grad is not None
        assert whole_box.grad is not None and whole_confidence.grad is not None
        for grad in (box.grad, logits.grad):  # as DistributedDataParallel averages
            dist.all_reduce(grad)
            grad /= 2
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(box.grad, whole_box.grad, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(logits.grad, whole_confidence.grad, rtol=1e-12, atol=1e-15)
        dist.destroy_process_group()


def test_two_processes_are_one(tmp_path: Path) -> None:
    mp.start_processes(on_two, args=(str(tmp_path / "store"),), nprocs=2, start_method="spawn")
