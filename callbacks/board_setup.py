"""What TensorBoard is told of a run beside its curves: configuration, command, hyperparameters, layout of charts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.event_files import RunTensorBoardLogger, board_tag
from callbacks.run_directory import RunDirectory

__all__ = ["BoardSetup"]

#: What has a chart of its own on the page of custom scalars.
_SPEED = ("train/images_per_s", "train/data_time", "train/memory_gib")
_VARIED = (
    "training.learning_rate",
    "training.batch_size",
    "training.loss.type",
    "training.optimizer.type",
    "model.backbone",
    "model.architecture",
    "model.encoder",
    "data.image_size",
    "data.augment.preset",
    "training.epochs",
)
#: Sections of the configuration that are no hyperparameters.
_NO_HYPERPARAMETERS = ("training.tensorboard.", "training.checkpoint.", "run.", "ckpt_path", "trainer.")


class BoardSetup(Callback):
    """Writes the text tab (``config``, ``command``), the layout of custom scalars, and the hparams tab.

    The hparams tab shows the settings, and as soon as the fit is over the scores of its best epoch, ``best/NAME``.

    Args:
        run: Has the configuration.
        board: Where all is written.
        command: The words after ``train.py``.
        scores_of: The row of metrics.csv of an epoch, counted from 0.
        best_epoch: The epoch of the best score so far, None before there is one.
    """

    def __init__(
        self,
        run: RunDirectory,
        board: RunTensorBoardLogger,
        *,
        command: str,
        scores_of: Callable[[int], Mapping[str, float]],
        best_epoch: Callable[[], int | None],
    ) -> None:
        self.run = run
        self.board = board
        self.command = command
        self.scores_of = scores_of
        self.best_epoch = best_epoch

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write all but the scores; a run that goes on may have other settings, so each session writes its own."""
        from torch.utils.tensorboard.summary import hparams  # here: --help does without

        if not trainer.is_global_zero or not self.run.claimed:
            return
        writer: Any = self.board.experiment
        step = trainer.global_step
        writer.add_text("config", f"```yaml\n{self.run.config.strip()}\n```", step)
        writer.add_text("command", f"```\npython train.py {self.command}\n```", step)
        scores: Sequence[str] = pl_module.score_names  # pyright: ignore[reportAssignmentType]
        classes: Sequence[str] = pl_module.class_score_names  # pyright: ignore[reportAssignmentType]
        writer.add_custom_scalars(board_layout(scores, classes))
        metrics = {f"best/{name}": 0.0 for name in ("loss", *scores)}
        for part in hparams(hyperparameters(self.run.config_dict), metrics):
            writer._get_file_writer().add_summary(part)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the scores of the best epoch."""
        epoch = self.best_epoch()
        if not trainer.is_global_zero or not self.run.claimed or epoch is None:
            return
        row = self.scores_of(epoch)
        writer: Any = self.board.experiment
        step = max(0, trainer.global_step - 1)
        for name in ("loss", *pl_module.score_names):  # pyright: ignore[reportGeneralTypeIssues]
            if f"val/{name}" in row:
                writer.add_scalar(f"best/{name}", row[f"val/{name}"], step)
        writer.flush()


def board_layout(scores: Sequence[str], class_scores: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """The page of custom scalars: for each group its charts, ``{title: [kind, tags]}``; tags are regular expressions.

    >>> board_layout(["iou"], ["iou"])["classes"]
    {'iou of each class': ['Multiline', ['^iou_per_class/']]}
    """

    def chart(*names: str) -> list[Any]:
        return ["Multiline", [f"^{board_tag(name)[1]}$" for name in names]]

    overview = {
        "loss of training and validation": chart("train/loss"),
        "scores": chart(*(f"val/{name}" for name in scores)),
        "learning rate": chart("train/learning_rate"),
        "gradient norm": chart("train/gradient_norm"),
    }
    classes = {f"{name} of each class": ["Multiline", [f"^{name}_per_class/"]] for name in class_scores}
    speed = {name.partition("/")[2].replace("_", " "): chart(name) for name in _SPEED}
    return {"overview": overview, **({"classes": classes} if classes else {}), "speed": speed}


def hyperparameters(config: Mapping[str, Any]) -> dict[str, str | float | bool]:
    """The settings that make one run another, by their full names without ``init_args``; those not set are left out.

    The few that are mostly varied come first: TensorBoard's table begins with them.
    """
    found: dict[str, str | float | bool] = {}
    for key, value in _flat(config):
        if value is None or key.startswith(_NO_HYPERPARAMETERS):
            continue
        if key == "model.training" or key.startswith("model.training."):  # the same as `training`
            continue
        plain = value if isinstance(value, (bool, int, float, str)) else yaml.safe_dump(value).strip()
        found[key] = float(plain) if isinstance(plain, int) and not isinstance(plain, bool) else plain
    first = [key for key in _VARIED if key in found]
    return {key: found[key] for key in [*first, *(key for key in found if key not in first)]}


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = before if key == "init_args" else f"{before}.{key}".lstrip(".")
        rows += _flat(value, name) if isinstance(value, Mapping) else [(name, value)]
    return rows
