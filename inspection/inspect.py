"""`check`: everything that can be found out about a data set before training on it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datamodules import InputReader, LoupeDataModule
from errors import LoupeError
from inspection.checks import check_classes, check_duplicates, check_pictures, check_skipped_masks
from inspection.finding import Finding, of_problems, worst
from inspection.pictures import look_at
from inspection.trial import check_settings, run_trial

__all__ = ["Inspection", "inspect_data"]


_TRIAL = 4  # pictures in the batch that is tried
#: With any of these the batch would only fail, and say it again.
_UNUSABLE = frozenset(
    {
        "setting",
        "unreadable picture",
        "unusable picture",
        "unreadable mask",
        "mask of another size",
        "mask values that are no class",
    }
)


@dataclass
class Inspection:
    """What was found.

    Args:
        findings: errors first.
        parts: pictures in each part.
        classes: for each class what is counted (pictures or pixels), by part or in `train`.
        sizes: smallest, median and largest width and height, pixels.
        steps: what was done, in words, whether something was found or not.
        read: how pictures are decoded, for showing them.
    """

    findings: list[Finding] = field(default_factory=list)
    parts: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    read: dict[str, Any] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether training would neither fail nor be unsound."""
        return worst(self.findings) != "error"


def inspect_data(
    data: LoupeDataModule,
    *,
    settings: list[Callable[[], None]],
    trial: Callable[[], None],
    progress: bool,
) -> Inspection:
    """Reads everything once, and runs one batch.

    Args:
        data: a datamodule that was not set up yet.
        settings: checks of the settings, each raising LoupeError where one cannot work.
        trial: runs a training and a validation step with `data`.
        progress: whether to show a bar.
    """
    inspection = Inspection(read={"in_channels": data.read.in_channels, "value_range": data.read.value_range})
    found = inspection.findings
    found += check_settings(settings)
    data.problems.collecting = True
    fatal: list[Finding] = []
    try:
        data.setup("fit")
    except LoupeError as error:
        known = {problem.message for problem in data.problems.found}
        fatal = [] if str(error) in known else [Finding("data that cannot be used", "error", [str(error)])]
    found += of_problems(data.problems.found) + fatal
    if data.found is not None:
        inspection.steps.append("files and annotations looked for and put together")
    samples = data.found
    if samples is not None and len(samples):
        reader = InputReader(data.input_contract())
        facts = look_at(samples.paths, reader.decode, progress=progress)
        part_of = {path: part for part, inside in data.samples.items() for path in inside.paths}
        skips = data.read.on_error == "skip"
        found += check_pictures(samples, facts, skips=skips)
        found += check_skipped_masks(samples) if skips else []
        found += check_duplicates(samples, part_of, facts, data.target(samples) if data.samples else None)
        inspection.sizes = _sizes(facts.size_hw)
        good = sum(not error for error in facts.errors)
        inspection.steps += [
            f"{good} of {len(samples)} pictures decoded, every pixel",
            "compared with each other" + ("" if data.samples else ", without parts and classes: see above"),
        ]
    if data.samples:
        found += check_classes(data)
        inspection.parts = {part: len(inside) for part, inside in data.samples.items()}
        inspection.classes = _classes(data)
        if any(finding.kind in _UNUSABLE and finding.severity == "error" for finding in found):
            inspection.steps.append("no batch was run: what was found must be mended first")
        else:
            # no more than a step needs: on a CPU whole batches take minutes
            data.loader = replace(data.loader, num_workers=0, batch_size=min(data.loader.batch_size, _TRIAL))
            found += run_trial(trial)
            inspection.steps.append("one batch through network, loss and metrics")
    found.sort(key=lambda finding: finding.severity != "error")
    return inspection


def _sizes(size_hw: np.ndarray) -> dict[str, list[int]]:
    good = size_hw[size_hw.min(axis=1) > 0]
    if not len(good):
        return {}
    of = {"width": good[:, 1], "height": good[:, 0]}
    return {name: [int(v.min()), int(np.median(v)), int(v.max())] for name, v in of.items()}


def _classes(data: LoupeDataModule) -> dict[str, dict[str, int]]:
    counts = data.class_counts()
    if counts is None:
        return {}
    columns = data.samples["train"].columns
    if "label" not in columns:
        unit = "train" if "labels" in columns else "train pixels"
        return {name: {unit: count} for name, count in zip(data.class_names, counts, strict=True)}
    table = {name: dict.fromkeys(data.samples, 0) for name in data.class_names}
    for part, samples in data.samples.items():
        for label in samples.columns["label"]:
            table[label][part] += 1
    return table
