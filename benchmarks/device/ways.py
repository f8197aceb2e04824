"""Hand-written training loops: what `fit` is measured against. Each way is a function that makes one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.device.clock import Build, Step
from benchmarks.device.settings import Case
from losses import create_loss
from models import create_model
from optim import create_optimizer

Batch = dict[str, Any]
RATE = 1e-4


class Batches:
    """Kept batches, one after the other, again and again."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches, self.number = batches, 0

    def next(self) -> Batch:
        self.number += 1
        return self.batches[self.number % len(self.batches)]


def target_of(batch: Batch) -> Tensor:
    return batch["mask"] if "mask" in batch else batch["label"]


def network(case: Case, classes: int, device: torch.device) -> nn.Module:
    """The network that `fit` trains, from the same first weights."""
    torch.manual_seed(0)
    name, encoder = (case.name, None) if case.encoder is None else ("classifier", case.encoder)
    made = create_model(name, num_classes=classes, encoder=encoder, weights=None, options=case.options)
    return made.to(device).train()


def autocast(device: torch.device, enabled: bool = True) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def loop(
    case: Case,
    classes: int,
    batches: list[Batch],
    device: torch.device,
    *,
    compiled: bool = True,
    channels_last: bool = True,
    own_loss: bool = True,
    mixed: bool = True,
) -> Step:
    """The plain loop: Loupe's network and optimizer, its loss or torch's cross entropy.

    Args:
        compiled: By torch.compile.
        channels_last: Memory format of weights and pictures.
        own_loss: Loupe's; else torch's cross entropy, and of pixels no dice.
        mixed: bfloat16.
    """
    model = network(case, classes, device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    optimizer = create_optimizer(model, learning_rate=RATE)
    loss: Any = create_loss(case.loss).to(device) if own_loss else functional.cross_entropy
    answers: Any = torch.compile(model, dynamic=False) if compiled else model
    kept = Batches(batches)

    def step() -> None:
        batch = kept.next()
        optimizer.zero_grad()
        with autocast(device, mixed):
            logits = answers(batch["image"].contiguous(memory_format=layout))
            value = loss(logits, target_of(batch))
        value.backward()
        optimizer.step()

    return step


def smp_loop(case: Case, classes: int, batches: list[Batch], device: torch.device) -> Step:
    """segmentation_models_pytorch in a plain compiled loop: its network, its dice and torch's cross entropy."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    model: Any = smp.Unet("resnet50", encoder_weights=None, classes=classes)
    model = model.to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    dice = smp.losses.DiceLoss("multiclass")
    answers: Any = torch.compile(model, dynamic=False)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) * 255 for values in _imagenet())
    kept = Batches(batches)

    def step() -> None:
        batch = kept.next()
        optimizer.zero_grad()
        image = batch["image"].contiguous(memory_format=torch.channels_last).float().sub_(mean).div_(std)
        with autocast(device):
            logits = answers(image)
            value = dice(logits, batch["mask"]) + functional.cross_entropy(logits, batch["mask"])
        value.backward()
        optimizer.step()

    return step


def timm_loop(
    case: Case, classes: int, batches: list[Batch], device: torch.device, *, erasing: bool = True
) -> Step:
    """timm's recipe: its network, optimizer, MixUp, random erasing on the device, and average of the weights.

    As its train.py and its loader do with ``--amp --amp-dtype bfloat16 --channels-last --torchcompile --opt adamw
    --mixup 0.2 --reprob 0.25 --model-ema``, pictures already on the device.
    """
    import timm
    from timm.data.mixup import Mixup
    from timm.data.random_erasing import RandomErasing
    from timm.loss import SoftTargetCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.utils import ModelEmaV3

    torch.manual_seed(0)
    model: Any = timm.create_model(case.timm_name, pretrained=False, num_classes=classes)
    model = model.to(device).to(memory_format=torch.channels_last).train()
    optimizer: Any = create_optimizer_v2(model, opt="adamw", lr=RATE, weight_decay=0.05)
    ema = ModelEmaV3(model, decay=0.9998)
    answers: Any = torch.compile(model, dynamic=False)
    mixup = Mixup(mixup_alpha=0.2, label_smoothing=0.1, num_classes=classes)
    erase = RandomErasing(0.25, mode="pixel", device=str(device)) if erasing else None
    loss = SoftTargetCrossEntropy().to(device)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) * 255 for values in _imagenet())
    kept = Batches(batches)

    def step() -> None:
        batch = kept.next()
        image = batch["image"].float().sub_(mean).div_(std)
        if erase is not None:
            image = erase(image)
        image, target = mixup(image, batch["label"])
        image = image.contiguous(memory_format=torch.channels_last)
        with autocast(device):
            value = loss(answers(image), target)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(model)

    return step


def _imagenet() -> tuple[tuple[float, ...], tuple[float, ...]]:
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


def ways_of(case: Case, classes: int, batches: list[Batch], device: torch.device) -> dict[str, Build]:
    """All that one fit is measured beside, by name, the most important first."""

    def build(make: Callable[..., Step], **options: Any) -> Build:
        return lambda: make(case, classes, batches, device, **options)

    ways = {"loop": build(loop), "torch_loss": build(loop, own_loss=False)}
    if case.name == "seg_resnet50_unet":
        ways["smp"] = build(smp_loop)
    return ways | {
        "no_compile": build(loop, compiled=False),
        "no_channels_last": build(loop, channels_last=False),
    }


def recipe_of(case: Case, classes: int, batches: list[Batch], device: torch.device) -> dict[str, Build]:
    """timm's recipe, with and without random erasing, which it does picture by picture."""
    return {
        "timm": lambda: timm_loop(case, classes, batches, device),
        "timm_no_erasing": lambda: timm_loop(case, classes, batches, device, erasing=False),
    }
