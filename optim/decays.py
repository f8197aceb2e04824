"""The seven decays by name: each maps the progress after warm-up to a fraction of the peak learning rate."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from errors import LoupeError, unknown

__all__ = ["SCHEDULES", "Decay", "ReduceOnPlateau", "create_decay", "schedule_options"]

Decay = Callable[[float, float], float]
"""(share of the steps after warm-up that is done, 0 to 1; epochs since the warm-up) -> fraction of the peak."""


def _require(valid: bool, option: str, value: object, rule: str) -> None:
    if not valid:
        raise LoupeError(f"lr_schedule: {option} must be {rule}, got {value}")


def constant() -> Decay:
    """The peak throughout."""
    return lambda share, epochs: 1.0


def cosine_annealing(*, final: float = 0.0) -> Decay:
    """Half a cosine from the peak to ``final`` of it (Loshchilov & Hutter 2017, equation 5, without restarts)."""
    _require(0 <= final <= 1, "final", final, "between 0 and 1 (a fraction of the peak)")
    return lambda share, epochs: final + (1 - final) * (1 + math.cos(math.pi * share)) / 2


def exponential(*, gamma: float = 0.95) -> Decay:
    """Times ``gamma`` after each epoch, constant within it (as torch's ExponentialLR stepped once per epoch)."""
    _require(0 < gamma <= 1, "gamma", gamma, "above 0 and at most 1")
    return lambda share, epochs: gamma ** _whole(epochs)


def step(*, every: float = 10, factor: float = 0.1) -> Decay:
    """Times ``factor`` after every ``every`` epochs, counted from the end of the warm-up."""
    _require(every > 0, "every", every, "above 0 (epochs)")
    _require(0 < factor <= 1, "factor", factor, "above 0 and at most 1")
    return lambda share, epochs: factor ** _whole(epochs / every)


def polynomial(*, power: float = 0.9, final: float = 0.0) -> Decay:
    """``final + (1 - final) (1 - share)^power`` (Chen et al. 2017, DeepLab, section 4.1: power 0.9)."""
    _require(power > 0, "power", power, "above 0")
    _require(0 <= final <= 1, "final", final, "between 0 and 1 (a fraction of the peak)")
    return lambda share, epochs: final + (1 - final) * (1 - share) ** power


def one_cycle(*, start_div: float = 25, final_div: float = 1e4) -> Decay:
    """From peak / ``start_div`` up to the peak in the first 30 %, then down to peak / ``final_div``, both cosines.

    Smith & Topin 2018, in the form of fastai. Both divisors are of the peak (torch's ``final_div_factor`` is
    of the starting rate); momentum is left alone.
    """
    _require(start_div >= 1, "start_div", start_div, "at least 1")
    _require(final_div >= 1, "final_div", final_div, "at least 1")
    rise = 0.3

    def decay(share: float, epochs: float) -> float:
        if share < rise:
            return _cosine(1 / start_div, 1.0, share / rise)
        return _cosine(1.0, 1 / final_div, (share - rise) / (1 - rise))

    return decay


class ReduceOnPlateau:
    """Times ``factor`` whenever the monitored figure has not improved for ``patience`` epochs (Keras's meaning).

    After the best epoch come ``patience`` epochs that are no better by more than ``min_delta`` (absolute):
    the cut falls at the end of the last of them, and the count starts anew. Torch would wait one epoch
    longer.
    """

    def __init__(self, *, factor: float = 0.5, patience: int = 5, min_delta: float = 0.0) -> None:
        _require(0 < factor < 1, "factor", factor, "between 0 and 1")
        _require(patience >= 1, "patience", patience, "at least 1 (epochs)")
        _require(min_delta >= 0, "min_delta", min_delta, "0 or above")
        self.cut_factor = factor
        self.patience = patience
        self.min_delta = min_delta
        self.best: float | None = None
        self.wait = 0
        self.cuts = 0

    def __call__(self, share: float, epochs: float) -> float:
        return float(self.cut_factor**self.cuts)

    def observe(self, score: float, *, mode: str) -> None:
        """Count one epoch's score; NaN is never an improvement."""
        gain = math.inf if self.best is None else (self.best - score if mode == "min" else score - self.best)
        if gain > self.min_delta and not math.isnan(score):
            self.best, self.wait = score, 0
            return
        self.wait += 1
        if self.wait >= self.patience:
            self.cuts, self.wait = self.cuts + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers (or None before the first score)."""
        return {"best": self.best, "wait": self.wait, "cuts": self.cuts}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """The memory of an earlier run; factor and patience stay this run's."""
        self.best = None if state_dict["best"] is None else float(state_dict["best"])
        self.wait = int(state_dict["wait"])
        self.cuts = int(state_dict["cuts"])


SCHEDULES: dict[str, Callable[..., Decay]] = {
    "constant": constant,
    "cosine_annealing": cosine_annealing,
    "exponential": exponential,
    "step": step,
    "polynomial": polynomial,
    "reduce_on_plateau": ReduceOnPlateau,
    "one_cycle": one_cycle,
}
"""Each type's options are the keyword arguments of its entry."""


def schedule_options(type: str) -> dict[str, float]:
    """The options of a schedule type with their defaults.

    >>> schedule_options("step")
    {'every': 10, 'factor': 0.1}
    """
    if type not in SCHEDULES:
        raise unknown("lr_schedule type", type, SCHEDULES)
    parameters = inspect.signature(SCHEDULES[type]).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def create_decay(type: str, **options: Any) -> Decay:
    """The decay of this name; an option that the type lacks raises LoupeError with those that it has."""
    valid = schedule_options(type)
    for option in options:
        if option not in valid:
            if not valid:
                raise LoupeError(f"lr_schedule: '{type}' has no options, got '{option}'")
            raise unknown(f"option of the lr_schedule '{type}':", option, valid)
    return SCHEDULES[type](**options)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _whole(count: float) -> int:
    """The whole part, where a quotient such as 0.3 / 0.1 must count as 3."""
    return math.floor(count + 1e-9)
