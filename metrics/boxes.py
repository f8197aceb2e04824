"""Scores of one box a picture and of the confidence that there is one."""

import torch
from torch import Tensor
from torchmetrics import Metric

from metrics.per_sample import joined
from metrics.ranking import ranking

__all__ = ["BoxScores", "box_iou"]


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes pair by pair, ``x1, y1, x2, y2`` (..., 4) -> (...); 0 where both are empty.

    >>> box_iou(torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 0, 3, 2])).item()  # 2 / 6
    0.3333333432674408
    """
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    area = sum((box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (first, second))
    assert isinstance(area, Tensor)
    union = area - overlap
    return torch.where(union > 0, overlap / union, torch.zeros_like(union))


class BoxScores(Metric):
    """Mean IoU, the shares of boxes with IoU of at least 0.5 and 0.75, and the AUROC of the confidence.

    All but the last are means over the pictures with an object; the AUROC (`metrics.ranking`) asks how well the
    confidence tells pictures with an object from those without. A score with nothing to judge is NaN: absent. Each
    picture counts once over all batches and processes; 16 bytes of it are kept on the device.

    >>> scores = BoxScores()
    >>> truth = torch.tensor([[0.0, 0, 2, 2], [0, 0, 0, 0]])
    >>> preds = torch.tensor([[1.0, 0, 3, 2], [0, 0, 1, 1]])
    >>> scores.update(preds, torch.tensor([0.9, 0.2]), truth, torch.tensor([True, False]))
    >>> {name: round(value.item(), 3) for name, value in scores.compute().items() if value.ndim == 0}
    {'box_iou': 0.333, 'box_iou_50': 0.0, 'box_iou_75': 0.0, 'confidence_auroc': 1.0}
    """

    full_state_update = False
    higher_is_better = True
    iou: list[Tensor]
    confidence: list[Tensor]
    kind: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        # A few numbers a picture are kept as they are: sorting out what counts would wait for the device in each step.
        for name in ("iou", "confidence", "kind"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self,
        box: Tensor,
        confidence: Tensor,
        target: Tensor,
        has_box: Tensor,
        valid: Tensor | None = None,
    ) -> None:
        """Add a batch.

        Args:
            box: Predicted x1, y1, x2, y2, (B, 4), in the units of ``target``.
            confidence: The higher, the likelier there is an object, (B,).
            target: True boxes, (B, 4); anything where there is none.
            has_box: Whether there is an object, (B,) bool.
            valid: False for padding samples, (B,) bool.
        """
        valid = torch.ones_like(has_box) if valid is None else valid
        self.iou.append(box_iou(box.float(), target.float()))
        self.confidence.append(confidence.float())
        # 0: padding, 1: no object, 2: an object
        self.kind.append(valid.to(torch.int64) * (1 + has_box.to(torch.int64)))

    def compute(self) -> dict[str, Tensor]:
        """Scalars ``box_iou box_iou_50 box_iou_75 confidence_auroc``, float64, on the CPU, over all processes.

        And of each picture ``ious`` (N,), ``confidence`` (N,) as given, float32, and ``has_box`` (N,) bool.
        """
        kind, iou, confidence = (joined(state) for state in (self.kind, self.iou, self.confidence))
        found = iou[kind == 2].double()
        counted = kind > 0
        auroc, _ = ranking(confidence[counted].numpy(), (kind == 2)[counted].numpy())
        return {
            "box_iou": found.mean(),
            "box_iou_50": (found >= 0.5).double().mean(),
            "box_iou_75": (found >= 0.75).double().mean(),
            "confidence_auroc": torch.tensor(auroc, dtype=torch.float64),
            "ious": iou[counted],
            "confidence": confidence[counted],
            "has_box": (kind == 2)[counted],
        }
