"""What the terminal shows before the first step: data, model, how it is trained, and where the run is kept."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch.nn import BatchNorm1d, BatchNorm2d, BatchNorm3d

from callbacks.run_directory import RunDirectory
from callbacks.terminal import labelled

__all__ = ["OpeningSummary", "device_names", "network_name"]


class OpeningSummary(Callback):
    """Prints a few lines before the first step. How long it will take is told later, by `TimeEstimate`."""

    def __init__(self, run: RunDirectory, training: dict[str, Any]) -> None:
        self.run = run
        self.training = training

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print them."""
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        lines: list[str] = data.describe() if hasattr(data, "describe") else []
        total = sum(p.numel() for p in pl_module.parameters())
        trainable = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
        frozen = f", {_count(total - trainable)} of them frozen" if trainable < total else ""
        name = f"{type(pl_module).__name__}, {network_name(pl_module)}".removesuffix(", ")
        training = self.training
        steps = round(trainer.num_training_batches / trainer.accumulate_grad_batches)
        lines = [
            *lines,
            f"model: {name}, {_count(total)} parameters{frozen}",
            f"training: {trainer.max_epochs} epochs of {steps} steps of {training['batch_size']} images, "
            f"{training['optimizer']['type']} {training['learning_rate']:g}, loss {training['loss']['type']}, "
            f"{trainer.precision} on {device_names(trainer)}",
            *_where_it_goes_on(trainer, pl_module),
            *_class_weights(pl_module, training["loss"]),
            f"run: {self.run.path}" if self.run.claimed else "run: nothing is kept (fast_dev_run)",
        ]
        norms = any(isinstance(m, (BatchNorm1d, BatchNorm2d, BatchNorm3d)) for m in pl_module.modules())
        if trainer.world_size > 1 and norms:
            lines.append(
                f"note: batch norm sees the images of each process alone ({training['batch_size']} / "
                f"{trainer.world_size}); only CUDA can share them, so scores differ from one process's"
            )
        if trainer.accumulate_grad_batches > 1:
            lines += _not_exact(pl_module, training["batch_size"], trainer.accumulate_grad_batches)
        print("", *(f"  {labelled(line)}" for line in lines), "", sep="\n", flush=True)


def network_name(module: LightningModule) -> str:
    """What the module's network is called: ``unet``, ``unet with resnet50``, ``mobilenetv3_small_100``, or nothing."""
    named = [getattr(module, key, None) for key in ("architecture", "encoder", "backbone")]
    return " with ".join(name for name in named if isinstance(name, str))


def device_names(trainer: Trainer) -> str:
    """How many devices train, and what they are: ``1 x cpu (2 threads)``, ``4 x NVIDIA H100 80GB HBM3``."""
    device = trainer.strategy.root_device
    match device.type:
        case "cuda":
            name = torch.cuda.get_device_name(device)
        case "cpu":
            threads = torch.get_num_threads()
            name = f"cpu ({threads} thread{'s' * (threads != 1)})"
        case other:
            name = other
    return f"{trainer.world_size} x {name}"


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M" if parameters >= 100_000 else f"{parameters:,}"


def _where_it_goes_on(trainer: Trainer, pl_module: LightningModule) -> list[str]:
    """A line for a run that goes on: from where, and what the schedule makes of it."""
    if trainer.global_step == 0:
        return []
    done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
    batches = trainer.num_training_batches
    within = ""
    if trainer.fit_loop.restarting and done:
        within = ", before its validation" if done >= batches else f", batch {done + 1} of {batches}"
    schedule: Any = pl_module.schedule
    return [
        f"goes on: after {trainer.global_step} steps, in epoch {trainer.current_epoch + 1}{within}; the learning rate "
        f"of the next step is {schedule.get_last_lr()[-1]:.4g}, that of the last was {float(pl_module.used_rate):.4g}"  # pyright: ignore[reportArgumentType]
    ]


def _class_weights(module: LightningModule, loss: dict[str, Any]) -> list[str]:
    """A line for each part of the loss whose weights were worked out from the data."""
    criterion: Any = getattr(module, "criterion", None)
    parts = [(loss, criterion), *zip(loss.get("losses", []), getattr(criterion, "losses", []), strict=False)]
    names = list(getattr(module, "class_names", None) or [])
    lines: list[str] = []
    for options, built in parts:
        if built is not None and isinstance(options.get("class_weight"), str):
            listed = [f"{n} {w:.3g}" for n, w in zip(names, built.class_weight.tolist(), strict=False)]
            more = ", ..." if len(listed) > 8 else ""
            lines.append(f"class weights ({options['class_weight']}): {', '.join(listed[:8])}{more}")
    return lines


def _not_exact(module: LightningModule, batch_size: int, micro_batches: int) -> list[str]:
    """A warning where the loss of a step is not the sum of what its micro-batches make."""
    criterion: Any = getattr(module, "criterion", None)
    if getattr(criterion, "adds_up", True):
        return []
    parts = getattr(criterion, "losses", [criterion])
    names = " and ".join(dict.fromkeys(part.name for part in parts if not part.adds_up))
    return [
        f"warning: training.loss {names} is a ratio over the pictures it sees at once: the mean over the "
        f"{micro_batches} micro-batches of a step is not exactly that of its {batch_size} images; "
        "per_image: true would be exact"
    ]
