"""What a fit shows: curves, pictures, charts, texts in TensorBoard; what an evaluation leaves for the report."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image

import inference
from callbacks import samples_on_show
from callbacks.gallery import Gallery
from callbacks.samples_on_show import chosen_for
from tests.boards import curves, events
from tests.fitting import ROOT, Fitter, write_pictures
from tests.tasks import TASKS, write_task

Loupe = Callable[..., Any]
EVERYTHING = (
    "--training.tensorboard={histogram_freq: 1, write_images: true, update_freq: batch}",
    "--training.pictures=3",
)


@pytest.fixture(scope="module")
def task_data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tasks")
    return {name: write_task(name, folder / name) for name in TASKS}


def record(run: Path, name: str = "val") -> dict[str, Any]:
    with np.load(run / "evaluation" / f"{name}.npz") as content:  # allow_pickle is false
        arrays = {key: content[key] for key in content.files}
    return {**arrays, "meta": json.loads(str(arrays["meta"]))}


CHARTS = {
    "segmentation": {"confusion", "classes"},
    "classification": {"confusion", "classes", "calibration", "precision_recall"},
    "cropping": {"precision_recall"},
}


@pytest.mark.parametrize("name", TASKS)
def test_a_fit_with_everything_on(loupe: Loupe, task_data: dict[str, Path], name: str) -> None:
    task = TASKS[name]
    outcome = loupe("fit", *task.words, f"--data.root={task_data[name]}", *EVERYTHING, "--training.epochs=2")
    assert outcome.code == 0, outcome.err
    run = Path(f"runs/{task.config}/version_0")
    whole, train, val = (events(run, part) for part in ("", "train", "val"))

    # curves: the loss of both in one chart, at the same steps
    for board in (train, val):
        assert [point.step for point in board.Scalars("loss/epoch")] == [1, 3]
    assert {"optimization/learning_rate", "optimization/gradient_norm", "speed/data_time"} <= set(
        train.Tags()["scalars"]
    )
    assert {"speed/images_per_s", "speed/memory_gib"} <= set(train.Tags()["scalars"])
    assert [point.step for point in train.Scalars("optimization/gradient_norm_step")] == [0, 1, 2, 3]
    score = task.score.partition("/")[2]
    assert [point.step for point in val.Scalars(f"scores/{score}")] == [1, 3]

    # pictures and charts
    assert train.Tags()["images"] == ["pictures/augmented"]
    wanted = {f"pictures/{kind}" for kind in ("same", "worst", "uncertain")}
    assert set(val.Tags()["images"]) == wanted | {f"charts/{chart}" for chart in CHARTS[name]}
    for board, tags in ((train, ["pictures/augmented"]), (val, sorted(val.Tags()["images"]))):
        for tag in tags:
            shown = board.Images(tag)
            assert len(shown) == (1 if board is train else 2), tag
            picture = Image.open(io.BytesIO(shown[-1].encoded_image_string))
            assert picture.size == (shown[-1].width, shown[-1].height) and min(picture.size) > 100
            colours = len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0))
            assert colours > (1000 if tag.startswith("pictures") else 20), f"{tag} shows nothing"

    # texts, layout, hyperparameters with the scores of the best epoch
    texts = {
        tag: whole.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in ("config/text_summary", "command/text_summary")
    }
    assert (run / "config.yaml").read_text().strip() in texts["config/text_summary"]
    assert f"python train.py fit --config={task.words[0].partition('=')[2]}" in texts["command/text_summary"]
    assert "custom_scalars__config__" in whole.Tags()["tensors"]
    best = json.loads((run / "run.json").read_text())["best"]
    assert whole.Scalars(f"best/{best['monitor'].partition('/')[2]}")[0].value == pytest.approx(best["score"])


@pytest.mark.parametrize("name", TASKS)
def test_the_record_is_that_of_the_best_checkpoint(
    loupe: Loupe, task_data: dict[str, Path], name: str
) -> None:
    """Sample by sample what the model says that best.ckpt holds; `test` leaves the same of the test part."""
    task = TASKS[name]
    words = [*task.words, f"--data.root={task_data[name]}", "--training.tensorboard=false"]
    assert loupe("fit", *words, "--training.epochs=2").code == 0
    run = Path(f"runs/{task.config}/version_0")
    best = run / "checkpoints" / "best.ckpt"
    assert loupe("test", f"--config={run}/config.yaml", "--ckpt_path=best").code == 0
    assert record(run)["meta"]["epoch"] == json.loads((run / "run.json").read_text())["best"]["epoch"]
    for part in ("val", "test"):
        found = record(run, part)
        meta = found["meta"]
        assert (meta["stage"], meta["task"], meta["samples"]) == (part, name, 4)
        assert sorted(found["index"].tolist()) == [0, 1, 2, 3]
        predictor = inference.load(best)
        for entry, number in zip(meta["worst"], range(4), strict=True):
            picture = Image.open(io.BytesIO(found[f"worst_{number:02d}"].tobytes()))
            assert picture.format == "JPEG" and Path(entry["file"]).is_file()
            said = predictor.predict(entry["file"])
            if name == "classification":
                assert f"{said['row']['confidence']:.2f}" in entry["caption"], entry
        figures = [entry["figure"] for entry in meta["worst"]]
        assert figures == sorted(figures, reverse=True) and len(set(figures)) > 1
        if part == "test":
            scores = json.loads((run / "test.json").read_text())["scores"]
            assert scores[task.score.replace("val/", "test/")] == pytest.approx(
                meta["scores"][task.score.partition("/")[2]]
            )
            check_samples(name, found)


@pytest.mark.parametrize("name", TASKS)
def test_a_validation_of_one_picture(
    loupe: Loupe, task_data: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """torchmetrics makes a scalar of what has one element; the charts, the record and the report want a row."""
    task, root = TASKS[name], tmp_path / "data"
    shutil.copytree(task_data[name], root)
    for path in [*root.glob("val*/**/[123].png"), *root.glob("val_[123].png")]:
        path.unlink()
    for folder in root.glob("val/*"):
        if not any(folder.iterdir()):
            folder.rmdir()
    if name == "cropping":
        rows = (root / "manifest.csv").read_text().splitlines()
        kept = [row for row in rows if row[:5] not in ("val_1", "val_2", "val_3")]
        (root / "manifest.csv").write_text("\n".join(kept) + "\n")
    outcome = loupe(
        "fit", *task.words, f"--data.root={root}", "--training.tensorboard=true", "--training.pictures=8"
    )
    assert outcome.code == 0, outcome.err
    run = Path(f"runs/{task.config}/version_0")
    found = record(run)
    assert found["index"].tolist() == [0] and len(found["meta"]["worst"]) == 1
    assert "report: " in outcome.out and "warning" not in outcome.out and (run / "report.html").is_file()


def check_samples(name: str, found: dict[str, Any]) -> None:
    """The scores once more, from the samples alone."""
    scores = found["meta"]["scores"]
    if name == "segmentation":
        hits, truth, predicted = (found[key].sum(0) for key in ("hits", "truth", "predicted"))
        iou = hits / (truth + predicted - hits)
        assert iou[1] == pytest.approx(scores["iou"])
        assert found["confusion"].sum() == truth.sum() == 4 * 32 * 32
    elif name == "classification":
        right = found["log_odds"].argmax(1) == found["label"]
        assert right.mean() == pytest.approx(scores["accuracy"])
        assert found["reliability"][:, 0].sum() == 4
    else:
        assert found["iou"][found["has_box"]].mean() == pytest.approx(scores["box_iou"])


@pytest.mark.parametrize(
    ("classes", "flags"),
    [
        (("golden retriever", "labrador retriever"), ("--data.augment.mixup=0.5",)),
        (("Tomato___Tomato_Yellow_Leaf_Curl_Virus", "soft-coated, wheaten terrier"), ()),
    ],
    ids=["mixed", "long"],
)
def test_long_class_names_and_mixed_labels_can_be_shown(
    loupe: Loupe, task_data: dict[str, Path], tmp_path: Path, classes: tuple[str, str], flags: tuple[str, ...]
) -> None:
    task, root = TASKS["classification"], tmp_path / "data"
    shutil.copytree(task_data["classification"], root)
    for part in ("train", "val", "test"):
        for side, name in zip(("left", "right"), classes, strict=True):
            (root / part / side).rename(root / part / name)
    outcome = loupe(
        "fit",
        *task.words,
        f"--data.root={root}",
        *flags,
        "--training.tensorboard=true",
        "--training.pictures=8",
    )
    assert outcome.code == 0, outcome.err
    run = Path(f"runs/{task.config}/version_0")
    assert events(run, "train").Tags()["images"] == ["pictures/augmented"]


def test_heat_is_of_the_weights_that_were_scored(fit: Fitter, task_data: dict[str, Path]) -> None:
    """With a moving average: Grad-CAM looks while the average is in place, as the scores did."""
    task = TASKS["classification"]
    seen: dict[str, list[float]] = {"scored": [], "explained": []}

    def total(module: Any) -> float:
        return sum(float(p.detach().double().sum()) for p in module.network.parameters())

    class Watch(Callback):
        def on_validation_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            seen["scored"].append(total(pl_module))

    real = samples_on_show.class_activation

    def explained(network: Any, *args: Any) -> Any:
        seen["explained"].append(sum(float(p.detach().double().sum()) for p in network.parameters()))
        return real(network, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples_on_show, "class_activation", explained)
        flags = ("--training.ema=true", "--training.learning_rate=0.05", "--training.epochs=2")
        fit(
            task_data["classification"],
            *task.tiny,
            f"--data.root={task_data['classification']}",
            "--data.image_size=32",
            "--training.batch_size=4",
            "--data.loader.num_workers=0",
            "--trainer.num_sanity_val_steps=0",
            *flags,
            config=ROOT / "configs" / "cls_mobilenetv3.yaml",
            callbacks=(Watch(),),
        )
    assert seen["explained"] == [seen["scored"][0], seen["scored"][-1]]
    assert seen["scored"][0] != seen["scored"][-1]


@pytest.mark.parametrize(
    "where", ["callbacks.samples_on_show.draw_sheet", "callbacks.evaluation_record.draw_tile"]
)
def test_what_cannot_be_drawn_is_told_and_ends_no_training(
    loupe: Loupe,
    task_data: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no paper")

    monkeypatch.setattr(where, fails)
    task = TASKS["segmentation"]
    outcome = loupe(
        "fit",
        *task.words,
        f"--data.root={task_data['segmentation']}",
        "--training.tensorboard=true",
        "--training.pictures=2",
    )
    assert outcome.code == 0, outcome.err
    assert "could not be" in caplog.text and "no paper" in caplog.text
    assert (Path(f"runs/{task.config}/version_0") / "report.html").is_file()


def test_one_label_of_a_multi_label_manifest(
    loupe: Loupe, task_data: dict[str, Path], tmp_path: Path
) -> None:
    """One class is a column of its own: torchmetrics makes a scalar of it."""
    task, root = TASKS["classification"], task_data["classification"]
    rows = ["path,labels,split"]
    rows += [
        f"{path},{'right' if path.parent.name == 'right' else ''},{path.parent.parent.name}"
        for path in sorted(root.rglob("*.png"))
    ]
    (tmp_path / "one.csv").write_text("\n".join(rows) + "\n")
    words = [*task.words, f"--data.root={tmp_path / 'one.csv'}", "--training.loss=categorical_crossentropy"]
    words += ["--training.monitor=val/loss", "--data.read.outside_root=true"]
    outcome = loupe("fit", *words)
    assert outcome.code == 0, outcome.err
    found = record(Path(f"runs/{task.config}/version_0"))
    assert found["log_odds"].shape == found["label"].shape == (4, 1)


def test_pictures_that_nobody_can_show_are_refused(loupe: Loupe, tiny_words: list[str]) -> None:
    outcome = loupe("fit", *tiny_words, "--training.tensorboard=false", "--training.pictures=4")
    assert outcome.code == 2 and "training.pictures=4 would have no effect" in outcome.err


def test_what_is_looked_at_changes_nothing(loupe: Loupe, task_data: dict[str, Path]) -> None:
    """Weights bit for bit as without: Grad-CAM and the galleries draw no random number and leave no gradient."""
    task = TASKS["classification"]
    words = [*task.words, f"--data.root={task_data['classification']}", "--training.epochs=3"]
    words += ["--model.options={drop_rate: 0.2}"]
    states: list[dict[str, torch.Tensor]] = []
    for number, flags in enumerate((EVERYTHING, ("--training.tensorboard=false",))):
        assert loupe("fit", *words, *flags).code == 0
        path = Path(f"runs/{task.config}/version_{number}/checkpoints/last.ckpt")
        states.append(torch.load(path, weights_only=True)["state_dict"])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_run_that_goes_on_shows_each_thing_once(fit: Fitter, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data", {"train": 8, "val": 4})
    flags = ("--training.tensorboard=true", "--training.lr_schedule=constant")
    once = fit(data, *flags, "--training.epochs=4", "--run.name=whole")
    half = fit(data, *flags, "--training.epochs=2", "--run.name=parts")
    fit(data, "--ckpt_path=last", "--training.epochs=4", config=half.run / "config.yaml")
    whole, parts = curves(once.run), curves(half.run)
    assert whole.keys() == parts.keys()
    assert len(whole["val:loss/epoch"]) == 4
    assert {tag for tag in whole if whole[tag] != parts[tag]} == set()
    tags = events(half.run, "val").Images("pictures/same")
    assert [shown.step for shown in tags] == [1, 3, 5, 7]
    assert [shown.step for shown in events(half.run, "train").Images("pictures/augmented")] == [0]
    sessions = json.loads((half.run / "run.json").read_text())["sessions"]
    assert [(s["first_epoch"], s["epochs"], s["images"]) for s in sessions] == [(0, 2, 16), (2, 2, 16)]


def test_a_second_epoch_that_is_worse_leaves_the_record(fit: Fitter, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data", {"train": 4, "val": 4})
    ran = fit(data, "--training.epochs=3", "--training.learning_rate=0.3", "--training.monitor=val/loss")
    losses = ran.column("val/loss")
    best = losses.index(min(losses))
    meta = record(ran.run)["meta"]
    assert meta["epoch"] == best and meta["scores"]["loss"] == pytest.approx(min(losses), rel=1e-6)


# -- the gallery ----------------------------------------------------------------------------------------------------


class OneProcess:
    world_size = 1


def test_a_gallery_keeps_the_highest_of_all_batches() -> None:
    rng = np.random.default_rng(0)
    ranks = torch.tensor(rng.permutation(40), dtype=torch.float32).view(8, 5)
    ranks[3, 2], ranks[5, 1] = torch.nan, -torch.inf  # as bad as it can be; padding
    gallery = Gallery(7)
    for batch, rank in enumerate(ranks):
        gallery.offer(
            rank, {"place": torch.arange(5) + 5 * batch, "picture": rank.view(5, 1, 1).expand(5, 2, 2)}
        )
    taken = gallery.take(OneProcess())  # type: ignore[arg-type]
    flat = ranks.flatten().nan_to_num(nan=torch.inf, neginf=-torch.inf)
    expected = flat.argsort(descending=True)[:7]
    assert [int(sample["place"]) for sample in taken] == expected.tolist()
    assert all((sample["picture"] == sample["rank"]).all() for sample in taken[1:])
    assert gallery.take(OneProcess()) == []  # type: ignore[arg-type]


def test_a_gallery_shows_no_padding_and_no_more_than_there_is() -> None:
    gallery = Gallery(5)
    gallery.offer(torch.tensor([-torch.inf, 1.0]), {"place": torch.tensor([0, 1])})
    assert [int(sample["place"]) for sample in gallery.take(OneProcess())] == [1]  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "wanted"), [(100, 8), (8, 8), (3, 8), (1, 1), (5, 0), (0, 4)])
def test_what_is_always_shown_is_spread_evenly(count: int, wanted: int) -> None:
    found = chosen_for(count, wanted).tolist()
    assert len(set(found)) == len(found) == min(count, wanted)
    assert all(0 <= place < count for place in found)
    if len(found) > 1:
        steps = np.diff(found)
        assert steps.max() - steps.min() <= 1
