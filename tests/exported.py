"""Tiny models that tests export: no fit, but answers that depend on the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from datamodules import ClassificationDataModule, CropDataModule, LoupeDataModule, SegmentationDataModule
from datamodules.options import Loader
from lightning_modules import ClassificationModule, CropModule, LoupeModule, SegmentationModule
from tests.tasks import write_task

SIZE = 32
MODULES: dict[str, tuple[type[LoupeModule], type[LoupeDataModule], dict[str, Any]]] = {
    "classification": (ClassificationModule, ClassificationDataModule, {"backbone": "lcnet_035"}),
    "segmentation": (
        SegmentationModule,
        SegmentationDataModule,
        {"options": {"base_filters": 4, "depth": 2}},
    ),
    "cropping": (CropModule, CropDataModule, {"backbone": "lcnet_035"}),
}


def tiny_module(
    task: str, *, size: tuple[int, int] = (SIZE, SIZE), seed: int = 0, **contract: Any
) -> LoupeModule:
    """A module of the task with two classes, whose norms know the statistics of noise."""
    torch.manual_seed(seed)
    cls, _, arguments = MODULES[task]
    module = cls(**arguments)
    module.class_names = ["object"] if task == "cropping" else ["one", "two"]
    module.input_contract = {
        "image_size": list(size),
        "resize": "letterbox",
        "interpolation": "bilinear",
        "in_channels": 3,
        **contract,
    }
    module.restoring = True
    module.build()
    channels = int(module.input_contract["in_channels"])
    pictures = torch.randint(0, 256, (16, channels, *size), dtype=torch.uint8)
    pictures = pictures // torch.arange(1, 17, dtype=torch.uint8)[:, None, None, None]
    with torch.no_grad():
        module.train()
        for _ in range(50):
            module.network(pictures)
        module.eval()
        if task != "segmentation":
            _spread(module.network.head, module.network, pictures)
    return module


def _spread(head: Any, network: Any, pictures: torch.Tensor) -> None:
    """Scale and shift the last layers so that the answers differ from picture to picture, and are unsure."""
    layers = [head] if hasattr(head, "weight") else [head.proposal, head.confidence]
    for layer in layers:
        given: list[torch.Tensor] = []
        handle = layer.register_forward_hook(
            lambda _layer, _inputs, output, given=given: given.append(output)
        )
        network(pictures)
        handle.remove()
        values = given[0].transpose(0, 1).flatten(1)
        wide = 4 * values.std(1)
        layer.weight.div_(wide.view(-1, *(1,) * (layer.weight.ndim - 1)))
        layer.bias.copy_(-values.mean(1) / wide)


def tiny_data(task: str, root: Path, *, size: tuple[int, int] = (SIZE, SIZE)) -> LoupeDataModule:
    """The datamodule of the task's tiny pictures, set up."""
    _, cls, _ = MODULES[task]
    data = cls(str(write_task(task, root)), image_size=size, loader=Loader(num_workers=0))
    data.setup("validate")
    return data
