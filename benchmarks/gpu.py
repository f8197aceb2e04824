"""All that is measured on a GPU, correctness first, in under nine minutes; `make bench-gpu`.

    python benchmarks/gpu.py [--out benchmarks/results] [--seconds 540]
    python benchmarks/gpu.py --device cpu --tiny        the same parts in small on a CPU, to try the script

Writes OUT/gpu.json after each part, and the ratios as OUT/gpu_ratios.json for `benchmarks/compare.py`. Parts are in
order of importance; one that no longer fits is listed under ``left_out``, one that raised under ``failures``, and the
others go on. Exit code 1 where a check of correctness fails or a part raised.

1. Correctness (benchmarks/device/correctness.py), while other processes compile what comes next.
2. Throughput: `fit` through the command line, its batches on the device, beside hand-written loops and timm's recipe,
   in turn within one fit; peak memory; share of what a large matrix product reaches.
3. From JPEG files: images a second as a share of the former, and the cores that it would take.

On a machine without network: carry the wheels of what Loupe needs beyond torch, torchvision, lightning and timm, and
`pip install --no-index --no-deps --target FOLDER WHEELS/*.whl`, with FOLDER on PYTHONPATH. WHEELS_NEEDED below lists
them, and the script names those that are missing before it begins. Loupe itself needs no installation.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

#: Distributions that Loupe needs beyond torch, torchvision, lightning, timm and what those bring, by what is imported.
WHEELS_NEEDED = {
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "jsonargparse": "jsonargparse",
    "docstring_parser": "docstring-parser",
    "typeshed_client": "typeshed-client",
    "omegaconf": "omegaconf",
    "captum": "captum",
}


def given_words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument(
        "--work", type=Path, help="a folder to work in and leave; default: one that is removed"
    )
    parser.add_argument("--compile", help=argparse.SUPPRESS)  # CASE:JOB, for the processes that compile ahead
    return parser.parse_args()


def main() -> int:
    began, given = time.monotonic(), given_words()
    work = given.work or Path(tempfile.mkdtemp(prefix="loupe-gpu-"))
    given.out = given.out.absolute()  # parts work in folders of their own
    try:
        return measure(given, work.absolute(), began)
    finally:
        if given.work is None:
            shutil.rmtree(work, ignore_errors=True)


def measure(given: argparse.Namespace, work: Path, began: float) -> int:
    from benchmarks.device.settings import FULL, TINY, Settings, prepare

    missing = [wheel for name, wheel in WHEELS_NEEDED.items() if find_spec(name) is None]
    if missing:
        print(f"missing here: {', '.join(missing)}; see WHEELS_NEEDED in {__file__}", file=sys.stderr)
        return 2
    prepare(work)
    import torch

    if given.tiny:  # graphs are found as ever, and run as they are: the code generator needs minutes on a CPU
        torch.compiler.set_stance("default", force_backend="eager")

    device = torch.device(given.device)
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    settings = Settings(device, given.tiny, work, TINY if given.tiny else FULL)
    if given.compile:
        from benchmarks.device.warm import compile_one

        name, job = given.compile.split(":")
        case = next(case for case in settings.cases if case.name == name)
        print(json.dumps(compile_one(settings, case, job)))
        return 0

    from benchmarks.device.parts import Results, run_parts
    from benchmarks.device.warm import Warming
    from benchmarks.timing import keep, machine

    results = Results(given.out / "gpu.json", about={"machine": machine(), "settings": vars(given)})
    results.write()
    words = ["--device", given.device, *(["--tiny"] if given.tiny else [])]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    warming = Warming(settings, at_once=max(1, min(6, cores // 2)), words=words)
    try:
        run_parts(
            parts_of(settings, results, warming), results, seconds=given.seconds - (time.monotonic() - began)
        )
    finally:
        warming.stop()
    figures = ratios_of(results.found)
    if figures:
        keep("gpu_ratios", figures, about={"left_out": results.left_out}, folder=given.out)
    report(results)
    return int(bool(results.failures))


def parts_of(settings: Any, results: Any, warming: Any) -> list[Any]:
    """In order of importance, each with what it takes on an H200 by an estimate."""
    from benchmarks.device import correctness, training
    from benchmarks.device.clock import matmul_tflops
    from benchmarks.device.parts import Part
    from benchmarks.device.pipeline import pipeline
    from benchmarks.device.warm import counters

    cases = {case.name: case for case in settings.cases}
    first = cases["cls_mobilenetv3"]

    def judge(name: str, rows: dict[str, Any]) -> dict[str, Any]:
        wrong = {key: row for key, row in rows.items() if not row["right"]}
        if wrong:
            results.failures[f"{name}: wrong"] = "; ".join(f"{key}: {row}" for key, row in wrong.items())
        return rows

    def check(what: Callable[..., None]) -> dict[str, Any]:
        checks = correctness.Checks()
        warming.tend()
        what(settings, checks)
        warming.tend()
        return judge(what.__name__, checks.rows)

    def compiled_ahead() -> dict[str, Any]:
        found = warming.finish(25 if settings.tiny else 70)
        judge("compiled", warming.checks)
        return found

    def ceiling() -> float:
        return matmul_tflops(settings.device, size=256 if settings.tiny else 8192, rounds=5)

    def ceiling_tflops() -> float:
        known = [value for name, value in results.found.items() if name.startswith("matmul_tflops")]
        return max(known) if known else ceiling()

    def throughput(case: Any) -> Any:
        return training.throughput(settings, case, ceiling_tflops=ceiling_tflops())

    def from_files() -> Any:
        known = results.found[f"throughput {first.name}"]["ways"]["loupe"]["images_per_s"]
        return pipeline(settings, first, device_images_per_s=known)

    def add(
        name: str, kind: str, needs_s: float, run: Callable[..., Any], *args: Any, **options: Any
    ) -> None:
        parts.append(Part(name, kind, 0.0 if settings.tiny else needs_s, lambda: run(*args, **options)))

    parts: list[Any] = []
    for what in (correctness.counts, correctness.losses, correctness.networks, correctness.learning):
        add(f"correctness {what.__name__}", what.__name__, 5, check, what)
    add("correctness compiled", "warm", 1, compiled_ahead)
    add("matmul_tflops", "matmul", 2, ceiling)
    add(f"throughput {first.name}", "throughput", 30, throughput, first)
    small = replace(first, batch=64 if not settings.tiny else 4)
    for compiled in (False, True):
        name = f"overhead at batch 64, {'compiled bfloat16' if compiled else 'defaults'}"
        add(name, "overhead", 15, training.overhead, settings, small, compiled=compiled)
    others = [case for case in settings.cases if case is not first]
    for case in others[:2]:
        add(f"throughput {case.name}", "throughput", 30, throughput, case)
    add("from JPEG files", "pipeline", 60, from_files)
    add(f"recipe {first.name}", "recipe", 30, training.recipe, settings, first)
    for case in others[2:]:
        add(f"throughput {case.name}", "throughput", 30, throughput, case)
    for case in others:
        if case.kind == "classification":
            add(f"recipe {case.name}", "recipe", 30, training.recipe, settings, case)
    add("matmul_tflops at the end", "matmul", 2, ceiling)
    add("compiler's cache", "counters", 0, counters)
    return parts


def ratios_of(found: dict[str, Any]) -> dict[str, float]:
    """The figures that another day can be compared with; the larger one is the worse one, but for `_speed`."""
    made: dict[str, float] = {}
    for name, result in found.items():
        for ratio, spread in (result.get("ratios", {}) if isinstance(result, dict) else {}).items():
            if ratio.endswith("_speed"):
                made[f"{name} {ratio}"] = spread["median"]
    files = found.get("from JPEG files")
    return made | ({"from JPEG files, share_speed": files["best_share"]} if files else {})


def report(results: Any) -> None:
    """What somebody wants to see at once."""
    for name, result in results.found.items():
        if isinstance(result, dict) and "ways" in result:
            shown = ", ".join(f"{way} {one['images_per_s']:.0f}" for way, one in result["ways"].items())
            print(f"{name}: images/s: {shown}" + (f"; MFU {result['mfu']:.3f}" if "mfu" in result else ""))
    ratios = [
        s["median"]
        for n in results.found.values()
        if isinstance(n, dict)
        for k, s in n.get("ratios", {}).items()
        if k == "loupe_to_loop_speed"
    ]
    if ratios:
        print(f"fit to the loop: {statistics.median(ratios):.3f} (0.98 is wanted)")
    for kind, lines in (("left out", results.left_out), ("failed", results.failures)):
        for name, why in lines.items():
            print(f"{kind}: {name}: {why.splitlines()[0]}")
    print(f"results: {results.path}")


if __name__ == "__main__":
    sys.exit(main())
