"""`validate` and `test`: one pass, or where more than the plain model is asked, one without and one with it."""

import json
from collections.abc import Callable
from pathlib import Path

from lightning.pytorch import Callback, Trainer

from callbacks import EvaluationRecord, RunDirectory, ScoresFile, write_atomically
from cli.messages import print_once
from cli.uses import Uses
from datamodules import LoupeDataModule
from reports import measure_gain

__all__ = ["evaluate"]


def evaluate(
    evaluate_once: Callable[[], None], uses: Uses, trainer: Trainer, data: LoupeDataModule, run: RunDirectory
) -> None:
    """Score the model as it is asked; where that is more than plainly, also plainly, and tell the difference.

    Args:
        evaluate_once: One pass of the command.
        uses: What is asked.
        trainer: Its callbacks keep what the passes found.
        data: The datamodule.
        run: Where the gain is kept, as ``test_gain.json`` or ``validate_gain.json``.
    """
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    kept = [c for c in callbacks if isinstance(c, (EvaluationRecord, ScoresFile))]
    # trainer.barebones keeps no scores that could be compared
    if not uses.compares or not kept or trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
        evaluate_once()
        return
    print_once(f"the plain model first, then with {uses.label}")
    try:
        for callback in kept:
            callback.plain = True
        with uses.plainly(trainer, data):
            evaluate_once()
        plain = [c.path for c in kept if isinstance(c, EvaluationRecord)]
    finally:
        for callback in kept:
            callback.plain = False
    evaluate_once()
    asked = [c.path for c in kept if isinstance(c, EvaluationRecord)]
    if trainer.is_global_zero and plain and plain[0].is_file() and asked[0].is_file():
        _tell(plain[0], asked[0], uses, run)


def _tell(plain: Path, asked: Path, uses: Uses, run: RunDirectory) -> None:
    # a segmenter's loss is of the pixels that its network sees: of other ones in tiles, or behind a cropper
    gain = measure_gain(plain, asked, leave_out=("loss",) if uses.sees_otherwise else ())
    path = run.path / f"{uses.command}_gain.json"
    content = {"asked": uses.label, "settings": uses.facts(), "scores": gain.as_dict()}
    write_atomically(path, json.dumps(content, indent=2) + "\n")
    print("", *gain.lines(uses.label), "", f"gain: {path}", sep="\n", flush=True)
