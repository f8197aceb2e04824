"""Pictures to every logger that can show them: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from callbacks.event_files import RunTensorBoardLogger

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

__all__ = ["PICTURE_LOGGERS", "image_summary", "log_picture", "shows_pictures"]

PICTURE_LOGGERS = (TensorBoardLogger, WandbLogger, MLFlowLogger)

log = logging.getLogger(__name__)


def shows_pictures(trainer: Trainer) -> bool:
    """Whether any logger of this run can show a picture; the same on every process."""
    return any(isinstance(logger, PICTURE_LOGGERS) for logger in trainer.loggers)


def log_picture(
    trainer: Trainer, tag: str, draw: Callable[[], Image.Image], *, part: str = "", photo: bool = True
) -> None:
    """Draw once, and hand the picture to all that can show it; on the first process only.

    Args:
        trainer: Whose loggers.
        tag: As in ``pictures/worst``.
        draw: Makes the picture, where anybody wants it.
        part: ``train`` or ``val``: the curves beside which TensorBoard shows it.
        photo: Kept as JPEG, which is a tenth of the size; a chart is kept exactly.
    """
    if not trainer.is_global_zero or not shows_pictures(trainer):
        return
    try:
        picture = draw().convert("RGB")
    except Exception:  # a picture is not worth a training
        log.warning("%s could not be drawn", tag, exc_info=True)
        return
    step = max(0, trainer.global_step - 1)  # counted from 0, as Lightning counts the steps of scalars
    for logger in trainer.loggers:
        _show(logger, tag, picture, step, part, photo)


def _show(logger: Logger, tag: str, picture: Image.Image, step: int, part: str, photo: bool) -> None:
    name = f"{part}/{tag}" if part else tag
    if isinstance(logger, TensorBoardLogger):
        ours = isinstance(logger, RunTensorBoardLogger)
        writer: Any = logger.part(part) if ours else logger.experiment
        summary = image_summary(tag if ours else name, picture, photo=photo)
        writer._get_file_writer().add_summary(summary, step)
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step=step)
    elif isinstance(logger, MLFlowLogger):
        experiment: Any = logger.experiment
        experiment.log_image(logger.run_id, picture, key=name, step=step)


def image_summary(tag: str, picture: Image.Image, *, photo: bool) -> Summary:
    """An entry of an event file; TensorBoard shows whatever a browser does, so also JPEG."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

    stream = io.BytesIO()
    if photo:
        picture.save(stream, "JPEG", quality=82)
    else:
        picture.save(stream, "PNG", compress_level=1)
    channels = len(picture.getbands())
    image = Summary.Image(
        height=picture.height,
        width=picture.width,
        colorspace=channels,
        encoded_image_string=stream.getvalue(),
    )
    return Summary(value=[Summary.Value(tag=tag, image=image)])
