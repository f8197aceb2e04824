"""The region of interest: a trained cropper in front of another model."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn import functional

from datamodules import Fit, InputReader, Loader, plain_batches, seen_through
from errors import LoupeError
from inference.checkpoint import CROPPER, read_checkpoint
from inference.members import restored
from inference.options import Roi
from inference.roi_found import Found
from inference.roi_window import roi_window
from lightning_modules import CropModule
from lightning_modules.cropping import corners_of, to_original_box

__all__ = ["Region", "resolve_region"]

_BATCH = 16
#: What is added to a box on each side where nobody says, as a share of its width and height.
MARGIN = 0.1


@dataclass(frozen=True)
class Region:
    """Finds the part of a picture that the next model is shown.

    Attributes:
        module: The cropper, built, with its weights.
        card: That of its checkpoint.
        hyper_parameters: The arguments that it was made with.
        threshold: The whole picture is shown where its confidence is below this.
        margin: What is added to the box on each side, as a share of its width and height.
        source: The checkpoint, as `roi.checkpoint` named it.
        note: A line for the user about which cropper this is; "" where there is nothing to say.
    """

    module: CropModule
    card: Mapping[str, Any]
    hyper_parameters: Mapping[str, Any]
    threshold: float
    margin: float
    source: str
    note: str = ""

    # -- from and to checkpoints --------------------------------------------------------------------------------

    @classmethod
    def load(cls, options: Roi) -> "Region":
        """That of a cropper's own checkpoint; LoupeError where `roi.checkpoint` names none."""
        assert options.checkpoint is not None
        try:
            content = read_checkpoint(Path(options.checkpoint).expanduser())
        except LoupeError as error:
            raise LoupeError(f"roi.checkpoint: {error}") from error
        written_by = content["loupe"]["module"]
        if written_by != CROPPER:
            raise LoupeError(
                f"roi.checkpoint: {options.checkpoint} was written by {written_by}, and a cropper is wanted "
                f"(lightning_modules.CropModule)"
            )
        module = restored(content, options.checkpoint)
        assert isinstance(module, CropModule)
        threshold = module.calibration.threshold() if options.threshold is None else options.threshold
        given = {k: v for k, v in content["hyper_parameters"].items() if k != "training"}
        margin = MARGIN if options.margin is None else options.margin
        return cls(module, content["loupe"], given, threshold, margin, options.checkpoint)

    @classmethod
    def of_checkpoint(
        cls, content: Mapping[str, Any], path: str | Path = "the checkpoint"
    ) -> "Region | None":
        """The one that a model was trained behind, from the content of its checkpoint; None where there was none.

        `path` is for errors.
        """
        kept = content.get("roi")
        if kept is None:
            return None
        module = restored({**kept, "loupe": kept["card"]}, path)
        assert isinstance(module, CropModule), "read_checkpoint has looked"
        return cls(
            module, kept["card"], kept["hyper_parameters"], kept["threshold"], kept["margin"], kept["source"]
        )

    def to_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the cropper and its settings in the checkpoint of the model behind it."""
        checkpoint["roi"] = {
            "threshold": float(self.threshold),
            "margin": float(self.margin),
            "source": str(self.source),
            "fingerprint": self.fingerprint,
            "card": dict(self.card),
            "hyper_parameters": dict(self.hyper_parameters),
            "state_dict": {name: value.cpu() for name, value in self.module.state_dict().items()},
        }

    @cached_property
    def fingerprint(self) -> str:
        """Equal for croppers that answer alike: of the weights, the input contract and the calibration."""
        digest = hashlib.sha256()
        told = {key: self.card.get(key) for key in ("input", "calibration")}
        digest.update(json.dumps(told, sort_keys=True).encode())
        for name, value in sorted(self.module.state_dict().items()):
            digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]

    # -- asking -------------------------------------------------------------------------------------------------

    def windows(
        self,
        paths: Sequence[str],
        *,
        loader: Loader = Loader(),
        trainer: Trainer | None = None,
        tell: Callable[[int], None] | None = None,
    ) -> Found:
        """What is found in these pictures, read as the cropper was trained to see them.

        The processes of `trainer` share the pictures, and all of them are given everything, the same whatever their
        number. A picture that cannot be read has zeros, which `View` takes for the whole picture: the model's own
        reader says what is wrong with it. LoupeError, with the reason, where the cropper can read none of them.

        Args:
            paths: Picture files.
            loader: For the number of worker processes.
            trainer: Whose devices are used; None: the cropper's own.
            tell: Called with how many pictures were looked at, after each batch.
        """
        own = next(self.module.parameters()).device
        device = trainer.strategy.root_device if trainer else own
        contract, found = self.module.input_contract, Found.empty(len(paths))
        self.module.to(device)
        try:
            for number, batch in enumerate(
                plain_batches(paths, contract, batch_size=_BATCH, loader=loader, trainer=trainer), start=1
            ):
                found.put(batch, *self.answer({name: value.to(device) for name, value in batch.items()}))
                if tell is not None:
                    tell(min(len(paths), number * _BATCH * (trainer.world_size if trainer else 1)))
        finally:
            self.module.to(own)
        found = found.gathered(trainer) if trainer else found
        if len(paths) and not found.size_hw_px.any():
            try:
                InputReader(contract)(paths[0])
            except LoupeError as error:
                raise LoupeError(
                    f"roi: the cropper can read none of {len(paths)} pictures: {error}"
                ) from error
        return found

    @torch.inference_mode()
    def answer(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The windows (B, 4) int64, boxes (B, 4) and confidences (B,), of a batch on the cropper's device.

        Boxes are pixels of the upright originals, not cut at their borders.
        """
        image, count = batch["image"], len(batch["image"])
        # Always as many: sums of another order, and with them a pixel here and there, come with other numbers.
        padded = functional.pad(image, (0, 0, 0, 0, 0, 0, 0, max(0, _BATCH - count)))
        with torch.autocast(image.device.type, enabled=False):
            outputs = self.module.network(padded.contiguous(memory_format=torch.channels_last))[:count]
        probs = self.module.link.probs(self.module.link.cooled(outputs, self.module.calibration.temperature))
        box, confidence = (
            to_original_box(corners_of(probs), image.shape[-2:], batch["to_original"]),
            probs[:, 4],
        )
        size = batch["size_hw_px"]
        window = roi_window(box, confidence, size, threshold=self.threshold, margin=self.margin)
        return window, box, confidence

    def window_of(self, picture: str | Path | np.ndarray) -> Callable[[Fit], Fit]:
        """For one picture, a file or an array: what `InputReader.sample` takes as its `window`."""
        device = next(self.module.parameters()).device
        sample = InputReader(self.module.input_contract)(picture)
        window, _, _ = self.answer({name: value[None].to(device) for name, value in sample.items()})
        top, left, height, width = window[0].tolist()
        return partial(seen_through, window=(top, left, height, width))


def resolve_region(
    options: Roi,
    content: Mapping[str, Any] | None = None,
    *,
    trains: bool = False,
    path: str | Path = "the checkpoint",
) -> Region | None:
    """The region that a command works with; None: whole pictures.

    A checkpoint keeps the cropper that its model was trained behind, and that one is used, whatever lies by now, or no
    more, where `roi.checkpoint` was in the training. Another file that is named takes its place, which `Region.note`
    says. Where nothing is said of `roi`, all is as in the training; in a fit that means whole pictures.

    Args:
        options: The section `roi`.
        content: Of the checkpoint that is used, or gone on from, by `read_checkpoint`.
        trains: Whether this is a fit.
        path: Of the checkpoint, for errors.

    Raises:
        LoupeError: a value out of range; a setting without a cropper; a file that is no cropper's checkpoint.
    """
    _check(options)
    kept = None if content is None else Region.of_checkpoint(content, path)
    if options == Roi():
        return None if trains else kept
    if options.checkpoint is None and (trains or kept is None):
        name = "threshold" if options.threshold is not None else "margin"
        raise LoupeError(
            f"roi.{name} is set, and there is no cropper; name its checkpoint, roi.checkpoint=FILE, or leave it out"
        )
    if kept is None:
        return Region.load(options)
    given = {name: getattr(options, name) for name in ("threshold", "margin")}
    asked = replace(kept, **{name: value for name, value in given.items() if value is not None})
    if options.checkpoint in (None, kept.source):
        return asked
    region = Region.load(options)
    if region.fingerprint == kept.fingerprint:
        return asked
    note = f"roi: the cropper of {options.checkpoint}, in place of that which the model was trained behind"
    return replace(region, margin=asked.margin, note=note)


def _check(options: Roi) -> None:
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise LoupeError(f"roi.threshold is {options.threshold:g}; it is a confidence from 0 to 1")
    if options.margin is not None and not 0 <= options.margin < float("inf"):
        raise LoupeError(f"roi.margin is {options.margin:g}; it is a share of the box's sides, from 0 on")
