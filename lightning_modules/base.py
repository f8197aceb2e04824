"""What every task's module shares: building from the data, the training recipe, and what a checkpoint tells."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from errors import LoupeError, unknown
from losses import create_loss
from metrics import MeanLoss
from models import backbone_parameters, set_backbone_frozen
from optim import Schedule, create_optimizer, create_schedule, penalty

__all__ = ["Batch", "LoupeModule", "Stage"]

Batch = dict[str, Tensor]
Stage = Literal["train", "val", "test"]


class LoupeModule(LightningModule, ABC):
    """The base of every task: a network and a loss that are built once the data is known.

    A task gives `create_network` (classes -> network), `score_names`, and the two steps; everything about
    optimizers, schedules, freezing and checkpoints is here. The network is ``self.model``, from an image batch
    to logits.

    Args:
        recipe: The `training:` section as plain data, or None for a module that only predicts.
        backbone: ``freeze`` (bool), ``unfreeze_epoch`` (int or None), ``learning_rate_factor`` (float).
    """

    #: Names of the scores that the task logs for each stage beside ``loss``, as in ``val/iou``.
    score_names: tuple[str, ...] = ()

    def __init__(self, *, recipe: Mapping[str, Any] | None, backbone: Mapping[str, Any]) -> None:
        super().__init__()
        self.recipe: dict[str, Any] = dict(recipe or {})
        self.freeze_backbone: bool = backbone["freeze"]
        self.unfreeze_epoch: int | None = backbone["unfreeze_epoch"]
        self.backbone_factor: float = backbone["learning_rate_factor"]
        if self.backbone_factor < 0:
            raise LoupeError(
                f"model.backbone_learning_rate_factor is {self.backbone_factor}; it is a number from 0"
            )
        if self.unfreeze_epoch is not None and not self.freeze_backbone:
            raise LoupeError(
                "model.unfreeze_epoch is set but nothing is frozen; add model.freeze_backbone=true"
            )
        self.class_names: list[str] | None = None
        self.input_contract: dict[str, Any] = {}
        self.restoring = False
        self.validated_epoch = -1
        self.used_rate = 0.0
        self.model: nn.Module | None = None
        self.criterion: nn.Module | None = None
        self.train_loss = MeanLoss()

    # -- building -----------------------------------------------------------------------------------------------

    @abstractmethod
    def create_network(self, class_names: list[str], in_channels: int, *, pretrained: bool) -> nn.Module:
        """The network for these classes; with ``pretrained`` False no weights are looked for."""

    @abstractmethod
    def create_scores(self, class_names: list[str]) -> None:
        """Make the metrics that `validation_step` and `test_step` fill."""

    def adopt(self, card: Mapping[str, Any]) -> None:
        """Take classes and input contract from a checkpoint's card: they win over those of the data."""
        self.class_names = list(card["class_names"])
        self.input_contract = dict(card["input"])
        self.restoring = True

    def configure_model(self) -> None:
        """Build network, loss and scores from the data at hand; does nothing the second time."""
        if self.model is not None:
            return
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        found = getattr(data, "class_names", None)
        if (
            self.class_names is not None
            and found
            and list(found) != self.class_names
            and not self.trainer.predicting
        ):
            raise LoupeError(
                f"the checkpoint knows the classes {self.class_names}, the data has {list(found)}; "
                f"use data of the same classes, or give data.read.class_names"
            )
        if self.class_names is None:
            self.class_names = list(found or [])
            self.input_contract = data.input_contract()
        self.build(ignore_index=getattr(data, "ignore_index", None))

    def build(self, *, ignore_index: int | None = None) -> None:
        """Make the network for the known classes, and with a recipe also loss and scores."""
        names = self.class_names
        assert names is not None, "class_names are set by configure_model() or adopt()"
        channels = int(self.input_contract["in_channels"])
        self.model = self.create_network(names, channels, pretrained=not self.restoring)
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if self.freeze_backbone:
            set_backbone_frozen(self.model, True)
        if self.recipe:
            options: dict[str, Any] = {"ignore_index": ignore_index} if ignore_index is not None else {}
            self.criterion = create_loss(**{**options, **self.recipe["loss"]})
            self.create_scores(names)
            if self.recipe["compile"]:
                # In place: the keys of the state dict stay those of the plain network.
                self.model.compile()

    @property
    def network(self) -> nn.Module:
        """The network, once it is built."""
        assert self.model is not None, "configure_model() builds the network"
        return self.model

    @property
    def logged_names(self) -> list[str]:
        """Every key that a fit logs once an epoch, and `training.monitor` may therefore name."""
        return ["train/loss", *(f"val/{name}" for name in ("loss", *self.score_names))]

    @property
    def accepts_single_sample(self) -> bool:
        """False where batch norm in training would see a single value if it were given one picture."""
        height, width = self.input_contract["image_size"]
        channels = int(self.input_contract["in_channels"])
        state = {k: v.to("meta") for k, v in self.network.state_dict(keep_vars=True).items()}
        buffers = {k: v.to("meta") for k, v in self.network.named_buffers()}
        image = torch.zeros(1, channels, height, width, device="meta")
        was_training = self.network.training
        self.network.train()
        try:
            # Shapes are all that is asked for: a compiled network must not be compiled for the meta device.
            with torch.compiler.set_stance("force_eager"):
                torch.func.functional_call(self.network, {**state, **buffers}, (image,))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            return False
        finally:
            self.network.train(was_training)
        return True

    # -- training -----------------------------------------------------------------------------------------------

    def forward(self, image: Tensor) -> Tensor:
        """``image`` (B, C, H, W) uint8, or float in 0..1 -> logits."""
        return self.network(image.contiguous(memory_format=torch.channels_last))

    def loss(self, logits: Tensor, target: Tensor, batch: Batch) -> Tensor:
        """The scalar loss of the global batch: padding samples weigh nothing."""
        assert self.criterion is not None, "a module without a training recipe has no loss"
        return self.criterion(logits, target, sample_weight=batch["valid"])

    def log_training(self, loss: Tensor, batch: Batch) -> Tensor:
        """Log the training loss; returns it with the regularizer's penalty added."""
        self.used_rate = float(self.schedule.get_last_lr()[-1])
        self.train_loss.update(loss, batch["valid"].sum())
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        frequency = self.recipe["tensorboard"].get("update_freq", "epoch")
        if frequency != "epoch":
            self.log("train/loss_step", loss.detach(), on_step=True, on_epoch=False)
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        options = self.recipe["regularizer"]
        if not options["enabled"]:
            return loss
        extra = penalty(self.network, l1=options["l1"], l2=options["l2"])
        self.log("train/regularizer", extra.detach(), on_step=False, on_epoch=True, batch_size=1)
        return loss + extra

    def on_fit_start(self) -> None:
        """Refuse a monitor that names a class the data does not have, now that the classes are known."""
        monitor = self.recipe.get("monitor", "train/loss")
        if monitor not in self.logged_names:
            raise unknown("training.monitor", monitor, self.logged_names)

    def on_train_epoch_start(self) -> None:
        """Unfreeze the backbone when its epoch has come; also after a resume."""
        if self.freeze_backbone:
            thaw = self.unfreeze_epoch is not None and self.current_epoch >= self.unfreeze_epoch
            set_backbone_frozen(self.network, not thaw)

    def on_after_backward(self) -> None:
        """Average the gradients of a thawed backbone over all processes.

        DistributedDataParallel looks once, before the first step, at what is trained; the backbone was frozen then.
        """
        if not self.freeze_backbone or self.trainer.world_size == 1:
            return
        gradients = [p.grad for p in backbone_parameters(self.network) if p.grad is not None]
        if gradients:
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            mean = self.trainer.strategy.reduce(flat, reduce_op="mean")
            for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def on_train_epoch_end(self) -> None:
        """Log the learning rate of the last step, and show the monitored score to the schedule."""
        self._refuse_divergence()
        self.log("train/learning_rate", self.used_rate)
        monitor = self.recipe["monitor"]
        score = self.trainer.callback_metrics.get(monitor)
        if score is not None and self.has_fresh(monitor):
            self.schedule.observe(float(score))

    def _refuse_divergence(self) -> None:
        """End the run before a checkpoint of this epoch is written: best and last stay what they were."""
        for name in ("train/loss", "val/loss"):
            loss = float(self.trainer.callback_metrics.get(name, 0.0))  # barebones logs nothing
            if self.has_fresh(name) and not math.isfinite(loss):
                raise LoupeError(
                    f"{name} is {loss} in epoch {self.current_epoch + 1}: the training has diverged; use a smaller "
                    f"training.learning_rate (it is {self.recipe['learning_rate']:g}), or training.gradient_clip=1"
                )

    def on_validation_end(self) -> None:
        """Remember that this epoch has fresh scores."""
        if not self.trainer.sanity_checking:
            self.validated_epoch = self.current_epoch

    def has_fresh(self, score: str) -> bool:
        """Whether ``score`` is of this epoch: in one without validation, that of an earlier epoch is still there."""
        return not score.startswith("val/") or self.validated_epoch == self.current_epoch

    @property
    def schedule(self) -> Schedule:
        """The learning-rate schedule of the running fit."""
        schedule = self.lr_schedulers()
        assert isinstance(schedule, Schedule)
        return schedule

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule of the recipe; the schedule steps once per optimizer step."""
        recipe = self.recipe
        if not recipe:
            raise LoupeError("this module has no training recipe; give training=Training(...).as_dict()")
        clips = recipe["gradient_clip"] is not None
        scaled = str(self.trainer.precision) == "16-mixed"
        optimizer = create_optimizer(
            self.network,
            learning_rate=recipe["learning_rate"],
            optimizer=recipe["optimizer"],
            backbone=backbone_parameters(self.network),
            backbone_factor=self.backbone_factor,
            fused=False if clips and scaled else None,
        )
        total = int(self.trainer.estimated_stepping_batches)
        steps = max(1, round(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches))
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

    # -- checkpoints --------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the card: all that is needed to use the weights without the data they were trained on."""
        checkpoint["loupe"] = {
            "module": f"{type(self).__module__}.{type(self).__qualname__}",
            "class_names": list(self.class_names or []),
            "input": self.input_contract,
            "precision": str(self.trainer.precision),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what differs when the weights are of another network."""
        own, stored = self.state_dict(), checkpoint["state_dict"]
        wrong = [key for key in own if key not in stored or own[key].shape != stored[key].shape]
        wrong += [key for key in stored if key not in own]
        if wrong:
            raise LoupeError(
                f"the checkpoint holds another network: {len(wrong)} of {len(own)} tensors differ, first '{wrong[0]}'; "
                f"use the settings it was trained with (--config RUN/config.yaml)"
            )
