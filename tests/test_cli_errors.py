"""Mistakes: exit code 2, a few lines that name the key, what was given and the fix; nothing is left behind."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

Loupe = Callable[..., Any]
ROOT = Path(__file__).resolve().parent.parent
SEG_UNET = ROOT / "configs" / "seg_unet.yaml"
QUICK = ["training.epochs=2", "training.batch_size=4", "--training.tensorboard=false"]


def refused(outcome: Any, *words: str, runs: bool = False) -> None:
    """Exit code 2, one short message with all of ``words``, no traceback, and no run directory left behind."""
    assert outcome.code == 2, outcome
    lines = outcome.err.strip().splitlines()
    assert lines[0].startswith("error: "), outcome.err
    assert len(lines) <= 6 and len(outcome.err) < 1000, outcome.err
    assert "Traceback" not in outcome.err + outcome.out and "0x7" not in outcome.err
    for word in words:
        assert word in outcome.err, f"{word!r} is not in: {outcome.err}"
    if not runs:
        assert not Path("runs").exists(), sorted(Path("runs").rglob("*"))


TABLE: list[tuple[list[str], list[str]]] = [
    # contradictions and misspelt keys, at each level
    (
        ["--trainer.max_epochs=3", "--training.epochs=4"],
        ["training.epochs=4", "trainer.max_epochs=3", "keep one"],
    ),
    (["--training.epoc=1"], ["training.epoc", "'epochs'"]),
    (["training.epoc=1"], ["training.epoc", "'epochs'"]),
    (["--training={epoc: 1}"], ["training.epoc", "'epochs'"]),
    (["training.warmup.epoch=1"], ["training.warmup.epoch", "'epochs'"]),
    (["training.tensorboard={histogram_frq: 1}"], ["histogram_frq", "histogram_freq"]),
    (["training.epochs.x=1"], ["training.epochs", "single value"]),
    (["--data.image_sze=3"], ["data.image_sze", "data.image_size"]),
    (["--data.loader.num_worker=3"], ["data.loader.num_worker", "data.loader.num_workers"]),
    (["--model.architectur=unet"], ["model.architectur", "model.architecture"]),
    (["--trainer.devicess=3"], ["trainer.devicess", "trainer.devices"]),
    (["--trainer={devicess: 3}"], ["trainer.devicess", "trainer.devices"]),
    (["--run.nam=x"], ["run.nam", "run.name"]),
    (["--foo=3"], ["foo"]),
    (["--foo.bar=3"], ["foo"]),
    (["--ckpt_pat=best"], ["ckpt_pat", "ckpt_path"]),
    (["stray"], ["'stray'", "--key=value"]),
    (["--seed_everythin=1"], ["seed_everythin", "seed_everything"]),
    # wrong types and values
    (["--training.epochs=abc"], ["training.epochs", "whole number", "abc", "command line"]),
    (["--training.epochs=0"], ["training.epochs", "above 0", "0"]),
    (["--training.epochs=1.5"], ["training.epochs", "whole number", "1.5"]),
    (["--training.epochs=null"], ["training.epochs"]),
    (["--training.epochs"], ["training.epochs", "no value"]),
    (["--trainer.max_epochs=-1"], ["epochs", "-1"]),
    (["--training.learning_rate=-1"], ["training.learning_rate", "above 0", "-1"]),
    (["--training.learning_rate=nan"], ["training.learning_rate", "nan"]),
    (["--training.gradient_clip=-1"], ["training.gradient_clip"]),
    (["--training.ema=true", "--training.ema.decay=2"], ["training.ema.decay", "0 to 1", "2"]),
    (["--training.warmup=true", "--training.warmup.epochs=-1"], ["training.warmup.epochs", "-1"]),
    (["--training.warmup.enabled=maybe"], ["training.warmup.enabled", "maybe"]),
    (["--training.warmup=[1, 2]"], ["training.warmup", "mapping"]),
    (["--training=3"], ["training", "mapping", "3"]),
    (["--training.early_stopping=3"], ["training.early_stopping", "true/false", "3"]),
    (["--training.compile=maybe"], ["training.compile", "true or false", "maybe"]),
    (["--training.monitor_mode=maximum"], ["training.monitor_mode", "max", "maximum"]),
    (
        ["--training.mixed_precision={enabled: true, dtype: fp8}"],
        ["training.mixed_precision.dtype", "bfloat16", "fp8"],
    ),
    (["--training.tensorboard.update_freq=never"], ["training.tensorboard.update_freq", "epoch", "never"]),
    (["--training.checkpoint.keep=0"], ["training.checkpoint.keep", "above 0"]),
    (["--trainer.precision=17"], ["trainer.precision", "17"]),
    (["--trainer.limit_train_batches=abc"], ["trainer.limit_train_batches", "abc"]),
    (["--trainer.devices=0"], ["devices", "0"]),
    (["--trainer.accelerator=gpuu"], ["trainer", "gpuu"]),
    (["--trainer.strategy=foo"], ["trainer", "foo"]),
    (["--trainer.callbacks+=Foo"], ["trainer.callbacks", "Foo"]),
    (["--trainer.callbacks=3"], ["trainer.callbacks", "3"]),
    (["--trainer.logger=3"], ["logger", "3"]),
    (["--trainer=3"], ["trainer", "3"]),
    (["--seed_everything=abc"], ["seed_everything", "abc"]),
    (["--run.name=3", "--run.directory=/proc/nowhere"], ["run.directory", "/proc/nowhere"]),
    (["--data.image_size=abc"], ["data.image_size", "abc"]),
    (["--data.image_size=0"], ["image_size", "0"]),
    (["--data.image_size=[1, 2, 3]"], ["image_size"]),
    (["--data.augment.preset=lots"], ["preset", "lots", "medium"]),
    (["--data.read.resize=crop"], ["resize", "crop", "letterbox"]),
    (["--data.loader.num_workers=-1"], ["num_workers", "-1"]),
    (["--data.loader.batch_size=0"], ["batch_size", "0"]),
    (["--data.split.val=1.5"], ["split", "1.5"]),
    (["--data=3"], ["data", "3"]),
    (["--model=Foo"], ["model", "Foo"]),
    (["--model.class_path=Foo"], ["model", "Foo"]),
    (["--model.class_path=torch.nn.Linear"], ["model", "torch.nn.Linear"]),
    (["--model.options=3"], ["model.options", "3"]),
    (["--model.options={base_filter: 3}"], ["base_filter", "base_filters"]),
    (["--model.backbone_learning_rate_factor=-1"], ["backbone_learning_rate_factor", "-1"]),
    (["--model.unfreeze_epoch=1"], ["unfreeze_epoch", "freeze_backbone"]),
    # unknown names, options that a type lacks
    (["--training.loss=dise"], ["training.loss", "'dise'", "'dice'"]),
    (["--training.loss=dice", "--training.loss.gamma=3"], ["'gamma'", "training.loss", "'dice'", "smooth"]),
    (["--training.loss=focal", "--training.loss.gamma=abc"], ["training.loss.gamma", "a number", "abc"]),
    (["--training.loss={gamma: 3}"], ["gamma", "dice_ce"]),
    (["--training.loss=null"], ["training.loss"]),
    (["--training.loss={type: null}"], ["training.loss"]),
    (["--training.loss=[dice]"], ["training.loss"]),
    (["--training.optimizer=adamx"], ["adamx", "adamax"]),
    (["--training.optimizer.momentumm=0.9"], ["momentumm", "adamw"]),
    (["--training.optimizer.lr=3"], ["lr", "adamw"]),
    (["--training.optimizer.weight_decay=abc"], ["weight_decay", "abc"]),
    (["--training.lr_schedule=stepp"], ["stepp", "'step'"]),
    (["--training.lr_schedule=step", "--training.lr_schedule.evry=3"], ["evry", "every"]),
    (["--training.lr_schedule={type: step, every: -3}"], ["every", "-3"]),
    (["--training.lr_schedule={type: step, every: abc}"], ["every", "abc"]),
    (["--training.lr_schedule.type=reduce_on_plateau", "--training.lr_schedule.factor=2"], ["factor", "2"]),
    (["--model.architecture=unett"], ["unett", "'unet'"]),
    (["--model.encoder=resnet5"], ["resnet5", "'resnet50'"]),
    (["--model.weights=nowhere.pt"], ["nowhere.pt", "weights: null"]),
    (["--data.dataset=shapess", "--data.root=null"], ["shapess", "'shapes'"]),
    (["--data.dataset=shapes"], ["data.root", "data.dataset", "keep one"]),
    (["--training.monitor=val/iouu"], ["training.monitor", "val/iouu", "'val/iou'"]),
    (["--training.monitor=val/iou_per_class/square"], ["training.monitor", "val/iou_per_class/square"]),
    (["--training.monitor=val/iou", "--trainer.limit_val_batches=0"], ["val/iou", "limit_val_batches"]),
    # sizes, files, checkpoints
    (["--training.batch_size=7", "--training.accumulate=2"], ["batch_size", "7", "6 or 8"]),
    (["--training.batch_size=1", "--training.accumulate=2"], ["batch_size", "1", "2"]),
    (["--data.root=/nonexistent"], ["data.root", "/nonexistent"]),
    (["--ckpt_path=last"], ["--ckpt_path", "runs/seg_unet"]),
    (["--ckpt_path=nowhere.ckpt"], ["--ckpt_path", "nowhere.ckpt"]),
    ([f"--config={SEG_UNET.parent}/seg_unett.yaml"], ["seg_unett.yaml", "seg_unet.yaml"]),
    (["--config"], ["config", "no value"]),
    (["--training.epochs=${oc.env:LOUPE_TEST_NOPE}"], ["LOUPE_TEST_NOPE"]),
    (["--training.epochs=${nope.x}"], ["nope"]),
    (["--training.epochs=${training.epochs}"], ["training.epochs"]),
    (["--training.batch_size={"], ["training.batch_size", "{"]),
    (["--training.ema={enabled: true"], ["training.ema", "{enabled: true"]),
]


@pytest.mark.parametrize(("words", "said"), TABLE, ids=[" ".join(words) for words, _ in TABLE])
def test_each_mistake_is_told_in_a_few_words(
    loupe: Loupe, tiny_words: list[str], words: list[str], said: list[str]
) -> None:
    given = {word.lstrip("-").split("=")[0].split(".")[1] for word in words if "." in word.split("=")[0]}
    quick = [word for word in QUICK if word.split(".")[1].split("=")[0] not in given | {"accumulate"} & given]
    refused(loupe("fit", *tiny_words, *quick, *words), *said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fitt", f"--config={SEG_UNET}"], ["fitt", "'fit'"]),
        (["--config", str(SEG_UNET), "fit"], ["the command comes first"]),
        (["fit"], ["data", "model", "--config"]),
        (["test", f"--config={SEG_UNET}"], ["--ckpt_path"]),
        (["predict", f"--config={SEG_UNET}", "--ckpt_path=best"], ["--ckpt_path", "runs/seg_unet"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_mistakes_in_the_command_itself(loupe: Loupe, words: list[str], said: list[str]) -> None:
    refused(loupe(*words), *said)


CONFIG_FILES = {
    "empty value": ("training: {epochs: }\n", ["training.epochs", "bad.yaml"]),
    "tab": ("training:\n\tepochs: 3\n", ["bad.yaml, line 2", "not valid YAML"]),
    "bracket": ("training: {epochs: 3\nmodel: 2\n", ["bad.yaml", "not valid YAML"]),
    "twice": ("run: {name: a}\nrun: {name: b}\n", ["bad.yaml, line 2", "'run'", "twice"]),
    "list": ("- training\n", ["bad.yaml", "mapping", "list"]),
    "python": ("run: !!python/object/apply:os.system ['touch pwned']\n", ["bad.yaml", "not valid YAML"]),
    "misspelt": ("training: {epocs: 3}\n", ["training.epocs", "bad.yaml", "'epochs'"]),
    "contradiction": (
        "training: {epochs: 3}\ntrainer: {max_epochs: 4}\n",
        ["training.epochs=3", "trainer.max_epochs=4", "bad.yaml"],
    ),
    "type": ("training: {epochs: many}\n", ["training.epochs", "many", "bad.yaml"]),
    "section": ("trainin: {epochs: 3}\n", ["trainin", "training"]),
    "section as number": ("training: 3\n", ["training", "bad.yaml", "3"]),
    "nested": ("data: {init_args: {loader: {num_worker: 1}}}\n", ["num_worker", "num_workers"]),
    "no class": ("model: {class_path: lightning_modules.Segmentation}\n", ["lightning_modules.Segmentation"]),
    "off": (
        "training: {warmup: {enabled: false, epochs: 3}}\n",
        ["training.warmup.epochs", "bad.yaml", "off"],
    ),
    "section file": ("training: nowhere.yaml\n", ["nowhere.yaml"]),
    "binary": ("\x00\x01\x02", ["bad.yaml"]),
}


@pytest.mark.parametrize("case", CONFIG_FILES)
def test_mistakes_in_config_files(loupe: Loupe, tiny_words: list[str], tmp_path: Path, case: str) -> None:
    text, said = CONFIG_FILES[case]
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    refused(loupe("fit", *tiny_words, "--config=bad.yaml"), *said)
    assert not (tmp_path / "pwned").exists()


def test_a_config_in_another_encoding_and_a_folder_are_named(
    loupe: Loupe, tiny_words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "latin.yaml").write_bytes("run: {name: größe}\n".encode("latin-1"))
    refused(loupe("fit", *tiny_words, "--config=latin.yaml"), "latin.yaml", "cannot be read")
    refused(loupe("fit", *tiny_words, f"--config={tmp_path}"), str(tmp_path), "cannot be read")


# -- checkpoints ----------------------------------------------------------------------------------------------------


class Touch:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("pwned"),))


def write_random(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Touch()}))


def write_torch_pickle(path: Path) -> None:
    torch.save({"state_dict": {}, "x": Touch()}, path)


def write_bare(path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, path)


def write_other_lightning(path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(3)}, "epoch": 1, "pytorch-lightning_version": "2.6.0"}, path)


def write_list(path: Path) -> None:
    torch.save([1, 2, 3], path)


@pytest.mark.parametrize("command", ["fit", "test", "predict"])
@pytest.mark.parametrize(
    ("write", "said"),
    [
        (write_random, "cannot be read: it is not a checkpoint"),
        (write_pickle, "cannot be read: it is not a checkpoint"),
        (write_torch_pickle, "cannot be read: it is not a checkpoint"),
        (Path.touch, "cannot be read: it is not a checkpoint"),
        (write_bare, "no Loupe checkpoint"),
        (write_list, "no Loupe checkpoint"),
        (write_other_lightning, "no Loupe checkpoint"),
    ],
)
def test_files_that_are_no_checkpoint(
    loupe: Loupe,
    tiny_words: list[str],
    tmp_path: Path,
    command: str,
    write: Callable[[Path], None],
    said: str,
) -> None:
    write(tmp_path / "bad.ckpt")
    refused(
        loupe(command, *tiny_words, "--ckpt_path=bad.ckpt", f"--data.predict_path={tmp_path}"),
        "bad.ckpt",
        said,
    )
    assert not (tmp_path / "pwned").exists()


@pytest.fixture(scope="module")
def trained(tiny_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cli import main

    folder = tmp_path_factory.mktemp("trained")
    assert main(["fit", *tiny_words, *QUICK, f"--run.directory={folder}"]) == 0
    return folder / "seg_unet" / "version_0"


def test_a_checkpoint_of_another_network_is_refused(
    loupe: Loupe, tiny_words: list[str], trained: Path
) -> None:
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"
    for command in ("fit", "validate", "test"):
        outcome = loupe(command, *tiny_words, checkpoint, "--model.options={base_filters: 6, depth: 2}")
        refused(outcome, "another network", "tensors differ")
    truncated = Path("cut.ckpt")
    truncated.write_bytes((trained / "checkpoints" / "best.ckpt").read_bytes()[:-3000])
    refused(
        loupe("test", *tiny_words, "--ckpt_path=cut.ckpt"),
        "cut.ckpt",
        "cannot be read: it is not a checkpoint",
    )


def test_a_checkpoint_of_other_classes_is_refused(loupe: Loupe, tiny_words: list[str], trained: Path) -> None:
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"
    outcome = loupe("test", *tiny_words, checkpoint, "--data.read.class_names=[background, blob]")
    refused(outcome, "blob", "foreground", "class_names")


def test_a_missing_checkpoint_of_a_run_lists_what_is_there(loupe: Loupe, trained: Path) -> None:
    own = Path("copy") / "seg_unet" / "version_0"
    shutil.copytree(trained, own)
    (own / "checkpoints" / "best.ckpt").unlink()
    refused(loupe("test", f"--config={own / 'config.yaml'}", "--ckpt_path=best"), "best.ckpt", "last.ckpt")


# -- data -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_data, tmp_path / "data"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_is_named(
    loupe: Loupe, tiny_words: list[str], data: Path, workers: int
) -> None:
    cut(data / "train" / "images" / "p3.png")
    outcome = loupe("fit", *tiny_words, *QUICK, f"--data.root={data}", f"--data.loader.num_workers={workers}")
    refused(outcome, "train/images/p3.png", runs=True)
    assert not list(Path("runs").rglob("*.ckpt"))


def test_bad_data_is_named(loupe: Loupe, tiny_words: list[str], data: Path, tmp_path: Path) -> None:
    def fit(root: Path, *words: str) -> Any:
        return loupe("fit", *tiny_words, *QUICK, f"--data.root={root}", *words)

    cut(data / "val" / "masks" / "p1.png")
    refused(fit(data), "val/masks/p1.png")
    (data / "val" / "masks" / "p1.png").unlink()
    refused(fit(data), "val", "1 of 4 pictures without a mask: p1")
    shutil.rmtree(data / "val" / "masks")
    refused(fit(data), "has images/ and no masks/")
    (tmp_path / "empty").mkdir()
    refused(fit(tmp_path / "empty"), "empty", "images/", "nothing")
    (tmp_path / "empty" / "images").mkdir()
    (tmp_path / "empty" / "masks").mkdir()
    refused(fit(tmp_path / "empty"), "no pictures")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "picture.png")
    refused(fit(tmp_path / "picture.png"), "picture.png", "CSV")
    (tmp_path / "list.csv").write_text("path,label\npicture.png,1\n", encoding="utf-8")
    refused(fit(tmp_path / "list.csv"), "list.csv", "mask")
    (tmp_path / "list.csv").write_text("path,mask\npicture.png,nowhere.png\n", encoding="utf-8")
    refused(fit(tmp_path / "list.csv"), "list.csv", "nowhere.png")


def test_a_mask_of_another_size_is_named(loupe: Loupe, tiny_words: list[str], data: Path) -> None:
    Image.fromarray(np.ones((16, 32), np.uint8)).save(data / "train" / "masks" / "p2.png")
    refused(loupe("fit", *tiny_words, *QUICK, f"--data.root={data}"), "train/masks/p2.png", "32x16", "32x32")


def test_bad_predict_paths_are_named(
    loupe: Loupe, tiny_words: list[str], trained: Path, tmp_path: Path
) -> None:
    def predict(path: str) -> Any:
        outcome = loupe(
            "predict",
            f"--config={trained / 'config.yaml'}",
            "--ckpt_path=best",
            f"--data.predict_path={path}",
        )
        assert not (trained / "predictions" / "predictions.csv").exists()
        return outcome

    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "list.csv").write_text("file\nx.png\n", encoding="utf-8")
    refused(predict("nowhere"), "nowhere", "does not exist")
    refused(predict("empty"), "empty", "no pictures")
    refused(predict("notes.txt"), "notes.txt", "neither")
    refused(predict("list.csv"), "list.csv", "path")
    refused(
        loupe("predict", f"--config={trained / 'config.yaml'}", "--ckpt_path=best"), "--data.predict_path"
    )
    (tmp_path / "bad.png").write_bytes(b"no picture")
    refused(predict("bad.png"), "bad.png")


# -- the process ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["training.epochs=abc"],
        ["--training.optimizer=adamx"],
        ["--trainer.devices=2", "--trainer.strategy=ddp", "training.batch_size=3"],
    ],
)
def test_a_process_ends_with_code_two_and_a_short_message(
    tiny_words: list[str], tmp_path: Path, words: list[str]
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "fit", *tiny_words, *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("error: ") == 1 and len(done.stderr) < 1500, done.stderr
    assert not list(tmp_path.iterdir())
