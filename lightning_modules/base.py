"""What every task's module shares: building from the data, the steps, the scores, and what a checkpoint tells."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric

from errors import unknown
from lightning_modules.backbone_training import BackboneTraining
from lightning_modules.calibration import Calibration
from lightning_modules.card import adopt_card, classes_of, make_card, refuse_other_network
from lightning_modules.criterion import DataFacts, create_criterion
from lightning_modules.epoch_sums import keep_sums, log_again, take_sums
from lightning_modules.evaluation import Evaluation, log_scores, names_logged
from lightning_modules.links import Link
from lightning_modules.optimization import create_optimization, end_epoch
from lightning_modules.step_seed import seed_step
from lightning_modules.training_loss import TrainingLoss
from losses import LOSSES, Step, create_loss
from metrics import MeanLoss
from models import accepts_single_sample, compile_network, set_backbone_frozen
from optim import Schedule

__all__ = ["Batch", "LoupeModule", "Stage"]

Batch = dict[str, Tensor]
Stage = Literal["train", "val", "test"]


class LoupeModule(LightningModule, ABC):
    """The base of every task: a network and a loss that are built once the data is known.

    A task says how its network, loss and scores are made, and what they are given; steps, logging, optimizers,
    freezing and checkpoints are here. The network is ``self.model``, from an image batch to outputs.

    Args:
        weights: null, ``imagenet`` (from the hub), or a FILE for the backbone or for the whole network.
        options: More arguments of the network, such as ``{drop_path_rate: 0.1}``.
        freeze_backbone: Keep the backbone's weights and norms as they are.
        unfreeze_epoch: Train the backbone too from this epoch on (the first is 0).
        backbone_learning_rate_factor: Learning rate of the backbone as a factor of `training.learning_rate`.
        training: Set by the `training:` section; null for a module that only predicts.
    """

    #: The losses that `training.loss` may name, what builds one, and what the task wants compared.
    losses: ClassVar[Mapping[str, Callable[..., nn.Module]]] = LOSSES
    create_loss: ClassVar[Callable[..., nn.Module]] = staticmethod(create_loss)
    compares: ClassVar[str]
    #: How many terms with means of their own the loss has.
    terms: ClassVar[int] = 1
    #: What the task reads of a batch beside the picture.
    learns: ClassVar[tuple[str, ...]]
    #: Whether the data may hold "no label here", which the loss is then told of.
    knows_void: ClassVar[bool] = False
    #: Names of the scores that the task logs for each stage beside ``loss``, as in ``val/iou``; the first is shown.
    score_names: ClassVar[tuple[str, ...]]
    #: Scores that are logged for each class, as in ``val/recall_per_class/NAME``.
    class_score_names: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        weights: str | None = None,
        options: dict[str, Any] | None = None,
        freeze_backbone: bool = False,
        unfreeze_epoch: int | None = None,
        backbone_learning_rate_factor: float = 1.0,
        training: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.weights, self.options = weights, options
        factor = backbone_learning_rate_factor
        self.backbone_training = BackboneTraining(freeze_backbone, unfreeze_epoch, factor)
        self.recipe: dict[str, Any] = dict(training or {})
        self.class_names: list[str] | None = None
        self.multi_label = self.restoring = False
        self.input_contract: dict[str, Any] = {}
        self.calibration, self._response = Calibration(), tuple[nn.Module, ...]()  # not a part of this module
        self.validated_epoch, self.used_rate, self.scores_so_far = -1, 0.0, dict[str, float]()
        self.model: nn.Module | None = None
        self.criterion: nn.Module | None = None
        self.training_loss = TrainingLoss()
        self.train_loss, self.train_regularizer = MeanLoss(self.terms), MeanLoss()
        self.evaluations = nn.ModuleDict()
        #: All that the last validation or test gave: `Evaluation.finish`.
        self.evaluated: dict[str, Tensor] = {}

    @abstractmethod
    def create_network(self, class_names: list[str], in_channels: int, *, pretrained: bool) -> nn.Module:
        """The network for these classes; with ``pretrained`` False no weights are looked for."""

    @abstractmethod
    def create_scores(self, class_names: list[str]) -> Metric:
        """The metric whose ``compute`` gives ``score_names``, and vectors ``NAME_per_class``."""

    @abstractmethod
    def loss_terms(self, outputs: Tensor, batch: Batch, step: Step | None = None) -> tuple[Tensor, Tensor]:
        """What adds up to the loss of the global batch, (T,), and of how many samples here each is the mean, (T,).

        Scalars where T is 1. With ``step`` the loss is the part that this batch is of an optimizer step.
        """

    @abstractmethod
    def loss_step(self, outputs: Tensor, batches: Sequence[Batch]) -> Step:
        """What the loss must know of a step in micro-batches, these, for the first of which there are outputs."""

    @abstractmethod
    def update_scores(self, scores: Any, outputs: Tensor, batch: Batch) -> None:
        """Count a batch in what ``create_scores`` made."""

    @abstractmethod
    def to_show(self, scores: Any, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """What people look at of a batch that was just counted, see docs/batch.md; does not wait for the device."""

    @abstractmethod
    def prediction(self, outputs: Tensor, batch: Batch, position: int) -> dict[str, Any]:
        """What docs/batch.md calls a prediction, less ``index``, for the sample at this position of the batch."""

    @property
    @abstractmethod
    def link(self) -> Link:
        """Between the network's outputs and probabilities."""

    @property
    def input_interpolation(self) -> Literal["bilinear", "bicubic"]:
        """How pictures should be resized for this network, where the user does not say."""
        return "bilinear"

    # -- building -----------------------------------------------------------------------------------------------

    def adopt(self, card: Mapping[str, Any]) -> None:
        """Take what a checkpoint's card says: it wins over the data."""
        adopt_card(self, card)

    def configure_model(self) -> None:
        """Build network, loss and scores from the data at hand; does nothing the second time."""
        if self.model is not None:
            return
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        self.class_names = classes_of(data, self)
        settled = data.settle_input(self.input_contract.get("interpolation") or self.input_interpolation)
        if not self.trainer.predicting:
            self.input_contract = settled  # a fit that goes on may have another size
            self.multi_label = bool(getattr(data, "multi_label", False))
        self.build(DataFacts.of(data, learns=self.learns, knows_void=self.knows_void))

    def build(self, facts: DataFacts = DataFacts()) -> None:
        """Make the network for the known classes, and with a recipe also loss and scores."""
        names = self.class_names
        assert names is not None, "class_names are set by configure_model() or adopt()"
        channels = int(self.input_contract["in_channels"])
        self.model = self.create_network(names, channels, pretrained=not self.restoring)
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if self.backbone_training.frozen:
            set_backbone_frozen(self.model, True)
        if self.recipe:
            self.criterion = create_criterion(self.create_loss, self.recipe["loss"], facts)
            made = {stage: Evaluation(self.create_scores(names), self.terms) for stage in ("val", "test")}
            self.evaluations = nn.ModuleDict(made)
            if self.recipe["compile"]:
                compile_network(self.model)  # in place: the state dict keeps the keys of the plain network

    @property
    def network(self) -> nn.Module:
        """The network, once it is built."""
        assert self.model is not None, "configure_model() builds the network"
        return self.model

    @property
    def built_loss(self) -> nn.Module:
        """The loss of the recipe."""
        assert self.criterion is not None, "without a training recipe there is no loss"
        return self.criterion

    @property
    def logged_names(self) -> list[str]:
        """Every key that a fit logs once an epoch, and `training.monitor` may therefore name."""
        return names_logged(self)

    @property
    def accepts_single_sample(self) -> bool:
        """False where batch norm in training would see a single value if it were given one picture."""
        channels = int(self.input_contract["in_channels"])
        return accepts_single_sample(self.network, (channels, *self.input_contract["image_size"]))

    # -- steps and epochs ---------------------------------------------------------------------------------------

    def forward(self, image: Tensor) -> Tensor:
        """``image`` (B, C, H, W) uint8, or float in 0..1 -> outputs of the network, or of what answers in its place."""
        answers = self._response[0] if self._response and not self.training else self.network
        return answers(image.contiguous(memory_format=torch.channels_last))

    def answer_with(self, response: nn.Module | None) -> None:
        """Have evaluation and prediction ask ``response``, which takes and gives what the network does; None: it."""
        self._response = () if response is None else (response,)

    def _shared_step(self, batch: Batch, stage: Stage) -> Any:
        outputs = self(batch["image"])
        if stage == "train":
            return self.training_loss(self, outputs, batch)
        evaluation = cast(Evaluation, self.evaluations[stage])
        evaluation.add(*self.loss_terms(outputs, batch), batch)
        self.update_scores(evaluation.scores, outputs, batch)
        return self.to_show(evaluation.scores, outputs, batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss to descend: that of the batch, or its part of a step in micro-batches, and the regularizer."""
        self.used_rate = float(self.schedule.get_last_lr()[-1])
        return self._shared_step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Count a validation batch; returns `to_show`, which is for callbacks."""
        return self._shared_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return self._shared_step(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        """One prediction a valid sample."""
        outputs = self(batch["image"])
        numbered = enumerate(zip(batch["index"].tolist(), batch["valid"].tolist(), strict=True))
        return [{"index": i, **self.prediction(outputs, batch, at)} for at, (i, valid) in numbered if valid]

    def on_fit_start(self) -> None:
        """Refuse a monitor that names a class the data does not have, now that the classes are known."""
        self.calibration = Calibration()  # what is trained on has other probabilities
        monitor = self.recipe.get("monitor", "train/loss")
        if monitor not in self.logged_names:
            raise unknown("training.monitor", monitor, self.logged_names)

    def on_train_start(self) -> None:
        """Go on within an epoch: Lightning calls no hook for its start, and nothing might be logged of it any more."""
        if cast(Any, self.trainer.fit_loop.epoch_loop.batch_progress.current).processed:
            self.on_train_epoch_start()
            log_again(self)

    def on_train_epoch_start(self) -> None:
        """Unfreeze the backbone when its epoch has come."""
        self.training_loss.begin_epoch()
        self.backbone_training.begin(self.network, self.current_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make the random numbers of the step those that it has in any run."""
        seed_step(self.current_epoch, batch_idx, self.global_rank)

    def on_after_backward(self) -> None:
        """Average a thawed backbone's gradients: DDP does not know of them."""
        self.backbone_training.average_gradients(self.network, self.trainer)

    def on_train_epoch_end(self) -> None:
        """Log the learning rate of the last step, and show the monitored score to the schedule."""
        end_epoch(self)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole validation set."""
        self.evaluated = log_scores(self, "val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of the whole test set."""
        self.evaluated = log_scores(self, "test")

    def on_validation_end(self) -> None:
        """Remember that this epoch has fresh scores."""
        if not self.trainer.sanity_checking:
            self.validated_epoch = self.current_epoch

    def has_fresh(self, score: str) -> bool:
        """Whether ``score`` is of this epoch: in one without validation, that of an earlier epoch is still there."""
        return not score.startswith("val/") or self.validated_epoch == self.current_epoch

    @property
    def epoch_means(self) -> dict[str, MeanLoss]:
        """What is added up over an epoch of training, by the name that it is logged under."""
        extra = {"train/regularizer": self.train_regularizer}
        return {"train/loss": self.train_loss} | (extra if self.recipe["regularizer"]["enabled"] else {})

    @property
    def schedule(self) -> Schedule:
        """The learning-rate schedule of the running fit."""
        return cast(Schedule, self.lr_schedulers())

    def configure_optimizers(self) -> Any:
        return create_optimization(self)

    # -- checkpoints --------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the card: all that is needed to use the weights without the data they were trained on."""
        checkpoint["loupe"] = make_card(self, self.class_names, self.input_contract, self.multi_label)
        keep_sums(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what differs when the weights are of another network."""
        refuse_other_network(self.state_dict(), checkpoint["state_dict"])
        take_sums(self, checkpoint)
