"""Prediction: masks at the original size in every layout, on disk as they come, and the same from a program."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import inference
from callbacks import PredictionWriter
from errors import LoupeError
from predictions import output_names

Loupe = Callable[..., Any]
QUICK = [
    "training.epochs=10",
    "training.batch_size=4",
    "training.learning_rate=0.02",
    "--training.tensorboard=false",
]


@pytest.fixture(scope="module")
def trained(tiny_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cli import main

    folder = tmp_path_factory.mktemp("trained")
    assert main(["fit", *tiny_words, *QUICK, f"--run.directory={folder}", "--data.augment.preset=none"]) == 0
    return folder / "seg_unet" / "version_0"


@pytest.fixture
def predict(loupe: Loupe, trained: Path) -> Callable[..., Path]:
    """`predict(path, ...)`: runs the command in a copy of the run, returns `predictions/`."""
    run = Path("runs/copy/version_0")
    shutil.copytree(trained, run)

    def call(path: str | Path, *words: str, code: int = 0) -> Path:
        outcome = loupe(
            "predict",
            f"--config={run / 'config.yaml'}",
            "--ckpt_path=best",
            f"--data.predict_path={path}",
            *words,
        )
        assert outcome.code == code, outcome.err
        return run / "predictions"

    return call


def table(predictions: Path) -> list[dict[str, str]]:
    with (predictions / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def picture(path: Path, height: int, width: int, seed: int = 0) -> Path:
    """A dark picture with a bright block in its upper left."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 90, (height, width, 3)).astype(np.uint8)
    image[height // 8 : height // 2, width // 8 : width // 2] += 120
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def test_one_picture_gives_a_palette_mask_of_its_size(
    predict: Callable[..., Path], tmp_path: Path, trained: Path
) -> None:
    path = picture(tmp_path / "in" / "a picture.png", 50, 90)
    found = predict(path)
    (row,) = table(found)
    assert list(row) == ["path", "mask", "share_background", "share_foreground"]
    assert row["path"] == str(path) and row["mask"] == "masks/a picture.png"
    with Image.open(found / row["mask"]) as mask:
        assert mask.mode == "P" and mask.size == (90, 50)
        assert mask.getpalette()[:3] == [0, 0, 0] and mask.getpalette()[3:6] != [0, 0, 0]
        values = np.array(mask)
    assert set(np.unique(values)) <= {0, 1}
    assert float(row["share_foreground"]) == pytest.approx((values == 1).mean(), abs=1e-6)
    assert values[10:20, 20:40].mean() > values[30:, 50:].mean(), "the block is found where it lies"
    again = inference.load(trained / "checkpoints" / "best.ckpt").predict(path)
    assert again["mask"].dtype == np.uint8 and np.array_equal(again["mask"], values)
    assert {key: str(value) for key, value in again["row"].items()} == {k: row[k] for k in again["row"]}
    assert not list(found.rglob(".*"))


def test_a_folder_is_read_in_order_with_nested_names(
    predict: Callable[..., Path], tmp_path: Path, trained: Path
) -> None:
    sizes = {
        "b/x.png": (20, 30),
        "a/x.png": (33, 21),
        "a/x.jpg": (64, 64),
        "a/deep/x.png": (7, 100),
        "z.webp": (32, 32),
    }
    for number, (name, (height, width)) in enumerate(sizes.items()):
        picture(tmp_path / "in" / name, height, width, number)
    (tmp_path / "in" / "notes.txt").write_text("no picture", encoding="utf-8")
    (tmp_path / "in" / ".hidden.png").write_bytes(b"no picture")
    found = predict(tmp_path / "in", "training.batch_size=2")
    rows = table(found)
    names = [str(Path(row["path"]).relative_to(tmp_path / "in")) for row in rows]
    assert names == sorted(sizes, key=lambda name: Path(name))
    masks = {row["mask"] for row in rows}
    assert len(masks) == 5 and masks == {
        f"masks/{p.relative_to(found / 'masks').as_posix()}" for p in (found / "masks").rglob("*.png")
    }
    predictor = inference.load(trained / "checkpoints" / "best.ckpt")
    for row, name in zip(rows, names, strict=True):
        with Image.open(found / row["mask"]) as mask:
            assert mask.size == sizes[name][::-1]
            assert np.array_equal(np.array(mask), predictor.predict(row["path"])["mask"])


def test_a_manifest_gives_paths_and_order(predict: Callable[..., Path], tmp_path: Path) -> None:
    for number, name in enumerate(("one.png", "sub/two.png", "three.png")):
        picture(tmp_path / "in" / name, 32 + number, 32, number)
    (tmp_path / "in" / "list.csv").write_text(
        "note,path\nx,three.png\ny,one.png\nz,sub/two.png\n", encoding="utf-8"
    )
    found = predict(tmp_path / "in" / "list.csv")
    assert [Path(row["path"]).name for row in table(found)] == ["three.png", "one.png", "two.png"]
    assert [row["mask"] for row in table(found)] == ["masks/three.png", "masks/one.png", "masks/sub/two.png"]
    for row, height in zip(table(found), (34, 32, 33), strict=True):
        with Image.open(found / row["mask"]) as mask:
            assert mask.size == (32, height)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_predicted_upright(
    predict: Callable[..., Path], tmp_path: Path, orientation: int, trained: Path
) -> None:
    picture(tmp_path / "plain.png", 40, 60)
    with Image.open(tmp_path / "plain.png") as image:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    found = predict(tmp_path / "turned.jpg")
    with Image.open(found / "masks" / "turned.png") as mask:
        assert mask.size == ((60, 40) if orientation <= 4 else (40, 60))
        assert not mask.getexif()
        values = np.array(mask)
    from PIL import ImageOps

    with Image.open(tmp_path / "turned.jpg") as image:
        upright = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    from_array = inference.load(trained / "checkpoints" / "best.ckpt").predict(upright)["mask"]
    assert (
        np.mean(from_array == values) > 0.99
    )  # Pillow and torchvision may decode a JPEG one grey level apart


def test_arrays_and_paths_are_the_same(trained: Path, tmp_path: Path) -> None:
    predictor = inference.load(trained / "checkpoints" / "best.ckpt")
    assert predictor.class_names == ["background", "foreground"]
    path = picture(tmp_path / "p.png", 45, 37)
    with Image.open(path) as image:
        colour, grey = np.array(image), np.array(image.convert("L"))
    one, other = predictor.predict(path), predictor.predict(colour)
    assert np.array_equal(one["mask"], other["mask"]) and one["row"] == other["row"]
    assert list(one) == ["row", "mask"] and one["mask"].shape == (45, 37)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(
        predictor.predict(grey)["mask"], predictor.predict(str(tmp_path / "grey.png"))["mask"]
    )
    for bad in (colour.astype(np.int32), colour[:, :, :2], colour[:0]):
        with pytest.raises(LoupeError, match="uint8 array"):
            predictor.predict(bad)


def test_the_checkpoints_picture_size_wins(predict: Callable[..., Path], tmp_path: Path) -> None:
    path = picture(tmp_path / "p.png", 40, 40)
    found = predict(path)
    before = (found / "masks" / "p.png").read_bytes()
    with pytest.warns(UserWarning, match="is not used"):
        found = predict(path, "--data.image_size=64", "--data.read.resize=stretch")
    assert (found / "masks" / "p.png").read_bytes() == before


def test_results_are_on_disk_as_they_come(
    predict: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        picture(tmp_path / "in" / f"p{number}.png", 32, 32, number)
    real = PredictionWriter.on_predict_batch_end
    seen: list[tuple[int, int]] = []

    def stop(
        self: PredictionWriter,
        trainer: Any,
        module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        *rest: Any,
    ) -> None:
        real(self, trainer, module, outputs, batch, batch_idx, *rest)
        folder = self.folder.path
        lines = sum(len(p.read_text().splitlines()) for p in folder.glob("journal/*.jsonl"))
        seen.append((lines, len(list((folder / "masks").glob("*.png")))))
        if batch_idx == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(PredictionWriter, "on_predict_batch_end", stop)
    predict(tmp_path / "in", "training.batch_size=2", code=130)
    assert all(lines <= masks for lines, masks in seen), "noted down once it is there"
    predictions = Path("runs/copy/version_0/predictions")
    assert len((predictions / "journal" / "0.jsonl").read_text().splitlines()) == 4, (
        "what was given is finished"
    )
    assert (
        len(list((predictions / "masks").glob("*.png"))) == 4
        and not (predictions / "predictions.csv").exists()
    )
    monkeypatch.setattr(PredictionWriter, "on_predict_batch_end", real)
    assert len(table(predict(tmp_path / "in", "training.batch_size=2"))) == 5  # a second try is whole
    assert not list(predictions.glob(".*"))


paths = st.lists(
    st.builds(
        lambda folders, name, end: "/".join([*folders, name + end]),
        st.lists(st.sampled_from(["a", "b", ".."]), max_size=3),
        st.sampled_from(["x", "y", "x.png", "a:b", "a_b"]),
        st.sampled_from([".png", ".jpg", ""]),
    ),
    min_size=1,
    max_size=6,
    unique=True,
)


@given(paths=paths)
@settings(deadline=None)
def test_every_input_has_an_output_of_its_own_below_the_folder(paths: list[str]) -> None:
    names = output_names(paths)
    assert len(names) == len(set(names)) == len(paths)
    for name in names:
        assert not name.startswith("/") and ".." not in name.split("/")


@pytest.mark.real_data
def test_real_pictures(loupe: Loupe, real_data: Path, tmp_path: Path) -> None:
    source = real_data / "dsb2018"
    names = sorted(path.stem for path in (source / "images").iterdir())[:12]
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for path in (source / folder).iterdir():
            if path.stem in names:
                shutil.copy(path, tmp_path / "data" / folder / path.name)
    root = Path(__file__).resolve().parent.parent
    outcome = loupe(
        "fit",
        f"--config={root / 'configs' / 'seg_unet.yaml'}",
        "--data.root=data",
        "--data.image_size=64",
        "--data.loader.num_workers=0",
        "--model.options={base_filters: 4, depth: 2}",
        "training.epochs=2",
        "training.batch_size=4",
        "--training.tensorboard=false",
        "--trainer.accelerator=cpu",
    )
    assert outcome.code == 0, outcome.err
    run = Path("runs/seg_unet/version_0")
    outcome = loupe(
        "predict", f"--config={run / 'config.yaml'}", "--ckpt_path=best", "--data.predict_path=data/images"
    )
    assert outcome.code == 0, outcome.err
    rows = table(run / "predictions")
    assert len(rows) == 12
    for row in rows:
        with Image.open(row["path"]) as image, Image.open(run / "predictions" / row["mask"]) as mask:
            assert mask.size == image.size and mask.mode == "P"
