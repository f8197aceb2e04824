"""Compiling ahead, in processes of their own beside the checks: what is measured later finds it in the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.device import ways
from benchmarks.device.clock import wait
from benchmarks.device.correctness import compiled_training
from benchmarks.device.kept import classes_of, make_batches
from benchmarks.device.settings import ROOT, Case, Settings

SEGMENTS = ("smp",)


def jobs_of(case: Case) -> list[str]:
    """What is compiled of a case, the most important first; `fit` compiles what the loop does."""
    if case.kind == "classification":
        return ["loop", "timm", "no_channels_last", "floats"]
    return ["loop", *(SEGMENTS if case.name == "seg_resnet50_unet" else ()), "no_channels_last"]


def compile_one(settings: Settings, case: Case, job: str) -> dict[str, Any]:
    """The seconds of a first step of this way in this process; for the loop also whether it computes what is right."""
    if job == "loop":
        return compiled_training(case, settings.device)
    classes, device = classes_of(case), settings.device
    batches = make_batches(case, device, floats=job == "floats")
    match job:
        case "floats":
            step = ways.loop(case, classes, batches, device)
        case "no_channels_last":
            step = ways.loop(case, classes, batches, device, channels_last=False)
        case "timm":
            step = ways.timm_loop(case, classes, batches, device)
        case "smp":
            step = ways.smp_loop(case, classes, batches, device)
        case other:
            raise AssertionError(other)
    began = time.perf_counter()
    step()
    wait(device)
    return {"seconds": round(time.perf_counter() - began, 2)}


@dataclass
class _Running:
    name: str
    process: subprocess.Popen[str]
    output: Path


class Warming:
    """Processes that compile, some at a time.

    Args:
        settings: Those of the script.
        at_once: Processes.
        words: What the script was given for the device and the size.
    """

    def __init__(self, settings: Settings, *, at_once: int, words: list[str]) -> None:
        self.settings, self.at_once, self.words = settings, at_once, words
        jobs = [(case, jobs_of(case)[: 1 if settings.tiny else None]) for case in settings.cases]
        depth = max(len(names) for _, names in jobs)
        #: Of all cases the most important first.
        self.waiting = [(case.name, names[n]) for n in range(depth) for case, names in jobs if n < len(names)]
        self.running: list[_Running] = []
        #: What `compile_one` gave, by CASE:JOB.
        self.found: dict[str, dict[str, Any]] = {}
        self.began = time.perf_counter()

    def tend(self) -> None:
        """Take up what has ended, and begin what waits."""
        for one in [one for one in self.running if one.process.poll() is not None]:
            self.running.remove(one)
            text = one.output.read_text(errors="replace").strip()
            last = text.splitlines()[-1] if text else ""
            self.found[one.name] = (
                json.loads(last) if one.process.returncode == 0 else {"failed": text[-500:]}
            )
        while self.waiting and len(self.running) < self.at_once:
            case, job = self.waiting.pop(0)
            self.running.append(self._begin(case, job))

    def finish(self, within_s: float) -> dict[str, Any]:
        """Wait for all, but no longer than that; what is not done by then is compiled where it is used.

        What another process should have compared, and did not, is compared here.
        """
        end = time.perf_counter() + within_s
        self.tend()
        while self.running and time.perf_counter() < end:
            time.sleep(0.2)
            self.tend()
        self.stop()
        for case in self.settings.cases:
            if "checks" not in self.found.get(f"{case.name}:loop", {}):
                self.found[f"{case.name}:loop, here"] = compiled_training(case, self.settings.device)
                torch.compiler.reset()
        return {"of": self.found, "seconds": round(time.perf_counter() - self.began, 1)}

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        """All that was compared."""
        return {name: row for one in self.found.values() for name, row in one.get("checks", {}).items()}

    def stop(self) -> None:
        """End what still runs."""
        for name, job in self.waiting:
            self.found[f"{name}:{job}"] = {"failed": "not begun"}
        self.waiting.clear()
        for one in self.running:
            one.process.terminate()
            one.process.wait()
            self.found[one.name] = {"failed": "not finished"}
        self.running.clear()

    def _begin(self, case: str, job: str) -> _Running:
        name = f"{case}:{job}"
        output = self.settings.work / f"warm_{case}_{job}.txt"
        environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "2"}
        words = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *self.words]
        words += ["--work", str(self.settings.work), "--compile", name]
        with output.open("w") as file:
            process = subprocess.Popen(
                words, stdout=file, stderr=subprocess.STDOUT, env=environment, text=True
            )
        return _Running(name, process, output)


def counters() -> dict[str, int]:
    """How often the compiler's cache had what was asked for, in this process so far."""
    from torch._dynamo.utils import counters as counted

    found = counted["inductor"]
    return {
        key: int(found[key]) for key in ("fxgraph_cache_hit", "fxgraph_cache_miss", "fxgraph_cache_bypass")
    }
