"""metrics.csv: one row an epoch, whatever other loggers there are."""

import csv
import io
import math
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from callbacks.run_directory import RunDirectory, write_atomically

__all__ = ["MetricsCSV"]

_FIRST = ("epoch", "step")


class MetricsCSV(Logger):
    """Writes every epoch's scores to ``RUN/metrics.csv``; a resumed run keeps the rows of the epochs before.

    Scores of single steps (names ending in ``_step``) go to TensorBoard only. An absent score is an empty field.
    """

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self.run = run
        self._rows: dict[int, dict[str, float]] | None = None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.parent.name

    @property
    def save_dir(self) -> str:
        """The folder of all runs: a ModelCheckpoint of the user's own then writes into this run's folder."""
        return str(self.run.parent.parent)

    @property
    def version(self) -> int:
        """The run's number, as in ``version_3``; -1 before it is claimed."""
        return self.run.number

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add scores to the row of their epoch and rewrite the file."""
        of_steps = [k for k in metrics if k.endswith("_step") and "_per_class/" not in k]
        scores = {k: v for k, v in metrics.items() if k != "epoch" and k not in of_steps and "/" in k}
        if "epoch" not in metrics or not scores:
            return
        epoch = int(metrics["epoch"])
        if self._rows is None:
            self._rows = self._read(before=epoch)
        row = self._rows.setdefault(epoch, {"epoch": epoch})
        row.update(scores)
        if step is not None:
            row["step"] = step
        names = sorted({name for r in self._rows.values() for name in r} - set(_FIRST))
        text = io.StringIO()
        writer = csv.DictWriter(text, [*_FIRST, *names], restval="", lineterminator="\n")
        writer.writeheader()
        for number in sorted(self._rows):
            writer.writerow({k: _field(v) for k, v in self._rows[number].items()})
        write_atomically(self.run.path / "metrics.csv", text.getvalue())

    def scores(self, epoch: int) -> dict[str, float]:
        """What is known of an epoch, counted from 0."""
        return dict((self._rows or {}).get(epoch, {}))

    @property
    def row(self) -> dict[str, float]:
        """The newest row, that of the epoch at hand where there is one."""
        return dict(self._rows[max(self._rows)]) if self._rows else {}

    def go_on(self, epoch: int, row: dict[str, float]) -> None:
        """Keep the rows of the epochs before ``epoch``, and of its own what was known of it."""
        self._rows = self._read(before=epoch)
        if row.get("epoch") == epoch:
            self._rows[epoch] = dict(row)

    def _read(self, before: int) -> dict[int, dict[str, float]]:
        path = self.run.path / "metrics.csv"
        if not path.exists():
            return {}
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        return {int(row["epoch"]): row for row in rows if row["epoch"] < before}


def _field(value: float) -> str:
    if float(value).is_integer():
        return str(int(value))
    return "" if math.isnan(value) else f"{value:.8g}"
