"""Runs side by side: is the difference between their scores beyond chance, and what else differs."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from errors import LoupeError
from reports.bootstrap import Interval
from reports.course import named, throughput
from reports.evaluation_part import Estimate, scored_intervals, short
from reports.pairing import data_differences, paired_intervals, unpaired_reason
from reports.run_files import Evaluation, Run, read_run
from reports.score_names import better
from reports.settings import differing_settings

__all__ = ["Cell", "Comparison", "StageComparison", "compare_runs", "score_cells"]

_MOST_CLASSES = 200


@dataclass(frozen=True)
class Cell:
    """A run's score beside the first run's.

    Attributes:
        estimate: The score and its own interval.
        difference: The score less the first run's; NaN for the first run, and where either is absent.
        low: Lower end of the difference's paired 95 % interval; NaN where the runs are not paired.
        high: Upper end.
        verdict: ``better``, ``worse``, ``within chance``, or "" where it cannot be said.
    """

    estimate: Estimate
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    verdict: str = ""


@dataclass
class StageComparison:
    """The runs' scores on one part; ``scores`` and ``classes`` have a cell for each run."""

    stage: str
    samples: list[int | None]
    scores: list[tuple[str, list[Cell]]] = field(default_factory=list)
    class_score: str = ""
    classes: list[tuple[str, list[Cell]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Comparison:
    """All that `compare` shows; rows of texts have a text for each run.

    Attributes:
        warnings: Why scores cannot be compared, or not simply.
    """

    runs: list[Run]
    names: list[str]
    warnings: list[str] = field(default_factory=list)
    stages: list[StageComparison] = field(default_factory=list)
    settings: list[tuple[str, list[str]]] = field(default_factory=list)
    times: list[tuple[str, list[str]]] = field(default_factory=list)
    environment: list[tuple[str, list[str]]] = field(default_factory=list)


def compare_runs(runs: list[Path]) -> Comparison:
    """Compares each run with the first; LoupeError for fewer than two, or a folder that is no run."""
    if len(runs) < 2:
        raise LoupeError(f"compare: needs at least two run directories, got {len(runs)}")
    found = [read_run(path) for path in runs]
    names = [named(run.path) for run in found]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in found]
    comparison = Comparison(found, names)
    for stage in ("test", "val"):
        evaluations = [run.evaluation(stage) for run in found]
        if sum(evaluation is not None for evaluation in evaluations) > 1:
            comparison.stages.append(_stage(stage, evaluations, found, names))
    comparison.warnings = _warnings(found, names, comparison.stages)
    configs = [run.config for run in found]
    if all(configs):
        rows = differing_settings(configs)
        comparison.settings = [(key, [short(v, 200) for v in row]) for key, row in rows if key != "run.name"]
    facts = [{what: value for value, what in throughput(run)} for run in found]
    comparison.times = _rows(facts)
    comparison.environment = [
        row for row in _rows([_environment(run) for run in found]) if len(set(row[1])) > 1
    ]
    return comparison


def _stage(
    stage: str, evaluations: list[Evaluation | None], runs: list[Run], names: list[str]
) -> StageComparison:
    base = next(position for position, evaluation in enumerate(evaluations) if evaluation is not None)
    first = evaluations[base]
    assert first is not None
    result = StageComparison(stage, [None if e is None else e.samples for e in evaluations])
    own = [scored_intervals(evaluation) if evaluation else {} for evaluation in evaluations]
    paired: list[dict[str, Interval]] = [{} for _ in evaluations]
    if base:
        result.notes.append(f"Differences are to {names[base]}: {names[0]} has no {stage} scores.")
    for name, run, evaluation in zip(names, runs, evaluations, strict=True):
        if evaluation is not None and not run.is_of_best(evaluation):
            when = ", and before the last session of the training" if run.is_older(evaluation) else ""
            result.notes.append(f"{name} was not scored with the weights of best.ckpt as it is now{when}.")
    for position, evaluation in enumerate(evaluations):
        if evaluation is None:
            if position:
                result.notes.append(f"{names[position]} has no {stage} scores.")
        elif position != base:
            reason = unpaired_reason(first, evaluation) or _other_data(runs[base], runs[position])
            if reason:
                result.notes.append(
                    f"{names[position]} is not compared picture by picture with {names[base]}: {reason}. "
                    f"Whether its differences are beyond chance is not known."
                )
            else:
                paired[position] = paired_intervals(first, evaluation)
    scores = list(dict.fromkeys(name for e in evaluations if e for name in e.scores))
    for name in scores:
        values = [e.scores.get(name, math.nan) if e else math.nan for e in evaluations]
        result.scores.append((name, score_cells(name, values, base, own, paired)))
    _add_classes(result, evaluations, base, own, paired)
    return result


def _add_classes(
    result: StageComparison,
    evaluations: list[Evaluation | None],
    base: int,
    own: list[dict[str, Interval]],
    paired: list[dict[str, Interval]],
) -> None:
    """The first score of classes that all have; of many classes those with the lowest in the first run."""
    there = [evaluation for evaluation in evaluations if evaluation]
    classes = there[0].class_names
    score = next(
        (
            n
            for n in ("iou", "recall", "f1")
            if all(len(e.per_class.get(n, ())) == len(classes) for e in there)
        ),
        "",
    )
    if not score or any(evaluation.class_names != classes for evaluation in there):
        return
    result.class_score = score
    columns = [e.per_class[score] if e else [math.nan] * len(classes) for e in evaluations]
    shown = range(len(classes))
    if len(classes) > _MOST_CLASSES:
        lowest = sorted(shown, key=lambda k: math.inf if math.isnan(columns[base][k]) else columns[base][k])
        shown = sorted(lowest[:_MOST_CLASSES])
        result.notes.append(
            f"{_MOST_CLASSES} of {len(classes)} classes are listed, those with the lowest {score} in {base + 1}."
        )
    for k in shown:
        name = classes[k]
        values = [column[k] for column in columns]
        result.classes.append((short(name), score_cells(score, values, base, own, paired, k)))


def score_cells(
    name: str,
    values: list[float],
    base: int,
    own: list[dict[str, Interval]],
    paired: list[dict[str, Interval]],
    number: int | None = None,
) -> list[Cell]:
    """A score's cells, one an evaluation.

    Args:
        name: The score.
        values: Of each evaluation; NaN where absent.
        base: Which of them the others are compared with.
        own: Intervals of each evaluation's scores.
        paired: Intervals of the differences to the base.
        number: Of the class, where the score is one class's.
    """
    key = name if number is None else f"{name}_per_class"
    cells: list[Cell] = []
    for position, value in enumerate(values):
        estimate = Estimate(name, value, *_ends(own[position].get(key), number, value))
        difference = math.nan if position == base else value - values[base]
        low, high = _ends(paired[position].get(key), number, difference)
        verdict = ""
        if not math.isnan(low):
            verdict = "within chance"
            if low > 0 or high < 0:
                verdict = "better" if better(name, difference) else "worse"
        cells.append(Cell(estimate, difference, low, high, verdict))
    return cells


def _ends(interval: Interval | None, number: int | None, value: float) -> tuple[float, float]:
    if interval is None or math.isnan(value):
        return math.nan, math.nan
    if number is None:
        return float(interval.low), float(interval.high)
    return float(interval.low[number]), float(interval.high[number])


def _other_data(first: Run, other: Run) -> str:
    differing = data_differences(first.config, other.config)
    return f"{', '.join(differing)} differ" if differing else ""


def _warnings(runs: list[Run], names: list[str], stages: list[StageComparison]) -> list[str]:
    warnings: list[str] = []
    for run, name in zip(runs[1:], names[1:], strict=True):
        differing = _other_data(runs[0], run)
        if differing:
            warnings.append(
                f"{name} has other data than {names[0]} ({differing}): their scores cannot be compared."
            )
        if not run.config or not runs[0].config:
            warnings.append(
                f"Whether {name} and {names[0]} have the same data is not known: a config.yaml is missing."
            )
    seeds = {str(run.config.get("seed_everything")) for run in runs if run.config}
    if len(seeds) > 1:
        warnings.append(
            "The seeds differ (seed_everything): part of a difference is the training's own chance, which intervals "
            "do not hold."
        )
    if not stages:
        warnings.append(
            "No part was scored by two of the runs: there are no scores to compare. Run test on each of them."
        )
    elif not any(stage.stage == "test" for stage in stages):
        warnings.append(
            "Only validation scores can be compared; each run chose its checkpoint on them. Run test on each."
        )
    return warnings


def _rows(columns: list[dict[str, str]]) -> list[tuple[str, list[str]]]:
    keys = list(dict.fromkeys(key for column in columns for key in column))
    return [(key, [column.get(key, "–") for column in columns]) for key in keys]


def _environment(run: Run) -> dict[str, str]:
    about = run.about
    git = about.get("git") or {}
    rows = {"loupe": about.get("loupe"), "git commit": git.get("commit"), **(about.get("environment") or {})}
    return {
        str(key): short(", ".join(map(str, v)) if isinstance(v, list) else str(v), 100)
        for key, v in rows.items()
    }
