"""Two plain processes that work on one thing together: a test module that is run as a program, once for each rank."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent


def run_two_ranks(program: str, folder: Path) -> list[Any]:
    """Run ``program RANK FOLDER`` for ranks 0 and 1 at once; what each saved as ``FOLDER/rankN.pt``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, program, str(rank), str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        for rank in ranks:
            _, errors = rank.communicate(timeout=120)
            assert rank.returncode == 0, errors
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
