"""Whether, when and how fast the backbone of a network is trained."""

from dataclasses import dataclass

import torch
from lightning.pytorch import Trainer
from torch import nn

from errors import LoupeError
from models import backbone_parameters, set_backbone_frozen

__all__ = ["BackboneTraining"]


@dataclass(frozen=True)
class BackboneTraining:
    """The part of the recipe that concerns the backbone alone.

    Args:
        frozen: Keep its weights and norms as they are.
        thaw_epoch: Train it too from this epoch on (the first is 0); None: never.
        rate_factor: Its learning rate as a factor of the head's.
    """

    frozen: bool = False
    thaw_epoch: int | None = None
    rate_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.rate_factor < 0:
            raise LoupeError(
                f"model.backbone_learning_rate_factor is {self.rate_factor}; it is a number from 0"
            )
        if self.thaw_epoch is not None and not self.frozen:
            raise LoupeError(
                "model.unfreeze_epoch is set but nothing is frozen; add model.freeze_backbone=true"
            )

    def begin(self, network: nn.Module, epoch: int) -> None:
        """Freeze the backbone, or thaw it when its epoch has come; also after a resume."""
        if self.frozen:
            thaw = self.thaw_epoch is not None and epoch >= self.thaw_epoch
            set_backbone_frozen(network, not thaw)

    def average_gradients(self, network: nn.Module, trainer: Trainer) -> None:
        """Average the gradients of a thawed backbone over all processes.

        DistributedDataParallel looks once, before the first step, at what is trained; the backbone was frozen then.
        """
        if not self.frozen or trainer.world_size == 1:
            return
        gradients = [p.grad for p in backbone_parameters(network) if p.grad is not None]
        if gradients:
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            mean = trainer.strategy.reduce(flat, reduce_op="mean")
            for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
