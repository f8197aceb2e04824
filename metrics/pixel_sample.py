"""What a segmenter said of pixels: all of them counted by their log-odds, and some of them kept as they are."""

import torch
from torch import Tensor
from torchmetrics import Metric

from errors import LoupeError
from metrics.confusion import histogram
from metrics.per_sample import joined

__all__ = ["PixelSample"]

_BINS_OF_ONE, _FARTHEST = 512, 16
_BINS = 2 * _FARTHEST * _BINS_OF_ONE + 2  # those at both ends hold all that is farther off


class PixelSample(Metric):
    """Logits of a sample of pixels, and how often each log-odds of the foreground occurs among all pixels.

    The sample: each picture is cut, in the order of its rows, into ``per_picture`` stretches of equal length, and of
    each one pixel is drawn by a hash of the picture's position: the same pixels on any number of processes. Void and
    padding are in neither. The histogram is for one channel or two classes; its bins are 1/512 wide up to 16 off, where
    a probability is 1e-7, and counts above an edge are exact.

    Args:
        num_classes: Channels, K.
        per_picture: Pixels that are drawn, at most.
        folds: The histogram is kept apart for as many folds.
        ignore_index: The target of void.

    >>> sample = PixelSample(1, per_picture=2, folds=1)
    >>> logits, target = torch.tensor([[[[-1.0, 0.5], [2.0, 3.0]]]]), torch.tensor([[[0, 1, 1, 255]]]).view(1, 2, 2)
    >>> sample.update(logits, target, torch.tensor([0]), torch.tensor([True]), torch.tensor([0]))
    >>> found = sample.compute()
    >>> [int(found[name].sum()) for name in ("yes", "no")]
    [2, 1]
    """

    full_state_update = False
    higher_is_better = None
    logits: list[Tensor]
    truth: list[Tensor]
    index: list[Tensor]
    counts: Tensor
    unusable: Tensor

    def __init__(self, num_classes: int, *, per_picture: int, folds: int, ignore_index: int = 255) -> None:
        super().__init__()
        self.num_classes, self.per_picture, self.folds = num_classes, per_picture, folds
        self.ignore_index = ignore_index
        for name in ("logits", "truth", "index"):
            self.add_state(name, [], dist_reduce_fx="cat")
        bins = folds * 2 * _BINS if num_classes <= 2 else 0
        self.add_state("counts", torch.zeros(bins, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("unusable", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        logits: Tensor,
        target: Tensor,
        index: Tensor,
        valid: Tensor,
        fold: Tensor,
        *,
        draws: bool = True,
    ) -> None:
        """Add a batch; does not wait for the device.

        Args:
            logits: (B, K, H, W).
            target: Class numbers (B, H, W).
            index: Positions in the part, (B,).
            valid: False for padding samples, (B,).
            fold: 0 .. folds - 1, (B,).
            draws: Whether a sample is drawn from it, or its pixels are only counted.
        """
        if logits.ndim != 4 or (len(logits), *logits.shape[2:]) != tuple(target.shape):
            raise ValueError(
                f"logits {tuple(logits.shape)} and target {tuple(target.shape)} are of different pixels"
            )
        truth = torch.where(valid.view(-1, 1, 1) & (target != self.ignore_index), target.long(), -1)
        self._count(logits, truth, fold)
        if not draws:
            return
        places = _drawn(index, truth[0].numel(), self.per_picture)
        flat = logits.detach().flatten(2)
        chosen = flat.gather(2, places[:, None].expand(-1, flat.shape[1], -1)).float()
        self.logits.append(chosen.transpose(1, 2).reshape(-1, flat.shape[1]))
        self.truth.append(truth.flatten(1).gather(1, places).flatten())
        self.index.append(index[:, None].expand_as(places).flatten())

    def _count(self, logits: Tensor, truth: Tensor, fold: Tensor) -> None:
        if self.num_classes > 2:
            return
        log_odds = (
            logits[:, 0].float() if self.num_classes == 1 else logits[:, 1].float() - logits[:, 0].float()
        )
        usable = (truth >= 0) & ~log_odds.isnan()
        self.unusable = self.unusable + ((truth >= 0) & log_odds.isnan()).sum()
        bins = ((log_odds * _BINS_OF_ONE).ceil() + (_BINS // 2 - 1)).nan_to_num().clamp(0, _BINS - 1).long()
        bins = (2 * fold.view(-1, 1, 1) + truth.clamp(0, 1)) * _BINS + bins
        last = len(self.counts)
        self.counts = self.counts + histogram(torch.where(usable, bins, last).flatten(), last + 1)[:last]

    def compute(self) -> dict[str, Tensor]:
        """On the CPU, over all processes: ``logits`` (M, K) float32, ``truth`` (M,), ``index`` (M,) of the sample,
        where one was drawn.

        And for two classes or one channel ``yes`` and ``no``, (folds, V), with ``edges`` (V + 1,) float64, the outer
        ones without end. LoupeError where outputs are NaN.
        """
        if int(self.unusable):
            raise LoupeError(
                f"calibration: the model's outputs are NaN in {int(self.unusable)} pixels; its weights are damaged, "
                f"train it again"
            )
        found: dict[str, Tensor] = {}
        if len(self.truth):
            truth = joined(self.truth).long()
            kept = truth >= 0
            found["logits"] = joined(self.logits).view(-1, self.num_classes)[kept]
            found |= {"truth": truth[kept], "index": joined(self.index).long()[kept]}
        if len(self.counts):
            inner = torch.arange(_BINS - 1, dtype=torch.float64) / _BINS_OF_ONE - _FARTHEST
            ends = torch.tensor([torch.inf], dtype=torch.float64)
            no, yes = self.counts.cpu().view(self.folds, 2, _BINS).unbind(1)
            found |= {"yes": yes, "no": no, "edges": torch.cat([-ends, inner, ends])}
        return found


def _drawn(index: Tensor, pixels: int, count: int) -> Tensor:
    """Which pixels of each picture are drawn, (B, min(count, pixels)) int64, each once."""
    count = min(count, pixels)
    number = torch.arange(count, device=index.device)
    mixed = index.long()[:, None] * 0x2545F4914F6CDD1D + number * 0x5851F42D4C957F2D + 0x632BE59BD9B4E019
    mixed = (
        mixed ^ ((mixed >> 32) & 0xFFFFFFFF)
    ) * 0x369DEA0F31A53F85  # int64 wraps around, as a hash should
    start, end = number * pixels // count, (number + 1) * pixels // count
    return start + ((mixed >> 33) & 0x3FFFFFFF) % (end - start)
