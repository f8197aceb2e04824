"""A network by torch.compile, for the shapes that come again and again; all others are answered by the plain one."""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["compile_network"]

SHAPES = 2
"""Shapes that are compiled for training, and as many for each kind of evaluation."""


def compile_network(network: nn.Module) -> None:
    """Compile what ``network(image)`` does, in place: parameters, buffers and their names stay as they are.

    The first shape of a batch is compiled, and another one when it comes twice in a row, up to ``SHAPES`` for training
    and for each kind of evaluation. The last, smaller batch of an epoch and pictures that change their size are
    therefore answered by the plain network. torch.compile alone (2.15) would compile up to eight times, at half a
    minute each for a small network on a CPU, and then give up; and after the first short batch it would answer the
    whole ones, too, by the program for any size that it made for that one.
    """
    plain: Any = network._call_impl  # pyright: ignore[reportPrivateUsage]
    calls = _Calls(network, plain, torch.compile(plain, dynamic=False))
    network._compiled_call_impl = calls  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]


class _Calls:
    """What torch calls in place of a module's own call."""

    def __init__(self, network: nn.Module, plain: Any, compiled: Any) -> None:
        self.network, self.plain, self.compiled = network, plain, compiled
        self.known: dict[Any, list[Any]] = {}
        self.last: dict[Any, Any] = {}

    def __call__(self, image: Tensor) -> Any:
        if image.device.type == "meta":  # asked for shapes alone
            return self.plain(image)
        modes = self.network.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        mode, kind = (image.device, *modes), (image.shape, image.dtype)
        known = self.known.setdefault(mode, [])
        if kind not in known and (not known or (self.last.get(mode) == kind and len(known) < SHAPES)):
            known.append(kind)
        self.last[mode] = kind
        return (self.compiled if kind in known else self.plain)(image)
