"""What a test or a validation found: as files beside the run, and each class as a line on the terminal."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.run_directory import RunDirectory, write_atomically

__all__ = ["ScoresFile"]


class ScoresFile(Callback):
    """Prints the scores, and writes ``RUN/test.json`` or ``RUN/validate.json``: the checkpoint and every score.

    An absent score is null, printed as a dash. Where the task has scores of its classes, they are printed as a table,
    and ``RUN/test_classes.csv`` holds them.

    Args:
        run: Where.
        command: ``test`` or ``validate``.
        checkpoint: The file that was scored.
    """

    def __init__(self, run: RunDirectory, *, command: str, checkpoint: str) -> None:
        self.run = run
        self.command = command
        self.checkpoint = checkpoint
        self.plain = False  # a pass for comparison: its scores are told beside the others

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell on what data the scores are."""
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if trainer.is_global_zero and hasattr(data, "describe") and not self.plain:
            print(data.describe()[0], flush=True)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the scores of a test."""
        self._write(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the scores of a validation."""
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not self.run.claimed or self.plain:
            return
        scores = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        content = {
            "checkpoint": self.checkpoint,
            "scores": {name: value if value == value else None for name, value in scores.items()},
        }
        path = self.run.path / f"{self.command}.json"
        write_atomically(path, json.dumps(content, indent=2) + "\n")
        told = {name: value for name, value in scores.items() if "_per_class/" not in name}
        width = max(map(len, told), default=0)
        print("", *(f"  {name:<{width}}  {_shown('', value)}" for name, value in told.items()), "", sep="\n")
        names: list[str] = pl_module.class_names or []  # pyright: ignore[reportAssignmentType]
        found: dict[str, Tensor] = pl_module.evaluated  # pyright: ignore[reportAssignmentType]
        columns = {
            k.removesuffix("_per_class"): v.tolist() for k, v in found.items() if k.endswith("_per_class")
        }
        if columns:
            table = self.run.path / f"{self.command}_classes.csv"
            write_atomically(table, classes_csv(names, columns))
            print(*classes_lines(names, columns), "", f"classes: {table}", sep="\n")
        print(f"scores: {path}", flush=True)


def classes_csv(names: Sequence[str], columns: Mapping[str, Sequence[float]]) -> str:
    """One row a class, its name first; an absent score is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *columns])
    for name, *values in zip(names, *columns.values(), strict=True):
        writer.writerow([name, *("" if math.isnan(value) else f"{value:.6g}" for value in values)])
    return text.getvalue()


def classes_lines(names: Sequence[str], columns: Mapping[str, Sequence[float]]) -> list[str]:
    """The same for the eye: counts whole, scores to four places, a dash for what is absent.

    >>> classes_lines(["cat", "dog"], {"recall": [0.5, float("nan")], "count": [4.0, 0.0]})
    ['  class  recall  count', '  cat    0.5000      4', '  dog         -      0']
    """
    shown = {title: [_shown(title, value) for value in values] for title, values in columns.items()}
    first = max(map(len, ["class", *names]))
    widths = [max(map(len, [title, *values])) for title, values in shown.items()]
    rows = [("class", *shown), *zip(names, *shown.values(), strict=True)]
    return [
        f"  {name:<{first}}"
        + "".join(f"  {text:>{width}}" for text, width in zip(texts, widths, strict=True))
        for name, *texts in rows
    ]


def _shown(title: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if title == "count" else f"{value:.4f}"
