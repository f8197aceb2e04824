"""How long one picture takes, here."""

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.workers import usable_cores
from export.program import Program
from export.runtimes import load_runtime, torch_threads

__all__ = ["measure_latency", "median_ms", "processor"]

_WARM_UP, _LEAST_RUNS, _MOST_RUNS, _BUDGET_S = 2, 3, 30, 2.0


def measure_latency(program: Program, format: str, path: Path, image: np.ndarray) -> dict[str, Any]:
    """Medians for one picture (1, C, H, W), from pixels to answers, in ms: one thread, and all that are allowed.

    Of the file in its runtime, and of the same program in PyTorch. ExecuTorch cannot be told its number of threads from
    Python, so its ``one_thread_ms`` is None.
    """
    threads = usable_cores()
    found: dict[str, Any] = {
        "picture_hw": list(image.shape[2:]),
        "processor": processor(),
        "threads": threads,
    }
    for name, count in (("one_thread_ms", 1), ("all_threads_ms", threads)):
        if format == "executorch" and name == "one_thread_ms":
            found[name] = None
        else:
            runtime = load_runtime(format, path, program.names, count)
            found[name] = median_ms(lambda runtime=runtime: runtime(image))
    tensor = torch.from_numpy(image)
    with torch_threads(1), torch.inference_mode():
        found["pytorch_one_thread_ms"] = median_ms(lambda: program(tensor))
    return found


def median_ms(call: Callable[[], Any]) -> float:
    """Median of up to 30 calls, as many as two seconds allow but at least 3, after two that do not count."""
    for _ in range(_WARM_UP):
        call()
    times: list[float] = []
    while len(times) < _LEAST_RUNS or (len(times) < _MOST_RUNS and sum(times) < _BUDGET_S):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return round(statistics.median(times) * 1000, 3)


def processor() -> str:
    """Its name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
