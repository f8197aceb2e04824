"""What `predict` answers, as numbers and not as rows: the other side of the comparison."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules import InputReader, seen_through
from export.pictures import Picture
from inference.roi import Region
from lightning_modules import LoupeModule
from lightning_modules.cropping import corners_of, to_original_box
from lightning_modules.original_mask import two_classes
from lightning_modules.restore import to_original_size

__all__ = ["Reference"]

Answers = dict[str, np.ndarray]


class Reference:
    """The model in PyTorch, in float32 on the CPU, with Loupe's reader: the answers of a `Program`, under its names.

    Args:
        module: Built, with its weights, and already told what answers in its network's place.
        region: The cropper in front.
    """

    def __init__(self, module: LoupeModule, region: Region | None) -> None:
        self.module, self.region = module, region
        self.reader = InputReader(module.input_contract)

    def of_pixels(self, picture: Picture) -> Answers:
        """For the pixels that the exported model is given, of the size that it is given them in."""
        return self._answers(picture.array, InputReader({**self.module.input_contract, "value_range": None}))

    def reads_otherwise(self, picture: Picture) -> bool:
        """Whether the reader makes another input of the file than of its pixels: it decodes large JPEGs smaller."""
        return not torch.equal(self.reader(picture.path)["image"], self.reader(picture.array)["image"])

    def of_file(self, picture: Picture) -> Answers:
        """For the file, as `predict` reads it."""
        return self._answers(picture.path, self.reader)

    @torch.inference_mode()
    def _answers(self, picture: str | Path | np.ndarray, reader: InputReader) -> Answers:
        found = {} if self.region is None else self._found(self.region, picture)
        window = found.pop("window", None)
        seen = None if window is None else partial(seen_through, window=tuple(window.tolist()))
        sample, _ = reader.sample(picture, window=seen)
        batch = {name: value[None] for name, value in sample.items()}
        outputs = self.module(batch["image"])
        probs = self.module.link.probs(outputs)
        if self.module.link.kind == "box":
            box = to_original_box(corners_of(probs), batch["image"].shape[-2:], batch["to_original"])
            answers = {"box_xyxy_px": _within(box, batch["size_hw_px"]), "confidence": probs[:, 4]}
        elif "mask" in self.module.learns:
            whole = to_original_size(
                two_classes(probs)[0],
                sample["to_original"],
                sample["size_hw_px"].tolist(),
                sample["window_px"].tolist() if "window_px" in sample else None,
            )[None]
            mask = self.module.prediction(outputs, {**batch, "valid": torch.ones(1)}, 0)["mask"][None]
            answers = {
                "probs": whole[:, 1:] if probs.shape[1] == 1 else whole,
                "mask": torch.from_numpy(mask),
            }
        else:
            answers = {"probs": probs}
        return {name: value.numpy() for name, value in {**answers, **found}.items()}

    def _found(self, region: Region, picture: str | Path | np.ndarray) -> dict[str, Tensor]:
        contract = region.module.input_contract
        if isinstance(picture, np.ndarray):
            contract = {**contract, "value_range": None}
        sample = InputReader(contract)(picture)
        batch = {name: value[None] for name, value in sample.items()}
        window, box, confidence = region.answer(batch)
        box = _within(box, batch["size_hw_px"])
        return {"window": window[0], "roi_xyxy_px": box, "roi_confidence": confidence}


def _within(box: Tensor, size_hw_px: Tensor) -> Tensor:
    limit = size_hw_px.flip(1).repeat(1, 2).to(box)
    return torch.minimum(box.clamp(min=0), limit)
