"""A few steps of a fit on one device: the same loss, precision, clipping and data, and nothing kept of it."""

import gc
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from datamodules import Loader, LoupeDataModule
from finders.isolation import in_own_process
from finders.room import is_out_of_memory, room_left
from lightning_modules import LoupeModule

__all__ = ["Trial"]

#: The first step makes what the optimizer remembers, the second has it in memory from its beginning.
_STEPS = 2
#: So many epochs that none is the last; Lightning multiplies this by the steps of an epoch.
_ENDLESS = 10**9


@dataclass
class Trial:
    """The objects of a search.

    Attributes:
        module: The model, as the fit builds it.
        data: The data of the fit.
        arguments: Those arguments of the fit's Trainer that change what a step does or needs, and one device.
        callbacks: Makes those callbacks of the fit that change what a step does or needs.
        single_ok: Whether the network trains on one picture at a time, once `fits` was asked.
        folder: Where its Trainers' own folders are made; None: among all temporary files.
    """

    module: LoupeModule
    data: LoupeDataModule
    arguments: dict[str, Any]
    callbacks: Callable[[], Sequence[Callback]] = field(default=list)
    single_ok: bool = True
    folder: str | None = None

    def __post_init__(self) -> None:
        # An epoch of a search is none of a run: nothing is watched or refused at its end. Lightning's range test has
        # a schedule of its own, which no score can be shown to.
        self.module.on_train_epoch_end = _nothing

    @property
    def samples(self) -> int:
        """How many samples there are to train on."""
        self.data.setup("fit")
        return len(self.data.samples["train"])

    def fits(self, batch_size: int, accumulate: int = 1) -> bool:
        """Whether two optimizer steps of so many images, and a validation batch, fit into memory."""
        self.data.setup("fit")  # once, and not in each process
        fits, self.single_ok = in_own_process(
            self._fits, batch_size, accumulate, killed=(False, self.single_ok)
        )
        return fits

    def _fits(self, batch_size: int, accumulate: int) -> tuple[bool, bool]:
        """That, and whether the network, which is built now, trains on one picture at a time."""
        watched = self.arguments.get("limit_val_batches") != 0
        error: Exception | None = None
        # Each try would start its own workers, seconds each, and what they hold is not of the device.
        self.data.loader = replace(self.data.loader, num_workers=0, prefetch=Loader.prefetch)
        with self.trainer(
            batch_size,
            accumulate,
            max_epochs=_STEPS,
            limit_train_batches=accumulate,
            limit_val_batches=int(watched),
            callbacks=list(self.callbacks()),
        ) as trainer:
            try:
                with room_left(trainer.strategy.root_device):
                    trainer.fit(self.module, datamodule=self.data)
            except (RuntimeError, MemoryError, OSError) as raised:
                if not is_out_of_memory(raised):
                    raise
                error = raised.with_traceback(None)  # its frames hold what took the memory
        return error is None, self.module.model is None or self.module.accepts_single_sample

    def trainer(self, batch_size: int, accumulate: int, **more: Any) -> "_Within":
        """A context with a Trainer, and the data cut into steps of so many images."""
        self.data.loader = replace(self.data.loader, batch_size=batch_size)
        arguments = {
            "max_epochs": _ENDLESS,
            **self.arguments,
            "accumulate_grad_batches": accumulate,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        return _Within(self, {**arguments, **more})

    def free(self) -> None:
        """Give back what a trial took."""
        self.module.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


class _Within:
    """The folder of a Trainer for as long as it is used."""

    def __init__(self, trial: Trial, arguments: dict[str, Any]) -> None:
        self._trial, self._arguments = trial, arguments
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Trainer:
        self._folder = tempfile.TemporaryDirectory(prefix="loupe-search-", dir=self._trial.folder)
        return Trainer(**self._arguments, default_root_dir=self._folder.name)

    def __exit__(self, *_: object) -> None:
        assert self._folder is not None
        self._folder.cleanup()
        self._trial.free()


def _nothing() -> None:
    return
