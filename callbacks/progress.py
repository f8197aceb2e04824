"""The bar at the bottom of a terminal: where a run is, how fast it goes, what is left, and the figures that matter."""

import logging
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.live import Live

from callbacks.device_figures import DeviceFigures
from callbacks.progress_lines import ProgressLines
from callbacks.terminal import is_live, wants_colour
from callbacks.time_estimate import TimeEstimate

__all__ = ["RunProgressBar"]

#: Seconds between two drawings, and the share of the time that drawing may take.
_SHORTEST_S, _SHARE = 0.1, 0.0025
_RECENT_S = 10.0  # the stretch over which the speed is measured


class RunProgressBar(ProgressBar):
    """Draws one bar on stderr for whatever is running: the epoch, a validation, a test, a prediction.

    It is drawn by the training loop itself, at most ten times a second and for about 0.25 % of the time: there is no
    thread that data-loader processes would inherit the locks of. Nothing waits for the device: the loss is the mean
    over the epoch so far, copied while training goes on. What others print appears above. Where stderr is no terminal
    whose cursor can be moved, nothing is drawn.

    Args:
        estimate: What a fit measures of its time; without it no time is told for the whole run.
        monitor: The score that is shown as soon as it is there, of the newest epoch that has it.
    """

    reads_the_loss = True  # modules need not log that of each step for this bar

    def __init__(self, estimate: TimeEstimate | None = None, *, monitor: str = "") -> None:
        super().__init__()
        self.estimate = estimate
        self.monitor = monitor
        self._enabled = True
        self._live: Live | None = None
        self._logging_to: list[tuple[Any, Any]] = []
        self._running = ""
        self._done = self._images = 0
        self._total: float = 0
        self._due = 0.0
        self._speeds: deque[tuple[float, int, int]] = deque()  # time, images, batches
        self._losses = DeviceFigures()
        self._score: tuple[float, int] | None = None  # the monitored score, and of which epoch

    # -- what Lightning asks for --------------------------------------------------------------------------------

    def disable(self) -> None:
        """Draw nothing, as on all processes but the first."""
        self._stop()
        self._enabled = False

    def enable(self) -> None:
        """Draw again."""
        self._enabled = True

    # -- what is running ----------------------------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an epoch."""
        self._losses.forget()
        self._begin("train", trainer.num_training_batches)
        self._speeds.append((time.monotonic(), 0, 0))
        self._draw(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a batch."""
        if self._running != "train":  # Lightning tells of no epoch that goes on
            self._begin("train", trainer.num_training_batches)
        self._count(trainer, pl_module, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read a monitored score of the training."""
        self._read_score(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the terminal to the closing table."""
        self._stop()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        totals = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        name = "trial" if trainer.sanity_checking else "validation"
        self._evaluated(trainer, pl_module, batch, batch_idx, name, totals[dataloader_idx])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the score."""
        if not trainer.sanity_checking:
            self._read_score(trainer, pl_module)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the terminal to the opening summary."""
        self._stop()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the terminal to the table of scores."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._stop()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        self._evaluated(
            trainer, pl_module, batch, batch_idx, "test", trainer.num_test_batches[dataloader_idx]
        )

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the terminal to the table of scores."""
        self._stop()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        total = trainer.num_predict_batches[dataloader_idx]
        self._evaluated(trainer, pl_module, batch, batch_idx, "predict", total)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the terminal to what the writer tells."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal to the error."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the terminal."""
        self._stop()

    def _evaluated(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        name: str,
        total: float,
    ) -> None:
        if self._running != name or batch_idx == 0:
            self._begin(name, total)
        self._count(trainer, pl_module, batch, batch_idx)

    def _begin(self, name: str, total: float) -> None:
        self._running, self._total, self._done = name, total, 0
        self._images, self._due = 0, 0.0
        self._speeds = deque()

    def _count(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not self._enabled:
            return
        self._done = batch_idx + 1
        if isinstance(batch, Mapping):
            self._images += len(batch["image"])
        if not self._speeds:  # what was before is not known
            self._speeds.append((time.monotonic(), self._images, self._done))
        if time.monotonic() >= self._due or self._done == self._total:
            self._draw(trainer, pl_module)

    # -- drawing ------------------------------------------------------------------------------------------------

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._enabled or not is_live(sys.stderr):
            return
        began = time.monotonic()
        while len(self._speeds) > 2 and began - self._speeds[0][0] > _RECENT_S:
            self._speeds.popleft()
        lines = self._lines(trainer, pl_module, began)
        if self._live is None:
            self._live = self._start(lines)
        else:
            self._live.update(lines, refresh=True)
        ended = time.monotonic()
        self._due = ended + max(_SHORTEST_S, (ended - began) / _SHARE)

    def _lines(self, trainer: Trainer, pl_module: LightningModule, now: float) -> ProgressLines:
        then, images, batches = self._speeds[0] if self._speeds else (now, 0, 0)
        seconds = now - then
        if self._speeds and self._done > self._speeds[-1][2]:
            self._speeds.append((now, self._images, self._done))
        speed = (self._images - images) * trainer.world_size / seconds if seconds > 0 else 0.0
        batch_s = seconds / (self._done - batches) if self._done > batches else None
        lines = ProgressLines(
            name=self._running,
            done=self._done,
            total=self._total,
            images_per_s=speed if batch_s else None,
            left_s=batch_s * (self._total - self._done) if batch_s else None,
        )
        if trainer.state.fn == TrainerFn.FITTING and self._running != "trial":
            epochs = f"/{trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else ""
            lines.name = f"epoch {trainer.current_epoch + 1}{epochs}"
            if self._running == "train":
                if self.estimate is not None:
                    lines.run_left_s = self.estimate.left_s(trainer, self._done - 1)
                self._losses.ask(pl_module.train_loss.sums)  # pyright: ignore
            else:
                lines.name += f" {self._running}"
            lines.figures = self._figures(trainer, pl_module)
        return lines

    def _figures(self, trainer: Trainer, pl_module: LightningModule) -> list[str]:
        figures: list[str] = []
        if (sums := self._losses.known()) is not None:
            totals, weights = sums
            means = [total / weight for total, weight in zip(totals, weights, strict=True) if weight > 0]
            figures += [f"loss {sum(means):.4f}"] if means else []
        if self._score is not None:
            value, epoch = self._score
            # Within an epoch that of the one before is the newest there is; an older one says its age.
            age = f" (epoch {epoch + 1})" if epoch < trainer.current_epoch - 1 else ""
            figures.append(f"{self.monitor} {value:.4f}{age}")
        figures.append(f"lr {float(pl_module.used_rate):.3g}")  # pyright: ignore[reportArgumentType]
        return figures

    def _read_score(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fresh = getattr(pl_module, "has_fresh", None)
        metrics = trainer.callback_metrics
        if self._enabled and fresh is not None and self.monitor in metrics and fresh(self.monitor):
            self._score = float(metrics[self.monitor]), trainer.current_epoch

    def _start(self, lines: ProgressLines) -> Live:
        console = _Console(
            file=sys.stderr,
            force_terminal=True,
            force_jupyter=False,
            highlight=False,
            color_system="auto" if wants_colour(sys.stderr) else None,
        )
        before = sys.stderr
        live = Live(
            lines,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # what goes into a file stays there
        )
        live.start(refresh=True)
        self._logging_to = [(h, h.stream) for h in _stream_handlers() if h.stream is before]
        for handler, _ in self._logging_to:
            handler.setStream(sys.stderr)
        return live

    def _stop(self) -> None:
        if self._live is None:
            return
        for handler, stream in self._logging_to:
            handler.setStream(stream)
        self._logging_to = []
        self._live.stop()
        self._live = None


class _Console(Console):
    """A console that leaves the cursor visible: a process that is killed cannot bring it back."""

    def show_cursor(self, show: bool = True) -> bool:
        """Do nothing."""
        return False


def _stream_handlers() -> list["logging.StreamHandler[Any]"]:
    """Every handler that writes into a stream, of any logger: they keep the stream that they were made with."""
    loggers = [logging.root, *(logging.root.manager.loggerDict.values())]
    handlers = [handler for logger in loggers for handler in getattr(logger, "handlers", [])]
    return [handler for handler in dict.fromkeys(handlers) if type(handler) is logging.StreamHandler]
