"""What can be wrong with pictures and classes, as findings."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from datamodules import (
    BOX_COLUMNS,
    LoupeDataModule,
    Samples,
    Target,
    UnreadableError,
    plan_fit,
    read_mask,
    split_labels,
    usable_cores,
)
from errors import LoupeError
from inspection.duplicates import exact_groups, near_pairs
from inspection.finding import Example, Finding
from inspection.pictures import PictureFacts

__all__ = ["check_classes", "check_duplicates", "check_pictures", "check_skipped_masks"]

_TINY = 32  # pixels: a shorter side tells a network next to nothing
_EXTREME = 5  # longer side to shorter side
_IMBALANCE = 10  # pictures of the largest class to those of the smallest
_IMBALANCE_OF_PIXELS = 1000  # most of nearly every mask is background


def check_pictures(samples: Samples, facts: PictureFacts, *, skips: bool) -> list[Finding]:
    """Files that cannot be read, and pictures of unusual size. `skips`: unreadable ones are left out by a setting."""
    found: list[Finding] = []
    fix = "" if skips else "replace or remove them, or leave them out with data.read.on_error=skip"
    for kind, is_of, skippable, what in (
        ("unreadable picture", facts.unreadable, skips, fix),
        ("unusable picture", ~facts.unreadable, False, ""),
    ):
        bad = [row for row, error in enumerate(facts.errors) if error and is_of[row]]
        if bad:
            errors, files = [facts.errors[row] for row in bad], [Example(samples.paths[row]) for row in bad]
            found.append(Finding(kind, "warning" if skippable else "error", errors, files, what))
    good = facts.size_hw.min(axis=1) > 0
    short, long = facts.size_hw.min(axis=1), facts.size_hw.max(axis=1)
    for kind, rows, text, fix in (
        ("tiny picture", good & (short < _TINY), "is {w}x{h} pixels", "a network sees little in them"),
        (
            "extreme shape",
            good & (short >= _TINY) & (long > _EXTREME * short),
            "is {w}x{h} pixels",
            "with data.read.resize=letterbox most of the input is padding; cut them",
        ),
    ):
        here: list[int] = np.flatnonzero(rows).tolist()
        if here:
            messages = [
                f"{samples.paths[row]} {text.format(h=facts.size_hw[row, 0], w=facts.size_hw[row, 1])}"
                for row in here
            ]
            found.append(
                Finding(kind, "warning", messages, [Example(samples.paths[row]) for row in here], fix)
            )
    return found


def check_skipped_masks(samples: Samples) -> list[Finding]:
    """Masks that cannot be read, where these are left out by a setting; otherwise a fit refuses them."""
    entries = samples.columns.get("mask", ())
    # COCO's outlines are in no file of their own
    files = [entry for entry in entries if not entry.startswith("{")]
    with ThreadPoolExecutor(usable_cores()) as pool:
        errors = dict(zip(files, pool.map(_mask_error, files), strict=True))
    bad = [file for file in files if errors[file]]
    found = Finding("unreadable mask", "warning", [errors[file] for file in bad], list(map(Example, bad)))
    return [found] if bad else []


def check_duplicates(
    samples: Samples, part_of: dict[str, str], facts: PictureFacts, target: Target | None
) -> list[Finding]:
    """Pictures that are there twice: with other annotations, in other parts, or just so.

    Args:
        samples: all of them.
        part_of: the part of each path; empty where the data could not be split.
        facts: of the pictures.
        target: reads the annotations; None where that is not possible.
    """
    conflicts: list[list[int]] = []
    leaks: list[list[int]] = []
    plain: list[list[int]] = []
    for rows in exact_groups(facts):
        parts = {part_of.get(samples.paths[row], "") for row in rows}
        if len({_answer(samples, row, facts, target) for row in rows} - {None}) > 1:
            conflicts.append(rows)
        elif len(parts) > 1:
            leaks.append(rows)
        else:
            plain.append(rows)
    near_leaks: list[list[int]] = []
    near_plain: list[list[int]] = []
    for one, other in near_pairs(facts):
        apart = part_of.get(samples.paths[one]) != part_of.get(samples.paths[other])
        (near_leaks if apart else near_plain).append([one, other])
    table: tuple[tuple[str, list[list[int]], str, str], ...] = (
        (
            "same picture, other annotation",
            conflicts,
            "error",
            "decide which is right, and remove the others",
        ),
        (
            "same picture in two parts",
            leaks,
            "error",
            "scores are too good where a picture was trained on; keep it in one part (a column group does)",
        ),
        (
            "near duplicates in two parts",
            near_leaks,
            "warning",
            "keep versions of one picture in one part (column group)",
        ),
        ("same picture twice", plain, "warning", "it counts twice"),
        ("near duplicates in one part", near_plain, "warning", "they count as different pictures"),
    )
    return [
        Finding(
            kind,
            "error" if severity == "error" else "warning",
            [_told(samples, rows, part_of) for rows in groups],
            [Example(samples.paths[row], _caption(samples, row, part_of)) for rows in groups for row in rows],
            fix,
        )
        for kind, groups, severity, fix in table
        if groups
    ]


def check_classes(data: LoupeDataModule) -> list[Finding]:
    """Classes that are far from equally frequent, or that the validation cannot score."""
    counts = data.class_counts()
    if counts is None:
        return []
    found: list[Finding] = []
    named = dict(zip(data.class_names, counts, strict=True))
    labels = {part: _labels(samples) for part, samples in data.samples.items()}
    absent = [name for name, count in named.items() if not count]
    if absent:
        text = f"the train part has nothing of {', '.join(absent)}; its score says nothing"
        found.append(Finding("class without training data", "warning", [text]))
    there = {name: count for name, count in named.items() if count}
    least, most = min(there, key=there.__getitem__, default=""), max(there, key=there.__getitem__, default="")
    limit = _IMBALANCE if labels["train"] else _IMBALANCE_OF_PIXELS
    if there and there[most] > limit * there[least]:
        times = there[most] / there[least]
        text = f"{most} occurs {times:.0f} times as often as {least} ({there[most]} and {there[least]})"
        sampling = " or data.loader.sampling=balanced" if labels["train"] else ""  # a mask has many classes
        fix = f"watch a balanced score; training.loss.class_weight=balanced{sampling} may help"
        found.append(Finding("classes out of balance", "warning", [text], fix=fix))
    missing = [name for name in data.class_names if labels["val"] and not labels["val"][name] and named[name]]
    if missing:
        text = f"the val part has no picture of {', '.join(missing)}; validation does not see how well they are learnt"
        found.append(Finding("class without validation data", "warning", [text]))
    return found


def _labels(samples: Samples) -> Counter[str]:
    if "label" in samples.columns:
        return Counter(samples.columns["label"])
    return Counter(label for entry in samples.columns.get("labels", ()) for label in split_labels(entry))


def _mask_error(file: str) -> str:
    try:
        read_mask(file)
    except UnreadableError as error:
        return str(error)
    except LoupeError:
        pass  # coloured, or of other values: it can be read
    return ""


def _answer(samples: Samples, row: int, facts: PictureFacts, target: Target | None) -> str | None:
    """What the data says of a picture, the same text for the same answer however it is written; None: not known."""
    columns = samples.columns
    if target is None:
        known = [name for name in ("label", "labels", *BOX_COLUMNS) if name in columns]
        return "\n".join(columns[name][row] for name in known)
    height, width = facts.size_hw[row].tolist()
    try:
        found = target(row, plan_fit((height, width), (height, width), "stretch"))
    except LoupeError:
        return None  # another check tells of it
    return "\n".join(f"{name} {found[name].numpy().tobytes().hex()}" for name in sorted(found))


def _caption(samples: Samples, row: int, part_of: dict[str, str]) -> str:
    label = samples.columns.get("label") or samples.columns.get("labels")
    part = part_of.get(samples.paths[row], "")
    return " · ".join(text for text in (samples.names[row], label[row] if label else "", part) if text)


def _told(samples: Samples, rows: Sequence[int], part_of: dict[str, str]) -> str:
    return " = ".join(_caption(samples, row, part_of) for row in rows)
