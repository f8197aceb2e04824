"""One learning-rate schedule, stepped once per optimizer step: linear warm-up times a decay, in closed form.

The learning rate is a pure function of the step (and, for ``reduce_on_plateau``, of the cuts so far), so a
resumed run needs one number, and a run that is extended or started with another peak follows the new curve at
once.
"""

import math
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from errors import LoupeError
from optim.decays import Decay, ReduceOnPlateau, create_decay

__all__ = ["Schedule", "create_schedule"]


class Schedule(LRScheduler):
    """``lr = peak * warmup(step) * decay(step)`` for every parameter group, each with its own peak.

    - warm-up, linear: ``(step + 1) / warmup_steps``, never 0, then 1 (Goyal et al. 2017, section 2.2);
    - the decay runs over the steps left after the warm-up and is held at its start during it.

    Step it once per optimizer step (Lightning: ``interval: step``). ``state_dict`` holds the step and the
    plateau's memory, plain numbers only, and neither the total nor the peak: those come from the settings of
    the resumed run.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        decay: Decay,
        total_steps: int,
        steps_per_epoch: int,
        warmup_steps: int = 0,
        mode: str = "min",
    ) -> None:
        if total_steps < 1 or steps_per_epoch < 1:
            raise LoupeError(
                f"the schedule needs at least one step, got total_steps={total_steps}, "
                f"steps_per_epoch={steps_per_epoch}"
            )
        if warmup_steps < 0:
            raise LoupeError(f"warmup: epochs must not be negative, got {warmup_steps / steps_per_epoch:g}")
        if mode not in ("min", "max"):
            raise LoupeError(f"mode is 'min' or 'max', got '{mode}'")
        self.decay = decay
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.warmup_steps = warmup_steps
        self.mode = mode
        # A resumed optimizer carries the ``initial_lr`` of an earlier run; this run's peak is ``lr``.
        for group in optimizer.param_groups:
            group["initial_lr"] = float(group["lr"])
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """The fraction of the peak that optimizer step ``step`` (from 0) uses."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        elapsed = max(0, step - self.warmup_steps)
        left = max(1, self.total_steps - self.warmup_steps)
        return warmup * self.decay(min(1.0, elapsed / left), elapsed / self.steps_per_epoch)

    @property
    def warming_up(self) -> bool:
        """True until the warm-up's last optimizer step is done; early stopping waits for it."""
        return self.last_epoch < self.warmup_steps

    def observe(self, score: float) -> None:
        """Tell the monitored figure, once per validation epoch; only ``reduce_on_plateau`` listens.

        Scores seen during the warm-up are not counted.
        """
        if isinstance(self.decay, ReduceOnPlateau) and not self.warming_up:
            self.decay.observe(float(score), mode=self.mode)
            self._apply()

    # ``last_epoch`` is torch's name for the number of times that step() was called: optimizer steps here.
    def step(self, epoch: int | None = None) -> None:
        """Move on by one optimizer step; ``epoch`` is there for torch's signature and must stay None."""
        assert epoch is None
        # Torch's own step() would warn whenever loss scaling skips the very first optimizer step.
        self.last_epoch += 1
        self._apply()

    def get_lr(self) -> list[float | torch.Tensor]:
        """The learning rate of each parameter group at the present step."""
        factor = self.factor(self.last_epoch)
        return [base * factor for base in self.base_lrs]

    def _apply(self) -> None:
        rates = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], torch.Tensor):  # capturable optimizers keep it on the device
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = rates

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers: the step, and what the plateau remembers."""
        memory = self.decay.state_dict() if isinstance(self.decay, ReduceOnPlateau) else {}
        return {"step": self.last_epoch, **memory}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved step on this schedule's own curve; a change of type starts without a memory."""
        self.last_epoch = int(state_dict["step"])
        if isinstance(self.decay, ReduceOnPlateau) and "cuts" in state_dict:
            self.decay.load_state_dict(state_dict)
        self._apply()


def create_schedule(
    optimizer: Optimizer,
    *,
    type: str,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    mode: str = "min",
    **options: Any,
) -> Schedule:
    """The schedule of this name over ``total_steps`` optimizer steps, after a warm-up of ``warmup_epochs``.

    ``options`` are those of the type in ``SCHEDULES``; others raise LoupeError, as does an unknown type. A
    warm-up that is a part of a step long is rounded up.

    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    >>> schedule = create_schedule(optimizer, type="polynomial", total_steps=4, steps_per_epoch=2, power=1)
    >>> optimizer.step(); schedule.step(); schedule.get_last_lr()
    [1.5]
    """
    return Schedule(
        optimizer,
        decay=create_decay(type, **options),
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        warmup_steps=math.ceil(warmup_epochs * steps_per_epoch - 1e-9),
        mode=mode,
    )
