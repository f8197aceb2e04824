"""Every loss and every key of `training:` on every task: two steps each, or a refusal that says why."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from cli import Training
from losses import BOX_LOSSES, LOSSES
from tests.conftest import Outcome
from tests.tasks import CONFIGS, TASKS, Task, write_task

Loupe = Callable[..., Outcome]
TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_task(name, tmp_path_factory.mktemp(name)) for name in TASKS}


def run_of(task: Task) -> Path:
    return Path("runs") / task.config / "version_0"


def fit(loupe: Loupe, task: Task, root: Path, *flags: str) -> list[dict[str, str]]:
    """The rows of metrics.csv of a fit that ended well and wrote both checkpoints."""
    outcome = loupe("fit", *task.words, f"--data.root={root}", *flags)
    assert outcome.code == 0, outcome.err
    run = run_of(task)
    for name in ("best", "last"):
        assert (run / "checkpoints" / f"{name}.ckpt").is_file()
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def steps(task: Task) -> int:
    last = run_of(task) / "checkpoints" / "last.ckpt"
    return int(torch.load(last, map_location="cpu", weights_only=True)["global_step"])


# --- losses -------------------------------------------------------------------------------------------------------

OPTIONS = {"weighted_sum": "{type: weighted_sum, losses: [{type: dice}, {type: focal, weight: 2.0}]}"}
FITTING = [
    (task, loss)
    for task, table in (("segmentation", LOSSES), ("classification", LOSSES), ("cropping", BOX_LOSSES))
    for loss in table
]
OTHERS = [
    (task, loss)
    for task, table in (("segmentation", LOSSES), ("classification", LOSSES), ("cropping", BOX_LOSSES))
    for loss in {**LOSSES, **BOX_LOSSES}
    if loss not in table
]


@pytest.mark.parametrize(("task", "loss"), FITTING)
def test_every_loss_trains_every_task_that_has_what_it_compares(
    loupe: Loupe, data: dict[str, Path], task: str, loss: str
) -> None:
    (row,) = fit(loupe, TASKS[task], data[task], f"--training.loss={OPTIONS.get(loss, loss)}")
    assert steps(TASKS[task]) == 2
    for name in ("train/loss", "val/loss"):
        assert math.isfinite(float(row[name]))
    assert 0 <= float(row[TASKS[task].score]) <= 1


@pytest.mark.parametrize(("task", "loss"), OTHERS)
def test_a_loss_that_compares_something_else_is_refused_with_the_reason(
    loupe: Loupe, data: dict[str, Path], task: str, loss: str
) -> None:
    outcome = loupe("fit", *TASKS[task].words, f"--data.root={data[task]}", f"--training.loss={loss}")
    assert outcome.code == 2
    what = {
        "segmentation": "a class for each pixel",
        "classification": "a class for each picture",
        "cropping": "a box for each picture",
    }
    assert f"training.loss: {loss} does not compare what " in outcome.err and what[task] in outcome.err
    assert "valid: " in outcome.err and "on the command line" in outcome.err
    assert not Path("runs").exists()


def test_the_default_loss_of_another_task_names_its_file(
    loupe: Loupe, data: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text(
        "model: {class_path: lightning_modules.CropModule}\n"
        f"data: {{class_path: datamodules.CropDataModule, init_args: {{root: {data['cropping']}}}}}\n"
        "training: {monitor: val/box_iou}\n"
    )
    outcome = loupe("fit", "--config=own.yaml")
    assert outcome.code == 2
    assert "training.loss: dice_ce does not compare" in outcome.err and "default.yaml" in outcome.err


# --- keys ---------------------------------------------------------------------------------------------------------

SCHEDULES = [
    "constant",
    "cosine_annealing",
    "exponential",
    "step",
    "polynomial",
    "reduce_on_plateau",
    "one_cycle",
]
KEYS: dict[str, list[tuple[str, ...]]] = {
    "epochs": [("epochs=2", "batch_size=8")],
    "batch_size": [("batch_size=5",)],
    "learning_rate": [("learning_rate=1e-4",)],
    "optimizer": [("optimizer=sgd",), ("optimizer={type: lion, weight_decay: 0.1}",)],
    "loss": [()],
    "monitor": [("monitor=val/loss",), ("monitor=train/loss",)],
    "monitor_mode": [("monitor_mode=max",)],
    "accumulate": [("accumulate=2",)],
    "mixed_precision": [("mixed_precision={enabled: true, dtype: bfloat16}",)],
    "lr_schedule": [*((f"lr_schedule={name}",) for name in SCHEDULES), ("lr_schedule=false",)],
    "warmup": [("warmup={enabled: true, epochs: 0.5}",)],
    "early_stopping": [("early_stopping={enabled: true, patience: 1}",)],
    "regularizer": [("regularizer={enabled: true, l1: 1e-6, l2: 1e-5}",)],
    "gradient_clip": [("gradient_clip=0.1",)],
    "ema": [("ema={enabled: true, decay: 0.5}",)],
    "tensorboard": [
        ("tensorboard={histogram_freq: 1, write_graph: true, write_images: true, update_freq: batch}",),
        ("tensorboard=false",),
    ],
    "pictures": [("pictures=2", "tensorboard=true"), ("pictures=0",)],
    "on_nonfinite": [("on_nonfinite=skip",)],
    "compile": [("compile=true",)],
    "checkpoint": [("checkpoint.every_n_steps=1",)],
}


def test_the_table_has_every_key() -> None:
    assert set(KEYS) == {field.name for field in fields(Training)}


@pytest.mark.parametrize(
    "task",
    [
        # test_training_keys.py shows the effect of each key on a segmenter
        pytest.param(task, id=name, marks=[pytest.mark.slow] if name == "segmentation" else [])
        for name, task in TASKS.items()
    ],
)
@pytest.mark.parametrize(
    "flags",
    [
        # one value of each by default
        pytest.param(
            flags, id=" ".join(flags) or key, marks=[pytest.mark.slow] if key == "compile" or place else []
        )
        for key, choices in KEYS.items()
        for place, flags in enumerate(choices)
    ],
)
def test_every_key_works_on_every_task(
    loupe: Loupe, data: dict[str, Path], task: Task, flags: tuple[str, ...]
) -> None:
    rows = fit(loupe, task, data[task.name], *(f"--training.{flag}" for flag in flags))
    assert steps(task) == 2
    assert math.isfinite(float(rows[-1]["val/loss"]))
    assert {"train/loss", "val/loss", task.score, "train/learning_rate"} <= set(rows[-1])


@TASK
def test_a_frozen_backbone_is_thawed_on_every_task(loupe: Loupe, data: dict[str, Path], task: Task) -> None:
    flags = ("--model.freeze_backbone=true", "--model.unfreeze_epoch=1", "--training.epochs=2")
    assert len(fit(loupe, task, data[task.name], *flags, "--model.backbone_learning_rate_factor=0.1")) == 2


@TASK
def test_half_an_epoch_resumed_gives_the_same_weights(
    loupe: Loupe, data: dict[str, Path], task: Task
) -> None:
    flags = ("--training.epochs=2", "--training.checkpoint.every_n_steps=1", "--data.augment.preset=medium")
    fit(loupe, task, data[task.name], *flags)
    whole = torch.load(run_of(task) / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    middle = run_of(task) / "checkpoints" / "step_00000003.ckpt"
    outcome = loupe(
        "fit",
        *task.words,
        f"--data.root={data[task.name]}",
        *flags,
        f"--ckpt_path={middle}",
        "--run.name=again",
    )
    assert outcome.code == 0, outcome.err
    again = torch.load(
        Path("runs/again/version_0/checkpoints/last.ckpt"), map_location="cpu", weights_only=True
    )
    assert again["global_step"] == whole["global_step"] == 4
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(again["state_dict"][name], value, rtol=0, atol=0)


# --- what a task does not have ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "flag", "words"),
    [
        ("classification", "--data.read.label_mapping={1: 0}", ["label_mapping"]),
        ("classification", "--data.read.ignore_index=255", ["ignore_index"]),
        ("cropping", "--data.read.class_names=[a, b]", ["class_names"]),
        ("cropping", "--training.loss={type: iou, smooth: 1.0}", ["smooth", "confidence_weight"]),
        ("cropping", "--training.loss={type: giou, beta: 1.0}", ["beta"]),
        ("cropping", "--training.monitor=val/iou", ["val/iou", "val/box_iou"]),
        ("classification", "--training.monitor=val/iou_per_class/left", ["val/iou_per_class/left"]),
        ("classification", "--training.monitor=val/recall_per_class/up", ["val/recall_per_class/up", "left"]),
        ("classification", "--model.save_crops=true", ["save_crops"]),
        ("segmentation", "--model.backbone=resnet18", ["backbone"]),
        ("classification", "--model.backbone=resnet999", ["unknown backbone 'resnet999'", "did you mean"]),
        ("cropping", "--model.backbone=vit_tiny_patch16_224", ["no map of features"]),
        ("classification", "--data.read.interpolation=nearest", ["bilinear", "bicubic", "auto"]),
    ],
)
def test_what_a_task_does_not_have_is_refused(
    loupe: Loupe, data: dict[str, Path], task: str, flag: str, words: list[str]
) -> None:
    outcome = loupe("fit", *TASKS[task].words, f"--data.root={data[task]}", flag)
    assert outcome.code == 2, outcome.out
    assert all(word in outcome.err for word in words), outcome.err
    assert "Traceback" not in outcome.err
    assert not Path("runs").exists()


# --- the shipped configs ------------------------------------------------------------------------------------------

EIGHT = [
    f"{task}_{net}" for task in ("cls", "crop") for net in ("mobilenetv3", "efficientnetb0", "resnet50v2")
]
EIGHT += ["seg_unet", "seg_resnet50_unet"]


def test_eight_configs_are_shipped() -> None:
    shipped = {path.stem for path in CONFIGS.glob("*.yaml")} - {"demo"}
    assert shipped == set(EIGHT)


@pytest.mark.parametrize("config", EIGHT)
def test_each_config_trains_as_it_is(loupe: Loupe, data: dict[str, Path], config: str) -> None:
    """Its own network and loss, without the hub, on tiny pictures: one step."""
    kind = {"seg": "segmentation", "cls": "classification", "crop": "cropping"}[config.split("_")[0]]
    flags = ["--model.weights=null", "--training.batch_size=8", "--training.epochs=1", "--data.image_size=64"]
    flags += ["--data.loader.num_workers=0", "--trainer.accelerator=cpu", "--training.tensorboard=false"]
    flags += ["--trainer.limit_val_batches=1"]
    outcome = loupe("fit", f"--config={CONFIGS / config}.yaml", f"--data.root={data[kind]}", *flags)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("config", EIGHT)
def test_each_config_names_weights_that_the_hub_has_or_none(config: str) -> None:
    import timm
    import yaml

    init = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())["model"]["init_args"]
    network = init.get("backbone") or init.get("encoder")
    assert init["weights"] == ("imagenet" if network else None)
    assert network is None or timm.is_model_pretrained(network)
