"""TensorBoard's event files, in the run directory."""

import os
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

from callbacks.run_directory import RunDirectory

__all__ = ["RunTensorBoardLogger"]


class RunTensorBoardLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger, writing straight into the run directory.

    Args:
        run: Where.
        resumed_step: Optimizer steps that are done where a run goes on. What earlier files hold of later steps,
            which were lost, TensorBoard then leaves out.
    """

    def __init__(self, run: RunDirectory, *, resumed_step: int | None = None) -> None:
        super().__init__(
            save_dir=str(run.parent.parent),
            name=run.parent.name,
            default_hp_metric=False,
            purge_step=resumed_step,
        )
        self.run = run
        self._earlier: list[Path] | None = None

    @property
    def log_dir(self) -> str:
        """The run directory."""
        return str(self.run.path)

    @property
    def root_dir(self) -> str:
        """The run directory too: Lightning makes this folder, and a run that goes on may lie elsewhere."""
        return str(self.run.path)

    @property
    def version(self) -> int:
        """The run's number, as in ``version_3``; -1 before it is claimed."""
        return self.run.number

    @property
    def experiment(self) -> SummaryWriter:
        """The writer, once the run has its folder."""
        if not self.run.claimed:
            # Lightning asks by hasattr() before the folder is chosen, to have loggers open it (2.6, _call_setup_hook).
            raise AttributeError("the run directory is not claimed yet")
        if self._earlier is None:
            self._earlier = self._files()
        return super().experiment

    def sizes(self) -> dict[str, int]:
        """The event files and how long they are, bytes, once all is written."""
        self.experiment.flush()
        return {path.name: path.stat().st_size for path in self._files()}

    def cut(self, sizes: dict[str, int]) -> None:
        """Cut the files of earlier processes back to these sizes, and remove those that were not there."""
        for path in self._earlier or []:
            size = sizes.get(path.name)
            if size is None:
                path.unlink()
            elif size < path.stat().st_size:
                os.truncate(path, size)

    def _files(self) -> list[Path]:
        return sorted(self.run.path.glob("events.out.tfevents.*"))

    @rank_zero_only
    def save(self) -> None:
        """Flush; the hyperparameters are in config.yaml already."""
        self.experiment.flush()
