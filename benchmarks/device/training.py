"""Throughput: `fit` beside hand-written loops on the same batches, which lie on the device."""

from __future__ import annotations

import copy
import gc
import statistics
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.device import ways
from benchmarks.device.clock import Build, Measured, Windows
from benchmarks.device.kept import classes_of, data_words, keep_batches
from benchmarks.device.settings import Case, Settings
from benchmarks.timing import command


def throughput(settings: Settings, case: Case, *, ceiling_tflops: float) -> dict[str, Any]:
    """`fit` in bfloat16 with ``compile: true`` beside the loops of `ways_of`.

    Loupe always has channels-last, and compiles or not: ``no_compile`` and ``no_channels_last`` are the loop without
    them, in the same fit, since Loupe has the loop's speed or is told not to have it by ``loupe_to_loop_speed``.
    """
    batches = keep_batches(case, settings.device)
    others = ways.ways_of(case, classes_of(case), batches, settings.device)
    windows = measured_fit(settings, case, others, [*settings.precision, "--training.compile=true"])
    return {**told(case, windows), **utilisation(case, windows.found["loupe"], ceiling_tflops)}


def recipe(settings: Settings, case: Case) -> dict[str, Any]:
    """`fit` with MixUp and an average of the weights, as timm's recipe has them, beside that recipe in a loop."""
    batches = keep_batches(case, settings.device)
    others = ways.recipe_of(case, classes_of(case), batches, settings.device)
    words = [
        *settings.precision,
        "--training.compile=true",
        "--training.ema={enabled: true, decay: 0.9998}",
        "--data.augment.mixup=0.2",
    ]
    return told(case, measured_fit(settings, case, others, words))


def overhead(settings: Settings, case: Case, *, compiled: bool) -> dict[str, Any]:
    """`fit` at batches of 64 beside the loop: as it is by default, or in bfloat16 and compiled."""
    batches = keep_batches(case, settings.device)

    def build() -> ways.Step:
        kind = {"compiled": compiled, "mixed": compiled}
        return ways.loop(case, classes_of(case), batches, settings.device, **kind)

    words = [*settings.precision, "--training.compile=true"] if compiled else []
    found = told(case, measured_fit(settings, case, {"loop": build}, words))
    return found | {"share_of_loop": found["ratios"]["loupe_to_loop_time"]["median"] - 1}


def measured_fit(settings: Settings, case: Case, others: Mapping[str, Build], words: list[str]) -> Windows:
    """One fit, ended when each way has had its windows."""
    windows = Windows(others, device=settings.device, rounds=settings.rounds, window_s=settings.window_s)
    flags = [
        *case.words,
        *data_words(case),
        *settings.trainer,
        "--training.epochs=1",
        "--training.monitor=train/loss",
        "--trainer.limit_val_batches=0",
        *words,
    ]
    with settings.folder(f"fit_{case.name}"):
        try:
            command(["fit", *flags], windows)
        finally:
            windows.steps.clear()
            gc.collect()
            torch.compiler.reset()
            if settings.device.type == "cuda":
                torch.cuda.empty_cache()
    return windows


def told(case: Case, windows: Windows) -> dict[str, Any]:
    """Figures of each way, and `fit` for one of each of the others, pair by pair."""
    own = windows.found["loupe"]
    made: dict[str, Any] = {
        "settings": {"px": case.size, "batch": case.batch, "steps_a_window": windows.size},
        "graphs_made_between_windows": windows.graphs["after"] - windows.graphs["before"],
        "ways": {name: _figures(case, way) for name, way in windows.found.items()},
        "ratios": {},
    }
    for name, way in windows.found.items():
        if name != "loupe":
            pairs = [a / b for a, b in zip(own.seconds, way.seconds, strict=True)]
            made["ratios"][f"loupe_to_{name}_time"] = _spread(pairs)
            made["ratios"][f"loupe_to_{name}_speed"] = _spread([1 / pair for pair in pairs])
    if windows.failed:
        made["failed"] = windows.failed
    return made


def _figures(case: Case, way: Measured) -> dict[str, Any]:
    return {
        "images_per_s": round(case.batch / way.median, 1),
        "step_ms": round(1000 * way.median, 3),
        "windows_ms": [round(1000 * seconds, 3) for seconds in way.seconds],
        "peak_gib": round(way.peak_gib, 3),
        "first_step_s": round(way.first_s, 2),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def utilisation(case: Case, way: Measured, ceiling_tflops: float) -> dict[str, Any]:
    """Model FLOPs (convolutions and products, forward and backward) a second / the measured product's."""
    flops = step_flops(ways.network(case, classes_of(case), torch.device("cpu")), case)
    return {
        "tflop_a_step": round(flops / 1e12, 4),
        "tflops": round(flops / way.median / 1e12, 2),
        "mfu": round(flops / way.median / 1e12 / ceiling_tflops, 4),
    }


def step_flops(network: nn.Module, case: Case) -> float:
    """Of forward and backward of one step; a multiplication and an addition are two.

    Forward counted on the meta device, backward as twice that, as usual: by the picture and by the weights. torch's own
    count of the backward pass takes a depthwise convolution for a full one, ten times too many for MobileNetV3; until
    https://github.com/pytorch/pytorch/pull/183405 is in the oldest release that we take.
    """
    model = copy.deepcopy(network).to("meta").train()
    image = torch.empty(2, 3, case.size, case.size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return 3 * counter.get_total_flops() / 2 * case.batch
