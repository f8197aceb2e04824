"""What a test or a validation found, as a file beside the run."""

import json

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.run_directory import RunDirectory, write_atomically

__all__ = ["ScoresFile"]


class ScoresFile(Callback):
    """Writes ``RUN/test.json`` or ``RUN/validate.json``: the checkpoint and every score (null = absent).

    Args:
        run: Where.
        command: ``test`` or ``validate``.
        checkpoint: The file that was scored.
    """

    def __init__(self, run: RunDirectory, *, command: str, checkpoint: str) -> None:
        self.run = run
        self.command = command
        self.checkpoint = checkpoint

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the scores of a test."""
        self._write(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the scores of a validation."""
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero or not self.run.claimed:
            return
        scores = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        content = {
            "checkpoint": self.checkpoint,
            "scores": {name: value if value == value else None for name, value in scores.items()},
        }
        path = self.run.path / f"{self.command}.json"
        write_atomically(path, json.dumps(content, indent=2) + "\n")
        print(f"scores: {path}", flush=True)
