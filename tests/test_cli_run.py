"""Whole runs from the command line: the run directory, its checkpoints, its scores, a polite end."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import inference
from callbacks import AtomicCheckpointIO, RunDirectory
from errors import LoupeError

Loupe = Callable[..., Any]
ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
QUICK = ["training.epochs=2", "training.batch_size=4", "--training.tensorboard=false"]
RUN = Path("runs/seg_unet/version_0")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files_of(folder: Path) -> list[str]:
    """Files below a folder, event files by the beginning of their name only."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name.split(".out.tfevents")[0] for name in names)


def process(words: Sequence[str], cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *words],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


BASIC = [
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "checkpoints/previous.ckpt",
    "config.yaml",
    "evaluation/val.npz",
    "metrics.csv",
    "report.html",
    "run.json",
]
WITH_EVENTS = sorted([*BASIC, "tensorboard/events", "tensorboard/train/events", "tensorboard/val/events"])
ONE_EPOCH = [name for name in BASIC if "previous" not in name]


# -- the run directory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "inside", "outside"),
    [
        (["--training.tensorboard=false"], BASIC, []),
        (["--trainer.logger=false"], BASIC, []),
        ([], WITH_EVENTS, []),
        (["--trainer.logger=true"], WITH_EVENTS, []),
        (
            ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"],
            BASIC,
            ["logs/lightning_logs/version_0/hparams.yaml", "logs/lightning_logs/version_0/metrics.csv"],
        ),
        (
            ["--training.tensorboard=false", "--trainer.callbacks+=ModelCheckpoint"],
            ["checkpoints/best.ckpt", "checkpoints/epoch=1-step=4.ckpt", *BASIC[1:]],
            [],
        ),
    ],
    ids=str,
)
def test_one_run_is_one_folder_under_every_logger(
    loupe: Loupe, tiny_words: list[str], words: list[str], inside: list[str], outside: list[str]
) -> None:
    outcome = loupe("fit", *tiny_words, *QUICK[:2], *words)
    assert outcome.code == 0, outcome.err
    assert files_of(RUN) == inside
    rest = [name for name in files_of(Path()) if not name.startswith(str(RUN))]
    assert rest == outside
    assert [row["epoch"] for row in rows(RUN / "metrics.csv")] == ["0", "1"]
    assert [row["step"] for row in rows(RUN / "metrics.csv")] == ["1", "3"]


def test_version_numbers_increase_and_gaps_are_not_filled(loupe: Loupe, tiny_words: list[str]) -> None:
    words = ["fit", *tiny_words, *QUICK[1:], "training.epochs=1"]
    Path("runs/seg_unet/version_7").mkdir(parents=True)
    Path("runs/seg_unet/version_x").mkdir()
    Path("runs/seg_unet/version_12.bak").mkdir()
    assert loupe(*words).code == 0
    assert (Path("runs/seg_unet/version_8") / "checkpoints" / "last.ckpt").is_file()
    assert loupe(*words, "--run.name=other", "--run.directory=elsewhere").code == 0
    assert files_of(Path("elsewhere/other/version_0")) == ONE_EPOCH
    assert sorted(p.name for p in Path("runs").iterdir()) == ["seg_unet"]


def test_parallel_claims_do_not_collide(tmp_path: Path) -> None:
    runs = [RunDirectory(tmp_path / "name", existing=None, config="") for _ in range(40)]
    start = threading.Barrier(8)
    claimed: list[Path] = []

    def claim(mine: list[RunDirectory]) -> None:
        start.wait()
        claimed.extend(run._claim() for run in mine)

    threads = [threading.Thread(target=claim, args=(runs[k::8],)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 40 and len(set(claimed)) == 40
    assert all(path.is_dir() for path in claimed)


@pytest.fixture(scope="module")
def trained(tiny_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned something: 30 epochs."""
    from cli import main

    folder = tmp_path_factory.mktemp("trained")
    words = [
        *tiny_words,
        *QUICK[1:],
        "training.epochs=15",
        "training.learning_rate=0.02",
        "--data.augment.preset=none",
    ]
    assert main(["fit", *words, f"--run.directory={folder}"]) == 0
    return folder / "seg_unet" / "version_0"


def test_the_commands_of_the_closing_table_run(loupe: Loupe, tiny_words: list[str], tiny_data: Path) -> None:
    outcome = loupe("fit", *tiny_words, *QUICK)
    table = dict(line.strip().split(None, 1) for line in outcome.out.split("\n\n")[-2].splitlines())
    assert list(table) == ["best", "checkpoint", "time", "run", "test", "predict"]
    assert Path(table["checkpoint"]).samefile(RUN / "checkpoints" / "best.ckpt") and Path(table["run"]) == RUN
    best = min(rows(RUN / "metrics.csv"), key=lambda row: -float(row["val/iou"]))
    epoch = int(best["epoch"]) + 1
    assert table["best"] == f"val/iou {float(best['val/iou']):.4f} in epoch {epoch} of 2"
    before = (RUN / "config.yaml").read_text()
    for name in ("test", "predict"):
        python, script, *words = shlex.split(
            table[name].replace("FOLDER", str(tiny_data / "test" / "images"))
        )
        assert (python, script, words[0]) == ("python", "train.py", name)
        again = loupe(*words)
        assert again.code == 0, again.err
        assert f"checkpoint: {RUN / 'checkpoints' / 'best.ckpt'}" in again.out
    assert len(rows(RUN / "predictions" / "predictions.csv")) == 4
    assert (RUN / "config.yaml").read_text() == before  # an evaluation does not rewrite the recipe
    assert sorted(p.name for p in RUN.parent.iterdir()) == ["version_0"]  # and makes no folder of its own


@pytest.mark.slow  # test_distributed_*.py has the same by default
def test_two_processes_write_one_folder_and_the_same_predictions(
    loupe: Loupe, tiny_words: list[str], tiny_data: Path, tmp_path: Path
) -> None:
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    run = process(["fit", *tiny_words, *QUICK[:2], *two], tmp_path)
    out, err = run.communicate(timeout=200)
    assert run.returncode == 0, err
    assert files_of(tmp_path / RUN) == WITH_EVENTS
    assert sorted(p.name for p in (tmp_path / "runs" / "seg_unet").iterdir()) == ["version_0"]
    assert [row["epoch"] for row in rows(tmp_path / RUN / "metrics.csv")] == ["0", "1"]
    assert out.count("epoch 2/2") == 1 and out.count("in epoch") == 1

    images = tiny_data / "train" / "images"
    predict = [
        "predict",
        f"--config={RUN / 'config.yaml'}",
        "--ckpt_path=best",
        f"--data.predict_path={images}",
    ]
    run = process([*predict, "training.batch_size=6"], tmp_path)  # 6 of 8: the last batch leaves 1 each
    out, err = run.communicate(timeout=200)
    assert run.returncode == 0, err
    both = {
        p.relative_to(tmp_path / RUN): p.read_bytes()
        for p in (tmp_path / RUN / "predictions").rglob("*")
        if p.is_file() and p.name != "predictions.json" and p.suffix != ".jsonl"
    }
    assert len(both) == 9
    shutil.rmtree(tmp_path / RUN / "predictions")
    outcome = loupe(*predict, "--trainer.devices=1", "--trainer.strategy=auto")
    assert outcome.code == 0, outcome.err
    alone = {
        p.relative_to(tmp_path / RUN): p.read_bytes()
        for p in (tmp_path / RUN / "predictions").rglob("*")
        if p.is_file() and p.name != "predictions.json" and p.suffix != ".jsonl"
    }
    assert alone == both


# -- checkpoints ----------------------------------------------------------------------------------------------------


def plain(value: Any, where: str = "") -> Iterator[str]:
    """Everything in a checkpoint that is neither a tensor nor plain data."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from plain(key, f"{where}<{key}>")
            yield from plain(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from plain(item, f"{where}[{number}]")
    elif type(value) not in (int, float, str, bool, type(None), torch.Tensor):
        yield f"{where}: {type(value)}"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["training.ema=true", "training.early_stopping=true", "training.lr_schedule=reduce_on_plateau"],
        [
            "training.loss={type: focal, alpha: [0.5, 1.0]}",
            "training.optimizer=sgd",
            "training.lr_schedule=one_cycle",
        ],
        ["training.checkpoint.every_n_steps=1", "training.warmup=true", "training.gradient_clip=1"],
    ],
    ids=str,
)
def test_checkpoints_hold_plain_data_only(loupe: Loupe, tiny_words: list[str], words: list[str]) -> None:
    assert loupe("fit", *tiny_words, *QUICK, *words).code == 0
    for path in (RUN / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        assert list(plain(checkpoint)) == []
        assert checkpoint["config"] == yaml.safe_load((RUN / "config.yaml").read_text())
        assert checkpoint["loupe"]["class_names"] == ["background", "foreground"]
    assert not list(RUN.rglob(".*"))  # no temporary file is left


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint({"epoch": 1}, path)
    real = torch.save

    def disk_full(checkpoint: Any, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(LoupeError, match=r"last.ckpt cannot be written: No space left"):
        io.save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
    monkeypatch.setattr(torch, "save", real)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(LoupeError, match=r"last.ckpt cannot be written: Input/output"):
        io.save_checkpoint({"epoch": 3}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_sigterm_leaves_a_checkpoint_that_can_be_resumed(
    loupe: Loupe, tiny_words: list[str], tmp_path: Path
) -> None:
    run = process(["fit", *tiny_words, *QUICK[1:], "training.epochs=100000"], tmp_path)
    log = tmp_path / RUN / "metrics.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and len(rows(log)) >= 2):
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert run.returncode != 0  # it did not finish
    assert "Traceback" not in err, err
    last = torch.load(tmp_path / RUN / "checkpoints" / "last.ckpt", weights_only=True)
    done = int(last["epoch"])
    steps = int(last["global_step"])
    assert steps >= 2 * 2 and steps >= 2 * len(rows(log))  # nothing that metrics.csv tells of is lost
    assert list(plain(last)) == []
    outcome = loupe(
        "fit", f"--config={RUN / 'config.yaml'}", "--ckpt_path=last", f"training.epochs={done + 2}"
    )
    assert outcome.code == 0, outcome.err
    assert len(rows(log)) == done + 2


# -- scores ---------------------------------------------------------------------------------------------------------


def test_scores_equal_those_of_numpy(loupe: Loupe, trained: Path, tiny_data: Path) -> None:
    predictor = inference.load(trained / "checkpoints" / "best.ckpt")
    both = either = 0
    for path in sorted((tiny_data / "test" / "images").iterdir()):
        mask = np.array(Image.open(tiny_data / "test" / "masks" / path.name)) == 1
        found = predictor.predict(path)["mask"] == 1
        both += int((mask & found).sum())
        either += int((mask | found).sum())
    iou = both / either
    assert 0.2 < iou < 1, "a score of a model that has learned, but not everything, tells more"
    config, checkpoint = f"--config={trained / 'config.yaml'}", "--ckpt_path=best"
    outcome = loupe("test", config, checkpoint)
    assert outcome.code == 0, outcome.err
    said = json.loads((trained / "test.json").read_text())["scores"]
    assert said["test/iou"] == pytest.approx(iou, abs=1e-6)
    assert ["test/iou", f"{iou:.4f}"] in [line.split() for line in outcome.out.splitlines()]
    assert loupe("validate", config, checkpoint).code == 0
    best = max(float(row["val/iou"]) for row in rows(trained / "metrics.csv"))
    said = json.loads((trained / "validate.json").read_text())["scores"]
    assert said["val/iou"] == pytest.approx(best, abs=1e-6)


# -- the shipped configs --------------------------------------------------------------------------------------------


@pytest.mark.slow  # test_tasks.py trains each of the eight as it is, .ci/demo.py three of them on the demo data
@pytest.mark.parametrize("config", sorted(CONFIGS.glob("seg_*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_config_runs_on_the_demo_data(loupe: Loupe, config: Path) -> None:
    small = (
        ["--model.options={base_filters: 4, depth: 2}"]
        if config.stem == "seg_unet"
        else ["--model.encoder=resnet18"]
    )
    outcome = loupe(
        "fit",
        f"--config={config}",
        "--model.weights=null",
        *small,
        "training.epochs=1",
        "training.tensorboard=false",
        "--trainer.limit_train_batches=1",
        "--trainer.limit_val_batches=1",
        "--data.loader.num_workers=0",
        "--trainer.accelerator=cpu",
    )
    assert outcome.code == 0, outcome.err
    assert "demo data" in outcome.out
    assert files_of(Path("runs") / config.stem / "version_0") == ONE_EPOCH
    assert config.read_text(encoding="utf-8").count("\n") <= 60


@pytest.mark.parametrize(
    "overlay",
    sorted(set((CONFIGS / "training").glob("*.yaml")) - {CONFIGS / "training" / "default.yaml"}),
    ids=lambda p: p.stem,
)
def test_every_overlay_can_be_laid_over_a_config(loupe: Loupe, tiny_words: list[str], overlay: Path) -> None:
    words = [
        *tiny_words,
        f"--config={overlay}",
        "--trainer.fast_dev_run=1",
        "--trainer.devices=1",
        "--trainer.strategy=auto",
    ]
    outcome = loupe("fit", *words)
    assert outcome.code == 0, outcome.err
    assert not Path("runs").exists()  # a dry run leaves nothing


# -- callbacks ------------------------------------------------------------------------------------------------------


def test_users_callbacks_are_added_and_replace_ours_of_the_same_class(
    loupe: Loupe, tiny_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "from lightning.pytorch import Callback\n"
        "class Witness(Callback):\n"
        "    def on_train_start(self, trainer, pl_module):\n"
        "        names = [f'{type(c).__module__}.{type(c).__name__}:' + str(getattr(c, 'patience', ''))\n"
        "                 for c in trainer.callbacks]\n"
        "        Path('seen.txt').write_text('\\n'.join(names))\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    def callbacks(*words: str) -> list[str]:
        outcome = loupe("fit", *tiny_words, *QUICK, *words, "--trainer.callbacks+=mine.Witness")
        assert outcome.code == 0, outcome.err
        return Path("seen.txt").read_text().splitlines()

    ours = callbacks("training.early_stopping=true")
    assert "callbacks.early_stopping.WarmupAwareEarlyStopping:10" in ours and "mine.Witness:" in ours
    assert len([name for name in ours if "Checkpoint" in name]) == 1
    theirs = callbacks(
        "training.early_stopping=true",
        "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping",
        "--trainer.callbacks.monitor=val/loss",
        "--trainer.callbacks.patience=77",
    )
    assert [name for name in theirs if "EarlyStopping" in name] == [
        "lightning.pytorch.callbacks.early_stopping.EarlyStopping:77"
    ]
    assert sorted(set(ours) - set(theirs)) == ["callbacks.early_stopping.WarmupAwareEarlyStopping:10"]
    # The saved configuration has the user's callbacks once, and ours not at all.
    saved = yaml.safe_load((RUN.parent / "version_1" / "config.yaml").read_text())["trainer"]["callbacks"]
    assert [entry["class_path"].rsplit(".", 1)[-1] for entry in saved] == ["EarlyStopping", "Witness"]
