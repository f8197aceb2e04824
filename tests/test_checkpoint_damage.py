"""Checkpoints that are cut, changed or missing, and what they hold for others."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path

import pytest
import timm
import torch
import torch._dynamo
from segmentation_models_pytorch import Unet

from cli import main
from errors import LoupeError
from inference import read_checkpoint
from tests.crashes import assert_identical, assert_same_runs
from tests.fitting import Fit, Fitter, write_pictures
from tests.tasks import CLASSIFICATION, write_task


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("damage"), {"train": 10, "val": 4})


FLAGS = ("--training.epochs=3", "--training.learning_rate=0.01", "--training.checkpoint.every_n_steps=2")


def on(first: Fit) -> tuple[str, ...]:
    return f"--config={first.run / 'config.yaml'}", "--ckpt_path=last"


def test_every_changed_byte_is_found_or_means_nothing(fit: Fitter, data: Path, tmp_path: Path) -> None:
    whole = fit(data, "--training.epochs=1").run / "checkpoints" / "last.ckpt"
    known, content = whole.read_bytes(), read_checkpoint(whole)
    damaged = tmp_path / "damaged.ckpt"
    found = 0
    for at in range(7, len(known), len(known) // 150):
        changed = bytearray(known)
        changed[at] ^= 0x41
        damaged.write_bytes(changed)
        try:
            still = read_checkpoint(damaged)
        except LoupeError:
            found += 1
        else:
            assert_identical(still, content)
    assert found > 75, "most bytes of a checkpoint mean something"
    for size in (0, 1, 100, len(known) // 2, len(known) - 1):
        damaged.write_bytes(known[:size])
        with pytest.raises(LoupeError, match="cannot be read"):
            read_checkpoint(damaged)


def test_the_one_before_a_damaged_last_is_used_and_said(
    fit: Fitter, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = fit(data, *FLAGS)
    first = fit(data, *FLAGS)
    last = first.run / "checkpoints" / "last.ckpt"
    known = last.read_bytes()
    last.write_bytes(known[: len(known) // 2])
    assert main(["fit", *on(first)]) == 0
    printed = capsys.readouterr().out
    assert f"warning: {last} cannot be read" in printed
    assert "going on from previous.ckpt, 8 steps into the run" in printed
    assert "goes on: after 8 steps, in epoch 3, batch 3 of 3" in printed
    assert (last.with_name("last.ckpt.damaged")).exists(), "nothing is thrown away"
    assert_same_runs(first.run, straight.run)


def test_one_changed_byte_of_the_weights_is_enough(
    fit: Fitter, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fit(data, *FLAGS)
    last = first.run / "checkpoints" / "last.ckpt"
    known = bytearray(last.read_bytes())
    at = known.index(first.checkpoint()["state_dict"]["model.network.head.weight"].numpy().tobytes())
    known[at] ^= 1
    last.write_bytes(known)
    assert main(["fit", *on(first)]) == 0
    assert "the checksum of" in capsys.readouterr().out


def test_nothing_whole_is_an_error(fit: Fitter, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = fit(data, "--training.epochs=1")
    for path in (first.run / "checkpoints").glob("*.ckpt"):
        path.write_bytes(b"PK")
    before = {path: sha256(path.read_bytes()).hexdigest() for path in first.run.rglob("*.ckpt")}
    assert main(["fit", *on(first)]) == 2
    assert "there is no other checkpoint in" in capsys.readouterr().err
    assert {path: sha256(path.read_bytes()).hexdigest() for path in first.run.rglob("*.ckpt")} == before


def test_names_and_copies(fit: Fitter, data: Path) -> None:
    first = fit(data, *FLAGS, "--training.checkpoint.keep=2")
    folder = first.run / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
        "step_00000006.ckpt",
        "step_00000008.ckpt",
    ]
    steps = {path.name: read_checkpoint(path)["global_step"] for path in folder.iterdir()}
    assert steps["last.ckpt"] == 9
    assert steps["previous.ckpt"] == steps["step_00000008.ckpt"] == 8
    assert (folder / "step_00000008.ckpt").samefile(folder / "previous.ckpt"), "one file under two names"


def test_a_file_system_without_links(fit: Fitter, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(1, "not permitted")

    monkeypatch.setattr("os.link", refuse)
    first = fit(data, "--training.epochs=1")
    assert_identical(first.checkpoint("best"), first.checkpoint("last"))


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_timm_loads_a_classifier(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, compiled: bool
) -> None:
    """The names are timm's own behind one prefix, whatever compiles or averages the network."""
    root = write_task("classification", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    flags = ["--training.ema=true", f"--training.compile={str(compiled).lower()}", f"--data.root={root}"]
    # A compiler may be missing; the names are the point. (monkeypatch would leave the setting hidden: torch's own way.)
    with torch._dynamo.config.patch(disable=True) if compiled else nullcontext():
        assert main(["fit", *CLASSIFICATION.words, *flags]) == 0
    (run,) = (tmp_path / "runs").glob("*/version_*")
    state = read_checkpoint(run / "checkpoints" / "best.ckpt")["state_dict"]
    plain = timm.create_model("lcnet_035", pretrained=False, num_classes=2)
    names = {"model.network.": "", "model.head.": f"{plain.pretrained_cfg['classifier']}."}
    own = {
        theirs + key.removeprefix(ours): state[key]
        for ours, theirs in names.items()
        for key in state
        if key.startswith(ours)
    }
    assert len(own) == len(state)
    plain.load_state_dict(own, strict=True)


def test_smp_loads_a_segmenter(fit: Fitter, data: Path) -> None:
    base = (
        "--model.architecture=unet",
        "--model.encoder=resnet18",
        "--model.weights=null",
        "--model.options={}",
    )
    run = fit(data, *base, "--training.epochs=1")
    state = run.checkpoint()["state_dict"]
    prefix = "model.network."
    assert all(key.startswith(prefix) for key in state)
    plain = Unet("resnet18", encoder_weights=None, classes=2)
    plain.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()}, strict=True)


def test_two_runs_of_one_config_are_one(fit: Fitter, data: Path) -> None:
    flags = (
        *FLAGS,
        "--trainer.deterministic=true",
        "--data.augment.preset=strong",
        "--training.tensorboard=true",
    )
    one, two = fit(data, *flags), fit(data, *flags)
    assert_same_runs(one.run, two.run)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("--training.optimizer=sgd", "training.optimizer is sgd; go on with adamw"),
        ("--training.batch_size=5", "batch_size 4 -> 5"),
        ("--training.accumulate=2", "accumulate 1 -> 2"),
        ("--seed_everything=7", "seed 0 -> 7"),
        ("--model.options={base_filters: 8, depth: 2}", "the checkpoint holds another network"),
    ],
)
def test_unsafe_changes_are_refused(
    fit: Fitter, data: Path, capsys: pytest.CaptureFixture[str], change: str, told: str
) -> None:
    first = fit(data, *FLAGS, "--trainer.max_steps=5")  # within the second epoch
    before = {path: sha256(path.read_bytes()).hexdigest() for path in first.run.rglob("*") if path.is_file()}
    assert main(["fit", *on(first), "--trainer.max_steps=-1", change]) == 2
    assert told in capsys.readouterr().err
    assert {
        path: sha256(path.read_bytes()).hexdigest() for path in first.run.rglob("*") if path.is_file()
    } == before


def test_max_steps_ends_within_an_epoch_and_the_run_goes_on(fit: Fitter, data: Path) -> None:
    flags = (*FLAGS, "--training.lr_schedule=constant")  # the others end with the run
    straight = fit(data, *flags)
    first = fit(data, *flags, "--trainer.max_steps=5")
    assert main(["fit", *on(first), "--trainer.max_steps=-1"]) == 0
    for name in ("last", "best"):
        ours, theirs = read_checkpoint(first.run / "checkpoints" / f"{name}.ckpt"), straight.checkpoint(name)
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "global_step", "epoch"):
            assert_identical(ours[key], theirs[key], f"{name}.{key}")


def test_a_run_that_was_over_early_stays_over(
    fit: Fitter, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopping = "--training.early_stopping={enabled: true, patience: 2, min_delta: 1000}"
    first = fit(data, stopping, "--training.epochs=9")
    assert len(first.rows) == 3
    kept = first.checkpoint()
    assert main(["fit", *on(first)]) == 0
    assert (
        "early stopping had ended the run; give a larger training.early_stopping.patience"
        in capsys.readouterr().out
    )
    assert_identical(first.checkpoint()["state_dict"], kept["state_dict"])
    assert main(["fit", *on(first), "--training.early_stopping.patience=4"]) == 0
    assert first.checkpoint()["epoch"] == 4


def test_what_a_killed_process_left_is_swept(fit: Fitter, data: Path) -> None:
    first = fit(data, "--training.epochs=1")
    for left in (first.run / ".metrics.csv.4711", first.run / "checkpoints" / "..fresh.ckpt.4711"):
        left.write_bytes(b"half")
    shutil.copyfile(first.run / "checkpoints" / "last.ckpt", first.run / "checkpoints" / ".fresh.ckpt")
    mine = first.run / ".keep"
    mine.write_text("the user's own")
    assert main(["fit", *on(first), "--training.epochs=2"]) == 0
    assert [path.name for path in first.run.rglob(".*")] == [".keep"]
