"""What the sections `inference`, `predictions`, `calibration` and `export` do on the command line."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import inference
from inference import Inference, Tiles

Loupe = Callable[..., Any]
RUN = Path("runs/seg_unet/version_0")
USE = [f"--config={RUN / 'config.yaml'}", "--ckpt_path=best"]


@pytest.fixture(scope="module")
def made(tiny_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmenter that has learnt a little, trained by a config that holds what comes after as well."""
    from cli import main

    folder = tmp_path_factory.mktemp("uses")
    layer = folder / "uses.yaml"
    layer.write_text(yaml.safe_dump({"inference": {"flips": "horizontal"}, "export": {"pictures": 2}}))
    words = ["training.epochs=4", "training.batch_size=4", "training.learning_rate=0.01"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        quiet = "--training.tensorboard=false"
        assert main(["fit", *tiny_words, f"--config={layer}", *words, quiet]) == 0
    return folder / RUN


@pytest.fixture
def run(made: Path, loupe: Loupe) -> Path:
    shutil.copytree(made, RUN)
    return RUN


def refused(outcome: Any, *words: str) -> None:
    assert outcome.code == 2 and "Traceback" not in outcome.err, outcome
    for word in words:
        assert word in outcome.err, f"{word!r} is not in: {outcome.err}"


def scores(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())["scores"]


def test_a_saved_config_holds_what_was_set_and_no_more(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["inference"]["flips"] == "horizontal" and config["export"]["pictures"] == 2
    assert not {"roi", "predictions", "calibration"} & config.keys()


def test_a_test_tells_what_is_gained(run: Path, loupe: Loupe) -> None:
    plain = loupe("test", *USE, "--inference.flips=none")
    assert plain.code == 0 and "gain" not in plain.out
    alone = scores(run / "test.json")
    both = loupe("test", *USE)
    assert both.code == 0 and "with flips horizontal" in both.out
    gain = json.loads((run / "test_gain.json").read_text())
    asked = scores(run / "test.json")
    for name, row in gain["scores"].items():
        assert row["plain"] == pytest.approx(alone[f"test/{name}"], abs=1e-6)
        assert row["asked"] == pytest.approx(asked[f"test/{name}"], abs=1e-6)
        assert row["gain"] == pytest.approx(row["asked"] - row["plain"], abs=1e-6)
    # what the report shows is the model as it was asked
    assert loupe("test", *USE, "--inference.compare=false").code == 0
    assert scores(run / "test.json") == pytest.approx(asked, abs=1e-6)


def test_pictures_of_many_sizes_in_tiles(run: Path, loupe: Loupe, tmp_path: Path) -> None:
    data = tmp_path / "many"
    for part in ("train", "val", "test"):
        for number, size in enumerate([(40, 70), (90, 33), (500, 61), (64, 64)]):
            mask = np.zeros(size, np.uint8)
            mask[5:30, 5:25] = 1
            for kind, pixels in (("images", np.stack([mask * 200] * 3, axis=-1)), ("masks", mask)):
                (data / part / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(data / part / kind / f"{number}.png")
    found = loupe("test", *USE, f"--data.root={data}", "--inference.tiles=true", "--inference.flips=none")
    assert found.code == 0, found.err
    gain = json.loads((run / "test_gain.json").read_text())
    assert "loss" not in gain["scores"] and {"iou", "dice"} <= gain["scores"].keys()


def test_masks_are_scored_at_the_size_of_pictures(run: Path, loupe: Loupe, tmp_path: Path) -> None:
    data = tmp_path / "large"
    rng = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for number in range(3):
            mask = np.zeros((90, 70), np.uint8)
            y, x = rng.integers(5, 40, 2)
            mask[y : y + 30, x : x + 27] = 1
            image = (rng.integers(0, 90, (90, 70, 3)) + 120 * mask[..., None]).astype(np.uint8)
            for kind, pixels in (("images", image), ("masks", mask)):
                (data / part / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(data / part / kind / f"{number}.png")
    words = [f"--data.root={data}", "--inference.flips=none"]
    assert loupe("test", *USE, *words, "--inference.full_size=true").code == 0
    told = scores(run / "test.json")["test/iou"]
    found = loupe("predict", *USE, *words, f"--data.predict_path={data / 'test' / 'images'}")
    assert found.code == 0
    hits = both = 0
    for path in sorted((data / "test" / "masks").iterdir()):
        truth = np.asarray(Image.open(path)) == 1
        mask = np.asarray(Image.open(run / "predictions" / "masks" / path.name)) == 1
        hits, both = hits + (truth & mask).sum(), both + (truth | mask).sum()
    assert told == pytest.approx(hits / both, abs=1e-9)


def test_a_program_answers_as_predict_does(run: Path, loupe: Loupe, tiny_data: Path) -> None:
    pictures = tiny_data / "test" / "images"
    other = run / "checkpoints" / "last.ckpt"
    words = [f"--inference.ensemble=[{other}]", "--inference.scales=[1.0, 1.5]"]
    assert loupe("predict", *USE, *words, f"--data.predict_path={pictures}").code == 0
    asked = Inference(flips="horizontal", scales=[1.0, 1.5], ensemble=[str(other)])
    predictor = inference.load(run / "checkpoints" / "best.ckpt", inference=asked)
    with (run / "predictions" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row in rows:
        found = predictor.predict(row["path"])
        assert np.array_equal(found["mask"], np.asarray(Image.open(run / "predictions" / row["mask"])))
        assert float(row["share_foreground"]) == pytest.approx(found["row"]["share_foreground"], abs=1e-5)


def test_other_settings_are_other_predictions(run: Path, loupe: Loupe, tiny_data: Path) -> None:
    words = [*USE, f"--data.predict_path={tiny_data / 'test' / 'images'}"]
    assert loupe("predict", *words).code == 0
    again = loupe("predict", *words)
    assert "4 of 4 pictures are done already" in again.out
    other = loupe("predict", *words, "--inference.flips=none")
    assert other.code == 0 and "earlier predictions are in" in other.out
    assert (run / "predictions_1" / "predictions.csv").is_file()


def test_an_export_that_is_not_equal_is_withheld(run: Path, loupe: Loupe) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    good = loupe("export", *USE, "--format=onnx", "--inference.flips=none")
    assert good.code == 0 and "passed" in good.out, good
    artefact = run / "export" / "model.onnx"
    assert artefact.is_file() and json.loads((run / "export" / "model.onnx.json").read_text())["passed"]
    # no rounding at all is more than two runtimes can promise
    bad = loupe("export", *USE, "--format=onnx", "--export.max_error=0")
    assert bad.code == 1 and "NOT passed" in bad.out
    assert not artefact.exists()
    assert not json.loads((run / "export" / "model.onnx.json").read_text())["passed"]


def test_a_switch_may_be_short(run: Path, loupe: Loupe) -> None:
    """`--int8` alone is on, and null is off."""
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    assert loupe("export", *USE, "--int8", "--int8.pictures=2").code == 0
    assert json.loads((run / "export" / "model_int8.onnx.json").read_text())["passed"]
    Path("off.yaml").write_text("export: {int8: null}\ninference: {tiles: null}")
    assert loupe("export", *USE, "--config=off.yaml").code == 0
    assert (run / "export" / "model.onnx").is_file()


def test_a_fit_may_name_members_that_are_not_trained_yet(loupe: Loupe, tiny_words: list[str]) -> None:
    words = ["--inference.ensemble=[later.ckpt]", "--training.epochs=1", "--training.tensorboard=false"]
    outcome = loupe("fit", *tiny_words, *words)
    assert outcome.code == 0, outcome.err
    refused(loupe("test", *USE), "no checkpoint later.ckpt")


@pytest.mark.parametrize("command", ["export", "calibrate", "test"])
def test_a_command_without_a_checkpoint_is_called_by_its_name(command: str, run: Path, loupe: Loupe) -> None:
    refused(loupe(command, USE[0]), f"{command} needs trained weights", "--ckpt_path")


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("test", ["--inference.flips=sideways"], ["inference.flips", "horizontal"]),
        ("test", ["--inference.scales=[]"], ["inference.scales is empty"]),
        (
            "test",
            ["--inference.ensemble=[nowhere.ckpt]"],
            ["inference.ensemble", "no checkpoint nowhere.ckpt"],
        ),
        (
            "predict",
            ["--inference.ensemble=[nowhere.ckpt]"],
            ["inference.ensemble", "no checkpoint nowhere.ckpt"],
        ),
        ("predict", ["--predictions.table=null"], ["predictions.table", "csv or parquet"]),
        ("test", ["--config=nulls.yaml"], ["inference.scales is null", "default, [1.0]"]),
        ("export", ["--export.directory=nulls.yaml"], ["nulls.yaml cannot be written", "--export.directory"]),
        ("export", ["--export.directory=new/deeper", "--opset=99"], ["export.opset is 99", "the newest"]),
        ("export", ["--format=torch_export", "--opset=20"], ["export.opset", "torch_export"]),
        ("predict", ["--predictions.tabel=csv"], ["predictions.tabel", "predictions.table"]),
        ("predict", ["--data.predict_path=nowhere"], ["nowhere"]),
        ("export", ["--format=onxx"], ["export.format", "onnx"]),
        ("export", ["--inference.tiles.enabled=true"], ["inference.tiles"]),
        ("export", ["--format=torch_export", "--int8=true"], ["int8"]),
        ("calibrate", ["--metric=f2"], ["calibration.metric", "f1"]),
        ("calibrate", ["--calibration.temperature=false"], ["nothing to do"]),
        ("test", ["--roi.margin=0.2"], ["roi.margin", "roi.checkpoint"]),
        ("test", ["--roi=cropper.ckpt"], ["--roi", "--roi.checkpoint=FILE"]),
        ("test", ["--inference.tiles.size=64"], ["inference.tiles.size", "inference.tiles.enabled=true"]),
        ("export", ["--export.int8.pictures=5"], ["export.int8.pictures", "is off"]),
        ("test", [f"--inference.ensemble=[{RUN / 'checkpoints' / 'best.ckpt'}]"], ["would only take time"]),
        ("calibrate", ["--trainer.limit_val_batches=1"], ["whole validation part"]),
        ("calibrate", ["--trainer.fast_dev_run=true"], ["whole validation part"]),
    ],
)
def test_what_means_nothing_is_refused(
    command: str, words: list[str], message: list[str], run: Path, loupe: Loupe, tiny_data: Path
) -> None:
    Path("nulls.yaml").write_text("inference: {scales: null}")
    before = sorted(path for path in RUN.rglob("*") if path.is_file())
    given = [f"--data.predict_path={tiny_data / 'test' / 'images'}"] if command == "predict" else []
    refused(loupe(command, *USE, *given, *words), *message)
    assert sorted(path for path in RUN.rglob("*") if path.is_file()) == before
    assert not Path("new").exists()


def test_tiles_need_a_segmenter_and_are_given_whole_pictures(run: Path, tiny_data: Path) -> None:
    picture = tiny_data / "test" / "images" / "p0.png"
    tiled = inference.load(run / "checkpoints" / "best.ckpt", inference=Inference(tiles=Tiles(enabled=True)))
    plain = inference.load(run / "checkpoints" / "best.ckpt")
    # one tile is the picture
    assert np.array_equal(tiled.predict(picture)["mask"], plain.predict(picture)["mask"])
