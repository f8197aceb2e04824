"""Classification scores over a whole data set: from one confusion matrix, and from the order of all probabilities."""

import torch
from torch import Tensor

from metrics.calibration import bin_confidence, calibration_error
from metrics.confusion import ConfusionMatrix
from metrics.per_sample import joined
from metrics.ranking import rank_classes

__all__ = ["ClassificationScores"]


class ClassificationScores(ConfusionMatrix):
    """Accuracy, F1, ranking and calibration, each picture counted once over all batches and processes.

    With the confusion matrix n (rows truth, columns prediction), for class c: ``recall_c = n_cc / row_c``,
    ``precision_c = n_cc / column_c``, ``F1_c = 2 n_cc / (row_c + column_c)``. Accuracy is trace / sum, balanced
    accuracy the mean recall (Brodersen et al. 2010, section 2), F1 the mean of F1_c (macro average). ``top5`` is the
    share of pictures whose class is among the five likeliest; with five classes or fewer there is no such score.

    AUROC and average precision (`metrics.ranking`) are of each class against the rest, by its probability, and the
    mean over classes. The calibration error (`metrics.calibration`) is that of the likeliest class in 15 bins.

    A class without a picture has no recall, no AUROC and no average precision, one that all pictures have no AUROC, one
    never predicted no precision: NaN, and no mean counts it. A class that is predicted and has no picture counts in F1,
    as 0. With nothing counted all scores are NaN.

    All probabilities are kept on the device, as log-odds, 4 bytes a picture and class: 200 MB for 50,000 pictures of
    1,000 classes, shared among the processes until the end, when each of them holds all.

    >>> scores = ClassificationScores(3)
    >>> scores.update(torch.tensor([[3.0, 0, 0], [2, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([0, 0, 1, 1]))
    >>> {name: round(value.item(), 3) for name, value in scores.compute().items() if value.ndim == 0}
    {'accuracy': 0.75, 'balanced_accuracy': 0.75, 'f1': 0.733, 'auroc': 1.0, 'average_precision': 1.0, \
'calibration_error': 0.114}
    """

    log_odds: list[Tensor]
    label: list[Tensor]
    top5_hits: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, what="pictures")
        self.num_classes = num_classes
        self.has_top5 = num_classes > 5
        self.add_state("log_odds", [], dist_reduce_fx="cat")
        self.add_state("label", [], dist_reduce_fx="cat")
        self.add_state("top5_hits", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor | None = None,
        *,
        answers: Tensor | None = None,
    ) -> None:
        """Count a batch of logits (B, K) and class numbers (B,); ``valid`` (B,) is false for padding samples.

        ``answers`` (B,) are the classes that are answered, where they are not the likeliest.
        """
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise ValueError(f"logits {tuple(logits.shape)} must be (B, {self.num_classes})")
        logits = logits.detach().float()
        self.count(logits.argmax(1) if answers is None else answers, target, valid)
        valid = torch.ones_like(target, dtype=torch.bool) if valid is None else valid
        if self.has_top5:
            self.top5_hits = self.top5_hits + (valid & (_rank(logits, target) < 5)).sum()
        self.log_odds.append(_log_odds(logits))
        self.label.append(torch.where(valid, target, -1))

    def compute(self) -> dict[str, Tensor]:
        """Scalars ``accuracy balanced_accuracy f1 top5 auroc average_precision calibration_error``, and (K,)
        ``precision recall f1 auroc average_precision count``, each with ``_per_class``.

        And the ``confusion`` matrix (K, K), rows truth; ``reliability`` (15, 3), see `bin_confidence`; of each picture
        ``label`` (N,) int64 and ``log_odds`` (N, K) float32. Scores are float64, on the CPU, over all processes; the
        count is that of the truth.
        """
        matrix = self.checked()
        hits, truth, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        recall, precision = hits / truth, hits / predicted  # 0 / 0 = NaN
        f1 = 2 * hits / (truth + predicted)
        label = joined(self.label).long()
        counted = label >= 0
        label = label[counted]
        log_odds = joined(self.log_odds).view(-1, self.num_classes)[counted]
        auroc, average_precision = map(torch.from_numpy, rank_classes(log_odds.numpy(), label.numpy()))
        likeliest, answer = log_odds.max(1)
        reliability = bin_confidence(likeliest.sigmoid(), answer == label)
        return {
            "accuracy": hits.sum() / matrix.sum(),
            "balanced_accuracy": recall.nanmean(),
            "f1": f1.nanmean(),
            **({"top5": self.top5_hits.cpu() / matrix.sum()} if self.has_top5 else {}),
            "auroc": auroc.nanmean(),
            "average_precision": average_precision.nanmean(),
            "calibration_error": calibration_error(reliability),
            "precision_per_class": precision,
            "recall_per_class": recall,
            "f1_per_class": f1,
            "auroc_per_class": auroc,
            "average_precision_per_class": average_precision,
            "count_per_class": truth,
            "confusion": matrix,
            "reliability": reliability,
            "label": label,
            "log_odds": log_odds,
        }


def _log_odds(logits: Tensor) -> Tensor:
    """``log p / (1 - p)`` of each class, (B, K) float32: of probabilities all confident ones would be exactly 1."""
    log_probs = logits.to(torch.float32 if logits.device.type == "mps" else torch.float64).log_softmax(1)
    return (log_probs - (-torch.expm1(log_probs)).log()).float()


def _rank(logits: Tensor, target: Tensor) -> Tensor:
    """How many classes are likelier than the true one, (B,); of equals the first is, as in argmax."""
    target = target.long().clamp(0, logits.shape[1] - 1)[
        :, None
    ]  # an impossible class is reported at the end
    own = logits.gather(1, target)
    before = torch.arange(logits.shape[1], device=logits.device) < target
    return (~(logits <= own) | ((logits == own) & before)).sum(1)  # NaN is likelier than everything
