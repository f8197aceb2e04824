"""What the loggers have written, as part of each checkpoint: after an interruption as if there had been none."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.event_files import RunTensorBoardLogger
from callbacks.metrics_csv import MetricsCSV

__all__ = ["LoggedSoFar"]


class LoggedSoFar(Callback):
    """Keeps in each checkpoint what the loggers had written; a run that goes on begins by taking them back to it.

    What a run wrote after the checkpoint from which it goes on will be written again, and nobody should see it twice.
    TensorBoard's own means, ``purge_step``, cannot tell what was written at one step before a checkpoint from what was
    written after it; it is given as well, for servers that have read the files already.

    Args:
        table: metrics.csv.
        board: The event files, where there are any.
    """

    def __init__(self, table: MetricsCSV, board: RunTensorBoardLogger | None) -> None:
        self.table = table
        self.board = board
        self._stored: dict[str, Any] | None = None
        self._writes = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Learn which process writes."""
        self._writes = trainer.is_global_zero and not trainer.fast_dev_run  # pyright: ignore[reportAttributeAccessIssue]

    def state_dict(self) -> dict[str, Any]:
        """The newest row of the table; name -> bytes of each event file. On the process that writes them."""
        if not self._writes:
            return {"row": {}, "sizes": {}}
        return {"row": self.table.row, "sizes": self.board.sizes() if self.board else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember it; what is no number in it is met here, where a checkpoint can still be refused."""
        for value in (*state_dict["row"].values(), *state_dict["sizes"].values()):
            float(value)
        self._stored = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take them back: not before all is found good."""
        if self._writes and self._stored is not None:
            self.table.go_on(trainer.current_epoch, self._stored["row"])
            if self.board is not None:
                self.board.cut(self._stored["sizes"])
