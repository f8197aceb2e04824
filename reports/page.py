"""`report.html`: a run on one page, made from the files of its directory alone."""

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from errors import LoupeError
from figures.pages import page_templates
from reports.course import curves, duration, named, session_rows, throughput
from reports.evaluation_part import Estimate, EvaluationPart, evaluation_part, short
from reports.run_files import Evaluation, Run, read_run
from reports.score_names import main_score
from reports.settings import changed_settings

__all__ = ["LARGEST_PAGE", "fill_page", "write_report"]

#: Bytes.
LARGEST_PAGE = 5_000_000
_PICTURES = 3_000_000  # characters for the worst pictures of all evaluations
_CLASSES = 200


def write_report(run: Path, *, write: Callable[[Path, str], None]) -> Path:
    """Makes ``RUN/report.html`` from what the run directory holds; returns the page.

    Every file of the directory may be missing: the page says what is not there. It needs no other file and no network,
    and stays below 5 MB: pictures share 3 MB and are shrunk to fit, and where the rest is too large still, the page is
    made without pictures, then without charts.

    Args:
        run: The run directory; LoupeError where it holds nothing of a run, or cannot be written to.
        write: Puts a text into a file, whole or not at all; may raise OSError.
    """
    found = read_run(run)
    page = run / "report.html"
    text = fill_page(found)
    for charts in (True, False):
        if len(text.encode()) > LARGEST_PAGE:
            text = fill_page(found, pictures=0, charts=charts)
    try:
        write(page, text)
    except OSError as error:
        raise LoupeError(f"run.directory: cannot write to {run}: {error.strerror or error}") from error
    return page


def fill_page(run: Run, *, pictures: int = _PICTURES, charts: bool = True) -> str:
    """The page as text; ``pictures`` is how many characters they may take."""
    share = pictures // max(1, len(run.evaluations))
    parts = [
        evaluation_part(one, epoch=run.epoch_of(one), picture_budget=share, charts=charts)
        for one in run.evaluations
    ]
    for part, evaluation in zip(parts, run.evaluations, strict=True):
        if run.is_older(evaluation):
            part.notes.insert(
                0, "Scored before the last session of the training: the weights may be others by now."
            )
        if run.is_of_another_epoch(evaluation):
            part.notes.insert(
                0,
                f"Of epoch {run.epoch_of(evaluation)}, and best.ckpt is of epoch {run.best_epoch}: the run was cut off "
                f"between the two. python train.py validate --ckpt_path best scores it.",
            )
    best: dict[str, Any] = run.about.get("best") or {}
    return (
        page_templates(Path(__file__).parent / "templates")
        .get_template("report.html")
        .render(
            name=named(run.path),
            date=time.strftime("%Y-%m-%d %H:%M"),
            verdict=_verdict(run, parts),
            facts=_facts(run),
            parts=parts,
            optimistic=_optimistic(run, parts),
            curves=curves(run) if charts else [],
            best=best,
            best_epoch=run.best_epoch,
            data=_data(run),
            changed=[
                (key, short(value), short(default)) for key, value, default in changed_settings(run.config)
            ],
            config=run.config_text,
            environment=_environment(run),
            git=run.about.get("git") or {},
            throughput=throughput(run),
            sessions=session_rows(run),
            commands=_commands(run),
            notes=run.notes,
        )
    )


def _verdict(run: Run, parts: list[EvaluationPart]) -> str:
    """The best score with its interval, the epoch and the data, in a sentence."""
    best: dict[str, Any] = run.about.get("best") or {}
    for part, evaluation in zip(parts, run.evaluations, strict=True):
        name = main_score(evaluation.task, best.get("monitor"), evaluation.scores)
        score: Estimate | None = part.score(name)
        if score is None:
            continue
        words = f"{score.title} {score.value:.3f}"
        words += f" (95 % interval {score.interval})" if score.interval else ""
        epoch = run.epoch_of(evaluation)
        words += f" at epoch {epoch}" if epoch is not None else ""
        words += f", on {evaluation.samples:,} {part.title.lower()} pictures"
        return words + (" that chose the checkpoint" if _chose(run, evaluation) else "")
    if run.evaluations:
        return "nothing could be scored"
    score = best.get("score")
    if isinstance(score, int | float):
        return f"{best.get('monitor')} {score:.4f} at epoch {run.best_epoch}"
    return "nothing has been scored yet"


def _chose(run: Run, evaluation: Evaluation) -> bool:
    """Whether the checkpoint was chosen by a score of these very pictures."""
    best: dict[str, Any] = run.about.get("best") or {}
    watched = str(best.get("monitor") or "").startswith("val/") and best.get("score") is not None
    return watched and evaluation.stage == "val" and run.is_of_best(evaluation)


def _optimistic(run: Run, parts: list[EvaluationPart]) -> str:
    """Why validation scores are better than those to expect, or an empty text."""
    best: dict[str, Any] = run.about.get("best") or {}
    if not any(_chose(run, evaluation) for evaluation in run.evaluations):
        return ""
    tested = any(part.stage == "test" for part in parts)
    return (
        f"These scores are optimistic: the checkpoint was chosen among all epochs by {best.get('monitor')} on these "
        f"very pictures, which the intervals do not take into account. "
        + (
            "The test scores are free of that."
            if tested
            else "The command test scores pictures that chose nothing."
        )
    )


def _facts(run: Run) -> list[tuple[str, str]]:
    model: dict[str, Any] = run.about.get("model") or {}
    training: dict[str, Any] = run.about.get("training") or {}
    facts: list[tuple[str, str]] = []
    if model.get("name") or model.get("class"):
        facts.append((short(str(model.get("name") or model.get("class")), 60), "model"))
    if model.get("parameters"):
        frozen = int(model["parameters"]) - int(model.get("trainable") or model["parameters"])
        facts.append(
            (
                _thousands(int(model["parameters"])),
                "weights" + (f", {_thousands(frozen)} frozen" if frozen else ""),
            )
        )
    for key, what in (("batch_size", "images a step"), ("precision", "precision"), ("devices", "devices")):
        if training.get(key):
            facts.append((short(str(training[key]), 40), what))
    seconds = sum(float(session.get("seconds") or 0) for session in run.about.get("sessions") or [])
    return facts + ([(duration(seconds), "of training")] if seconds else [])


def _thousands(number: int) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number:,}"


def _data(run: Run) -> dict[str, Any]:
    data: dict[str, Any] = run.about.get("data") or {}
    counts: dict[str, int] = data.get("class_counts") or {}
    largest = max(counts.values(), default=0) or 1
    names = [str(name) for name in data.get("classes") or []] or (
        run.evaluations[0].class_names if run.evaluations else []
    )
    return {
        "lines": [short(str(line), 400) for line in data.get("lines") or []],
        "parts": data.get("parts") or {},
        "part_facts": [(f"{count:,}", part) for part, count in (data.get("parts") or {}).items()],
        "bars": [
            (short(name), count, 100 * count / largest) for name, count in list(counts.items())[:_CLASSES]
        ],
        "left_out": max(0, len(counts) - _CLASSES),
        "classes": [short(name) for name in names[:_CLASSES]],
        "more_classes": max(0, len(names) - _CLASSES),
    }


def _environment(run: Run) -> list[tuple[str, str]]:
    found: dict[str, Any] = dict(run.about.get("environment") or {})
    rows = [("loupe", str(run.about["loupe"]))] if run.about.get("loupe") else []
    for key, value in found.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        title = "memory, GiB" if key == "memory_gib" else str(key)
        rows.append((title, "none" if text in (None, "") else short(str(text), 200)))
    return rows


def _commands(run: Run) -> list[tuple[str, str]]:
    """What each command does, and the command, from the folder that the run was started in."""
    rows: list[tuple[str, str]] = []
    if run.about.get("command"):
        words = [str(word) for word in run.about["command"]]
        if not words[0].endswith(".py"):
            words = ["python", "train.py", *words]
        rows.append(("what was run last", short(shlex.join(words), 2000)))
    if not run.config:
        return rows
    here = run.path.resolve()
    path = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
    config = shlex.quote((path / "config.yaml").as_posix())
    command = f"python train.py {{}} --config {config}"
    return [
        *rows,
        ("train it again, in a new run directory", command.format("fit")),
        ("score the test data", command.format("test") + " --ckpt_path best"),
        ("predict", command.format("predict") + " --ckpt_path best --data.predict_path FOLDER"),
    ]
