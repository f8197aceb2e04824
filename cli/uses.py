"""How a command asks the trained model: what the sections `inference` and `roi` say, as callbacks and settings."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from lightning.pytorch import Callback, Trainer

from callbacks import Answers, Regions
from cli.messages import print_once
from datamodules import LoupeDataModule
from errors import LoupeError
from inference import Inference, Region, check_members, file_fingerprint
from lightning_modules import LoupeModule

__all__ = ["Uses"]


@dataclass(frozen=True)
class Uses:
    """What is asked beyond one network's answer to the whole picture.

    Attributes:
        command: As on the command line.
        inference: The section.
        region: The cropper in front, from the section `roi` or the checkpoint; None: whole pictures.
    """

    command: str
    inference: Inference
    region: Region | None = None

    @property
    def label(self) -> str:
        """What is asked, in a few words, "" where it is nothing.

        >>> Uses("test", Inference(flips="both", scales=[1.0, 1.5])).label
        'flips both, scales 1 and 1.5'
        """
        asked = self.inference
        parts = [f"flips {asked.flips}"] if asked.flips != "none" else []
        if asked.scales != [1.0]:
            parts.append(f"scales {' and '.join(f'{scale:g}' for scale in asked.scales)}")
        if asked.ensemble:
            parts.append(f"{1 + len(asked.ensemble)} checkpoints")
        if asked.tiles.enabled:
            parts.append("tiles")
        if self.region is not None:
            parts.append("roi")
        return ", ".join(parts)

    @property
    def is_plain(self) -> bool:
        """Whether this command is about one network as it is: a fit, and what is measured of its probabilities."""
        return self.command in ("fit", "check", "calibrate")

    @property
    def sees_otherwise(self) -> bool:
        """Whether the network sees other pixels than in a whole picture at its size."""
        return self.inference.tiles.enabled or self.region is not None

    @property
    def compares(self) -> bool:
        """Whether this command also scores the plain model."""
        return self.command in ("validate", "test") and bool(self.inference.compare) and bool(self.label)

    def callbacks(self) -> list[Callback]:
        """Those that have the model asked so; a fit knows the region only, a calibration is of one network."""
        found: list[Callback] = [] if self.region is None else [Regions(self.region)]
        return found if self.is_plain else [*found, Answers(self.inference)]

    def look(self, data: LoupeDataModule, model: LoupeModule, checkpoint: str) -> None:
        """Have the datamodule show pictures as these answers want them; LoupeError for members that do not fit."""
        if self.is_plain:
            if self.command == "calibrate" and self.label.removesuffix("roi"):
                print_once("note: a calibration is of one network; what inference asks is left out of it")
            return
        check_members(self.inference.ensemble, model, self.region, checkpoint)
        tiles = self.inference.tiles
        data.view.scale = float(tiles.scale) if tiles.enabled else None
        # scores at the pictures' own size: only these are the same with and without, and thresholds are for these
        decides = self.sees_otherwise or model.calibration.thresholds is not None
        if "mask" in data.gives:
            data.view.full_size = decides or self.inference.full_size
        elif self.inference.full_size:
            raise LoupeError("inference.full_size is for masks, and the data has none; leave it out")

    @contextmanager
    def plainly(self, trainer: Trainer, data: LoupeDataModule) -> Generator[None]:
        """Within, the plain model is asked, about the same pictures and scored in the same way."""
        callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        kept, scale = list(callbacks), data.view.scale
        callbacks[:] = [c for c in kept if not isinstance(c, (Answers, Regions))] + [Answers(Inference())]
        data.view.scale = None
        try:
            yield
        finally:
            callbacks[:] = kept
            data.view.scale = scale

    def facts(self) -> dict[str, Any]:
        """Plain values that tell apart what is asked; files by their content."""
        asked: dict[str, Any] = {**asdict(self.inference)}
        for key in ("compare", "full_size"):  # of scores, not of answers
            asked.pop(key)
        asked["ensemble"] = [[path, file_fingerprint(path)] for path in self.inference.ensemble]
        if self.region is not None:
            region = self.region
            asked["roi"] = {
                "cropper": region.fingerprint,
                "threshold": region.threshold,
                "margin": region.margin,
            }
        return asked
