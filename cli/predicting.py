"""What `predict` writes with, and what it says of where the predictions come from."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from callbacks import PredictionWriter, RunDirectory
from cli.uses import Uses
from datamodules import read_for_display
from inference import file_fingerprint
from predictions import Predictions

__all__ = ["prediction_writer"]


def prediction_writer(
    run: RunDirectory,
    options: Predictions,
    *,
    path: str,
    checkpoint: Mapping[str, Any],
    uses: Uses,
    words: list[str],
) -> PredictionWriter:
    """The callback that writes predictions.

    Args:
        run: Where.
        options: The section `predictions`.
        path: The checkpoint's.
        checkpoint: What of its content is kept: its card and its epoch.
        uses: What the model is asked.
        words: The command line.
    """
    contract: Mapping[str, Any] = checkpoint["loupe"]["input"]
    read = partial(
        read_for_display, in_channels=int(contract["in_channels"]), value_range=contract.get("value_range")
    )
    facts = {
        "checkpoint": path,
        "fingerprint": file_fingerprint(path),
        "epoch": checkpoint["epoch"],
        "config": run.config,
        "inference": uses.facts(),
        "command": list(words),
    }
    return PredictionWriter(run, options, read_image=read, facts=facts)
