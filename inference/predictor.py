"""A trained model as one object that takes pictures."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules import InputReader
from errors import LoupeError
from inference.checkpoint import read_checkpoint, taking_over
from lightning_modules import LoupeModule

__all__ = ["Predictor", "load"]


class Predictor:
    """Answers for one picture at a time, exactly as ``train.py predict`` does.

    Args:
        module: A built module with its weights.
        device: Where it computes.
        precision: Lightning's name of the precision that the weights were trained in; mixed ones compute as
            ``train.py predict`` does, in bfloat16 where the device has it.
    """

    def __init__(self, module: LoupeModule, device: torch.device, precision: str = "32-true") -> None:
        self.mixed = precision.endswith("-mixed")
        self.module = module.to(device).eval()
        self.device = device
        self.reader = InputReader(module.input_contract)

    @property
    def class_names(self) -> list[str]:
        """The classes, in the order of their numbers."""
        return list(self.module.class_names or [])

    @torch.inference_mode()
    def predict(self, picture: str | Path | np.ndarray) -> dict[str, Any]:
        """The prediction for a file, or for an upright RGB array (H, W, 3) or grey (H, W), uint8.

        Returns a dict with ``row``, what ``predictions.csv`` holds (a classifier's probabilities, a cropper's box), and
        for a segmenter ``mask``: uint8 (H, W) class numbers at the size of the picture.
        """
        sample = self.reader(picture)
        batch = {name: value[None].to(self.device) for name, value in sample.items()}
        batch["index"] = torch.zeros(1, dtype=torch.int64, device=self.device)
        batch["valid"] = torch.ones(1, dtype=torch.bool, device=self.device)
        with torch.autocast(self.device.type, dtype=self._half(), enabled=self.mixed):
            (prediction,) = self.module.predict_step(batch, 0)
        return {name: value for name, value in prediction.items() if name != "index"}

    def _half(self) -> torch.dtype:
        old_cuda = self.device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.float16 if old_cuda else torch.bfloat16


def load(checkpoint: str | Path, device: str = "cpu") -> Predictor:
    """The model of a Loupe checkpoint, ready to predict; LoupeError for a file that is none."""
    content = read_checkpoint(checkpoint)
    card = content["loupe"]
    with taking_over(checkpoint):
        module = _module_class(card["module"])(**_arguments(content["hyper_parameters"]))
        module.adopt(card)
        module.build()
        module.on_load_checkpoint(content)
        module.load_state_dict(content["state_dict"])
    return Predictor(module, torch.device(device), card.get("precision", "32-true"))


def _module_class(name: str) -> type[LoupeModule]:
    """The module class that wrote the checkpoint; only LoupeModules are ever made from a file."""
    package, _, cls = name.rpartition(".")
    if package.split(".")[0] != "lightning_modules":
        raise LoupeError(f"the checkpoint was written by {name}, which is not one of Loupe's modules")
    found = getattr(importlib.import_module(package), cls, None)
    if not (isinstance(found, type) and issubclass(found, LoupeModule)):
        raise LoupeError(f"the checkpoint was written by {name}, which this version does not have")
    return found


def _arguments(hyper_parameters: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments, without the training recipe, which prediction does not need."""
    return {k: v for k, v in hyper_parameters.items() if not k.startswith("_") and k != "training"}
