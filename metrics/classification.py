"""Classification scores from one confusion matrix over the whole data set."""

from torch import Tensor

from metrics.confusion import ConfusionMatrix

__all__ = ["ClassificationScores"]


class ClassificationScores(ConfusionMatrix):
    """Accuracy, balanced accuracy and F1, each picture counted once over all batches and processes.

    With the confusion matrix n (rows truth, columns prediction), for class c: ``recall_c = n_cc / row_c``,
    ``precision_c = n_cc / column_c``, ``F1_c = 2 n_cc / (row_c + column_c)``. Accuracy is trace / sum, balanced
    accuracy the mean recall (Brodersen et al. 2010, section 2), F1 the mean of F1_c (macro average).

    A class without a picture has no recall, one never predicted no precision: NaN, and no mean counts it. A class that
    is predicted and has no picture counts in F1, as 0. With nothing counted all scores are NaN.

    >>> import torch
    >>> scores = ClassificationScores(3)
    >>> scores.update(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1]))
    >>> {name: round(value.item(), 3) for name, value in scores.compute().items() if value.ndim == 0}
    {'accuracy': 0.75, 'balanced_accuracy': 0.833, 'f1': 0.733}
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, what="pictures")

    def compute(self) -> dict[str, Tensor]:
        """Scalars ``accuracy balanced_accuracy f1``; (K,) ``recall f1 precision count`` each with ``_per_class``.

        Float64, on the CPU, over all processes; the count is that of the truth.
        """
        matrix = self.checked()
        hits, truth, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        recall, precision = hits / truth, hits / predicted  # 0 / 0 = NaN
        f1 = 2 * hits / (truth + predicted)
        return {
            "accuracy": hits.sum() / matrix.sum(),
            "balanced_accuracy": recall.nanmean(),
            "f1": f1.nanmean(),
            "precision_per_class": precision,
            "recall_per_class": recall,
            "f1_per_class": f1,
            "count_per_class": truth,
        }
