"""Time and memory on a device, and windows of steps within a running fit, other ways in between."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import Callback


def wait(device: torch.device) -> None:
    """Until the device has done all that it was asked."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def allocated(device: torch.device) -> int:
    """Bytes of tensors on the device; 0 where nobody counts them."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def highest(device: torch.device) -> int:
    """The most bytes since `begin_peak`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def begin_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


class Epoch(Callback):
    """Images a second of the last epoch, from the end of its first step to that of its last."""

    def __init__(self, batch: int) -> None:
        self.batch, self.began, self.images_per_s = batch, 0.0, 0.0

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch == trainer.max_epochs - 1:
            wait(pl_module.device)
            if not batch_idx:
                self.began = time.perf_counter()
            else:
                self.images_per_s = self.batch * batch_idx / (time.perf_counter() - self.began)


@dataclass
class Measured:
    """One way to train: seconds a step of each window, and bytes.

    Attributes:
        seconds: Of a step, one value a window.
        above: The most bytes that a window took above what lay there before it.
        resident: Bytes that it keeps between steps: weights, gradients, state of the optimizer.
        first_s: Seconds of the first step: building and compiling.
    """

    seconds: list[float] = field(default_factory=list)
    above: int = 0
    resident: int = 0
    first_s: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def peak_gib(self) -> float:
        return (self.above + self.resident) / 2**30


Step = Callable[[], Any]
Build = Callable[[], Step]

WARM_STEPS = 6


class Windows(Callback):
    """Times windows of steps of the fit that it is in, and between them windows of other ways, built here.

    The clock of the fit runs from one `on_train_batch_start` to that of some steps later, so that all of a step is in
    it; the device is waited for at the ends of a window alone. After the last round the fit ends.

    Args:
        others: By name, what builds a way and returns its step.
        device: That of the fit.
        rounds: Windows of each way.
        window_s: How long a window should be.
    """

    def __init__(
        self, others: Mapping[str, Build], *, device: torch.device, rounds: int, window_s: float
    ) -> None:
        self.device, self.rounds, self.window_s = device, rounds, window_s
        self.others, self.steps = dict(others), dict[str, Step]()
        self.found = {name: Measured() for name in ("loupe", *others)}
        self.failed: dict[str, str] = {}
        self.size = 0
        self.graphs = {"before": 0, "after": 0}
        self.nothing = 0
        self._seen = -1
        self._count = 0
        self._began = time.perf_counter()
        self._before = 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._seen += 1
        own = self.found["loupe"]
        if self._seen == 0:
            # weights and batches are there, gradients and the optimizer's state are not
            weights = [*pl_module.parameters(), *pl_module.buffers()]
            self.nothing = allocated(self.device) - sum(one.numel() * one.element_size() for one in weights)
            self._began = time.perf_counter()
        elif self._seen == 1:
            wait(self.device)
            own.first_s = time.perf_counter() - self._began
        elif self._seen == WARM_STEPS:
            wait(self.device)
            self._began = time.perf_counter()
        elif self._seen == 2 * WARM_STEPS:
            wait(self.device)
            taken = (time.perf_counter() - self._began) / WARM_STEPS
            self.size = max(3, min(400, round(self.window_s / taken)))
            own.resident = allocated(self.device) - self.nothing
            self._build()
            self.graphs["before"] = _graphs()
            self._open()
        elif self.size and self._seen == self._count:
            wait(self.device)
            own.seconds.append((time.perf_counter() - self._began) / self.size)
            own.above = max(own.above, highest(self.device) - self._before)
            self._others()
            if len(own.seconds) == self.rounds:
                self.graphs["after"] = _graphs()
                trainer.should_stop = True
            self._open()

    def _open(self) -> None:
        self._count = self._seen + self.size
        begin_peak(self.device)
        self._before = allocated(self.device)
        wait(self.device)
        self._began = time.perf_counter()

    def _build(self) -> None:
        for name, build in self.others.items():
            way, before, began = self.found[name], allocated(self.device), time.perf_counter()
            try:
                self.steps[name] = step = build()
                step()
                wait(self.device)
                way.first_s = time.perf_counter() - began
                for _ in range(WARM_STEPS):
                    step()
                wait(self.device)
                way.resident = allocated(self.device) - before
            except Exception as error:  # told among the results; the other ways go on
                self.failed[name] = f"{type(error).__name__}: {error}"
                self.steps.pop(name, None)
                del self.found[name]

    def _others(self) -> None:
        names = list(self.steps)
        shift = len(self.found["loupe"].seconds) % max(1, len(names))
        for name in names[shift:] + names[:shift]:
            way, step = self.found[name], self.steps[name]
            begin_peak(self.device)
            before = allocated(self.device)
            wait(self.device)
            began = time.perf_counter()
            for _ in range(self.size):
                step()
            wait(self.device)
            way.seconds.append((time.perf_counter() - began) / self.size)
            way.above = max(way.above, highest(self.device) - before)


def _graphs() -> int:
    """How many graphs were compiled in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def matmul_tflops(device: torch.device, *, size: int, rounds: int) -> float:
    """The ceiling: 10^12 operations a second of a bfloat16 product of two random ``size`` x ``size`` matrices."""
    a, b = (torch.randn(size, size, device=device).to(torch.bfloat16) for _ in range(2))
    for _ in range(3):
        torch.mm(a, b)
    found: list[float] = []
    for _ in range(rounds):
        wait(device)
        began = time.perf_counter()
        for _ in range(10):
            torch.mm(a, b)
        wait(device)
        found.append(2 * size**3 * 10 / (time.perf_counter() - began) / 1e12)
    return statistics.median(found)
