"""The README's training command in an empty folder, and the score that it must reach there."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "seg_unet"
SCORE = "val/iou"
AT_LEAST = 0.8
TIME_LIMIT_S = 1200  # three minutes of training on two free cores are promised; a busy machine gets more


def best_score(run_root: Path) -> float:
    """The highest score in the only run below ``run_root``."""
    files = sorted(run_root.glob(f"{CONFIG}/*/metrics.csv"))
    if len(files) != 1:
        raise SystemExit(f"expected one metrics.csv below {run_root / CONFIG}, found {len(files)}")
    with files[0].open(newline="") as file:
        rows = [row[SCORE] for row in csv.DictReader(file) if row.get(SCORE)]
    scores = [score for score in map(float, rows) if not math.isnan(score)]
    if not scores:
        raise SystemExit(f"no {SCORE} in {files[0].name}")
    return max(scores)


def main() -> None:
    """Train, read the score, and fail when it is too low."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        command = [sys.executable, ROOT / "train.py", "fit", "--config", ROOT / "configs" / f"{CONFIG}.yaml"]
        subprocess.run(command, cwd=folder, check=True, timeout=TIME_LIMIT_S, stdin=subprocess.DEVNULL)
        score, time_s = best_score(Path(folder) / "runs"), time.monotonic() - start
    sys.stdout.write(f"demo: {SCORE} {score:.3f} in {time_s:.0f} s, at least {AT_LEAST} wanted\n")
    if score <= AT_LEAST:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
