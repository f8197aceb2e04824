"""The samples of an evaluation that people look at: always the same ones, the worst, and the most uncertain."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from callbacks.gallery import Gallery
from callbacks.grad_cam import class_activation
from callbacks.picture_loggers import log_picture, shows_pictures
from callbacks.shown_samples import as_shown, of_one_size
from figures import draw_sheet

__all__ = ["SHOWN_KEYS", "WORST_KEPT", "SamplesOnShow", "chosen_for", "paths_of", "short_name"]

#: So many of the worst are kept for the report.
WORST_KEPT = 24
#: So many pictures at once through Grad-CAM's forward and backward pass.
_AT_ONCE = 8
#: What a batch holds that is looked at, where it has it.
SHOWN_KEYS = ("image", "mask", "label", "box", "has_box", "index")


class SamplesOnShow(Callback):
    """Collects samples while they are evaluated, without a second forward pass, and gives the loggers sheets of them.

    In each validation of a fit three sheets are logged: ``pictures/same``, samples spread evenly over the part, always
    the same ones; ``pictures/worst`` and ``pictures/uncertain``, by what the module's `to_show` calls badness and
    uncertainty. A classifier's same samples also show where it looked (Grad-CAM, Selvaraju et al. 2017).

    Args:
        shown: Samples on a sheet; 0 logs nothing. The worst are collected in any case, as `worst`, for the report.
    """

    def __init__(self, shown: int) -> None:
        self.shown = shown
        #: The worst of the last evaluation, the worst first, as tensors on the CPU; known to every process.
        self.worst: list[dict[str, Tensor]] = []
        self._galleries: dict[str, Gallery] = {}
        self._same: Tensor = torch.zeros(0)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose what is always shown."""
        self._begin(trainer, pl_module, "val", trainer.num_val_batches)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose likewise."""
        self._begin(trainer, pl_module, "test", trainer.num_test_batches)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Consider the samples of a batch."""
        if not trainer.sanity_checking and dataloader_idx == 0 and isinstance(outputs, dict):
            self._consider(outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Consider likewise."""
        if dataloader_idx == 0 and isinstance(outputs, dict):
            self._consider(outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring together what all processes found, and show it, while the weights that were scored are in place."""
        if not trainer.sanity_checking:
            self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring it together."""
        self._finish(trainer, pl_module, "test")

    def _begin(
        self, trainer: Trainer, pl_module: LightningModule, part: str, batches: Sequence[int | float]
    ) -> None:
        shown = self.shown if trainer.state.fn == "fit" and shows_pictures(trainer) else 0
        self._galleries = {
            "same": Gallery(shown),
            "worst": Gallery(WORST_KEPT),
            "uncertain": Gallery(shown),
        }
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        seen = min(len(paths_of(data, part)), int(sum(batches)) * data.loader.batch_size)
        self._same = chosen_for(seen, shown).to(pl_module.device)

    def _consider(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        samples = {key: batch[key] for key in SHOWN_KEYS if key in batch}
        if "mask" in samples:
            samples["mask"] = samples["mask"].to(torch.uint8)  # an eighth of the memory
        samples |= {key: value for key, value in outputs.items() if key not in ("badness", "uncertainty")}
        if "whole_mask" in batch:
            samples = of_one_size(samples)
        none = torch.full_like(outputs["badness"], -torch.inf)
        place = torch.where(torch.isin(batch["index"], self._same), -batch["index"].to(none.dtype), none)
        ranks = {"same": place, "worst": outputs["badness"], "uncertain": outputs["uncertainty"]}
        for name, rank in ranks.items():
            self._galleries[name].offer(torch.where(batch["valid"], rank, none), samples)

    def _finish(self, trainer: Trainer, pl_module: LightningModule, part: str) -> None:
        found = {name: gallery.take(trainer) for name, gallery in self._galleries.items()}
        self.worst = found["worst"]
        if not self.shown or trainer.state.fn != "fit":
            return
        paths = paths_of(trainer.datamodule, part)  # pyright: ignore[reportAttributeAccessIssue]
        titles = {
            "same": "the same samples after each epoch",
            "worst": "the worst of this validation",
            "uncertain": "the most uncertain of this validation",
        }
        for name, samples in found.items():
            if samples:
                draw = partial(_draw, pl_module, samples[: self.shown], paths, titles[name], name == "same")
                log_picture(trainer, f"pictures/{name}", draw, part=part)


def chosen_for(count: int, wanted: int) -> Tensor:
    """So many positions, spread evenly over 0..count-1, int64.

    >>> chosen_for(9, 3).tolist(), chosen_for(2, 5).tolist()
    ([1, 4, 7], [0, 1])
    """
    number = min(count, wanted)
    return torch.tensor([(2 * k + 1) * count // (2 * number) for k in range(number)], dtype=torch.int64)


def paths_of(data: Any, part: str) -> Sequence[str]:
    """The picture files of a part; `index` in a batch counts along it."""
    return getattr(data, f"{part}_paths")


def short_name(path: str) -> str:
    """The end of a path, enough to find a picture by.

    >>> short_name("/data/cells/train/images/0017.png"), short_name("0017.png")
    ('train/images/0017.png', '0017.png')
    """
    return "/".join(Path(path).parts[-3:])


def _draw(
    module: Any, samples: Sequence[Mapping[str, Tensor]], paths: Sequence[str], title: str, looks: bool
) -> Image.Image:
    heats: Sequence[np.ndarray | None] = [None] * len(samples)
    if looks and "probs" in samples[0]:
        heats = _heats(module, samples) or heats
    names = list(module.class_names)
    shown = [
        as_shown(sample, names, short_name(paths[int(sample["index"])]), heat=heat)
        for sample, heat in zip(samples, heats, strict=True)
    ]
    return draw_sheet(shown, names, title=title)


def _heats(module: Any, samples: Sequence[Mapping[str, Tensor]]) -> Sequence[np.ndarray] | None:
    """Where the classifier looked for the class that it found likeliest; None where it has no map to look at."""
    heats: list[np.ndarray] = []
    for first in range(0, len(samples), _AT_ONCE):
        some = samples[first : first + _AT_ONCE]
        images = torch.stack([sample["image"] for sample in some]).to(module.device)
        classes = torch.stack([sample["probs"].argmax() for sample in some]).to(module.device)
        found = class_activation(
            module.network, images.contiguous(memory_format=torch.channels_last), classes
        )
        if found is None:
            return None
        heats += list(found)
    return heats
