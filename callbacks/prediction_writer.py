"""Predictions to disk as they come, on any number of processes, and on from there after an interruption."""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.prediction_facts import first_sidecar, now, task_of
from callbacks.prediction_folder import PredictionFolder, refuse_miscount, told_of_disk
from callbacks.prediction_gathering import Report, done_anywhere, first_does, gather, is_elsewhere
from callbacks.prediction_lines import PredictionLines, told
from callbacks.run_directory import RunDirectory
from inference.roi_found import with_region
from predictions import (
    Background,
    Inputs,
    Journal,
    JournalFile,
    Outputs,
    Predictions,
    Record,
    Task,
    Unread,
    cut,
    identity_there,
    mask_image,
    output_names,
    require_parquet,
)

__all__ = ["PredictionWriter", "cut", "mask_image", "output_names", "refuse_miscount"]


class PredictionWriter(Callback):
    """Writes what ``predict_step`` returns, as docs/batch.md has it, below ``RUN/predictions/``.

    Each process writes its own pictures, in a few threads beside the model, and a line a picture into a journal of its
    own. What the journals of the same model and settings hold already, of inputs that have not changed, is not read
    again. In the end the first process writes the tables from the journals, in the order of the input. On machines that
    share no disk the pictures stay where they were made, the journals are copied, and a line says so.

    Args:
        run: Where, unless the options name another folder.
        options: What is written.
        read_image: A file to its upright picture (H, W, 3) uint8, for crops and overlays.
        facts: For predictions.json and for what makes predictions the same ones: ``checkpoint`` (its path),
            ``fingerprint`` (of its content) and ``epoch``, ``config`` (text), ``inference`` (settings), ``command``.
        threads: That write, see `Background`.
    """

    def __init__(
        self,
        run: RunDirectory,
        options: Predictions | None = None,
        *,
        read_image: Callable[[str], np.ndarray],
        facts: Mapping[str, Any] | None = None,
        threads: int | None = None,
    ) -> None:
        self.run = run
        self.options = options or Predictions()
        self.read_image = read_image
        self.facts: dict[str, Any] = dict(facts or {})
        self.threads = threads
        self._inputs = Inputs([])
        self._done = self._pending = np.zeros(0, dtype=np.int64)
        self._names: Sequence[str] = []
        self._task = Task("label", [])
        self._started = 0
        self._sidecar: dict[str, Any] = {}
        self._journal: JournalFile | None = None
        self._background: Background[Record | Unread] = Background(threads)
        self._outputs: Outputs | None = None
        self._unread: list[tuple[int, str]] = []
        self._pictures = 0
        self._elsewhere = False
        self._lines = PredictionLines(0, shown=False)
        self._limit: Any = None

    @property
    def folder(self) -> PredictionFolder:
        """``RUN/predictions``, or what the options name."""
        given = self.options.directory
        path = self.run.path / "predictions" if given is None else Path(given).expanduser()
        return PredictionFolder(path, self.options, ours=given is None)

    # -- before -------------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take from the datamodule what is done already; comes before the loaders and before the model is built."""
        if stage != "predict":
            return
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        self._task = task_of(pl_module)
        self._task.refuse(self.options)
        if self.options.table == "parquet":
            require_parquet()
        self._inputs = Inputs(data.predict_paths, data.predict_root)
        self._started, self._sidecar, same = first_does(trainer, partial(self._look, trainer))
        self._unread, self._pictures, self._elsewhere = [], 0, False
        done = np.zeros(len(self._inputs), dtype=bool)
        if same:
            self._elsewhere = is_elsewhere(trainer, self.folder.path)
            with self._read() as journal:
                mine = journal.done(self.folder.path) if trainer.local_rank == 0 else done
                done = done_anywhere(trainer, mine)
                self._names = output_names(self._inputs.paths, self._inputs.root, journal.names(done))
        else:
            self._names = output_names(self._inputs.paths, self._inputs.root)
        self._done, self._pending = done, np.flatnonzero(~done)
        self._limit = trainer.limit_predict_batches  # pyright: ignore[reportAttributeAccessIssue]
        if done.any():
            data.predict_paths = _taken(self._inputs.paths, self._pending)
            if "predict" in data.view.windows:  # found before this was called, of all of them
                data.view.windows["predict"] = data.view.windows["predict"][self._pending]
            if trainer.is_global_zero:
                print(f"predict: {done.sum()} of {len(done)} pictures are done already", flush=True)
        if not len(self._pending):
            trainer.limit_predict_batches = 0  # Lightning warns of a loader without batches
            self._finish(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Now data and model are there: put other predictions aside, open this process's journal."""
        first_does(trainer, partial(self.folder.begin, self._sidecar))
        self._elsewhere = is_elsewhere(trainer, self.folder.path)
        if self._task.kind == "mask":
            pl_module.gives_probs = self.options.probability_maps or self.options.coco  # pyright: ignore[reportArgumentType]
        self._outputs = Outputs(
            self.folder.path,
            self.options,
            self._task,
            self.read_image,
            self._started,
            time.time_ns,
            self._sidecar["identity"],
        )
        self._background = Background(self.threads)
        self._journal = JournalFile(self.folder.journals / f"{trainer.global_rank}.jsonl")
        wanted = trainer.is_global_zero and trainer.progress_bar_callback is None
        self._lines = PredictionLines(self._asked(trainer), shown=wanted)

    # -- as they come -------------------------------------------------------------------------------------------

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Hand a batch to the threads, and note down what they have written."""
        assert self._outputs is not None
        sizes = dict(zip(batch["index"].tolist(), batch["size_hw_px"].tolist(), strict=True))
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        seen = data.view.windows and zip(batch["index"].tolist(), batch["window_px"].tolist(), strict=True)
        windows = dict(seen) if seen else None
        with told_of_disk():
            for prediction in outputs:
                index = int(self._pending[prediction["index"]])
                if windows is not None:
                    prediction = with_region(prediction, windows[prediction["index"]])
                height, width = sizes[prediction["index"]]
                path, name = self._inputs[index], self._names[index]
                self._background.put(
                    partial(self._outputs.write, index, path, name, (height, width), prediction)
                )
            self._note(self._background.results())
        self._lines.count(len(batch["index"]) * trainer.world_size)

    def _note(self, results: Sequence[Record | Unread]) -> None:
        assert self._journal is not None
        records = [result for result in results if isinstance(result, Record)]
        self._unread += [(result.index, result.reason) for result in results if isinstance(result, Unread)]
        self._pictures += sum(bool(file) for record in records for file in record.files.values())
        self._journal.append(records)

    # -- the end ------------------------------------------------------------------------------------------------

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the tables; LoupeError where a picture is missing or is there twice."""
        assert self._journal is not None
        with told_of_disk():
            self._note(self._background.results(all_of_them=True))
        self._background.close()
        self._journal.close()
        self._journal = None
        self._finish(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Finish what is being written, and note it down: the next run goes on from there."""
        if self._journal is not None:
            try:
                self._note(self._background.close())
                self._journal.close()
            except OSError as error:  # such as the full disk that the first error was about
                print(f"predict: the journal could not be finished: {error}", flush=True)
            self._journal = None
        self._give_back(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave datamodule and trainer as they were."""
        self._give_back(trainer)

    def _finish(self, trainer: Trainer) -> None:
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        unread = [(int(self._pending[place]), reason) for place, reason in data.unreadable_predict()]
        where = f"{self._pictures} on {socket.gethostname()}: {self.folder.path.resolve()}"
        shown = self._elsewhere and trainer.local_rank == 0
        journals = [(path.name, path.stat().st_size) for path in self.folder.journals.glob("*.jsonl")]
        report = Report(
            [*unread, *self._unread],
            where if self._elsewhere and self._pictures else "",
            journals if shown else [],
        )
        trainer.strategy.barrier("all journals are written")
        reports = gather(trainer, report, self.folder.journals)
        first_does(trainer, partial(self._write_tables, trainer, reports))

    def _write_tables(self, trainer: Trainer, reports: Sequence[Report]) -> None:
        unreadable = sorted({index: why for report in reports for index, why in report.unreadable}.items())
        with self._read(run=self._started) as journal:
            self._refuse_miscount(journal, self._asked(trainer), [index for index, _ in unreadable])

            def sidecar(found: int) -> dict[str, Any]:
                counts = {
                    "predicted": found,
                    "unreadable": len(unreadable),
                    "done_before": int(self._done.sum()),
                }
                complete = found + len(unreadable) == len(self._inputs)
                counts = {**self._sidecar["counts"], **counts}
                return {**self._sidecar, "complete": complete, "date": now(), "counts": counts}

            found = self.folder.finish(journal, unreadable, sidecar, task=self._task, root=self._inputs.root)
        new = found - int(self._done.sum())
        speed = f" ({told(new / self._lines.seconds)})" if new else ""
        print(f"{found} prediction{'' if found == 1 else 's'} in {self.folder.path}{speed}")
        if unreadable:
            print(
                f"warning: {len(unreadable)} of {len(self._inputs)} pictures could not be read and have no prediction; "
                f"{self.folder.path / 'unreadable.csv'} says why"
            )
        if away := [report.where for report in reports if report.where]:
            print(
                f"note: the machines share no disk, so pictures named in {self.folder.table.name} lie elsewhere: "
                f"{'; '.join(away)}"
            )

    def _refuse_miscount(self, journal: Journal, asked: int, unreadable: Sequence[int]) -> None:
        wanted = self._done.copy()
        wanted[self._pending[:asked]] = True
        place = np.cumsum(wanted) - 1
        came = np.concatenate(
            [np.flatnonzero(journal.has & wanted), np.array(journal.repeated, dtype=np.int64)]
        )
        left_out = {int(place[index]) for index in unreadable if wanted[index]}
        refuse_miscount(place[came], int(wanted.sum()), left_out, self.folder.table.name)

    # -- facts --------------------------------------------------------------------------------------------------

    def _look(self, trainer: Trainer) -> tuple[int, dict[str, Any], bool]:
        """When this run begins, what predictions.json says first, and whether an earlier run said the same."""
        self.folder.refuse_foreign()
        started = time.time_ns()
        config = {} if self.facts.get("config") else {"config": self.run.config}
        sidecar = first_sidecar(trainer, self.facts | config, self.options, self._inputs, started)
        return started, sidecar, identity_there(self.folder.path) == sidecar["identity"]

    def _read(self, run: int | None = None) -> Journal:
        journal = Journal(self.folder.journals, self._inputs, self._sidecar["identity"])
        return journal.read(run=run, known=self._done if run is not None else None)

    def _asked(self, trainer: Trainer) -> int:
        """How many of the pictures to do are asked for: trainer.limit_predict_batches leaves some out."""
        if not len(self._pending):
            return 0
        loader: Any = trainer.predict_dataloaders
        batches = sum(int(count) for count in trainer.num_predict_batches)
        return min(len(self._pending), batches * loader.sampler.batch_size)

    def _give_back(self, trainer: Trainer) -> None:
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if self._limit is not None:
            data.predict_paths = self._inputs.paths
            trainer.limit_predict_batches = self._limit
            self._limit = None


def _taken(paths: Any, rows: np.ndarray) -> Sequence[str]:
    return paths.take(rows) if hasattr(paths, "take") else [paths[row] for row in rows.tolist()]
