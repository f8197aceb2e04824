"""From the tensors of a batch to samples for the eye."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from figures import BoxShown, ClassShown, MaskShown
from figures.shown import VOID

__all__ = ["as_shown", "of_one_size", "picture_of"]

_SIDE = 448  # pixels
_GREY = 114
_AROUND = {"image": _GREY, "mask": VOID, "predicted_mask": 0}


def of_one_size(samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A batch of pictures of any size, their masks and what else there is, shrunk to 448 pixels a side at most.

    Pictures that come in sizes of their own are kept beside each other, and may be huge: shapes are those of a square,
    the picture at its upper left, grey and void around.
    """
    found = dict(samples)
    for key, around in _AROUND.items():
        if key not in samples:
            continue
        value = samples[key] if samples[key].ndim == 4 else samples[key][:, None]
        scale = min(1.0, _SIDE / max(value.shape[2:]))
        size = [max(1, round(side * scale)) for side in value.shape[2:]]
        if scale < 1:
            # the nearest of bytes, or of floats: a thumbnail needs no more, and a huge picture no second copy
            value = functional.interpolate(value, size=size, mode="nearest")
        fill = around / 255 if key == "image" and value.is_floating_point() else around
        value = functional.pad(value, (0, _SIDE - size[1], 0, _SIDE - size[0]), value=fill)
        found[key] = value if samples[key].ndim == 4 else value[:, 0]
    return found


def picture_of(image: Tensor) -> np.ndarray:
    """The network's input (C, H, W), uint8 or float in 0..1, as (H, W, 3) uint8: its first three channels, or grey.

    >>> picture_of(torch.tensor([[[0.0, 1.0]]])).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    image = image.detach().cpu()
    if image.is_floating_point():
        image = (image.float() * 255).round().clamp(0, 255).to(torch.uint8)
    if len(image) == 1:
        image = image.expand(3, -1, -1)
    elif len(image) == 2:  # red and green
        image = torch.cat([image, torch.zeros_like(image[:1])])
    return np.ascontiguousarray(image[:3].permute(1, 2, 0).numpy())


def as_shown(
    sample: Mapping[str, Tensor], class_names: Sequence[str], name: str, *, heat: np.ndarray | None = None
) -> ClassShown | MaskShown | BoxShown:
    """A sample as people see it.

    Args:
        sample: What a batch holds of it, and where a model has answered what `to_show` gave (see docs/batch.md), on the
            CPU, without the batch's dimension.
        class_names: In the order of the class numbers.
        name: Of the picture.
        heat: Where the classifier looked, (h, w) in 0..1.
    """
    image = picture_of(sample["image"])
    score = float(sample["iou"]) if "iou" in sample else None
    if score is not None and np.isnan(score):
        score = None
    if "mask" in sample:
        predicted = sample["predicted_mask"].numpy() if "predicted_mask" in sample else None
        return MaskShown(image, name, sample["mask"].to(torch.uint8).numpy(), predicted, score)
    if "box" in sample:
        has_box = bool(sample["has_box"])
        answer = _corners(sample["predicted_box"]) if "predicted_box" in sample else None
        confidence = float(sample.get("confidence", torch.zeros(())))
        truth = _corners(sample["box"]) if has_box else None
        return BoxShown(image, name, truth, answer, confidence, score if has_box else None)
    truth = _truth(sample["label"], class_names)
    if "probs" not in sample:
        return ClassShown(image, name, truth, (), 0.0, None)
    probs: list[float] = sample["probs"].tolist()
    if sample["label"].ndim:  # any number of labels: the least certain of the answers
        answers: list[bool] = sample["answer"].tolist()
        said = tuple(name for name, yes in zip(class_names, answers, strict=True) if yes)
        return ClassShown(image, name, truth, said, min(max(prob, 1 - prob) for prob in probs), heat)
    answer = int(sample["answer"])
    return ClassShown(image, name, truth, (class_names[answer],), probs[answer], heat)


def _corners(box: Tensor) -> tuple[float, float, float, float]:
    left, top, right, bottom = box.tolist()
    return left, top, right, bottom


def _truth(label: Tensor, class_names: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes; with their shares where pictures were mixed."""
    if not label.ndim:
        return (class_names[int(label)],)
    shares = [(name, share) for name, share in zip(class_names, label.tolist(), strict=True) if share > 0]
    return tuple(name if share == 1 else f"{name} {share:.0%}" for name, share in shares)
