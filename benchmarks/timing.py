"""What the benchmarks share: calls in turn, medians of ratios, and results as JSON beside those of another day."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


class KeptBatches:
    """A loader whose batches are made once: batch ``i`` of so many is the ``i``-th of a few that are kept."""

    def __init__(self, batches: list[Any], count: int) -> None:
        self.batches, self.count = batches, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.count):
            yield self.batches[number % len(self.batches)]


def command(words: Sequence[str], clock: Any) -> None:
    """`train.py WORDS` in this process, less what it prints, with one more callback.

    The callback comes first, so that what it times holds all others.
    """
    import cli.app

    build = cli.app.trainer_arguments

    def arguments(*args: Any, **kwargs: Any) -> dict[str, Any]:
        made = build(*args, **kwargs)
        return {**made, "callbacks": [clock, *made["callbacks"]]}

    printed = io.StringIO()
    cli.app.trainer_arguments = arguments
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = cli.main(list(words))
    finally:
        cli.app.trainer_arguments = build
    if code:
        raise SystemExit(printed.getvalue())


def arguments(doc: str | None, **defaults: int | str) -> tuple[argparse.Namespace, list[str]]:
    """What a benchmark was given of its own, and the other flags, which are for `train.py`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for NAME.json")
    return parser.parse_known_args()


def seconds() -> float:
    """A clock: the device's work is waited for; on a CPU the time of this process alone, whatever runs beside it."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """What was given, for the record, less the folder of the results."""
    return {name: value for name, value in vars(given).items() if name != "out"}


def in_turn(calls: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each call once a round, in another order each time, so that a machine that drifts is fair to all."""
    names, found = list(calls), {name: list[float]() for name in calls}
    for number in range(rounds):
        shift = number % len(names)
        order = names[shift:] + names[:shift]
        for name in order if number // len(names) % 2 == 0 else order[::-1]:
            found[name].append(calls[name]())
    return found


def ratios(found: Mapping[str, Sequence[float]], name: str, to: str) -> dict[str, float]:
    """Median, least and most of what ``name`` took for one of ``to``, pair by pair."""
    pairs = [a / b for a, b in zip(found[name], found[to], strict=True)]
    return {"median": statistics.median(pairs), "least": min(pairs), "most": max(pairs)}


def differences(found: Mapping[str, Sequence[float]], name: str, to: str) -> dict[str, float]:
    """The same of the differences."""
    pairs = [a - b for a, b in zip(found[name], found[to], strict=True)]
    return {"median": statistics.median(pairs), "least": min(pairs), "most": max(pairs)}


def machine() -> dict[str, Any]:
    """Where this was measured, and when."""
    import torch

    from export.latency import processor

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": date.today().isoformat(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def keep(
    name: str, figures: Mapping[str, float], *, about: Mapping[str, Any], folder: Path = RESULTS
) -> Path:
    """Write ``NAME.json``; `benchmarks/compare.py` reads them.

    Args:
        name: Of the benchmark.
        figures: Dimensionless ratios and differences in ms, by name; the larger one is the worse one, but for those
            whose name ends in ``_speed``.
        about: Settings, absolute figures, and whatever else helps to understand them.
        folder: Where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    content = {"figures": dict(figures), "machine": machine(), "about": dict(about)}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path
