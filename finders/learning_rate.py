"""The learning rate by a range test (Smith 2017, section 3.3): one short run in which it rises step by step."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from lightning.pytorch.tuner.tuning import Tuner

from errors import LoupeError
from finders.trial import Trial

__all__ = ["find_learning_rate", "steepest"]

_LOWEST, _HIGHEST, _STEPS = 1e-7, 1.0, 120
#: Of Lightning's running mean of the loss (2.6, `_LRCallback`).
_BETA = 0.98
#: Steps of the bell by which losses are smoothed, a third of a decade of rates.
_WIDTH = 6.0
#: A fall of so many standard errors of the smoothed loss is none by chance.
_CLEAR = 4.0


def find_learning_rate(trial: Trial, *, batch_size: int, micro_batches: int) -> float:
    """The rate at which the loss falls fastest while it rises from 1e-7 to 1, to two digits.

    Args:
        trial: Objects of which no step was taken yet.
        batch_size: Images per optimizer step.
        micro_batches: Into which one device cuts a step.

    Raises:
        LoupeError: the loss falls at no rate.
    """
    keep_ratios(trial.module)
    trainer = trial.trainer(
        batch_size,
        micro_batches,
        # No validation: Lightning would score up to as many batches after each epoch as the test has steps.
        check_val_every_n_epoch=10**9,
        callbacks=list(trial.callbacks()),
    )
    with trainer as made:
        found = Tuner(made).lr_find(
            trial.module,
            datamodule=trial.data,
            min_lr=_LOWEST,
            max_lr=_HIGHEST,
            num_training=_STEPS,
            update_attr=False,
        )
    assert found is not None, "Lightning leaves the test out under fast_dev_run alone"
    rate = steepest(found.results["lr"], found.results["loss"])
    if rate is None:
        raise LoupeError(
            f"training.learning_rate: auto found none: from {_LOWEST:g} to {_HIGHEST:g} the loss fell at no rate by "
            f"more than its noise; give a number, such as 1e-3"
        )
    return float(f"{rate:.2g}")


def steepest(rates: Sequence[float], means: Sequence[float]) -> float | None:
    """The rate at which the loss falls fastest over the logarithm of the rate; None where it falls at none.

    Lightning's own suggestion (2.6) is the steepest over the rate itself, which is noise at the lowest ones:
    https://github.com/Lightning-AI/pytorch-lightning/issues/21141. Its running mean of the loss starts too low and
    lags behind by a decade or two, so the losses themselves are taken out of it, and smoothed around each step. A fall
    within the noise of the losses counts for nothing.

    Args:
        rates: Of each step, rising.
        means: What Lightning's range test gives as the loss after each step.

    >>> losses = [1.0] * 60 + [1 - 0.02 * n for n in range(1, 31)] + [0.4 + 0.5 * n for n in range(30)]
    >>> total, means = 0.0, []
    >>> for n, loss in enumerate(losses, start=1):
    ...     total = 0.98 * total + 0.02 * loss
    ...     means.append(total / (1 - 0.98 ** (n + 1)))
    >>> 1e-4 < steepest([10 ** (n / 20 - 7) for n in range(120)], means) < 3e-3
    True
    """
    sums = [mean * (1 - _BETA ** (n + 1)) for n, mean in enumerate(means, start=1)]
    losses = [(now - _BETA * then) / (1 - _BETA) for then, now in zip([0.0, *sums], sums, strict=False)]
    end = next((n for n, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    if end < 3:
        return None
    loss = torch.tensor(losses[:end], dtype=torch.float64)
    steps = torch.arange(end, dtype=torch.float64)
    near = torch.exp(-(((steps[:, None] - steps) / _WIDTH) ** 2) / 2)
    curve = near @ loss / near.sum(1)
    lowest = int(curve.argmin())
    flat = curve[: max(lowest, 1)]
    error = (loss - curve)[: lowest + 1].std() / math.sqrt(_WIDTH)
    if lowest < 2 or float(flat.max() - curve[lowest]) < _CLEAR * float(error):
        return None
    logs = torch.tensor([math.log(rate) for rate in rates[:end]], dtype=torch.float64)
    (slopes,) = torch.gradient(curve, spacing=(logs,))
    return float(rates[int(slopes[: lowest + 1].argmin())])


def keep_ratios(module: Any) -> None:
    """Have the optimizer take its steps at the ratios of rates that the recipe gives its groups.

    Lightning's range test sets the same rate for all, also for a backbone that shall learn more slowly.
    """
    make = module.configure_optimizers

    def configure_optimizers() -> Any:
        made = make()
        optimizer = cast(torch.optim.Optimizer, made["optimizer"])
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        ratios = [rate / max(rates) for rate in rates]

        def scale(by: Sequence[float]) -> None:
            for group, factor in zip(optimizer.param_groups, by, strict=True):
                group["lr"] = group["lr"] * factor

        kept: list[float] = []

        def before(*_: Any) -> None:
            kept[:] = [group["lr"] for group in optimizer.param_groups]
            scale(ratios)

        def after(*_: Any) -> None:
            for group, rate in zip(optimizer.param_groups, kept, strict=True):
                group["lr"] = rate

        if min(ratios) < 1:
            optimizer.register_step_pre_hook(before)
            optimizer.register_step_post_hook(after)
        return made

    module.configure_optimizers = configure_optimizers
