"""What a command shows on a terminal, and what of it in a pipe: our bar, unless the user has another or wants none."""

import sys
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ProgressBar

from callbacks import EpochLines, RunProgressBar, TimeEstimate
from callbacks.terminal import is_live

__all__ = ["has_progress_bar", "terminal_callbacks"]


def terminal_callbacks(
    command: str, monitor: str, given: dict[str, Any], users: Sequence[Callback]
) -> list[Callback]:
    """A fit's lines and the bar of any command; with a bar of the user's own, which lines would cut up, neither."""
    estimate = TimeEstimate() if command == "fit" else None
    told: list[Callback] = [estimate] if estimate else []
    if any(isinstance(callback, ProgressBar) for callback in users):
        return told
    if command == "fit":
        told.append(EpochLines(monitor))
    if has_progress_bar(given, users):
        told.append(RunProgressBar(estimate, monitor=monitor))
    return told


def has_progress_bar(given: dict[str, Any], users: Sequence[Callback]) -> bool:
    """What `trainer.enable_progress_bar` says; else whether the user gave a bar, or stderr is a terminal to draw on."""
    wanted = given.get("enable_progress_bar")
    if wanted is not None:
        return bool(wanted)
    return is_live(sys.stderr) or any(isinstance(callback, ProgressBar) for callback in users)
