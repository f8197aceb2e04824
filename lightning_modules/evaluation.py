"""The loss and the scores of one stage over a whole data set."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torchmetrics import Metric

from metrics import MeanLoss, SampleCount

__all__ = ["Evaluation", "log_scores", "names_logged"]


class Evaluation(nn.Module):
    """What validation or test adds up, and the scores in the end.

    Args:
        scores: The task's metric; its ``compute`` gives scalars, and vectors named ``NAME_per_class``.
        terms: How many terms with means of their own the loss has.
    """

    def __init__(self, scores: Metric, terms: int) -> None:
        super().__init__()
        self.scores: Any = scores
        self.loss = MeanLoss(terms)
        self.samples = SampleCount()

    def add(self, values: Tensor, weights: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Count the samples of a batch and its loss; the scores are the task's to update."""
        self.loss.update(values, weights)
        self.samples.update(batch["index"], batch["valid"])

    def finish(self, trainer: Trainer, part: str) -> dict[str, Tensor]:
        """What the task's metric computes, ``loss``, and the ``index`` (N,) of what was scored, in the order of all
        that is of one picture; on the CPU, over all processes. Starts anew.

        Raises RuntimeError where a whole pass did not count each sample of the part exactly once.
        """
        self._check_count(trainer, part)
        values: dict[str, Tensor] = {"loss": self.loss.compute(), **self.scores.compute()}
        values["index"] = self.samples.compute()["scored"]
        _unsqueeze(values)
        for metric in (self.loss, self.scores, self.samples):
            metric.reset()
        return values

    def _check_count(self, trainer: Trainer, part: str) -> None:
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if trainer.sanity_checking or not _is_whole(trainer, part) or not hasattr(data, "to_evaluate"):
            return
        size, unread = data.to_evaluate(part)
        self.samples.leave_out(unread)
        wrong = self.samples.complaint(size)
        if wrong:
            raise RuntimeError(
                f"{part}: an evaluation must score each sample once, and it scored {wrong}. Its scores are wrong. A "
                f"sampler or loader of your own? It must keep docs/batch.md, and a datamodule with other samples "
                f"says in to_evaluate() which; otherwise this is a bug of Loupe"
            )


def _unsqueeze(values: dict[str, Tensor]) -> None:
    """Make rows and columns again of what torchmetrics (1.9) has made a scalar, because it has a single element."""
    for key in values:
        if key.endswith("_per_class") or key in ("index", "ious", "confidence", "has_box"):
            values[key] = values[key].view(-1)
    if "log_odds" in values:
        classes = len(values["count_per_class"])
        values["log_odds"] = values["log_odds"].view(-1, classes)
        several = values["label"].dtype == torch.bool
        values["label"] = values["label"].view(*((-1, classes) if several else (-1,)))


def _is_whole(trainer: Trainer, part: str) -> bool:
    """Whether no limit (limit_val_batches, fast_dev_run, overfit_batches, ...) cut the pass short."""
    loader: Any = trainer.val_dataloaders if part == "val" else trainer.test_dataloaders
    batches = trainer.num_val_batches if part == "val" else trainer.num_test_batches
    return len(batches) == 1 and batches[0] < float("inf") and batches[0] == len(loader)


def log_scores(module: Any, stage: str) -> dict[str, Tensor]:
    """Log the scores of a stage that is over; returns all that `Evaluation.finish` gives."""
    values = module.evaluations[stage].finish(module.trainer, stage)
    for name in (n for n in ("loss", *module.score_names) if n in values):
        module.log(f"{stage}/{name}", values[name], prog_bar=name == module.score_names[0])
    for score in module.class_score_names:
        for name, value in zip(module.class_names or [], values[f"{score}_per_class"].tolist(), strict=True):
            module.log(f"{stage}/{score}_per_class/{name}", value)
    return values


def names_logged(module: Any) -> list[str]:
    """Every key that a fit of this module logs once an epoch."""
    names = [f"val/{name}" for name in ("loss", *module.score_names)]
    classes = module.class_names or []
    return [
        "train/loss",
        *names,
        *(f"val/{score}_per_class/{name}" for score in module.class_score_names for name in classes),
    ]
