"""What a loss accepts: shapes, dtypes and ranges of its three inputs. Nothing is ever broadcast."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from errors import LoupeError

__all__ = ["Bound", "Kind", "RangeCheck", "bounds", "kind_of", "weight_bound"]

Kind = Literal["multiclass", "binary", "multilabel"]

# Rounding of MixUp's arithmetic and of 16-bit targets, well below any mistake worth telling.
_TOLERANCE = 1e-4
_SUM_TOLERANCE = 1e-2


def kind_of(
    logits: Tensor,
    target: Tensor,
    sample_weight: Tensor | None,
    *,
    loss: str,
    multilabel: bool,
    probabilities: bool,
) -> Kind:
    """The kind of problem that the shapes describe, or the error that says what does not fit.

    ``multiclass``: logits (N, C, *) with C >= 2, target (N, *) integers; ``binary``: logits (N, 1, *), target
    (N, *); ``multilabel``: target in the shape of the logits. ``probabilities``: the loss takes floating
    point targets, (N, C, *) for multiclass, (N, *) or (N, 1, *) for binary.
    """
    for what, value in (("logits", logits), ("target", target), ("sample_weight", sample_weight)):
        if not isinstance(value, Tensor) and not (value is None and what == "sample_weight"):
            raise LoupeError(f"{loss}: {what} must be a tensor; got {type(value).__name__}")

    def got() -> str:
        return f"logits {tuple(logits.shape)} {_name(logits)}, target {tuple(target.shape)} {_name(target)}"

    if not logits.is_floating_point():
        raise LoupeError(f"{loss}: logits must be floating point; got {got()}")
    if target.is_complex():
        raise LoupeError(f"{loss}: target must be integers; got {got()}")
    if logits.ndim < 2 or logits.shape[1] < 1:
        raise LoupeError(f"{loss}: logits must be (N, C) or (N, C, *), C channels; got {got()}")
    if target.device != logits.device:
        raise LoupeError(f"{loss}: logits are on {logits.device}, the target on {target.device}")
    _check_sample_weight(loss, logits, sample_weight)

    channels = logits.shape[1]
    positions = (logits.shape[0], *logits.shape[2:])
    soft = target.is_floating_point()
    if multilabel:
        if target.shape != logits.shape:
            raise LoupeError(f"{loss}: a multi-label target has the shape of the logits; got {got()}")
        return "multilabel"
    if channels == 1:
        _check_binary(loss, got, tuple(target.shape), positions, soft, probabilities)
        return "binary"
    if soft and not probabilities:
        raise LoupeError(f"{loss} takes class numbers (N, *), not class probabilities; got {got()}")
    if soft and target.shape != logits.shape:
        raise LoupeError(
            f"{loss}: target must be integers {positions} or probabilities {tuple(logits.shape)}; got {got()}"
        )
    if not soft and tuple(target.shape) != positions:
        hint = "; several labels at once need multilabel=True" if target.shape == logits.shape else ""
        raise LoupeError(f"{loss}: target must have shape {positions}; got {got()}{hint}")
    if target.dtype == torch.bool:
        raise LoupeError(f"{loss}: {channels} channels need class numbers, not booleans; got {got()}")
    return "multiclass"


def _check_binary(
    loss: str,
    got: Callable[[], str],
    shape: tuple[int, ...],
    positions: tuple[int, ...],
    soft: bool,
    probabilities: bool,
) -> None:
    if soft and not probabilities:
        raise LoupeError(f"{loss} takes integers 0 and 1, not probabilities; got {got()}")
    with_channel = (positions[0], 1, *positions[1:])
    if shape == positions or (soft and shape == with_channel):
        return
    hint = "; use target.squeeze(1)" if shape == with_channel else ""
    raise LoupeError(f"{loss}: with one channel the target must have shape {positions}; got {got()}{hint}")


def _check_sample_weight(loss: str, logits: Tensor, weight: Tensor | None) -> None:
    if weight is None:
        return
    if tuple(weight.shape) != (logits.shape[0],) or weight.is_complex():
        raise LoupeError(
            f"{loss}: sample_weight must hold one number a sample, ({logits.shape[0]},); "
            f"got {tuple(weight.shape)} {_name(weight)}"
        )
    if weight.device != logits.device:
        raise LoupeError(f"{loss}: logits are on {logits.device}, sample_weight on {weight.device}")


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Bound:
    """Two scalars on the device, what they must lie between, and the error if they do not."""

    lowest: Tensor
    highest: Tensor
    low: float
    high: float
    message: str  # {found} stands for the value


def bounds(
    target: Tensor,
    counted: Tensor | None,
    loss: str,
    kind: Kind,
    channels: int,
    soft: bool,
) -> list[Bound]:
    """What has to hold of the values. ``target``: 0 where not counted, (N, C, P) for class probabilities."""
    found: list[Bound] = []
    if target.numel() and target.dtype != torch.bool:
        lowest, highest = target.aminmax()
        if target.is_floating_point() and soft:
            text = f"{loss}: target holds {{found}}; valid: probabilities from 0 to 1"
            found.append(Bound(lowest, highest, -_TOLERANCE, 1 + _TOLERANCE, text))
            if kind == "multiclass":
                sums = target.sum(1)
                lowest, highest = (sums if counted is None else sums.masked_fill(~counted, 1)).aminmax()
                text = f"{loss}: class probabilities add up to {{found}} over the channels; valid: 1"
                found.append(Bound(lowest, highest, 1 - _SUM_TOLERANCE, 1 + _SUM_TOLERANCE, text))
        elif kind == "multiclass":
            text = (
                f"{loss}: target holds {{found}}, but {channels} channels mean classes 0 to {channels - 1} "
                "(pixels to leave out need ignore_index)"
            )
            found.append(Bound(lowest, highest, 0, channels - 1, text))
        else:
            why = "one channel of logits means" if kind == "binary" else "multi-label means"
            more = ", more classes need one channel each" if kind == "binary" else ""
            text = f"{loss}: target holds {{found}}, but {why} 0 and 1{more} (to leave out: ignore_index)"
            found.append(Bound(lowest, highest, 0, 1, text))
            if target.is_floating_point():
                fraction = torch.minimum(target.abs(), (1 - target).abs()).amax()
                text = f"{loss} takes labels 0 and 1, not probabilities: the target holds values in between"
                found.append(Bound(fraction, fraction, 0, 0, text))
    return found


def weight_bound(sample_weight: Tensor, *, loss: str) -> Bound:
    """What has to hold of the weights of samples, of which there is at least one."""
    lowest, highest = sample_weight.aminmax()
    text = f"{loss}: sample_weight holds {{found}}; valid: finite numbers of at least 0"
    return Bound(lowest, highest, 0, torch.finfo(torch.float64).max, text)


class RangeCheck:
    """Looks at the bounds without making the program wait for a GPU.

    On CPU every call is checked. Elsewhere the first call is checked (one synchronisation). On CUDA the
    figures of later calls travel to the host in the background, and the error comes with the first later call
    that finds them arrived, as a rule the next; until then a position of an unknown class has no class, so that
    no kernel can fail. Other devices are checked on the first call only, and nothing is looked at while compiling or
    capturing a graph.
    """

    def __init__(self) -> None:
        self._started = False
        self._on_the_way: deque[tuple[Any, Tensor, list[tuple[float, float, str]]]] = deque()

    def __call__(self, found: list[Bound]) -> None:
        if torch.compiler.is_compiling() or not found:
            return
        values = [value.detach() for bound in found for value in (bound.lowest, bound.highest)]
        limits = [(bound.low, bound.high, bound.message) for bound in found]
        device = values[0].device
        if device.type == "cpu":
            _judge([float(value) for value in values], limits)
            return
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return
        stacked = torch.stack(
            [value.to(torch.float32 if device.type == "mps" else torch.float64) for value in values]
        )
        if not self._started:
            self._started = True
            _judge(stacked.tolist(), limits)
        elif device.type == "cuda":
            self._judge_arrived()
            copy = stacked.to("cpu", non_blocking=True)
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(device))
            self._on_the_way.append((event, copy, limits))

    def _judge_arrived(self) -> None:
        while self._on_the_way and self._on_the_way[0][0].query():
            _, values, limits = self._on_the_way.popleft()
            _judge(values.tolist(), limits, " (in an earlier batch)")

    def __reduce__(self) -> tuple[type["RangeCheck"], tuple[()]]:
        return RangeCheck, ()  # copies and pickles start anew: events belong to this process


def _judge(values: list[float], limits: list[tuple[float, float, str]], when: str = "") -> None:
    for (lowest, highest), (low, high, message) in zip(
        zip(values[::2], values[1::2], strict=True), limits, strict=True
    ):
        if not (lowest >= low and highest <= high):  # written so that NaN fails
            worst = highest if highest > high or math.isnan(highest) else lowest
            raise LoupeError(message.format(found=f"{worst:g}") + when)
