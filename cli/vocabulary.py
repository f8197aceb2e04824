"""The `training:` section: every key, its type, its default and its meaning, in one place."""

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # the parser checks the ranges; to a type checker they are plain numbers
    ClosedUnitInterval = float
    NonNegativeFloat = float
    PositiveFloat = float
    NonNegativeInt = int
    PositiveInt = int
    # `cli.auto_numbers` puts a number there before anything is made from the section
    PositiveIntOrAuto = int
    PositiveFloatOrAuto = float
else:
    from jsonargparse.typing import (
        ClosedUnitInterval,
        NonNegativeFloat,
        NonNegativeInt,
        PositiveFloat,
        PositiveInt,
    )

    PositiveIntOrAuto = PositiveInt | Literal["auto"]
    PositiveFloatOrAuto = PositiveFloat | Literal["auto"]

__all__ = [
    "AUTO",
    "BLOCKS",
    "KEYS",
    "SWITCHED",
    "TYPED",
    "Checkpoint",
    "EarlyStopping",
    "ExponentialMovingAverage",
    "MixedPrecision",
    "Regularizer",
    "TensorBoard",
    "Training",
    "Warmup",
]


@dataclass
class MixedPrecision:
    """Compute in 16 bits where that is safe.

    Attributes:
        enabled: Run forward and backward under autocast.
        dtype: auto takes bfloat16 where the device has it, otherwise float16 with loss scaling.
    """

    enabled: bool = False
    dtype: Literal["auto", "float16", "bfloat16"] = "auto"


@dataclass
class Warmup:
    """A linear rise of the learning rate, one step at a time, before the schedule begins.

    Attributes:
        enabled: Warm up.
        epochs: How long; fractions are fine.
    """

    enabled: bool = False
    epochs: NonNegativeFloat = 5.0


@dataclass
class EarlyStopping:
    """End the run when the monitored score no longer improves.

    Attributes:
        enabled: Watch the monitor.
        patience: Epochs without improvement before the end.
        min_delta: Smallest change that counts as improvement, absolute.
        restore_best_weights: Leave the best weights in the model at the end of the run.
    """

    enabled: bool = False
    patience: PositiveInt = 10
    min_delta: NonNegativeFloat = 0.0
    restore_best_weights: bool = True


@dataclass
class Regularizer:
    """A penalty on the weights, l1 * sum|w| + l2 * sum w^2, added to the training loss only.

    Attributes:
        enabled: Add the penalty; biases and norms are left alone.
        l1: Factor of the absolute values.
        l2: Factor of the squares (no factor 1/2, as in Keras).
    """

    enabled: bool = False
    l1: NonNegativeFloat = 0.0
    l2: NonNegativeFloat = 1.0e-4


@dataclass
class ExponentialMovingAverage:
    """A running average of the weights, used for validation, checkpoints and everything after.

    Attributes:
        enabled: Keep the average.
        decay: Share of the old average kept at each step; starts lower and rises to this value.
    """

    enabled: bool = False
    decay: ClosedUnitInterval = 0.999


@dataclass
class TensorBoard:
    """What TensorBoard is shown, with the meaning these names have in Keras.

    Attributes:
        enabled: Write event files into the run directory.
        histogram_freq: Epochs between histograms of the weights; 0 = never.
        write_graph: Write the network's graph once.
        write_images: Write the weights as images whenever histograms are written.
        update_freq: epoch, batch, or a number of steps between scalars of single steps: the training loss, the learning
            rate and the gradient's norm.
    """

    enabled: bool = True
    histogram_freq: NonNegativeInt = 1
    write_graph: bool = True
    write_images: bool = False
    update_freq: Literal["epoch", "batch"] | PositiveInt = "epoch"


@dataclass
class Checkpoint:
    """When to save besides the end of each epoch.

    Attributes:
        every_n_steps: Optimizer steps between saves within an epoch.
        every_minutes: Minutes between saves within an epoch.
        keep: How many of the newest of those saves to keep.
    """

    every_n_steps: PositiveInt | None = None
    every_minutes: PositiveFloat | None = None
    keep: PositiveInt = 3


@dataclass
class Training:
    """How the model is trained.

    Attributes:
        epochs: Whole passes over the training set.
        batch_size: Images per optimizer step over ALL processes and micro-batches; auto: as many as fit into memory.
        learning_rate: Peak learning rate, after warm-up; auto: found by a short search before the fit.
        optimizer: A name of timm's optimizer factory, or {type: sgd, momentum: 0.9, weight_decay: 1.0e-4, ...}.
        loss: categorical_crossentropy, focal, dice, dice_ce, tversky, label_smoothing or iou; or with options,
            {type: focal, alpha: 0.25, gamma: 2.0, ...}.
        monitor: The one score that checkpoints, early stopping and plateau schedules watch.
        monitor_mode: auto (from the score), min or max.
        accumulate: Micro-batches per optimizer step; batch_size stays the size of the step. auto: the fewest with which
            it fits into memory.
        mixed_precision: Compute in 16 bits where that is safe.
        lr_schedule: constant, cosine_annealing, exponential, step, polynomial, reduce_on_plateau or one_cycle; or with
            options, {type: step, every: 10, factor: 0.1, ...}; {enabled: false} is constant.
        warmup: A linear rise of the learning rate before the schedule.
        early_stopping: End the run when the monitor no longer improves.
        regularizer: A penalty on the weights.
        gradient_clip: Largest norm of the gradient; null does not clip.
        ema: A running average of the weights.
        tensorboard: What TensorBoard is shown.
        pictures: Samples on each sheet of pictures that a validation gives to the loggers that can show them, with its
            charts; 0 = neither.
        on_nonfinite: Where the loss or the gradient of a step is no number: stop the run, or skip the step (after ten
            in a row it stops as well; a GPU is then waited for in each step).
        compile: Compile the network with torch.compile.
        checkpoint: When to save besides the end of each epoch.
    """

    epochs: PositiveInt = 50
    batch_size: PositiveIntOrAuto = 32
    learning_rate: PositiveFloatOrAuto = 1.0e-3
    optimizer: dict[str, Any] = field(default_factory=lambda: {"type": "adamw"})
    loss: dict[str, Any] = field(default_factory=lambda: {"type": "dice_ce"})
    monitor: str = "val/loss"
    monitor_mode: Literal["auto", "min", "max"] = "auto"
    accumulate: PositiveIntOrAuto = 1
    mixed_precision: MixedPrecision = field(default_factory=MixedPrecision)
    lr_schedule: dict[str, Any] = field(default_factory=lambda: {"enabled": True, "type": "cosine_annealing"})
    warmup: Warmup = field(default_factory=Warmup)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    regularizer: Regularizer = field(default_factory=Regularizer)
    gradient_clip: PositiveFloat | None = None
    ema: ExponentialMovingAverage = field(default_factory=ExponentialMovingAverage)
    tensorboard: TensorBoard = field(default_factory=TensorBoard)
    pictures: NonNegativeInt = 8
    on_nonfinite: Literal["stop", "skip"] = "stop"
    compile: bool = False
    checkpoint: Checkpoint = field(default_factory=Checkpoint)

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether a smaller or a larger monitor is better; ``auto`` takes losses and errors as smaller."""
        if self.monitor_mode != "auto":
            return self.monitor_mode
        # Of val/recall_per_class/glossy the score is recall_per_class.
        score = self.monitor.split("/")[1] if "/" in self.monitor else self.monitor
        return "min" if {"loss", "error", "regularizer"} & set(score.split("_")) else "max"

    def as_dict(self) -> dict[str, Any]:
        """The section as plain data for modules and checkpoints, with `monitor_mode` decided."""
        return {**asdict(self), "monitor_mode": self.mode}


#: Blocks with an on/off switch; ``warmup: true`` is short for ``warmup: {enabled: true}``.
SWITCHED = ("mixed_precision", "lr_schedule", "warmup", "early_stopping", "regularizer", "ema", "tensorboard")
#: Blocks that are a type with that type's own options; ``loss: focal`` is short for ``loss: {type: focal}``.
TYPED = ("optimizer", "loss", "lr_schedule")
#: Keys that may be `auto`: a number that a search before the fit finds, in this order.
AUTO = ("batch_size", "accumulate", "learning_rate")
#: Blocks whose keys are fixed: the key -> its dataclass.
BLOCKS: dict[str, type] = {
    f.name: f.type
    for f in fields(Training)
    if isinstance(f.type, type) and hasattr(f.type, "__dataclass_fields__")
}
#: Every key of the section.
KEYS = tuple(f.name for f in fields(Training))
