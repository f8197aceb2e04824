"""What can be wrong with pictures and classes, as findings."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules import BOX_COLUMNS, LoupeDataModule, Samples
from inspection.duplicates import exact_groups, near_pairs
from inspection.finding import Example, Finding
from inspection.pictures import PictureFacts

__all__ = ["check_classes", "check_duplicates", "check_pictures"]

_TINY = 32  # pixels: a shorter side tells a network next to nothing
_EXTREME = 5  # longer side to shorter side
_IMBALANCE = 10  # largest class to smallest class


def check_pictures(samples: Samples, facts: PictureFacts, *, skips: bool) -> list[Finding]:
    """Files that cannot be read, and pictures of unusual size. `skips`: unreadable ones are left out by a setting."""
    bad = [row for row, error in enumerate(facts.errors) if error]
    found: list[Finding] = []
    if bad:
        fix = "replace or remove them, or leave them out with data.read.on_error=skip"
        found.append(
            Finding(
                "unreadable picture",
                "warning" if skips else "error",
                [facts.errors[row] for row in bad],
                [Example(samples.paths[row]) for row in bad],
                "" if skips else fix,
            )
        )
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


def check_duplicates(samples: Samples, part_of: dict[str, str], facts: PictureFacts) -> list[Finding]:
    """Pictures that are there twice: with other annotations, in other parts, or just so.

    `part_of`: the part of each path; empty where the data could not be split.
    """
    conflicts: list[list[int]] = []
    leaks: list[list[int]] = []
    plain: list[list[int]] = []
    for rows in exact_groups(facts):
        parts = {part_of.get(samples.paths[row], "") for row in rows}
        if len({_answer(samples, row) for row in rows}) > 1:
            conflicts.append(rows)
        elif len(parts) > 1:
            leaks.append(rows)
        else:
            plain.append(rows)
    pairs = [list(pair) for pair in near_pairs(facts)]
    near_leaks = [p for p in pairs if part_of.get(samples.paths[p[0]]) != part_of.get(samples.paths[p[1]])]
    near_plain = [p for p in pairs if p not in near_leaks]
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
    absent = [name for name, count in named.items() if not count]
    if absent:
        text = f"the train part has nothing of {', '.join(absent)}; its score says nothing"
        found.append(Finding("class without training data", "warning", [text]))
    there = {name: count for name, count in named.items() if count}
    least, most = min(there, key=there.__getitem__, default=""), max(there, key=there.__getitem__, default="")
    if there and there[most] > _IMBALANCE * there[least]:
        times = there[most] / there[least]
        text = f"{most} occurs {times:.0f} times as often as {least} ({there[most]} and {there[least]})"
        fix = "watch a balanced score; training.loss.class_weight=balanced or data.loader.sampling=balanced may help"
        found.append(Finding("classes out of balance", "warning", [text], fix=fix))
    labels = {part: _labels(samples) for part, samples in data.samples.items()}
    missing = [name for name in data.class_names if labels["val"] and not labels["val"][name] and named[name]]
    if missing:
        text = f"the val part has no picture of {', '.join(missing)}; validation does not see how well they are learnt"
        found.append(Finding("class without validation data", "warning", [text]))
    return found


def _labels(samples: Samples) -> Counter[str]:
    if "label" in samples.columns:
        return Counter(samples.columns["label"])
    entries = samples.columns.get("labels", ())
    return Counter(label.strip() for entry in entries for label in entry.split(";"))


def _answer(samples: Samples, row: int) -> str:
    """What the data says of a picture, as a text that is the same for the same answer."""
    columns = samples.columns
    if "x1" in columns:
        return ",".join(columns[name][row] for name in BOX_COLUMNS)
    if "mask" in columns:
        entry = columns["mask"][row]
        try:
            return hashlib.sha256(Path(entry).read_bytes()).hexdigest()
        except OSError:
            return entry  # the annotation itself, or a file that another check tells of
    return columns["label" if "label" in columns else "labels"][row]


def _caption(samples: Samples, row: int, part_of: dict[str, str]) -> str:
    label = samples.columns.get("label") or samples.columns.get("labels")
    part = part_of.get(samples.paths[row], "")
    return " · ".join(text for text in (samples.names[row], label[row] if label else "", part) if text)


def _told(samples: Samples, rows: Sequence[int], part_of: dict[str, str]) -> str:
    return " = ".join(_caption(samples, row, part_of) for row in rows)
