"""What scores are called on a page, what they mean, and which way is better."""

__all__ = ["better", "main_score", "score_title", "unit_of_count"]

_TITLES = {
    "loss": ("loss", "what training lowers"),
    "accuracy": ("accuracy", "the share that is right"),
    "balanced_accuracy": ("balanced accuracy", "mean recall of the classes"),
    "f1": ("F1", "mean of the classes"),
    "top5": ("top-5 accuracy", "the class is among the five likeliest"),
    "auroc": ("AUROC", "each class against the rest, mean of the classes"),
    "average_precision": ("average precision", "mean of the classes"),
    "calibration_error": ("calibration error", "0 where a confidence of 0.8 is right in 80 of 100 cases"),
    "iou": ("IoU", "mean of the classes; of two, without the background"),
    "boundary_iou": ("boundary IoU", "near outlines only"),
    "dice": ("Dice", "mean of the classes; of two, without the background"),
    "box_iou": ("box IoU", "mean over pictures with an object"),
    "box_iou_50": ("IoU at least 0.50", "share of objects"),
    "box_iou_75": ("IoU at least 0.75", "share of objects"),
    "confidence_auroc": ("AUROC of the confidence", "tells pictures with an object from those without"),
    "recall": ("recall", ""),
    "precision": ("precision", ""),
}
_MAIN = {"classification": "accuracy", "segmentation": "iou", "cropping": "box_iou"}
_LOWER = {"loss", "calibration_error"}


def score_title(name: str) -> tuple[str, str]:
    """The name for the eye, and what the score means in a few words ("" where it needs none).

    >>> score_title("box_iou_50")
    ('IoU at least 0.50', 'share of objects')
    """
    return _TITLES.get(name, (name.replace("_", " "), ""))


def better(name: str, difference: float) -> bool:
    """Whether a score that has changed by ``difference`` is better now."""
    return difference < 0 if name in _LOWER else difference > 0


def main_score(task: str, monitor: str | None, scores: dict[str, float]) -> str | None:
    """The one score that stands for all: what the run watched, unless that was the loss."""
    watched = (monitor or "").partition("/")[2]
    for name in (
        watched if watched != "loss" else "",
        _MAIN.get(task, ""),
        *(n for n in scores if n != "loss"),
    ):
        if name in scores and scores[name] == scores[name]:
            return name
    return None


def unit_of_count(task: str) -> str:
    """What the number of a class counts."""
    return "pixels" if task == "segmentation" else "pictures"
