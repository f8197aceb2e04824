"""Whether a confidence of 0.8 is right in 80 of 100 cases."""

import torch
from torch import Tensor

__all__ = ["bin_confidence", "calibration_error"]


def bin_confidence(confidence: Tensor, right: Tensor, bins: int = 15) -> Tensor:
    """Answers, right answers and the sum of confidences in equal bins, float64 (bins, 3).

    Args:
        confidence: Probabilities of the answers, (M,), on the CPU.
        right: Whether each answer is right, (M,) bool.
        bins: Bin b (of 0, 1, ...) holds what is above b / bins, up to (b + 1) / bins.
    """
    confidence = confidence.double()
    which = ((confidence * bins).ceil() - 1).nan_to_num().clamp(0, bins - 1).long()
    columns = (torch.ones_like(confidence), right.double(), confidence)
    return torch.stack([torch.bincount(which, column, minlength=bins) for column in columns], dim=1)


def calibration_error(table: Tensor) -> Tensor:
    """Expected calibration error: the mean over answers of |accuracy - mean confidence| of their bin, in 0..1.

    ``sum_b |right_b - confidence_b| / sum_b answers_b`` (Guo et al. 2017, equation 3); NaN without an answer.

    >>> confidence, right = torch.tensor([0.9, 0.9, 0.6, 0.6]), torch.tensor([True, True, True, False])
    >>> round(calibration_error(bin_confidence(confidence, right)).item(), 6)  # (0.2 + 0.2) / 4
    0.1
    """
    answers, right, confidence = table.T
    return (right - confidence).abs().sum() / answers.sum()
