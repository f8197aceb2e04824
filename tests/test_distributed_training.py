"""One process and two: the same samples, augmentation, losses and weights, for each task and what it may be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.fitting import write_pictures
from tests.launched import Job, Outcome, run_alone, run_together, weights
from tests.tasks import CONFIGS, draw

STEPS = 51
#: 17 epochs of nine pictures in batches of four: the last batch is one picture, and nothing for process 1.
SHORT = (
    "--data.image_size=32",
    "--data.augment.preset=light",
    "--data.loader.num_workers=0",
    "--training.epochs=17",
    "--training.batch_size=4",
    "--training.monitor=train/loss",
    "--training.tensorboard=false",
    "--trainer.accelerator=cpu",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.limit_val_batches=0",
    "--trainer.enable_checkpointing=false",
)
EXACT = ("--trainer.precision=64-true",)
SGD = ("--training.optimizer={type: sgd, momentum: 0.9}", "--training.learning_rate=0.003")
ADAMW = ("--training.optimizer=adamw", "--training.learning_rate=0.001")
#: Layer norms only, no dropout: about 12,000 weights.
BACKBONE = ("--model.backbone=convnext_atto", "--model.weights=null")
LAYERS = "depths: [1, 1, 1, 1], dims: [8, 8, 16, 16]"
CONVNEXT = (*BACKBONE, f"--model.options={{{LAYERS}}}")
CROPPER = (*BACKBONE, f"--model.options={{{LAYERS}, hidden: 64, head_norm: group, output_stride: 8}}")
UNET = ("--model.options={base_filters: 4, depth: 2, norm: group}",)
EMA = "--training.ema={enabled: true, decay: 0.9}"
REGULARIZER = "--training.regularizer={enabled: true, l1: 1.0e-4, l2: 1.0e-3}"


@dataclass(frozen=True)
class Recipe:
    """A fit, and how far one process and two may be apart after 51 steps: in weights, or in each step's loss."""

    task: str
    flags: tuple[str, ...]
    weights: float | None = None
    losses: float | None = None


WEIGHTED_DICE = "--training.loss={type: dice_ce, class_weight: [0.5, 2.0]}"
WEIGHTED_CE = "--training.loss={type: categorical_crossentropy, class_weight: balanced}"
BALANCED = "--data.loader.sampling=balanced"
MIXUP = "--data.augment.mixup=0.4"
RECIPES = {
    "segmentation": Recipe(
        "segmentation", (*EXACT, *ADAMW, WEIGHTED_CE, REGULARIZER, EMA), weights=1e-10, losses=1e-10
    ),
    "dice": Recipe(
        "segmentation",
        (*EXACT, *SGD, "--training.loss=dice", "--training.gradient_clip=0.5", "--data.augment.cutmix=1.0"),
        weights=1e-10,
        losses=1e-10,
    ),
    "classification": Recipe(
        "classification", (*EXACT, *ADAMW, WEIGHTED_CE, BALANCED, REGULARIZER, EMA), weights=1e-10
    ),
    "mixup": Recipe("classification", (*EXACT, *SGD, MIXUP, BALANCED), weights=1e-10, losses=1e-10),
    "cropping": Recipe("cropping", (*EXACT, *ADAMW, REGULARIZER, EMA), weights=1e-10, losses=1e-10),
    "segmentation, float32": Recipe("segmentation", (*SGD, WEIGHTED_DICE, REGULARIZER, EMA), weights=1e-5),
    "segmentation, AdamW": Recipe("segmentation", (*ADAMW, WEIGHTED_DICE), losses=1e-4),
}
MORE = {
    "classification, float32": Recipe(
        "classification", (*SGD, WEIGHTED_CE, BALANCED, EMA, REGULARIZER), weights=1e-5
    ),
    "cropping, float32": Recipe("cropping", (*SGD, EMA, REGULARIZER), weights=1e-5),
    "classification, AdamW": Recipe("classification", (*ADAMW, MIXUP), losses=1e-4),
    "cropping, AdamW": Recipe("cropping", ADAMW, losses=1e-4),
}


def write_data(task: str, root: Path) -> Path:
    """Nine pictures to train on; three of class `right`, seven of class `left`; one without an object."""
    if task == "segmentation":
        return write_pictures(root, {"train": 9, "val": 4, "test": 1}, void=True)
    root.mkdir(parents=True)
    rows = ["path,x1,y1,x2,y2,label,split"]
    for number in range(13):
        picture, box = draw(number, with_object=number != 3)
        Image.fromarray(picture).save(root / f"{number}.png")
        corners = ",".join(map(str, box)) if number != 3 else ",,,"
        label, part = "right" if number % 4 == 3 else "left", "train" if number < 9 else "val"
        rows.append(f"{number}.png,{corners},{label},{part}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def job_of(recipe: Recipe, data: dict[str, Path], folder: Path) -> Job:
    config = {"segmentation": "seg_unet", "classification": "cls_mobilenetv3", "cropping": "crop_mobilenetv3"}
    tiny = {"segmentation": UNET, "classification": CONVNEXT, "cropping": CROPPER}[recipe.task]
    words = ["fit", f"--config={CONFIGS / config[recipe.task]}.yaml", f"--data.root={data[recipe.task]}"]
    return Job([*words, *SHORT, *tiny, *recipe.flags], [str(folder)])


class Pair:
    """The same recipes on one process and on two."""

    def __init__(self, folder: Path, recipes: dict[str, Recipe]) -> None:
        data = {
            task: write_data(task, folder / f"data_{task}")
            for task in sorted({r.task for r in recipes.values()})
        }
        self.folder, self.names = folder, list(recipes)
        alone = [job_of(recipe, data, folder / "alone") for recipe in recipes.values()]
        shared = [job_of(recipe, data, folder / "shared") for recipe in recipes.values()]
        self.two = run_together(folder / "two", shared, world=2, starter="torchrun")
        self.one = run_alone(folder / "one", alone)

    def check(self, name: str, recipe: Recipe) -> tuple[float, float]:
        number = self.names.index(name)
        ours, theirs = self.one[number], self.two[number]
        assert [ours.code, *(outcome.code for outcome in theirs)] == [0, 0, 0], theirs[0].err
        apart = self.apart(number, ours, theirs)
        if recipe.weights is not None:
            assert apart[0] <= recipe.weights, name
        if recipe.losses is not None:
            assert apart[1] <= recipe.losses, name
        return apart

    def apart(self, number: int, ours: Outcome, theirs: list[Outcome]) -> tuple[float, float]:
        assert len(ours.losses) == len(theirs[0].losses) == STEPS
        assert abs(ours.losses[0] - ours.losses[-1]) > 1e-3, "something was learned"
        losses = float(np.abs(np.subtract(ours.losses, theirs[0].losses)).max())
        alone = weights(self.folder / "one", number)
        ranks = [weights(self.folder / "two", number, rank) for rank in (0, 1)]
        for key, value in ranks[0].items():
            torch.testing.assert_close(ranks[1][key], value, rtol=0, atol=0)
        return max(float((ranks[0][key] - value).abs().max()) for key, value in alone.items()), losses


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("recipes"), RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_end_where_one_does(pair: Pair, name: str) -> None:
    pair.check(name, RECIPES[name])


def test_the_launcher_is_told_once(pair: Pair) -> None:
    first, second = pair.two[0]
    assert first.out.count("torchrun: 1 node x 2 processes, strategy ddp\n") == 1
    assert second.out == ""
    assert "2 x cpu" in first.out


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("more"), MORE)


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_two_processes_end_where_one_does_in_float32(more: Pair, name: str) -> None:
    more.check(name, MORE[name])
