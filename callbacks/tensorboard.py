"""What TensorBoard is shown of the network: histograms, the graph, the weights as images."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from callbacks.idle_hooks import set_aside
from callbacks.picture_loggers import image_summary

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardNetwork"]

#: Bars of a histogram: what Keras's TensorBoard has, and more than the page shows.
_BINS = 30
#: Pixels of the longer side of a weight as an image.
_SIDE = 256


class TensorBoardNetwork(Callback):
    """Histograms, graph and weight images, with the meaning these options have in Keras.

    Args:
        histogram_freq: Epochs between histograms of all weights and their gradients; 0 = never.
        write_graph: The network's graph, once.
        write_images: The weights as images, with each histogram pass.
    """

    def __init__(
        self, *, histogram_freq: int = 1, write_graph: bool = True, write_images: bool = False
    ) -> None:
        self.histogram_freq = histogram_freq
        self.write_graph = write_graph
        self.write_images = write_images
        self._graph_written = False
        if histogram_freq == 0:
            set_aside(self, "on_train_batch_end")

    def state_dict(self) -> dict[str, bool]:
        """Whether the graph is there."""
        return {"graph_written": self._graph_written}

    def load_state_dict(self, state_dict: dict[str, bool]) -> None:
        """Write the graph once, also where a run goes on."""
        self._graph_written = bool(state_dict["graph_written"])

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Write the graph with the first batch that is seen."""
        set_aside(self, "on_train_batch_start")
        if self._graph_written or not self.write_graph:
            return
        self._graph_written = True
        for writer in _writers(trainer):
            _write_graph(writer, pl_module, batch["image"][:1])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write histograms after the last step of their epochs; in Keras the first epoch is one.

        Lightning drops the gradients before it validates, so the end of the epoch would be too late for them.
        """
        due = self.histogram_freq > 0 and trainer.current_epoch % self.histogram_freq == 0
        if not (due and trainer.is_last_batch):
            return
        step = trainer.global_step - 1  # counted from 0, as Lightning counts the steps of scalars
        for writer in _writers(trainer):
            for tag, values in _tensors(pl_module):
                _histogram(writer, tag, values, step)
                if self.write_images and values.ndim >= 2 and tag.startswith("weights/"):
                    picture = Image.fromarray((weight_image(values) * 255).round().byte().numpy())
                    writer._get_file_writer().add_summary(image_summary(tag, picture, photo=False), step)  # pyright: ignore[reportPrivateUsage]


def _tensors(module: LightningModule) -> Iterator[tuple[str, Tensor]]:
    """Every weight and gradient, by its tag."""
    for name, weight in module.named_parameters():
        tag = name.removeprefix("model.").replace(".", "/")
        yield f"weights/{tag}", weight.detach()
        if weight.grad is not None:
            yield f"gradients/{tag}", weight.grad


def weight_image(weight: Tensor) -> Tensor:
    """A weight of two or more dimensions as a (H, W) picture in 0..1: rows are outputs, columns everything else.

    One of more than 256 rows or columns is made smaller, each pixel the mean of what it stands for.

    >>> weight_image(torch.tensor([[1.0, 3.0], [2.0, 3.0]]))
    tensor([[0.0000, 1.0000],
            [0.5000, 1.0000]])
    """
    flat = weight.detach().float().flatten(1)
    size = min(_SIDE, flat.shape[0]), min(_SIDE, flat.shape[1])
    if size != tuple(flat.shape):
        flat = adaptive_avg_pool2d(flat[None], size)[0]
    low, high = flat.min(), flat.max()
    return ((flat - low) / (high - low).clamp_min(torch.finfo(flat.dtype).tiny)).cpu()


def _writers(trainer: Trainer) -> list[SummaryWriter]:
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _histogram(writer: SummaryWriter, tag: str, values: Tensor, step: int) -> None:
    """Thirty equal bars from the smallest to the largest value, counted where the values are.

    torch's `add_histogram` moves all to the CPU and sorts it into hundreds of bars: 3.0 s for 33 million weights and
    their gradients on one core, here 0.6 s.
    """
    values = values.flatten() if values.dtype == torch.float64 else values.float().flatten()
    if values.device.type == "mps" or torch.are_deterministic_algorithms_enabled():
        values = values.cpu()  # the one has no float64, the other no histc on a GPU
    low, high = (float(end) for end in values.aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):  # the loss already tells of it
        return
    if low == high:
        limits, counts = [low], [float(len(values))]
    else:
        limits = np.linspace(low, high, _BINS + 1)[1:].tolist()
        counts = torch.histc(values, _BINS, low, high).tolist()
    writer.add_histogram_raw(
        tag,
        min=low,
        max=high,
        num=len(values),
        sum=float(values.sum(dtype=torch.float64)),
        sum_squares=float(values.square().sum(dtype=torch.float64)),
        bucket_limits=limits,
        bucket_counts=counts,
        global_step=step,
    )


def _write_graph(writer: SummaryWriter, pl_module: LightningModule, image: Tensor) -> None:
    network: nn.Module = pl_module.network  # pyright: ignore[reportAssignmentType]
    was_training = network.training
    # A compiled call cannot be traced; the plain one is the same network.
    compiled = getattr(network, "_compiled_call_impl", None)
    network._compiled_call_impl = None  # pyright: ignore[reportPrivateUsage]
    network.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # Tracing warns of every shape that Python decides about; the graph is only looked at.
            warnings.simplefilter("ignore")
            # traced here, since `add_graph` would run it twice more to compare, half of its time
            writer.add_graph(torch.jit.trace(network, image, check_trace=False), image)
    finally:
        network.train(was_training)
        network._compiled_call_impl = compiled  # pyright: ignore[reportPrivateUsage]
