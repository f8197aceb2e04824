"""The loss that training descends, and what is logged of it, where an optimizer step may come in micro-batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from losses import Step
from optim import penalty

__all__ = ["TrainingLoss"]


@dataclass
class _Open:
    """An optimizer step some of whose micro-batches have been seen.

    values: (T,), what their parts add up to. weights: (T,), the samples here that each term of the loss is a mean of.
    """

    step: Step
    left: int
    values: Tensor | float = 0.0
    weights: Tensor | float = 0.0


class TrainingLoss:
    """The training loss of a module and its regularizer: one value for each optimizer step, in gradient and log.

    Lightning divides the loss of each of k micro-batches by k, which gives a mean of means. Here the first micro-batch
    of a step brings the targets of the others (``ahead``, see docs/batch.md), each is told to be its part of the step's
    loss (``losses.Step``), and is returned k times as large.
    """

    def __init__(self) -> None:
        #: The loss of the last optimizer step, without the regularizer.
        self.latest: Tensor | float = 0.0
        self._open: _Open | None = None
        self._is_logged = self._tells_bar = False

    def begin_epoch(self) -> None:
        """Drop what is known of a step that was left in the middle; what is logged is to be logged anew."""
        self.forget()
        self._is_logged = False

    def forget(self) -> None:
        """Drop what is known of a step that was left in the middle."""
        self._open = None

    def __call__(self, module: Any, outputs: Tensor, batch: dict[str, Any]) -> Tensor:
        """What is to be descended for this micro-batch, a scalar; logs where it is the last of its step.

        Takes ``ahead`` out of the batch: nobody reads it after this, and Lightning, which tells the size of a batch by
        all tensors in it, would find several.
        """
        trainer = module.trainer
        ahead = batch.pop("ahead", None)
        if ahead is not None:
            # trainer.limit_train_batches may end an epoch, and with it a step, early
            still = trainer.num_training_batches - trainer.fit_loop.epoch_loop.batch_progress.current.ready
            ahead = ahead[:still]
            self._open = _Open(module.loss_step(outputs, [batch, *ahead]), 1 + len(ahead))
        current = self._open
        if current is None:
            # a step is one batch, or something else than the loader makes Lightning accumulate
            values, weights = module.loss_terms(outputs, batch)
            loss = values.sum() if values.ndim else values
            extra = self._log(module, values, weights, loss)
            return loss if extra is None else loss + extra
        values, weights = module.loss_terms(outputs, batch, current.step)
        current.values = current.values + values.detach()
        current.weights = current.weights + weights
        current.left -= 1
        loss = values.sum()
        if not current.left:
            so_far = torch.as_tensor(current.values).sum()
            extra = self._log(module, current.values, current.weights, so_far)
            loss = loss if extra is None else loss + extra
            self.forget()
        return loss * trainer.accumulate_grad_batches

    def _log(self, module: Any, values: Any, weights: Any, loss: Tensor) -> Tensor | None:
        """Log the terms of a step's loss, (T,) each, and their sum; returns the regularizer's penalty, if any."""
        self.latest = loss.detach()
        module.train_loss.update(values, weights)
        options, extra = module.recipe["regularizer"], None
        if options["enabled"]:
            extra = penalty(module.network, l1=options["l1"], l2=options["l2"])
            module.train_regularizer.update(extra)
        if not self._is_logged:
            # once an epoch: Lightning asks the metrics at its end, and each call takes half a millisecond
            self._is_logged = True
            bar = module.trainer.progress_bar_callback
            self._tells_bar = bar is not None and not getattr(bar, "reads_the_loss", False)
            for name, mean in module.epoch_means.items():
                module.log(name, mean, on_step=False, on_epoch=True)
        if self._tells_bar:
            module.log("loss", self.latest, prog_bar=True, logger=False)
        return extra
