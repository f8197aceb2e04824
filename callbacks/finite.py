"""A loss or a gradient that is no number: the run stops, or the step is left out, and the pictures are named."""

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from errors import LoupeError

__all__ = ["FiniteSteps"]

log = logging.getLogger(__name__)

#: So many steps in a row are left out before the run stops after all.
_MOST = 10
#: So many pictures of a step are named.
_NAMED = 8
#: The gradient's norm is worked out every so many steps; that it is finite, in each.
_NORM_EVERY = 10


@dataclass(frozen=True)
class _Step:
    """A step that was taken, or is about to be: its number from 1; ``index`` and ``valid`` of each of its batches.

    ``broken``: true, or a scalar other than 0, where the gradient is not finite. ``norm``: of the gradient; None: it
    was not worked out.
    """

    number: int
    loss: Tensor
    broken: Tensor | bool
    norm: Tensor | None
    seen: list[tuple[Tensor, Tensor]]


class FiniteSteps(Callback):
    """Looks at the loss and the gradient of each optimizer step; nothing is saved before it was found finite.

    ``stop``: raises LoupeError. The look is taken when the next batch comes, on a GPU one batch later still, when
    nobody has to wait for the answer, and in any case before a validation and before a checkpoint. The weights in
    memory have taken the step, those on disk have not.

    ``skip``: leaves the step out as if its pictures had not come, with the running statistics of norms and the sums of
    the epoch as they were before, and says so; after ten in a row it stops. The look is taken before each step, which
    a GPU has to be waited for.

    Under float16 with loss scaling an overflow of the gradient is the scaler's business, so the loss alone counts.

    The L2 norm of the gradient, before clipping, is logged as ``train/gradient_norm``: the mean over the epoch's first
    step and every tenth of the run, or more where curves of single steps are logged. A norm takes three times as long
    as to see that a gradient is finite.

    Args:
        action: ``stop`` or ``skip``.
        learning_rate: Of the recipe, for the advice.
        points_every: Steps whose number, from 1, this divides need a norm, for their own point of a curve; 0: none.
    """

    def __init__(
        self, action: Literal["stop", "skip"], *, learning_rate: float, points_every: int = 0
    ) -> None:
        self.action = action
        self.learning_rate = learning_rate
        self._norm_every = math.gcd(points_every, _NORM_EVERY)
        self.skipped = 0
        self._in_a_row = 0
        self._losses: list[Tensor] = []
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._pending: deque[_Step] = deque()
        #: The L2 norm of the gradient, before clipping, of the last step that has one.
        self.norm = torch.zeros(())
        self._opens_epoch = False
        #: Sum of the norms of this epoch's gradients that were finite, and their number; of steps that were looked at.
        self._norms: tuple[float, int] = (0.0, 0)
        self._undo: list[Callable[[], Any]] = []
        self._parameters: list[Tensor] = []
        self._broken = _Broken()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the parameters once: walking through a network takes as long as the norm of its gradient."""
        self._parameters = list(pl_module.parameters())

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at the steps before, and remember what the step at hand is made of."""
        self._look(trainer, all_but=0 if pl_module.device.type == "cpu" else 1)
        self._opens_epoch = batch_idx < trainer.accumulate_grad_batches
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._losses, self._seen = [], []
            if self.action == "skip":
                self._undo = [partial(tensor.copy_, tensor.clone()) for tensor in pl_module.buffers()]
                means: Any = pl_module.epoch_means
                self._undo += [partial(mean.restore, mean.sums) for mean in means.values()]
        self._seen.append((batch["index"], batch["valid"]))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Remember the loss of a micro-batch."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Find out, without waiting for the answer unless the step may have to be left out."""
        if not self._losses:
            return  # a pass in which nothing is learned, as StochasticWeightAveraging makes one for batch norm
        loss = self._losses[0] if len(self._losses) == 1 else torch.stack(self._losses).sum()
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        number, norm, broken = trainer.global_step + 1, None, False
        if gradients and (self._opens_epoch or number % self._norm_every == 0):
            norm = self.norm = torch.nn.utils.get_total_norm(gradients)
        # with loss scaling the scaler sees to it
        if gradients and getattr(trainer.precision_plugin, "scaler", None) is None:
            broken = self._broken(gradients)
        self._pending.append(_Step(number, loss, broken, norm, self._seen))
        if self.action == "skip":
            self._skip(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a mean of the gradient's norm."""
        self._norms = (0.0, 0)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before what could be saved."""
        self._look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before the epoch is saved."""
        self._look(trainer)
        total, count = self._norms
        if count:
            pl_module.log("train/gradient_norm", total / count)
        if self.action == "skip":
            pl_module.log("train/nonfinite_steps", float(self.skipped))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look before anything is written, whoever saves."""
        self._look(trainer)

    def state_dict(self) -> dict[str, Any]:
        """How many steps were left out; sum and number of the norms of the epoch at hand."""
        norms = self._norms
        for step in self._pending:  # Lightning asks before it says that it saves
            norms = _added(norms, step.norm)
        return {"skipped": self.skipped, "norms": list(norms)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = int(state_dict["skipped"])
        total, count = state_dict["norms"]
        self._norms = (float(total), int(count))

    def _look(self, trainer: Trainer, *, all_but: int = 0) -> None:
        while len(self._pending) > all_but:
            told = self._told(trainer, self._pending.popleft())
            if told:
                raise LoupeError(told)

    def _skip(self, trainer: Trainer, pl_module: LightningModule) -> None:
        told = self._told(trainer, self._pending.pop())
        if not told:
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row > _MOST:
            raise LoupeError(f"{told} It is the {self._in_a_row}th such step in a row")
        log.warning("step left out: %s", told)
        for parameter in pl_module.parameters():
            parameter.grad = None  # an optimizer leaves such a parameter alone, its moments and decay too
        for undo in self._undo:
            undo()

    def _told(self, trainer: Trainer, step: _Step) -> str:
        """What was wrong with a step, "" where nothing was; the same on every process. Counts its norm."""
        loss, is_broken = float(step.loss), bool(step.broken)
        self._norms = _added(self._norms, step.norm)
        if math.isfinite(loss) and not is_broken:
            return ""
        what = "the gradient is not finite" if math.isfinite(loss) else f"the loss is {loss}"
        names = _names(trainer, step.seen)
        advice = [f"a smaller training.learning_rate (it is {self.learning_rate:g})"]
        if trainer.gradient_clip_val is None:
            advice.append("training.gradient_clip=1")
        if "mixed" in str(trainer.precision):
            advice.append("training.mixed_precision=false")
        if self.action == "stop":
            advice.append("training.on_nonfinite=skip")
        return (
            f"{what} in step {step.number} (epoch {trainer.current_epoch + 1}), made of {names}. Nothing of it is "
            f"saved. Look at these pictures (python train.py check), or try {', '.join(advice)}."
        )


def _added(norms: tuple[float, int], norm: Tensor | None) -> tuple[float, int]:
    if norm is None or not math.isfinite(value := float(norm)):
        return norms
    return norms[0] + value, norms[1] + 1


class _Broken:
    """Whether a number in gradients is infinite or NaN: a bool, or off the CPU a scalar that nobody waits for."""

    def __init__(self) -> None:
        self._zero, self._one = torch.zeros(()), torch.ones(())

    def __call__(self, gradients: list[Tensor]) -> Tensor | bool:
        device = gradients[0].device
        if device != self._zero.device:
            self._zero, self._one = self._zero.to(device), self._one.to(device)
        # What GradScaler asks; it also multiplies, here by 1. All at once, where a norm comes tensor by tensor.
        found = self._zero if device.type == "cpu" else self._zero.clone()
        try:
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, found, self._one)  # pyright: ignore
        except RuntimeError:  # complex or sparse gradients, those that share memory, devices without it
            self._zero = torch.zeros_like(self._zero)  # it may have looked at some
            values = [g.coalesce().values() if g.is_sparse else g for g in gradients]
            found = torch.stack([(~value.isfinite()).any() for value in values]).any()
        if device.type != "cpu":
            return found
        is_broken = found.item() != 0
        if is_broken:
            self._zero = torch.zeros(())
        return is_broken


def _names(trainer: Trainer, seen: list[tuple[Tensor, Tensor]]) -> str:
    """The pictures of a step, those of all processes."""
    found: list[int] = [i for index, valid in seen for i in index[valid].tolist()]
    if trainer.world_size > 1:
        gathered: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(gathered, found)
        found = [i for part in gathered for i in part]
    paths = trainer.datamodule.train_paths  # pyright: ignore[reportAttributeAccessIssue]
    named = ", ".join(str(paths[i]) for i in found[:_NAMED])
    return f"{named} and {len(found) - _NAMED} more" if len(found) > _NAMED else named
