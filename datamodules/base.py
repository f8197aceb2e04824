"""What every datamodule shares: parts, loaders, reading for prediction, the opening summary."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from datamodules.augment import create_augmentation
from datamodules.dataset import Batch, PictureDataset
from datamodules.description import describe_data
from datamodules.geometry import VOID
from datamodules.input_reader import warn_of_differences
from datamodules.loaders import WaitingLoader, make_loader
from datamodules.mixing import mix_batch
from datamodules.options import Augment, Interpolation, Loader, Read, Split
from datamodules.part_datasets import PartDatasets, global_seed
from datamodules.predict_paths import agree_on_predict_paths
from datamodules.problems import Problems
from datamodules.resume import Cut, ResumePoint
from datamodules.sampler import GlobalBatchSampler, training_sampler
from datamodules.samples import Samples
from datamodules.sampling import create_weights
from datamodules.sources import find_source
from datamodules.splits import split_samples
from datamodules.targets import Target
from datamodules.view import View
from errors import LoupeError

__all__ = ["LoupeDataModule"]


class LoupeDataModule(pl.LightningDataModule, ABC):
    """Base of the datamodules; a task says how its samples are found, read and counted.

    The constructor only stores. After `setup` for fit, validate or test: `class_names`, `num_classes`, `samples` (by
    part) and `train_paths`, `val_paths`, `test_paths`; after `setup("predict")` only `predict_paths`, since prediction
    needs no training data.
    """

    ignore_index = VOID
    #: What a batch holds for the task beside the picture.
    gives: tuple[str, ...]
    #: What the task reads of the demo data: "" for the folder, or a file in it.
    demo_file = ""
    #: Whether augmentation may turn the pictures.
    turns = True
    #: Whether the annotations say where in a picture objects are.
    knows_objects = False
    #: Whether a picture may have several labels, or none.
    multi_label = False
    num_classes: int
    class_names: list[str]

    def __init__(
        self,
        root: str | None = None,
        *,
        dataset: str | None = None,
        image_size: int | tuple[int, int] = 256,
        read: Read = Read(),
        split: Split = Split(),
        augment: Augment = Augment(),
        loader: Loader = Loader(),
        predict_path: str | None = None,
    ) -> None:
        super().__init__()
        self.root = root
        self.dataset = dataset
        self.image_size = image_size
        self.read = read
        self.split = split
        self.augment = augment
        self.loader = loader
        self.predict_path = predict_path
        self.samples: dict[str, Samples] = {}
        self.split_origin, self.view = "", View()
        self.predict_paths: Sequence[str] = []
        self.predict_root = ""
        #: Where the readers tell what is wrong with the data; `check` has them collect.
        self.problems = Problems()
        #: All samples, before they are split.
        self.found: Samples | None = None
        self._resume = ResumePoint()
        self._datasets = PartDatasets(self)

    @abstractmethod
    def find_samples(self, root: Path) -> Samples:
        """All samples below `root` (a folder or a manifest), with their annotations as the files give them."""

    @abstractmethod
    def find_classes(self, samples: dict[str, Samples]) -> list[str]:
        """Class names from the annotations, in the order of the class numbers; raises LoupeError for bad ones."""

    @abstractmethod
    def target(self, samples: Samples) -> Target:
        """What reads the annotations of these samples."""

    def strata(self, samples: Samples) -> Sequence[str] | None:
        """Drawn parts get their share of each of these groups; None: no groups."""
        return None

    def mask_key(self, samples: Samples) -> str | None:
        """What masks that are kept beside the pictures depend on; None where there are none."""
        return None

    def class_counts(self) -> list[int] | None:
        """How often each class occurs in the training part, in pictures or pixels; None where there are no classes."""
        return None

    def describe_annotations(self) -> str:
        """One line for the opening summary."""
        names = ", ".join(self.class_names[:8]) + (", ..." if self.num_classes > 8 else "")
        return f"classes: {self.num_classes} ({names})"

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the network input, pixels."""
        size = self.image_size
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1:
            raise LoupeError(f"data.image_size is {size}; it is a number of pixels, or height and width")
        return height, width

    def input_contract(self) -> dict[str, Any]:
        """How pictures reach the network, in plain values for the checkpoint; `InputReader` takes it."""
        given = self.read.interpolation
        return {
            "image_size": list(self.size_hw),
            "resize": self.read.resize,
            "interpolation": "bilinear" if given == "auto" else given,
            "in_channels": self.read.in_channels,
        } | ({} if self.read.value_range is None else {"value_range": [*map(float, self.read.value_range)]})

    def settle_input(self, interpolation: Interpolation) -> dict[str, Any]:
        """The input contract, once the model can say what `auto` means: the interpolation of its weights."""
        if self.read.interpolation == "auto":
            self.read = replace(self.read, interpolation=interpolation)
        return self.input_contract()

    def adopt(self, card: Mapping[str, Any]) -> None:
        """Read pictures as a checkpoint's model was trained on them: its size and resize rule win for prediction.

        Warns where they are not those that this datamodule was given.
        """
        contract = card["input"]
        interpolation = contract.get("interpolation", "bilinear")
        given = {**self.input_contract(), "interpolation": self.read.interpolation}
        warn_of_differences(given, {**contract, "interpolation": interpolation})
        self.image_size = (int(contract["image_size"][0]), int(contract["image_size"][1]))
        self.read = replace(
            self.read,
            resize=contract["resize"],
            interpolation=interpolation,
            in_channels=int(contract["in_channels"]),
            value_range=contract.get("value_range"),
        )

    def prepare_data(self) -> None:
        """On one process of each machine: does the slow first look, whose result the others find in the cache."""
        if not (self.trainer and self.trainer.predicting):
            # setup says the same on every process, so that all of them end
            with contextlib.suppress(LoupeError):
                self._open()

    def setup(self, stage: str | None = None) -> None:
        """Finds the files and checks what can be checked without decoding pictures; a second call finds nothing new."""
        if stage == "predict":
            if not self.predict_paths:
                self.predict_paths, self.predict_root = agree_on_predict_paths(self)
            return
        if stage == "fit":
            self._resume = ResumePoint()  # an earlier fit's; a checkpoint is loaded after this
        self._open()
        if stage == "test" and not len(self.samples["test"]):
            raise LoupeError(
                "the data has no test part; add one (a test folder, or test in the manifest's split column), "
                "or score the val part with `train.py validate`"
            )

    def teardown(self, stage: str | None = None) -> None:
        """Says what could not be read."""
        self._datasets.tell_skipped()

    def describe(self) -> list[str]:
        """A few lines for the opening summary of a run."""
        return describe_data(self)

    def to_evaluate(self, part: str) -> tuple[int, list[int]]:
        """How many samples a part has, and the positions of those that this process could not read and left out."""
        return len(self.samples[part]), self._datasets.unreadable(part)

    @property
    def mixes(self) -> bool:
        """Whether the pictures of a training batch are mixed, and with them their labels."""
        return bool(self.augment.mixup or self.augment.cutmix)

    @property
    def train_paths(self) -> Sequence[str]:
        """Picture files of the training part; `index` in a batch counts along it."""
        return self.samples["train"].paths

    @property
    def val_paths(self) -> Sequence[str]:
        """Picture files of the validation part."""
        return self.samples["val"].paths

    @property
    def test_paths(self) -> Sequence[str]:
        """Picture files of the test part; may be empty."""
        return self.samples["test"].paths

    def state_dict(self) -> dict[str, Any]:
        """Where in the training data a fit stands, for the checkpoint."""
        trainer = self.trainer
        if trainer is None or trainer.state.fn != "fit":
            return {}
        return ResumePoint.of(trainer).state(self._cut())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the batch that would have come next; Lightning calls this before the loaders are made.

        Raises LoupeError where the epoch was left in the middle and is cut into other batches now.
        """
        if self.trainer is None or self.trainer.state.fn == "fit":  # evaluation has no epoch to go on with
            self._resume = ResumePoint.from_state(state_dict, self._cut())

    def _cut(self) -> Cut:
        accumulate = int(self.trainer.accumulate_grad_batches) if self.trainer else 1
        size, how = len(self.samples["train"]), self.loader.sampling
        processes = self._processes()[0]
        return Cut(self.loader.batch_size, accumulate, processes, size, global_seed(), how, self.mixes)

    def train_dataloader(self) -> WaitingLoader:
        """Batches of the training part, shuffled and augmented."""
        world, rank = self._processes()
        samples = self.samples["train"]
        sampler = training_sampler(
            len(samples),
            batch_size=self.loader.batch_size,
            # Lightning's overfit_batches means the same batches in each epoch
            shuffle=not getattr(self.trainer, "overfit_batches", 0),
            seed=global_seed(),
            world=world,
            rank=rank,
            accumulate=self.trainer.accumulate_grad_batches if self.trainer else 1,
            single_ok=getattr(self.trainer and self.trainer.lightning_module, "accepts_single_sample", True),
            pairs=self.mixes,
            weights=create_weights(self.loader.sampling, samples, self.strata),
        )
        start = self._resume.start(self.trainer.current_epoch if self.trainer else 0)
        sampler.resume(start.epoch, start.batch)
        return make_loader(self._datasets.of_part("train"), sampler, self.loader, self.trainer)

    def val_dataloader(self) -> WaitingLoader:
        """Batches of the validation part, in order, each sample once over all processes."""
        return self._in_order(self._datasets.of_part("val"))

    def test_dataloader(self) -> WaitingLoader:
        """Batches of the test part, in order, each sample once over all processes."""
        return self._in_order(self._datasets.of_part("test"))

    def predict_dataloader(self) -> WaitingLoader:
        """Batches of `predict_paths`, in order, without annotations."""
        return self._in_order(self._datasets.of_pictures(self.predict_paths))

    def unreadable_predict(self) -> list[tuple[int, str]]:
        """Positions in `predict_paths` that this process left out, and why they could not be read."""
        return self._datasets.reasons("predict")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Mixes the pictures of a training batch that are to be mixed, on the device."""
        return mix_batch(batch, self.num_classes) if "mix" in batch else batch

    def _open(self) -> None:
        if self.samples:
            return
        self.size_hw  # noqa: B018  what is wrong with a setting is said before any file is read
        create_augmentation(self.augment, turns=self.turns, channels=self.read.in_channels)
        try:
            source = find_source(self.root, self.dataset, demo_file=self.demo_file, gives=self.gives)
            found = self.found = self.find_samples(source)
        except OSError as error:  # a folder that may not be read, a name that is too long
            raise LoupeError(f"data.root {self.root} cannot be read: {error}") from error
        samples, self.split_origin = split_samples(found, self.split, self.strata(found), self.problems)
        self.class_names = self.find_classes(samples)
        self.num_classes = len(self.class_names)
        self.samples = samples

    def _in_order(self, dataset: PictureDataset) -> WaitingLoader:
        world, rank = self._processes()
        size = world if self.view.is_of_one_picture else self.loader.batch_size
        sampler = GlobalBatchSampler(len(dataset), batch_size=size, world=world, rank=rank)
        return make_loader(dataset, sampler, self.loader, self.trainer, one_ahead=self.view.scale is not None)

    def _processes(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
