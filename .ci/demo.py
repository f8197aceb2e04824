"""The demo of each task in an empty folder, and the score that it must reach there."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: config -> (score, what it must exceed)
DEMOS = {
    "seg_unet": ("val/iou", 0.8),
    "cls_mobilenetv3": ("val/accuracy", 0.9),
    "crop_mobilenetv3": ("val/box_iou", 0.6),
}
TIME_LIMIT_S = 1200  # three minutes of training on two free cores are promised; a busy machine gets more


def best_score(run_root: Path, config: str, score: str) -> float:
    """The highest score in the only run below ``run_root``."""
    files = sorted(run_root.glob(f"{config}/*/metrics.csv"))
    if len(files) != 1:
        raise SystemExit(f"expected one metrics.csv below {run_root / config}, found {len(files)}")
    with files[0].open(newline="") as file:
        rows = [row[score] for row in csv.DictReader(file) if row.get(score)]
    scores = [value for value in map(float, rows) if not math.isnan(value)]
    if not scores:
        raise SystemExit(f"no {score} in {files[0].name}")
    return max(scores)


def main() -> None:
    """Train each, read the scores, and fail when one is too low."""
    lines: list[str] = []
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for config, (score, at_least) in DEMOS.items():
            start = time.monotonic()
            command = [
                sys.executable,
                ROOT / "train.py",
                "fit",
                "--config",
                ROOT / "configs" / f"{config}.yaml",
            ]
            subprocess.run(command, cwd=folder, check=True, timeout=TIME_LIMIT_S, stdin=subprocess.DEVNULL)
            reached = best_score(Path(folder) / "runs", config, score)
            good = good and reached > at_least
            lines.append(
                f"demo {config}: {score} {reached:.3f} in {time.monotonic() - start:.0f} s, more than {at_least} wanted"
            )
    sys.stdout.write("\n".join(lines) + "\n")
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
