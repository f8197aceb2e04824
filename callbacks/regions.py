"""The region of interest of each picture, found before anything else is done with it (`roi`)."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from errors import LoupeError
from inference import Region

__all__ = ["Regions"]

#: The parts of the data that a stage looks at.
_PARTS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}
_PATIENCE_S = 30.0


class Regions(Callback):
    """Asks the cropper about all pictures of a stage, and has the datamodule show their regions of interest.

    Lightning (2.6) calls this after the datamodule's own setup, when the processes know each other, and before any
    loader is made.

    Args:
        region: The cropper and how its answers are used; it is kept in every checkpoint.
    """

    def __init__(self, region: Region) -> None:
        self.region = region

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the regions."""
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        _refuse(data)
        if stage == "fit" and "mask" in data.gives:
            _refuse_counts(pl_module)
        if self.region.note and trainer.is_global_zero:
            print(self.region.note, flush=True)
        for part in _PARTS[stage]:
            paths: Sequence[str] = data.predict_paths if part == "predict" else data.samples[part].paths
            if not len(paths):
                continue
            tell = _progress(len(paths)) if trainer.is_global_zero else None
            found = self.region.windows(paths, loader=data.loader, trainer=trainer, tell=tell)
            data.view.windows[part] = found.windows
            if trainer.is_global_zero:
                print(found.told("" if part == "predict" else part, self.region.threshold), flush=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have the datamodule show whole pictures again: the same one may be asked for without the crop next."""
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        for part in _PARTS[stage]:
            data.view.windows.pop(part, None)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the cropper beside the model."""
        self.region.to_checkpoint(checkpoint)


def _refuse(data: Any) -> None:
    """LoupeError for data that is not looked at through a window."""
    if "box" in data.gives:
        raise LoupeError(
            "roi: a cropper looks for the region itself, in whole pictures; roi is for classifiers and segmenters"
        )
    if data.loader.cache != "none":
        raise LoupeError(
            f"data.loader.cache={data.loader.cache} keeps whole pictures at the network's size, and roi needs parts of "
            f"them; leave one of them out"
        )
    if data.view.scale is not None:
        raise LoupeError(
            "inference.tiles looks at whole pictures at their own resolution, and roi at parts of them; leave one out"
        )


def _refuse_counts(module: Any) -> None:
    """LoupeError for a loss whose class weights would be those of other pixels than it is given."""
    if module.recipe["loss"].get("class_weight") == "balanced":
        raise LoupeError(
            "training.loss: class_weight balanced counts the pixels of whole pictures, and roi shows parts of them; "
            "give the weights as numbers"
        )


def _progress(count: int) -> Callable[[int], None]:
    """Tells how far it is, where it takes long."""
    told = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told
        if time.monotonic() - told > _PATIENCE_S and done < count:
            told = time.monotonic()
            print(f"roi: {done} of {count} pictures", flush=True)

    return tell
