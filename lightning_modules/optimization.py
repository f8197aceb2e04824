"""From the recipe to an optimizer and its schedule."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import Trainer
from torch import nn

from errors import LoupeError
from lightning_modules.backbone_training import BackboneTraining
from models import backbone_parameters
from optim import Schedule, create_optimizer, create_schedule

__all__ = ["create_optimization", "end_epoch"]


def create_optimization(module: Any) -> Any:
    """Optimizer and schedule as Lightning wants them; the schedule steps once per optimizer step.

    Args:
        module: A LoupeModule that is built, with a trainer that knows how many steps there will be.
    """
    network: nn.Module = module.network
    trainer: Trainer = module.trainer
    recipe: Mapping[str, Any] = module.recipe
    backbone: BackboneTraining = module.backbone_training
    if not recipe:
        raise LoupeError("this module has no training recipe; give training=Training(...).as_dict()")
    clips = recipe["gradient_clip"] is not None
    scaled = str(trainer.precision) == "16-mixed"
    optimizer = create_optimizer(
        network,
        learning_rate=recipe["learning_rate"],
        optimizer=recipe["optimizer"],
        backbone=backbone_parameters(network),
        backbone_factor=backbone.rate_factor,
        fused=False if clips and scaled else None,
    )
    total = int(trainer.estimated_stepping_batches)
    steps = max(1, round(trainer.num_training_batches / trainer.accumulate_grad_batches))
    options = dict(recipe["lr_schedule"])
    if not options.pop("enabled", True):
        options = {"type": "constant"}
    warmup = recipe["warmup"]
    schedule = create_schedule(
        optimizer,
        total_steps=total,
        steps_per_epoch=steps,
        warmup_epochs=warmup["epochs"] if warmup["enabled"] else 0.0,
        mode=recipe["monitor_mode"],
        **options,
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def end_epoch(module: Any) -> None:
    """Log the learning rate of the epoch's last step, and show the monitored score to the schedule.

    LoupeError where the loss is no number: before a checkpoint of this epoch is written, so that best and last stay.
    """
    trainer, monitor, learning_rate = module.trainer, module.recipe["monitor"], module.recipe["learning_rate"]
    _refuse_divergence(trainer, module.has_fresh, learning_rate)
    module.log("train/learning_rate", module.used_rate)
    score = trainer.callback_metrics.get(monitor)
    schedule: Any = module.schedule
    # StochasticWeightAveraging puts one of torch's in its place, which no score is shown to
    if score is not None and module.has_fresh(monitor) and isinstance(schedule, Schedule):
        schedule.observe(float(score))


def _refuse_divergence(trainer: Trainer, has_fresh: Callable[[str], bool], learning_rate: float) -> None:
    for name in ("train/loss", "val/loss"):
        loss = float(trainer.callback_metrics.get(name, 0.0))  # barebones logs nothing
        if has_fresh(name) and not math.isfinite(loss):
            raise LoupeError(
                f"{name} is {loss} in epoch {trainer.current_epoch + 1}: the training has diverged; use a smaller "
                f"training.learning_rate (it is {learning_rate:g}), or training.gradient_clip=1"
            )
