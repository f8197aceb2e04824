"""A trained model as one object that takes pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules import InputReader
from errors import LoupeError
from inference.checkpoint import read_checkpoint
from inference.members import restored
from inference.options import Inference, Roi
from inference.response import create_response
from inference.roi import Region, resolve_region
from inference.roi_found import with_region
from lightning_modules import LoupeModule

__all__ = ["Predictor", "load"]


class Predictor:
    """Answers for one picture at a time, exactly as ``train.py predict`` does.

    Args:
        module: A built module with its weights.
        device: Where it computes.
        precision: Lightning's name of the precision that the weights were trained in; mixed ones compute as
            ``train.py predict`` does, in bfloat16 where the device has it.
        inference: The section `inference`: flips, scales, an ensemble, tiles.
        region: The cropper in front; None: whole pictures.
    """

    def __init__(
        self,
        module: LoupeModule,
        device: torch.device,
        precision: str = "32-true",
        *,
        inference: Inference = Inference(),
        region: Region | None = None,
    ) -> None:
        self.mixed = precision.endswith("-mixed")
        self.module = module.to(device).eval()
        self.device = device
        tiles = inference.tiles
        if tiles.enabled and region is not None:
            raise LoupeError(
                "inference.tiles looks at whole pictures, and roi at parts of them; leave one out"
            )
        scale = float(tiles.scale) if tiles.enabled else None
        self.reader = InputReader(module.input_contract, scale=scale)
        self.region = region
        if region is not None:
            region.module.to(device)
        module.answer_with(create_response(module, inference, device=device))

    @property
    def class_names(self) -> list[str]:
        """The classes, in the order of their numbers."""
        return list(self.module.class_names or [])

    @torch.inference_mode()
    def predict(self, picture: str | Path | np.ndarray) -> dict[str, Any]:
        """The prediction for a file, or for an upright RGB array (H, W, 3) or grey (H, W), uint8.

        Returns a dict with ``row``, what ``predictions.csv`` holds (a classifier's probabilities, a cropper's box), and
        for a segmenter ``mask``: uint8 (H, W) class numbers at the size of the picture; behind a cropper also ``seen``,
        the part that the model was shown.
        """
        window = None if self.region is None else self.region.window_of(picture)
        sample, _ = self.reader.sample(picture, window=window)
        batch = {name: value[None].to(self.device) for name, value in sample.items()}
        batch["index"] = torch.zeros(1, dtype=torch.int64, device=self.device)
        batch["valid"] = torch.ones(1, dtype=torch.bool, device=self.device)
        with torch.autocast(self.device.type, dtype=self._half(), enabled=self.mixed):
            (prediction,) = self.module.predict_step(batch, 0)
        if self.region is not None:
            prediction = with_region(prediction, batch["window_px"][0].tolist())
        return {name: value for name, value in prediction.items() if name != "index"}

    def _half(self) -> torch.dtype:
        old_cuda = self.device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.float16 if old_cuda else torch.bfloat16


def load(
    checkpoint: str | Path, device: str = "cpu", *, inference: Inference = Inference(), roi: Roi = Roi()
) -> Predictor:
    """The model of a Loupe checkpoint, ready to predict as ``train.py predict`` does.

    Args:
        checkpoint: The file; what `calibrate` found and the cropper that the model was trained behind are in it.
        device: ``cpu``, ``cuda``, ``mps``.
        inference: As the section `inference`: ``Inference(flips="both", ensemble=["other.ckpt"])``.
        roi: As the section `roi`: another cropper, threshold or margin than those of the training.

    Raises:
        LoupeError: A file that is none of Loupe's, or is damaged; options that do not fit the model.
    """
    content = read_checkpoint(checkpoint)
    module = restored(content, checkpoint)
    region = resolve_region(roi, content, path=checkpoint)
    precision = content["loupe"].get("precision", "32-true")
    return Predictor(module, torch.device(device), precision, inference=inference, region=region)
