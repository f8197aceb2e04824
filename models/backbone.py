"""The part of a network that pretrained weights fill, and freezing it."""

from abc import ABC, abstractmethod
from typing import TypeVar

import torch
from torch import nn
from torch.func import functional_call

from errors import LoupeError

__all__ = [
    "BackboneModel",
    "accepts_single_sample",
    "backbone_parameters",
    "set_backbone_frozen",
    "unused_parameters",
]


_Model = TypeVar("_Model", bound="BackboneModel")


class BackboneModel(nn.Module, ABC):
    """A network with a ``backbone`` that can be frozen: no gradients, and its norms and dropout as in evaluation.

    ``train()`` leaves a frozen backbone in evaluation mode, so no statistics drift whoever calls it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone_frozen = False
        self.unused: frozenset[str] = frozenset()

    @property
    @abstractmethod
    def backbone(self) -> nn.Module:
        """The encoder, contracting path or feature extractor."""

    def train(self: _Model, mode: bool = True) -> _Model:  # Python 3.10 has no typing.Self
        """As in torch, but a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        return self

    def freeze_backbone(self, frozen: bool) -> None:
        """See ``set_backbone_frozen``."""
        self.backbone_frozen = frozen
        backbone = {id(parameter) for parameter in self.backbone.parameters()}
        for name, parameter in self.named_parameters():
            if id(parameter) in backbone:
                parameter.requires_grad_(not frozen and name not in self.unused)
        self.train(self.training)

    def retire(self, unused: frozenset[str]) -> None:
        """Take parameters that no output depends on out of training for good.

        DistributedDataParallel waits for the gradient of every parameter that is in training.
        """
        self.unused = unused
        for name, parameter in self.named_parameters():
            if name in unused:
                parameter.requires_grad_(False)


def backbone_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the backbone of a model from ``create_model``, frozen or not."""
    return list(_unwrapped(model).backbone.parameters())


def set_backbone_frozen(model: nn.Module, frozen: bool) -> None:
    """Freeze or unfreeze the backbone of a model from ``create_model``; calling it again changes nothing.

    Frozen means: no gradients, norms use and keep their statistics, no dropout, also after ``model.train()``.
    """
    _unwrapped(model).freeze_backbone(frozen)


def unused_parameters(model: nn.Module, image_shape: tuple[int, int, int, int]) -> frozenset[str]:
    """Names of the parameters that the output for such an image batch does not depend on.

    Found on the meta device: shapes only, no arithmetic. Encoders have them where a decoder takes fewer
    stages, and SMP's EfficientNets keep the head of the classifier.
    """
    parameters = {k: torch.empty_like(p, device="meta").requires_grad_() for k, p in model.named_parameters()}
    buffers = {k: torch.empty_like(b, device="meta") for k, b in model.named_buffers()}
    image = torch.empty(image_shape, device="meta")
    with torch.enable_grad():
        try:
            output = functional_call(model, {**parameters, **buffers}, image)
        except (RuntimeError, NotImplementedError):  # an encoder that looks at values: nothing is known of it
            return frozenset()
        output.sum().backward()
    return frozenset(name for name, parameter in parameters.items() if parameter.grad is None)


def accepts_single_sample(model: nn.Module, shape: tuple[int, int, int]) -> bool:
    """False where batch norm in training would see a single value if it were given one picture (C, H, W).

    Found on the meta device: shapes only, no arithmetic.
    """
    state = {k: v.to("meta") for k, v in model.state_dict(keep_vars=True).items()}
    buffers = {k: v.to("meta") for k, v in model.named_buffers()}
    image = torch.zeros(1, *shape, device="meta")
    was_training = model.training
    model.train()
    try:
        # A compiled network must not be compiled for the meta device.
        with torch.compiler.set_stance("force_eager"):
            functional_call(model, {**state, **buffers}, (image,))
    except (ValueError, RuntimeError, AssertionError) as error:
        if "more than 1 value per channel" in str(error):
            return False
        height, width = shape[1:]
        raise LoupeError(
            f"the network cannot take pictures of {height}x{width} (data.image_size): {error}"
        ) from error
    finally:
        model.train(was_training)
    return True


def _unwrapped(model: nn.Module) -> BackboneModel:
    model = getattr(model, "_orig_mod", model)  # torch.compile(model) hides the module there
    assert isinstance(model, BackboneModel), f"{type(model).__name__} has no backbone"
    return model
