"""What a module has added up of an epoch that is not over, in the checkpoint: each process has sums of its own."""

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor

from metrics import MeanLoss

__all__ = ["keep_sums", "log_again", "take_sums"]


def keep_sums(module: Any, checkpoint: dict[str, Any]) -> None:
    """Store the sums of all processes, (world, 2, T) on the CPU for each mean; every process has to call it."""
    if module.trainer.state.fn == "fit":
        means: dict[str, MeanLoss] = module.epoch_means
        sums = {name: _from_all(mean.sums, module.trainer) for name, mean in means.items()}
        fresh = module.validated_epoch == module.trainer.fit_loop.epoch_progress.current.processed
        checkpoint["epoch_so_far"] = {
            "sums": sums,
            "used_rate": module.used_rate,
            # of a validation within the epoch
            "scores": {name: float(x) for name, x in module.trainer.callback_metrics.items()}
            if fresh
            else {},
        }


def take_sums(module: Any, checkpoint: dict[str, Any]) -> None:
    """Give each process what it had, where a fit goes on; all to the first one, where there are more or fewer."""
    trainer: Trainer | None = module._trainer  # the property raises where there is none, as in a notebook
    stored = checkpoint.get("epoch_so_far")
    if trainer is None or trainer.state.fn != "fit" or stored is None:
        return
    module.used_rate = float(stored["used_rate"])
    module.scores_so_far = {name: float(score) for name, score in stored["scores"].items()}
    means: dict[str, MeanLoss] = module.epoch_means
    for name, mean in means.items():
        sums = stored["sums"].get(name)
        if sums is not None and sums.shape[1:] == mean.sums.shape:
            same = len(sums) == trainer.world_size
            mean.restore(sums[trainer.global_rank] if same else sums.sum(0) * float(trainer.is_global_zero))


def log_again(module: Any) -> None:
    """Log the means of an epoch that goes on: there may be no batch left of it, with which they would be logged.

    Where it was validated in between, its scores are known again as well.
    """
    if module.scores_so_far:
        module.validated_epoch = module.current_epoch
        module.trainer._logger_connector._callback_metrics.update(
            {name: torch.tensor(x, dtype=torch.float64) for name, x in module.scores_so_far.items()}
        )
    for name, mean in module.epoch_means.items():
        module.log(name, mean, on_step=False, on_epoch=True)


def _from_all(sums: Tensor, trainer: Trainer) -> Tensor:
    if trainer.world_size == 1:
        return sums[None].cpu()
    parts = [torch.empty_like(sums) for _ in range(trainer.world_size)]
    dist.all_gather(parts, sums.contiguous())
    return torch.stack(parts).cpu()
