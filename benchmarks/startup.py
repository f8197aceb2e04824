"""How long commands take to begin, as ratios to the imports that nobody can leave out.

    python benchmarks/startup.py [--rounds 5]

Whole processes in turn, their processor time (one that is interrupted by others takes longer on the clock), medians of
ratios. What each import costs: python -X importtime train.py fit --help
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.timing import arguments, in_turn, keep, ratios  # noqa: E402

CONFIG = ROOT / "configs" / "seg_unet.yaml"
TRAIN = [str(ROOT / "train.py")]
#: Command: its words, and the exit code that it must have.
COMMANDS: dict[str, tuple[list[str], int]] = {
    "import torch": (["-c", "import torch"], 0),
    "import lightning.pytorch.cli": (["-c", "import lightning.pytorch.cli"], 0),
    "--help": ([*TRAIN, "--help"], 0),
    "fit --help": ([*TRAIN, "fit", "--help"], 0),
    "an unknown setting": ([*TRAIN, "fit", f"--config={CONFIG}", "--training.epoch=3"], 2),
    "a setting of the wrong type": ([*TRAIN, "fit", f"--config={CONFIG}", "--data.image_size=big"], 2),
}
#: What is promised: of what, to what, at most.
BUDGET = (
    ("--help", "import torch", 1.0),
    ("fit --help", "import lightning.pytorch.cli", 1.1),
    ("an unknown setting", "import lightning.pytorch.cli", 1.1),
    ("a setting of the wrong type", "import lightning.pytorch.cli", 1.1),
)


def seconds(words: list[str], code: int, folder: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode != code:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return took


def main(rounds: int, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        calls: dict[str, Callable[[], float]] = {
            name: lambda words=words, code=code: seconds(words, code, folder)
            for name, (words, code) in COMMANDS.items()
        }
        for call in calls.values():
            call()  # bytecode and file cache
        found = in_turn(calls, rounds)
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, value in medians.items():
        print(f"  {name:<32} {value:6.2f} s")
    figures: dict[str, float] = {}
    for name, to, most in BUDGET:
        ratio = ratios(found, name, to)["median"]
        figures[f"{name} / {to}"] = ratio
        print(f"  {name} / {to}: {ratio:.2f} ({'within' if ratio <= most else 'ABOVE'} {most:g})")
    keep("startup", figures, about={"rounds": rounds, "medians_s": medians}, folder=out)


if __name__ == "__main__":
    given, _ = arguments(__doc__, rounds=5)
    main(given.rounds, given.out)
