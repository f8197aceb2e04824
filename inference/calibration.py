"""`calibrate`: what validation data says of a trained model's probabilities and answers, kept in its checkpoint."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor

from errors import LoupeError
from inference.calibrate_options import Calibrate
from inference.calibrated_file import store_calibration
from inference.checkpoint import read_checkpoint
from inference.evidence import Evidence, PixelWatch, evidence_of
from inference.original_pixels import original_pixels
from inference.temperature import HIGHEST, LOWEST, fit_temperature, negative_log_likelihood, reliability
from inference.thresholds import Rule, ValueCounts, best_threshold, counts_above, measure
from lightning_modules import LoupeModule
from lightning_modules.calibration import Calibration
from metrics.calibration import calibration_error

__all__ = ["calibrate", "run_calibration"]

_FEW_PICTURES, _FEW_ANSWERS = 100, 20
#: Log-odds of a probability that float64 still tells from 1 well enough to be compared with others.
_FARTHEST = 27.0

_COMMON = {name: name for name in ("accuracy", "balanced_accuracy", "precision", "recall")}
#: The scores that thresholds may be chosen for, and how they are measured: as `metrics` does.
_MEASURES = {
    "two classes": {**_COMMON, "f1": "f1_of_both"},
    "several labels": {**_COMMON, "f1": "f1"},
    "masks": {**_COMMON, "iou": "iou", "dice": "dice"},
    "boxes": {**_COMMON, "f1": "f1"},
}


def run_calibration(
    trainer: Trainer,
    module: LoupeModule,
    data: LightningDataModule,
    checkpoint_path: str | Path,
    options: Calibrate,
) -> Calibration:
    """Validate the checkpoint's plain model, learn its calibration, and keep it in the file.

    An earlier calibration in the file has no part in it, nor has the section `inference`: a temperature is one
    network's.
    Every process must call this; all return the same, and the first one writes.

    Args:
        trainer: Its callbacks run as in any validation.
        module: Made for the checkpoint; it keeps what is found.
        data: Has the validation part.
        checkpoint_path: The file, which is replaced as a whole; other names of the same file keep the old content.
        options: The section `calibration`.

    Raises:
        LoupeError: Options that do not fit each other or the task, a file that is none of Loupe's or is damaged, data
            without a picture, outputs that are NaN.
    """
    options.check()
    limit = (
        trainer.limit_val_batches
    )  # fast_dev_run and overfit_batches are told by it, too; 1 is a batch, 1.0 all
    if isinstance(limit, int) or limit != 1.0:
        raise LoupeError(
            "calibrate needs the whole validation part, which the trainer cuts short; leave out "
            "trainer.limit_val_batches, trainer.overfit_batches and trainer.fast_dev_run"
        )
    card = read_checkpoint(checkpoint_path)["loupe"]
    _rule(options, module, len(card["class_names"]), bool(card.get("multi_label")))
    module.calibration = Calibration()
    module.answer_with(None)
    watch = PixelWatch()
    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    callbacks.append(watch)
    try:
        trainer.validate(
            module, datamodule=data, ckpt_path=str(checkpoint_path), verbose=False, weights_only=True
        )
    finally:
        callbacks.remove(watch)
    rule = _rule(options, module, len(module.class_names or []), module.multi_label)
    with torch.inference_mode():
        evidence = evidence_of(module, data, watch.seen())
    restored = "mask" in module.learns
    pixels_at = partial(original_pixels, trainer, module, data, str(checkpoint_path)) if restored else None
    found = calibrate(evidence, rule, options, pixels_at=pixels_at)
    if trainer.is_global_zero:
        store_calibration(checkpoint_path, found)
    module.calibration = found
    return found


def _rule(options: Calibrate, module: LoupeModule, classes: int, several: bool) -> Rule | None:
    """What makes a threshold best for this task; None where none is asked for."""
    if options.metric is None:
        return None
    kind = {"mask": "masks", "box": "boxes"}.get(
        module.learns[0], "several labels" if several else "two classes"
    )
    if kind in ("two classes", "masks") and classes > 2:
        raise LoupeError(
            f"calibration.metric: a threshold is for two classes, several labels or a box's confidence, and the model "
            f"chooses one of {classes} classes; leave it out, the temperature does not need it"
        )
    measures = _MEASURES[kind]
    if options.metric not in measures:
        raise LoupeError(
            f"calibration.metric: '{options.metric}' is no score of {kind}; choose from: {', '.join(sorted(measures))}"
        )
    return Rule(measures[options.metric], options.at_least)


def calibrate(
    evidence: Evidence,
    rule: Rule | None,
    options: Calibrate,
    *,
    pixels_at: Callable[[float], Mapping[str, Tensor]] | None = None,
) -> Calibration:
    """The calibration with the least negative log likelihood, and the thresholds with the best score.

    ``figures`` holds plain values: ``part``, ``pictures``, ``date``, ``notes`` (what to beware of), ``nll``,
    ``calibration_error`` and ``reliability`` (15 rows of `metrics.calibration`), each with ``_before`` and ``_after``,
    and ``nll_cross_validated``. With thresholds also lists with a value for each of them: ``names``; ``metric``,
    ``precision`` and ``recall``, each with ``_before`` and ``_after``; ``metric_cross_validated``. Cross-validated is
    what calibrations learnt from four fifths of the pictures, or of their groups, gave on the others. None: nothing
    can be said. ``pixels_at`` gives for a temperature the counts of restored pixels, where a threshold is for these.
    """
    notes = _few(evidence)
    temperature = 1.0
    if options.temperature:
        found = fit_temperature(evidence.logits, evidence.target, kind=evidence.kind)
        temperature, note = _bounded(found, has_errors=_has_errors(evidence))
        notes += note
    figures: dict[str, Any] = {
        "part": "val",
        "pictures": evidence.pictures,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        **_likelihoods(evidence, temperature, cross=options.temperature),
    }
    crossed = figures["nll_cross_validated"]
    if crossed is not None and crossed >= figures["nll_before"] and temperature != 1:
        notes.append(
            "on pictures that were left out the temperature gains nothing: there are too few to learn it"
        )
    thresholds: tuple[float, ...] | None = None
    if rule is not None:
        counts, left = (None, temperature) if pixels_at is None else (pixels_at(temperature), 1.0)
        chosen = [_choice(table, rule, left) for table in evidence.tables(counts)]
        thresholds = tuple(probability for probability, _ in chosen)
        figures["names"] = list(evidence.names)
        figures |= {key: [one[key] for _, one in chosen] for key in chosen[0][1] if key != "note"}
        notes += [
            f"{name}: {one['note']}"
            for name, (_, one) in zip(evidence.names, chosen, strict=True)
            if one["note"]
        ]
    metric = "" if options.metric is None else options.metric
    metric += "" if options.at_least is None else f" at least {options.at_least:g}"
    return Calibration(temperature, thresholds, metric, {**figures, "notes": notes})


def _few(evidence: Evidence) -> list[str]:
    few = evidence.pictures < _FEW_PICTURES
    text = f"only {evidence.pictures} pictures: what is learnt from fewer than {_FEW_PICTURES} may not hold for others"
    return [text] if few else []


def _has_errors(evidence: Evidence) -> bool:
    """Whether any answer is wrong; where none is, no temperature is low enough."""
    if evidence.kind == "sigmoid":
        return bool(((evidence.logits > 0) != (evidence.target > 0.5)).any())
    return bool((evidence.logits.argmax(1) != evidence.target).any())


def _bounded(temperature: float, *, has_errors: bool) -> tuple[float, list[str]]:
    """The temperature that is used, and what to say of it."""
    if temperature <= LOWEST:
        if has_errors:
            return LOWEST, [f"the logits are very small: the temperature is {LOWEST:g}, the lowest"]
        return 1.0, [
            "no answer is wrong, so the likelihood grows without end as the temperature falls: it stays 1"
        ]
    if temperature >= HIGHEST:
        return HIGHEST, [
            f"the probabilities tell nothing of the truth, or the contrary: the temperature is {HIGHEST:g}, the highest"
        ]
    return temperature, []


def _likelihoods(evidence: Evidence, temperature: float, *, cross: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for when, value in (("before", 1.0), ("after", temperature)):
        about = (evidence.logits, evidence.target, value)
        table = reliability(*about, kind=evidence.kind)
        found[f"nll_{when}"] = negative_log_likelihood(*about, kind=evidence.kind)
        found[f"calibration_error_{when}"] = float(calibration_error(table))
        found[f"reliability_{when}"] = table.tolist()
    found["nll_cross_validated"] = _cross_validated(evidence) if cross else None
    return found


def _cross_validated(evidence: Evidence) -> float | None:
    """The negative log likelihood of each fold with the temperature of the others; None with a single fold."""
    folds = evidence.fold.unique().tolist()
    if len(folds) < 2:
        return None
    total = 0.0
    for fold in folds:
        out = evidence.fold == fold
        found = fit_temperature(evidence.logits[~out], evidence.target[~out], kind=evidence.kind)
        learnt, _ = _bounded(found, has_errors=_has_errors(evidence))
        lost = negative_log_likelihood(evidence.logits[out], evidence.target[out], learnt, kind=evidence.kind)
        total += lost * int(out.sum())
    return total / len(evidence.fold)


def _choice(table: ValueCounts, rule: Rule, temperature: float) -> tuple[float, dict[str, Any]]:
    """A threshold as a probability after the temperature, and what it gives."""
    limit = _FARTHEST * min(1.0, temperature)
    threshold = best_threshold(table, rule, limit=limit)
    yes, no = table.yes.sum(1), table.no.sum(1)
    note = ""
    if threshold is None:
        missing = "is never the truth" if not yes.sum() else "is always the truth" if not no.sum() else ""
        note = f"{missing or f'{rule.measure} never reaches {rule.at_least:g}'}, so the threshold stays 0.5"
    elif min(yes.sum(), no.sum()) < _FEW_ANSWERS:
        note = f"{int(yes.sum())} yes and {int(no.sum())} no are few to choose a threshold from"
    threshold = threshold or 0.0
    found: dict[str, Any] = {"note": note}
    for key, name in (("metric", rule.measure), ("precision", "precision"), ("recall", "recall")):
        found[f"{key}_before"] = _plain(measure(name, counts_above(table, 0.0)))
        found[f"{key}_after"] = _plain(measure(name, counts_above(table, threshold)))
    found["metric_cross_validated"] = _cross_chosen(table, rule, limit)
    return 1 / (1 + math.exp(-threshold / temperature)), found


def _cross_chosen(table: ValueCounts, rule: Rule, limit: float) -> float | None:
    """The score of all folds together, each answered with the threshold that the others chose."""
    there = (table.yes + table.no).sum(1) > 0
    if there.sum() < 2:
        return None
    parts = [there & (torch.arange(len(there)).numpy() == fold) for fold in there.nonzero()[0]]
    chosen = [best_threshold(table.of_folds(there & ~part), rule, limit=limit) or 0.0 for part in parts]
    counts = [counts_above(table.of_folds(part), value) for part, value in zip(parts, chosen, strict=True)]
    return _plain(measure(rule.measure, sum(counts[1:], counts[0])))


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
