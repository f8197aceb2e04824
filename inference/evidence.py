"""What a calibration is learnt from: logits of a validation, what was true, and which pictures belong together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import softplus

from inference.outputs_watch import OutputsWatch
from inference.temperature import Kind
from inference.thresholds import ValueCounts
from metrics import PixelSample

__all__ = ["FOLDS", "Evidence", "PixelWatch", "evidence_of", "folds_of"]

#: Pictures, or groups of them, are left out a fifth at a time to see what a calibration gains on others.
FOLDS = 5
#: Pixels whose logits are kept: of a picture, of all, and numbers in all.
_OF_A_PICTURE, _PIXELS, _NUMBERS = 2_000, 2_000_000, 10_000_000


@dataclass(frozen=True)
class Evidence:
    """Of a whole validation part, over all processes.

    Attributes:
        kind: What makes probabilities of the logits.
        logits: (N, K), float, of pictures or of a sample of pixels.
        target: Class numbers (N,), or 0 and 1 (N, K).
        fold: 0..4, (N,).
        pictures: How many there are.
        names: What thresholds could be for.
    """

    kind: Kind
    logits: Tensor
    target: Tensor
    fold: Tensor
    pictures: int
    names: tuple[str, ...]

    def tables(self, pixels: Mapping[str, Tensor] | None = None) -> Iterator[ValueCounts]:
        """Of each name the values of its log-odds: of a class at a time, which takes less memory.

        ``pixels``: what `metrics.PixelSample` has counted, where a threshold is for pixels.
        """
        if not self.names:
            return
        fold = self.fold.numpy()
        if pixels is not None:
            edges, yes, no = (pixels[key].numpy().astype(np.float64) for key in ("edges", "yes", "no"))
            yield ValueCounts.of_bins(edges, yes, no)
        elif self.kind == "softmax":
            log_odds = self.logits[:, 1].double() - self.logits[:, 0].double()
            yield ValueCounts.of_scores(log_odds.numpy(), self.target.numpy() == 1, fold)
        else:
            for column, truth in zip(self.logits.T, self.target.T, strict=True):
                yield ValueCounts.of_scores(column.double().numpy(), truth.numpy() > 0.5, fold)


def evidence_of(module: Any, data: Any, pixels: Mapping[str, Tensor] | None) -> Evidence:
    """From ``module.evaluated`` after a validation, and what a `PixelWatch` saw where the task is segmentation."""
    found: dict[str, Tensor] = module.evaluated
    fold, names = folds_of(data, "val"), tuple(module.class_names or ())
    pictures = len(found["index"])
    if pixels is not None:
        kind = module.link.kind
        chosen = names[-1:] if len(names) <= 2 else ()
        truth = pixels["truth"].float()[:, None] if kind == "sigmoid" else pixels["truth"]
        return Evidence(kind, pixels["logits"], truth, fold(pixels["index"]), pictures, chosen)
    if "has_box" in found:
        confidence, has_box = found["confidence"][:, None], found["has_box"].float()[:, None]
        return Evidence("sigmoid", confidence, has_box, fold(found["index"]), pictures, ("object",))
    log_odds, label = found["log_odds"], found["label"]
    if label.ndim == 2:
        return Evidence("sigmoid", log_odds, label.float(), fold(found["index"]), pictures, names)
    # log p = -log(1 + exp(-log_odds)): as good as logits, and exact to float32's rounding of the log-odds, 6e-8 of them
    log_probs = -softplus(-log_odds.double())
    chosen = names[-1:] if len(names) == 2 else ()
    return Evidence("softmax", log_probs, label, fold(found["index"]), pictures, chosen)


class Folds:
    """Which fold a picture is in: a group's pictures are in one, other pictures are dealt out in turn."""

    def __init__(self, groups: Sequence[str] | None) -> None:
        self.table: Tensor | None = None
        if groups is not None:
            self.table = torch.from_numpy(np.unique(np.array(list(groups)), return_inverse=True)[1] % FOLDS)

    def __call__(self, index: Tensor) -> Tensor:
        """Positions in the part (N,) -> 0..4, (N,) int64, on their device."""
        return index.long() % FOLDS if self.table is None else self.table.to(index.device)[index.long()]


def folds_of(data: Any, part: str) -> Folds:
    """The folds of a part of a datamodule that is set up."""
    samples = getattr(data, "samples", None)
    return Folds(samples[part].columns.get("group") if samples is not None else None)


class PixelWatch(OutputsWatch):
    """Keeps of a segmenter's validation what `evidence_of` needs, from the forward pass that is scored.

    See `metrics.PixelSample`: at most 2,000 pixels a picture, 2 million in all, and 10 million numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sample: PixelSample | None = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make room, and look at what the module gives."""
        module: Any = pl_module
        if "mask" not in module.learns:
            return
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        classes = len(module.class_names)
        pictures = max(1, data.to_evaluate("val")[0]) if hasattr(data, "to_evaluate") else 1
        share = min(_OF_A_PICTURE, _PIXELS // pictures, _NUMBERS // (pictures * classes))
        self.sample = PixelSample(classes, per_picture=max(1, share), folds=FOLDS).to(pl_module.device)
        self._fold = folds_of(data, "val")
        super().on_validation_start(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the batch that was just scored."""
        if self.sample is not None and self.outputs is not None:
            index = batch["index"]
            self.sample.update(self.outputs, batch["mask"], index, batch["valid"], self._fold(index))

    def seen(self) -> dict[str, Tensor] | None:
        """What `PixelSample.compute` gives; None where the task is another."""
        if self.sample is None:
            return None
        found = self.sample.compute()
        # torchmetrics (1.9) has made a scalar of what has a single element
        shapes = {"logits": (-1, self.sample.num_classes), "truth": (-1,), "index": (-1,)}
        return found | {name: found[name].view(shape) for name, shape in shapes.items()}
