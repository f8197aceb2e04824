"""Rules of the command line that a review found broken: what goes on, what begins anew, what is refused and kept."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import inference
from cli.layers import read_request
from cli.main import _add_demo
from cli.merge import merge

Loupe = Callable[..., Any]
ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
DEFAULT = CONFIGS / "training" / "default.yaml"
QUICK = ["training.epochs=2", "training.batch_size=4", "--training.tensorboard=false"]
RUN = Path("runs/seg_unet/version_0")
CONFIG = f"--config={RUN / 'config.yaml'}"
CHECKPOINTS = RUN / "checkpoints"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def column(name: str, run: Path = RUN) -> list[float]:
    return [float(row[name]) for row in rows(run / "metrics.csv") if row[name]]


def files_of(folder: Path) -> dict[str, str]:
    """Each file's hash, by name: what differs is told in a line, and not in megabytes."""
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def read(name: str, run: Path = RUN) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / name, weights_only=True)


def kept_best(checkpoint: dict[str, Any]) -> dict[str, Any]:
    (state,) = (state for state in checkpoint["callbacks"].values() if "best_epoch" in state)
    return state


def refused(outcome: Any, *words: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: ") and "Traceback" not in outcome.err + outcome.out, outcome
    for word in words:
        assert word in outcome.err, f"{word!r} is not in: {outcome.err}"


def make(folder: Path, words: list[str]) -> Path:
    """The run of `fit` in ``folder``, for more than one test."""
    from cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", *words]) == 0
    return folder / RUN


@pytest.fixture(scope="module")
def dice_run(tiny_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs that watch the dice loss, and count for early stopping: the first epoch is the best for ever."""
    stopping = "training.early_stopping={enabled: true, patience: 3, min_delta: 1000}"
    words = ["training.loss=dice", "training.monitor=val/loss", stopping, "training.lr_schedule=constant"]
    return make(tmp_path_factory.mktemp("dice"), [*tiny_words, *QUICK, *words])


@pytest.fixture
def done(dice_run: Path, loupe: Loupe) -> Path:
    """A copy of that run in the test's own folder."""
    shutil.copytree(dice_run, RUN)
    return RUN


# -- a run that goes on ---------------------------------------------------------------------------------------------


def test_a_bare_trainer_refuses_early_stopping(loupe: Loupe, tiny_words: list[str]) -> None:
    outcome = loupe("fit", *tiny_words, "--trainer.barebones=true", "--training.early_stopping=true")
    refused(outcome, "trainer.barebones", "training.early_stopping")


def test_the_config_of_a_resumed_run_starts_a_new_one(loupe: Loupe, done: Path) -> None:
    outcome = loupe("fit", CONFIG, "--ckpt_path=last", "training.epochs=3")
    assert outcome.code == 0, outcome.err
    assert len(rows(done / "metrics.csv")) == 3
    saved = (done / "config.yaml").read_text(encoding="utf-8")
    assert "ckpt_path" not in saved and yaml.safe_load(saved)["training"]["epochs"] == 3
    before = files_of(done)
    for command in ("test", "validate", "predict"):
        refused(loupe(command, CONFIG), "needs trained weights", "--ckpt_path")
    outcome = loupe("fit", CONFIG, "training.epochs=1")
    assert outcome.code == 0, outcome.err
    assert "checkpoint: " not in "".join(line + "\n" for line in outcome.out.splitlines()[:3])
    second = done.with_name("version_1")
    assert [row["epoch"] for row in rows(second / "metrics.csv")] == ["0"]
    assert read("last.ckpt", second)["global_step"] == 2
    assert files_of(done) == before


def test_the_same_loss_goes_on_with_the_best_and_with_the_count(loupe: Loupe, done: Path) -> None:
    assert loupe("fit", CONFIG, "--ckpt_path=last", "training.epochs=9").code == 0
    assert len(column("val/loss")) == 4, "the first epoch is the best, three more are waited for"
    losses = column("val/loss")
    best = kept_best(read("last.ckpt"))
    assert best["best_score"] == pytest.approx(min(losses), rel=1e-5)
    assert best["best_epoch"] == losses.index(min(losses))


def test_the_best_of_the_same_loss_is_not_replaced_by_a_worse_one(
    loupe: Loupe, tiny_words: list[str]
) -> None:
    # The training loss falls, so its largest value is that of the first epoch.
    words = ["training.monitor=train/loss", "training.monitor_mode=max", "training.learning_rate=0.01"]
    assert loupe("fit", *tiny_words, *QUICK, *words).code == 0
    best = (CHECKPOINTS / "best.ckpt").read_bytes()
    assert loupe("fit", CONFIG, "--ckpt_path=last", "training.epochs=3").code == 0
    losses = column("train/loss")
    assert losses == sorted(losses, reverse=True) and len(losses) == 3
    assert (CHECKPOINTS / "best.ckpt").read_bytes() == best


@pytest.mark.parametrize(
    ("word", "name", "choose"),
    [("training.loss=dice_ce", "val/loss", min), ("training.monitor=val/iou", "val/iou", max)],
)
def test_another_score_begins_the_comparison_and_the_count_anew(
    loupe: Loupe, done: Path, word: str, name: str, choose: Callable[[list[float]], float]
) -> None:
    old = kept_best(read("last.ckpt"))["best_score"]
    assert old == pytest.approx(min(column("val/loss")), rel=1e-5)
    outcome = loupe("fit", CONFIG, "--ckpt_path=last", "training.epochs=9", word)
    assert outcome.code == 0, outcome.err
    scores = column(name)
    assert len(scores) == 6, "the third epoch is the first that counts, three more are waited for"
    new = scores[2:]
    assert choose([*new, old]) == old, "compared with the old best, none of these would be better"
    best = kept_best(read("last.ckpt"))
    assert best["best_score"] == pytest.approx(choose(new), rel=1e-5)
    assert best["best_epoch"] == 2 + new.index(choose(new))
    assert read("best.ckpt")["epoch"] == best["best_epoch"]


def test_a_smaller_number_of_epochs_is_refused_and_the_same_one_is_no_work(loupe: Loupe, done: Path) -> None:
    before = files_of(done)
    refused(loupe("fit", CONFIG, "--ckpt_path=last", "training.epochs=1"), "training.epochs", "epoch 2")
    assert files_of(done) == before
    outcome = loupe("fit", CONFIG, "--ckpt_path=last")
    assert outcome.code == 0, outcome.err
    assert "nothing left to train" in outcome.out
    assert {name: files_of(done)[name] for name in before} == before
    assert [p.name for p in done.parent.iterdir()] == ["version_0"]


def test_another_name_makes_another_run_of_the_checkpoint(loupe: Loupe, done: Path) -> None:
    before = files_of(done)
    file = f"--ckpt_path={CHECKPOINTS / 'last.ckpt'}"
    outcome = loupe("fit", CONFIG, file, "--run.name=new", "training.epochs=3")
    assert outcome.code == 0, outcome.err
    new = Path("runs/new/version_0")
    assert [row["epoch"] for row in rows(new / "metrics.csv")] == ["2"]
    assert read("last.ckpt", new)["global_step"] == 6
    assert files_of(done) == before
    assert sorted(p.name for p in Path("runs").iterdir()) == ["new", "seg_unet"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_checkpoint_within_an_epoch_goes_on_bit_by_bit(
    loupe: Loupe, tiny_words: list[str], workers: int
) -> None:
    words = [
        *tiny_words,
        "training.epochs=3",
        "training.batch_size=2",  # 4 steps an epoch: step 6 lies in the middle of the second one
        "training.tensorboard=false",
        "training.checkpoint={every_n_steps: 3, keep: 9}",
        "--data.augment.preset=medium",
        f"--data.loader.num_workers={workers}",
    ]
    assert loupe("fit", *words).code == 0
    straight = read("last.ckpt")
    within = read("step_00000006.ckpt")
    assert within["epoch"] == 1 and within["global_step"] == 6 and straight["global_step"] == 12
    file = f"--ckpt_path={CHECKPOINTS / 'step_00000006.ckpt'}"
    outcome = loupe("fit", CONFIG, file, "--run.name=again")
    assert outcome.code == 0, outcome.err
    resumed = read("last.ckpt", Path("runs/again/version_0"))
    assert resumed["global_step"] == 12
    assert not torch.equal(*(c["state_dict"]["model.network.head.weight"] for c in (within, straight)))
    assert resumed["state_dict"].keys() == straight["state_dict"].keys()
    for name, value in straight["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name
    for number, state in straight["optimizer_states"][0]["state"].items():
        for name, value in state.items():
            assert torch.equal(resumed["optimizer_states"][0]["state"][number][name], value), name
    before = files_of(RUN)
    refused(loupe("fit", CONFIG, file, "training.batch_size=4"), "lies within an epoch", "batch_size 2 -> 4")
    assert files_of(RUN) == before


# -- the demo -------------------------------------------------------------------------------------------------------


def test_the_demo_lies_over_the_experiment_and_under_all_else(tmp_path: Path) -> None:
    experiment, overlay = tmp_path / "mine.yaml", tmp_path / "overlay.yaml"
    experiment.write_text(
        "training: {epochs: 77, batch_size: 66, learning_rate: 0.5}\n"
        "data: {class_path: datamodules.SegmentationDataModule, "
        "init_args: {root: null, image_size: 999, augment: {preset: strong}}}\n",
        encoding="utf-8",
    )
    overlay.write_text(
        "training: {epochs: 3}\ndata: {init_args: {augment: {preset: none}}}\n", encoding="utf-8"
    )
    blocks = yaml.safe_load((CONFIGS / "demo.yaml").read_text(encoding="utf-8"))
    every, own = blocks["all"], blocks["datamodules.SegmentationDataModule"]
    demo = {"training": {**every["training"], **own["training"]}}
    demo_data = {**every["data"]["init_args"], **own["data"]["init_args"]}

    def resolved(*words: str) -> tuple[dict[str, Any], dict[str, Any], bool]:
        """`training` merged, `data` as the parser lays one file over the other, and whether the demo is in."""
        request = read_request(["fit", *words], DEFAULT)
        _add_demo(request)
        training = merge(request.layers).training
        data: dict[str, Any] = {}
        for layer in request.layers:
            data.update(layer.values.get("data", {}).get("init_args", {}))
        return training, data, request.demo

    first, second = f"--config={experiment}", f"--config={overlay}"
    training, data, used = resolved(first)
    assert used
    assert (training["epochs"], training["batch_size"]) == (
        demo["training"]["epochs"],
        demo["training"]["batch_size"],
    )
    assert training["learning_rate"] == 0.5, "what the demo does not say stays the experiment's"
    assert data == {"root": None, **demo_data}
    training, data, used = resolved(first, second)
    assert used
    assert (training["epochs"], training["batch_size"]) == (3, demo["training"]["batch_size"])
    assert data["augment"] == {"preset": "none"} and data["dataset"] == "shapes"
    training, _, used = resolved(first, second, "training.epochs=5", "--trainer.accumulate_grad_batches=2")
    assert used and (training["epochs"], training["accumulate"]) == (5, 2)
    training, data, used = resolved(first, second, "--data.root=here")
    assert not used and (training["epochs"], training["batch_size"], data["image_size"]) == (3, 66, 999)


def test_the_demo_as_the_parser_resolves_it(
    loupe: Loupe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        "training: {epochs: 3}\ndata: {init_args: {augment: {preset: strong}}}\n", encoding="utf-8"
    )
    words = [f"--config={CONFIGS / 'seg_unet.yaml'}", f"--config={overlay}", "--data.image_size=48"]
    with pytest.raises(SystemExit) as end:
        loupe("fit", *words, "training.batch_size=5", "--print_config")
    assert not end.value.code
    printed = yaml.safe_load(capsys.readouterr().out)
    data = printed["data"]["init_args"]
    assert (data["dataset"], data["image_size"], data["augment"]["preset"]) == ("shapes", 48, "strong")
    assert (printed["training"]["epochs"], printed["training"]["batch_size"]) == (3, 5)


# -- validation now and then ----------------------------------------------------------------------------------------


def test_an_epoch_without_validation_tells_no_score_of_it(loupe: Loupe, tiny_words: list[str]) -> None:
    outcome = loupe(
        "fit", *tiny_words, *QUICK[1:], "training.epochs=4", "--trainer.check_val_every_n_epoch=2"
    )
    assert outcome.code == 0, outcome.err
    lines = [line for line in outcome.out.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 4 and all("train/loss" in line for line in lines)
    assert [("val/loss" in line, "val/iou" in line) for line in lines] == [(False,) * 2, (True,) * 2] * 2
    assert [bool(row["val/iou"]) for row in rows(RUN / "metrics.csv")] == [False, True, False, True]


def test_validation_that_never_comes_is_refused(loupe: Loupe, tiny_words: list[str]) -> None:
    never = "--trainer.check_val_every_n_epoch=3"
    outcome = loupe("fit", *tiny_words, *QUICK, never, "training.monitor=val/iou")
    refused(outcome, "training.monitor 'val/iou'", "check_val_every_n_epoch is 3", "training.epochs is 2")
    assert not Path("runs").exists()
    assert loupe("fit", *tiny_words, *QUICK, never, "training.monitor=train/loss").code == 0
    last = "--trainer.check_val_every_n_epoch=2"
    assert loupe("fit", *tiny_words, *QUICK, last, "training.monitor=val/iou").code == 0


# -- a training that diverges ---------------------------------------------------------------------------------------

DIVERGE = ["training.learning_rate=1e30", "training.optimizer=sgd"]


def test_divergence_in_the_first_epoch_leaves_no_checkpoint(loupe: Loupe, tiny_words: list[str]) -> None:
    outcome = loupe("fit", *tiny_words, *QUICK, *DIVERGE)
    refused(outcome, "the loss is nan", "epoch 1", "training.learning_rate")
    assert not list(Path("runs").rglob("*.ckpt"))


def test_divergence_later_leaves_the_checkpoints_of_before(loupe: Loupe, tiny_words: list[str]) -> None:
    assert loupe("fit", *tiny_words, *QUICK, "training.optimizer=sgd").code == 0
    before = files_of(CHECKPOINTS)
    assert sorted(before) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    outcome = loupe("fit", CONFIG, "--ckpt_path=last", "training.epochs=4", *DIVERGE)
    refused(outcome, "the loss is nan", "epoch 3")
    assert files_of(CHECKPOINTS) == before


# -- predictions ----------------------------------------------------------------------------------------------------


def test_earlier_predictions_are_put_aside_whole(loupe: Loupe, done: Path, tiny_data: Path) -> None:
    images = tiny_data / "test" / "images"
    calls = [str(images), str(images / "p0.png"), str(tiny_data / "train" / "images")]
    seen: list[dict[str, str]] = []
    for path in calls:
        outcome = loupe("predict", CONFIG, "--ckpt_path=best", f"--data.predict_path={path}")
        assert outcome.code == 0, outcome.err
        seen.append(files_of(done / "predictions"))
    # masks, the table, the sidecar and a journal; one picture of the same folder is done already, and its mask stays
    assert [len(files) for files in seen] == [4 + 3, 4 + 3, 8 + 3]
    masks = [{name: text for name, text in files.items() if name.startswith("masks/")} for files in seen]
    assert masks[0] == masks[1]
    # pictures of another folder have the same names: what is there is put aside whole
    folders = ["predictions_1", "predictions"]
    assert sorted(p.name for p in done.glob("predictions*")) == sorted(folders)
    assert [files_of(done / folder) for folder in folders] == seen[1:]
    assert f"{done / 'predictions_1'}" in outcome.out
    back = loupe("predict", CONFIG, "--ckpt_path=best", f"--data.predict_path={images}")
    assert back.code == 0 and "are done already" not in back.out
    assert {k: v for k, v in files_of(done / "predictions").items() if k.startswith("masks/")} == masks[0]


def test_a_program_predicts_in_the_precision_of_the_run(
    loupe: Loupe, tiny_words: list[str], tiny_data: Path, tmp_path: Path
) -> None:
    # Ten epochs tell bright from dark; a ramp between the two has a border where the last bits decide.
    words = ["training.epochs=10", "training.learning_rate=0.02", "training.mixed_precision=true"]
    outcome = loupe("fit", *tiny_words, *QUICK[1:], *words, "--data.augment.preset=none")
    assert outcome.code == 0 and "bf16-mixed" in outcome.out, outcome
    folder = tmp_path / "pictures"
    shutil.copytree(tiny_data / "train" / "images", folder)
    for number in range(4):
        ramp = np.linspace(0, 200 + 10 * number, 240).astype(np.uint8)
        Image.fromarray(np.broadcast_to(ramp[None, :, None], (160, 240, 3)).copy()).save(
            folder / f"ramp{number}.png"
        )
    outcome = loupe("predict", CONFIG, "--ckpt_path=best", f"--data.predict_path={folder}")
    assert outcome.code == 0, outcome.err
    table = rows(RUN / "predictions" / "predictions.csv")
    assert len(table) == 12
    predictor = inference.load(CHECKPOINTS / "best.ckpt")
    full = inference.load(CHECKPOINTS / "best.ckpt")
    full.mixed = False
    differs = 0
    for row in table:
        with Image.open(RUN / "predictions" / row["mask"]) as mask:
            written = np.array(mask)
        assert np.array_equal(predictor.predict(row["path"])["mask"], written), row["path"]
        differs += int((full.predict(row["path"])["mask"] != written).sum())
    assert differs, "in float32 some pixel is another, so that the precision is seen"


# -- words that are refused, and words that work --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trainer.use_distributed_sampler=true"], ["trainer.use_distributed_sampler", "remove it"]),
        (["--run.name=../../x"], ["run.name", "../../x", "run.directory"]),
        (["--run.name=.."], ["run.name"]),
        (['--run={"name": ""}'], ["run.name", "''"]),
        (["--run.name=a/b"], ["run.name", "a/b"]),
        (["--seed_everything=-3"], ["seed_everything", "-3"]),
    ],
    ids=str,
)
def test_refused_before_anything_is_written(
    loupe: Loupe,
    tiny_words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: list[str],
) -> None:
    here = tmp_path / "one" / "two" / "three"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    refused(loupe("fit", *tiny_words, *QUICK, *words), *said)
    assert list(tmp_path.rglob("*")) == [here.parent.parent, here.parent, here]
    assert not (tmp_path.parent / "x").exists()


def test_a_callback_by_its_bare_name(loupe: Loupe, tiny_words: list[str]) -> None:
    words = [
        "--trainer.callbacks+=EarlyStopping",
        "--trainer.callbacks.monitor=val/loss",
        "--trainer.callbacks.patience=1",
        "--trainer.callbacks.min_delta=1000",
    ]
    outcome = loupe("fit", *tiny_words, *QUICK[1:], "training.epochs=7", *words)
    assert outcome.code == 0, outcome.err
    assert len(rows(RUN / "metrics.csv")) == 2, "the second epoch is no better by 1000, and that ends the run"
    plain = loupe("fit", *tiny_words, *QUICK, *words[:2])
    assert plain.code == 0, plain.err
    saved = yaml.safe_load((RUN.with_name("version_1") / "config.yaml").read_text(encoding="utf-8"))
    (callback,) = saved["trainer"]["callbacks"]
    assert callback["class_path"].endswith(".EarlyStopping")
    assert callback["init_args"]["monitor"] == "val/loss"


def test_a_dry_run_speaks_of_no_folder_and_leaves_none(loupe: Loupe, tiny_words: list[str]) -> None:
    outcome = loupe("fit", *tiny_words, *QUICK, "--trainer.fast_dev_run=true")
    assert outcome.code == 0, outcome.err
    assert "nothing is kept (fast_dev_run)" in outcome.out
    assert "runs" not in outcome.out and "python train.py" not in outcome.out
    assert not list(Path().iterdir())
