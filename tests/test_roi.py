"""The region of interest: windows by hand, what a network is shown behind a cropper, and the cropper in checkpoints.

The file is also the program of two processes: ``python test_roi.py RANK FOLDER``.
"""

from __future__ import annotations

import csv
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from datamodules import InputReader, plan_fit, seen_through
from datamodules.crops import RandomCrop
from errors import LoupeError
from inference import Region, Roi, load, read_checkpoint, resolve_region, roi_window
from tests.tasks import CONFIGS, LCNET, SMALL, write_task
from tests.two_ranks import run_two_ranks

HEIGHT, WIDTH = 96, 128
#: Where the cropper of these tests finds its object in every picture, as a share of a 64 x 64 input, letterboxed.
CENTRE, SHARE, CONFIDENCE = (0.625, 0.5), (0.25, 0.25), 0.9
#: The same by hand in pixels of the pictures: twice 64 x 64, less the 16 rows above; the box, and with a tenth around.
BOX, WINDOW = (64.0, 32.0, 96.0, 64.0), (28, 60, 40, 40)
QUICK = ("--training.tensorboard=false", "--training.batch_size=8", "--data.augment.preset=none")


# --- the window of a box ---


def window(box: list[float], confidence: float = 0.9, *, margin: float = 0.0) -> list[int]:
    found = roi_window(
        torch.tensor([box]),
        torch.tensor([confidence]),
        torch.tensor([[100, 200]]),
        threshold=0.5,
        margin=margin,
    )
    assert found.dtype == torch.int64
    return found[0].tolist()


WHOLE = [0, 0, 100, 200]


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ([20.0, 10.0, 60.0, 30.0], 0.0, [10, 20, 20, 40]),
        ([20.0, 10.0, 60.0, 30.0], 0.25, [5, 10, 30, 60]),
        ([20.4, 10.6, 59.2, 29.5], 0.0, [10, 20, 20, 40]),  # to whole pixels, outwards
        ([10.0, 5.0, 60.0, 25.0], 0.5, [0, 0, 35, 85]),  # the margin ends at the upper left corner
        ([150.0, 80.0, 190.0, 100.0], 0.5, [70, 130, 30, 70]),  # and at the lower right
        ([-20.0, -10.0, 20.0, 10.0], 0.1, [0, 0, 11, 22]),  # of the part that lies in the picture
        ([0.0, 0.0, 200.0, 100.0], 0.3, WHOLE),
        ([50.2, 40.2, 50.4, 40.4], 0.0, [40, 50, 1, 1]),
        ([199.5, 99.5, 230.0, 130.0], 0.0, [99, 199, 1, 1]),
        ([50.0, 40.0, 50.0, 60.0], 0.1, WHOLE),  # nothing in it
        ([60.0, 40.0, 50.0, 60.0], 0.1, WHOLE),  # inside out
        ([-30.0, 20.0, -10.0, 40.0], 0.1, WHOLE),  # in the letterbox's padding
        ([20.0, 110.0, 60.0, 130.0], 0.1, WHOLE),
        ([math.nan, 10.0, 60.0, 30.0], 0.1, WHOLE),
    ],
)
def test_the_window_of_a_box(box: list[float], margin: float, expected: list[int]) -> None:
    assert window(box, margin=margin) == expected


@pytest.mark.parametrize(("confidence", "whole"), [(0.5, False), (0.4999, True), (math.nan, True)])
def test_the_whole_picture_below_the_threshold(confidence: float, whole: bool) -> None:
    assert (window([20.0, 10.0, 60.0, 30.0], confidence) == WHOLE) == whole


number = st.floats(-500, 500, width=32)


@given(
    box=st.tuples(number, number, number, number),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    margin=st.floats(0, 3),
)
@settings(deadline=None)
def test_a_window_lies_in_its_picture(box: tuple[float, ...], size: tuple[int, int], margin: float) -> None:
    found = roi_window(
        torch.tensor([box]), torch.tensor([1.0]), torch.tensor([size]), threshold=0.5, margin=margin
    )
    top, left, height, width = found[0].tolist()
    assert top >= 0 and left >= 0 and height >= 1 and width >= 1
    assert top + height <= size[0] and left + width <= size[1]


# --- reading through a window ---


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_a_part_is_read_as_though_it_were_the_picture(tmp_path: Path, resize: str) -> None:
    whole = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    reader = InputReader({"image_size": [32, 48], "resize": resize, "in_channels": 3})
    sample, fit = reader.sample(whole, window=lambda fit: seen_through(fit, (20, 30, 50, 40)))
    alone, _ = reader.sample(np.ascontiguousarray(whole[20:70, 30:70]))
    assert torch.equal(sample["image"], alone["image"])
    assert sample["size_hw_px"].tolist() == [90, 120]
    x, y = (sample["to_original"] @ torch.tensor([24.0, 16.0, 1.0])).tolist()  # the middle stays the middle
    assert (x, y) == pytest.approx((50.0, 45.0), abs=1.0)
    mask = torch.from_numpy(np.ascontiguousarray(whole[..., 0]))
    assert torch.equal(fit.mask(mask), plan_fit((50, 40), (32, 48), fit.resize).mask(mask[20:70, 30:70]))


def test_a_window_of_all_of_a_picture_changes_nothing() -> None:
    fit = plan_fit((90, 120), (32, 32), "letterbox")
    assert seen_through(fit, (0, 0, 90, 120)) == seen_through(fit, (0, 0, 0, 0)) == fit


@pytest.mark.parametrize("kind", ["random_resized", "scale_jitter"])
@pytest.mark.parametrize("foreground", [0.0, 1.0])
def test_a_random_crop_lies_inside_of_the_region(kind: str, foreground: float) -> None:
    scale = (0.3, 1.0) if kind == "random_resized" else (0.7, 2.0)
    crop = RandomCrop(kind, scale, foreground)
    whole = plan_fit((300, 400), (64, 64), "letterbox")
    region = seen_through(whole, (50, 100, 120, 80))
    alone = plan_fit((120, 80), (64, 64), "letterbox")
    for seed in range(50):
        inside, outside = (100.0, 130.0), (10.0, 10.0)
        point = (inside if seed % 2 else outside) if foreground else None
        fit = crop.plan(region, np.random.default_rng(seed), point)
        top, left, height, width = fit.seen
        assert top >= 50 and left >= 100 and top + height <= 170 and left + width <= 180
        if point == inside:
            assert top <= 100 < top + height and left <= 130 < left + width
        # the same numbers give the same part of the region as of a picture that is no more than it
        same = crop.plan(alone, np.random.default_rng(seed), (50.0, 30.0) if point == inside else None)
        assert (fit.inner_hw, fit.corner_yx) == (same.inner_hw, same.corner_yx)
        assert (top - 50, left - 100, height, width) == same.seen


@pytest.mark.real_data
@pytest.mark.parametrize("upright", [True, False])
def test_a_window_of_a_large_photo(real_data: Path, tmp_path: Path, upright: bool) -> None:
    """Decoded at a fraction of its size, or turned by its EXIF orientation: what is seen is the window."""
    path = real_data / "edge_cases" / "exif6_IMG_5874.JPG"
    reader = InputReader({"image_size": [128, 128], "resize": "letterbox", "in_channels": 3})
    whole = reader.decode(path)
    if upright:
        path = tmp_path / "upright.jpg"
        Image.fromarray(whole.permute(1, 2, 0).numpy()).save(path, quality=95)
        whole = reader.decode(path)
    height, width = whole.shape[1:]
    assert max(height, width) > 3000
    for part in ((0, 0, height // 2, width), (301, 407, 1999, 1501), (height - 777, width - 613, 777, 613)):
        sample, fit = reader.sample(path, window=lambda fit, part=part: seen_through(fit, part))
        top, left, h, w = part
        expected = F.resize(whole[:, top : top + h, left : left + w], list(fit.inner_hw), antialias=True)
        difference = (sample["image"].float() - fit.place(expected).float()).abs()
        assert difference.mean() < 1.5, part
        assert sample["size_hw_px"].tolist() == [height, width]


# --- a cropper whose answer is known, and pictures with a detail that only the crop shows ---


def write_stripes(root: Path) -> Path:
    """Dark pictures of 96 x 128 with stripes of two pixels in the square x 66..94, y 34..62: across, or down."""
    root.mkdir(parents=True)
    rows = [("path", "label", "split")]
    for count, part in ((16, "train"), (8, "val"), (8, "test")):
        for _ in range(count):
            total = len(rows)
            picture = np.random.default_rng(total).integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            stripes = np.indices((28, 28))[total % 2] // 2 % 2
            picture[34:62, 66:94] = (40 + 200 * stripes)[:, :, None]
            Image.fromarray(picture).save(root / f"{total:02d}.png")
            rows.append((f"{total:02d}.png", "down" if total % 2 else "across", part))
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return root / "manifest.csv"


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def answer_always(source: Path, target: Path, *, confidence: float = CONFIDENCE) -> Path:
    """A trained cropper's checkpoint, whose head is made to give one box and one confidence for every picture."""
    content = torch.load(source, weights_only=True)
    state = content["state_dict"]
    for layer, bias in (
        ("proposal", [*map(logit, CENTRE), *(logit((share - 0.02) / 0.98) for share in SHARE)]),
        ("vote", [0.0]),
        ("confidence", [logit(confidence)]),
    ):
        (name,) = (name for name in state if name.endswith(f"{layer}.weight"))
        state[name] = torch.zeros_like(state[name])
        state[name.replace("weight", "bias")] = torch.tensor(bias)
    torch.save(content, target)
    return target


@pytest.fixture(scope="module")
def cropper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a cropper, and beside it of another one."""
    from cli import main

    folder = tmp_path_factory.mktemp("cropper")
    words = [f"--config={CONFIGS / 'crop_mobilenetv3.yaml'}", *LCNET, *SMALL, *QUICK, "--data.image_size=64"]
    data = write_task("cropping", folder / "data")
    assert main(["fit", *words, f"--data.root={data}", f"--run.directory={folder}"]) == 0
    best = folder / "crop_mobilenetv3" / "version_0" / "checkpoints" / "best.ckpt"
    answer_always(best, folder / "other.ckpt", confidence=0.3)
    return answer_always(best, folder / "cropper.ckpt")


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stripes(tmp_path_factory.mktemp("stripes") / "data")


def words(data: Path, *more: str) -> list[str]:
    return [
        f"--config={CONFIGS / 'cls_mobilenetv3.yaml'}", *LCNET, *SMALL, *QUICK, f"--data.root={data}", *more
    ]  # fmt: skip


def contrast(image: Tensor) -> float:
    """How much neighbours differ in the middle of pictures (B, C, 32, 32)."""
    middle = image[..., 8:24, 8:24].float().mean(1)
    return float((middle.diff(dim=1).abs().mean() + middle.diff(dim=2).abs().mean()) / 2)


def test_a_cropper_is_asked_about_files_and_arrays(cropper: Path, stripes: Path, tmp_path: Path) -> None:
    region = Region.load(Roi(checkpoint=str(cropper)))
    assert (region.threshold, region.margin) == (0.5, 0.1)
    broken = tmp_path / "broken.png"
    broken.write_bytes((stripes.parent / "01.png").read_bytes()[:400])
    paths = [str(stripes.parent / "01.png"), str(broken), *(str(p) for p in stripes.parent.glob("0*.png"))]
    found = region.windows(paths)
    assert found.windows[0].tolist() == list(WINDOW)
    assert found.boxes[0].tolist() == pytest.approx(BOX, abs=1e-3)
    assert found.confidence[0] == pytest.approx(CONFIDENCE, abs=1e-5)
    assert found.windows[1].tolist() == [0, 0, 0, 0]
    assert (found.windows[2:] == WINDOW).all()
    line = found.told("test", region.threshold)
    # 40 * 40 of 96 * 128
    assert (
        line
        == f"roi: {len(paths) - 1} of {len(paths)} test pictures cropped to 13 % of their area (median), 1 not read"
    )
    whole = plan_fit((HEIGHT, WIDTH), (32, 32), "letterbox")
    with Image.open(paths[0]) as picture:
        for asked in (paths[0], np.asarray(picture)):
            assert region.window_of(asked)(whole).window == WINDOW
    with pytest.raises(LoupeError, match=r"roi: the cropper can read none of 1 pictures: .*broken\.png"):
        region.windows([str(broken)])
    sure = Region.load(Roi(checkpoint=str(cropper), threshold=0.95))
    assert (
        sure.windows(paths[:1]).told("", 0.95)
        == "roi: 0 of 1 pictures cropped, 1 whole (confidence below 0.95)"
    )


def test_from_fit_to_prediction_without_the_croppers_file(
    loupe: Callable[..., Any], cropper: Path, stripes: Path, tmp_path: Path
) -> None:
    file = tmp_path / "cropper.ckpt"
    file.write_bytes(cropper.read_bytes())
    roi = (f"--roi.checkpoint={file}", "--roi.margin=0.25")
    fitted = loupe("fit", *words(stripes, *roi, "--training.epochs=1"))
    assert fitted.code == 0, fitted.err
    assert "roi: 16 of 16 train pictures cropped to 19 % of their area (median)\n" in fitted.out
    assert "roi: 8 of 8 val pictures cropped" in fitted.out
    file.unlink()
    run = tmp_path / "runs" / "cls_mobilenetv3" / "version_0"
    kept = read_checkpoint(run / "checkpoints" / "best.ckpt")["roi"]
    assert (kept["margin"], kept["threshold"], kept["source"]) == (0.25, 0.5, str(file))
    used = (f"--config={run / 'config.yaml'}", "--ckpt_path=best")
    tested = loupe("test", *used, "--data.loader.num_workers=0")
    assert tested.code == 0, tested.err
    assert "roi: 8 of 8 test pictures cropped to 19 % of their area (median)\n" in tested.out
    picture = stripes.parent / "25.png"
    predicted = loupe("predict", *used, f"--data.predict_path={picture}")
    assert predicted.code == 0, predicted.err
    assert "roi: 1 of 1 pictures cropped to 19 %" in predicted.out
    with next((run / "predictions").glob("*.csv")).open(newline="", encoding="utf-8") as table:
        (row,) = csv.DictReader(table)
    alone = load(run / "checkpoints" / "best.ckpt").predict(picture)["row"]
    assert float(row["prob_down"]) == pytest.approx(alone["prob_down"], abs=1e-5)
    gone_on = loupe("fit", f"--config={run / 'config.yaml'}", "--ckpt_path=last", "--training.epochs=2")
    assert gone_on.code == 0, gone_on.err
    assert "roi: 16 of 16 train pictures cropped to 19 %" in gone_on.out
    again = read_checkpoint(run / "checkpoints" / "last.ckpt")
    assert again["epoch"] == 1 and again["roi"]["fingerprint"] == kept["fingerprint"]


def test_the_network_sees_what_only_the_crop_shows(fit: Any, cropper: Path, stripes: Path) -> None:
    from tests.fitting import Probe

    def fed(*more: str) -> Tensor:
        class Watch(Probe):
            def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
                self.batches.append({"image": batch["image"].clone()})

        file = Path("config.yaml")
        file.write_text((CONFIGS / "cls_mobilenetv3.yaml").read_text(encoding="utf-8"), encoding="utf-8")
        run = fit(stripes, *words(stripes)[1:], *more, config=file, probe=Watch())
        return torch.cat([batch["image"] for batch in run.probe.batches])

    with_crop = fed(f"--roi.checkpoint={cropper}", "--run.name=crop")
    below = fed(f"--roi.checkpoint={cropper}", "--roi.threshold=0.95", "--run.name=below")
    without = fed("--run.name=whole")
    assert torch.equal(below, without)
    assert contrast(with_crop) > 4 * contrast(without)


def test_a_resumed_fit_ends_as_one_that_was_not(fit: Any, cropper: Path, tmp_path: Path) -> None:
    """On a segmenter, whose masks follow the window: the loss would tell."""
    from tests.fitting import write_pictures

    data = write_pictures(tmp_path / "pictures", {"train": 8, "val": 4})
    roi = (f"--roi.checkpoint={cropper}", "--training.lr_schedule=constant")
    straight = fit(data, *roi, "--training.epochs=2")
    first = fit(data, *roi, "--training.epochs=1")
    on = fit(data, f"--ckpt_path={first.run / 'checkpoints' / 'last.ckpt'}", "--training.epochs=2",
             config=first.run / "config.yaml")  # fmt: skip
    # a picture of 32 x 32 in 64 x 64: the box is 16..24 by 12..20, with a tenth around it 15..25 by 11..21
    assert straight.probe.batches[0]["to_original"][0].tolist() == [
        [pytest.approx(10 / 32), 0, pytest.approx(15)],
        [0, pytest.approx(10 / 32), pytest.approx(11)],
    ]
    assert straight.rows == on.rows
    old, new = (run.checkpoint()["state_dict"] for run in (straight, on))
    assert all(torch.equal(old[name], new[name]) for name in old)


# --- which cropper it is ---


@pytest.fixture(scope="module")
def behind(cropper: Path) -> dict[str, Any]:
    """The content of a checkpoint whose model was trained behind the cropper."""
    content: dict[str, Any] = {}
    Region.load(Roi(checkpoint=str(cropper), threshold=0.4, margin=0.2)).to_checkpoint(content)
    return content


def test_a_checkpoint_gives_back_what_it_was_given(behind: dict[str, Any], cropper: Path) -> None:
    kept, given = Region.of_checkpoint(behind), Region.load(Roi(checkpoint=str(cropper)))
    assert kept is not None
    assert kept.fingerprint == given.fingerprint == behind["roi"]["fingerprint"]
    assert (kept.threshold, kept.margin, kept.source) == (0.4, 0.2, str(cropper))
    assert Region.of_checkpoint({"roi": None}) is Region.of_checkpoint({}) is None
    other = Region.load(Roi(checkpoint=str(cropper.parent / "other.ckpt")))
    assert other.fingerprint != given.fingerprint


def test_the_checkpoints_own_cropper_is_used_until_another_is_named(
    behind: dict[str, Any], cropper: Path
) -> None:
    gone = {"roi": {**behind["roi"], "source": "gone.ckpt"}}
    as_trained = resolve_region(Roi(), gone)
    assert as_trained is not None and (as_trained.threshold, as_trained.margin) == (0.4, 0.2)
    same = resolve_region(Roi(checkpoint="gone.ckpt", margin=0.3), gone)
    assert same is not None and (same.threshold, same.margin, same.note) == (0.4, 0.3, "")
    surer = resolve_region(Roi(threshold=0.9), gone)  # what is not said is as in the training
    assert surer is not None and (surer.threshold, surer.margin) == (0.9, 0.2)
    back = resolve_region(Roi(margin=0.1), gone)
    assert back is not None and (back.threshold, back.margin) == (0.4, 0.1)
    moved = resolve_region(Roi(checkpoint=str(cropper)), gone)
    assert moved is not None and moved.note == "" and moved.fingerprint == same.fingerprint
    other = str(cropper.parent / "other.ckpt")
    named = resolve_region(Roi(checkpoint=other), gone)
    assert named is not None and named.fingerprint != same.fingerprint
    assert named.note == f"roi: the cropper of {other}, in place of that which the model was trained behind"
    assert resolve_region(Roi(), gone, trains=True) is None
    assert resolve_region(Roi(), None) is None
    with pytest.raises(LoupeError, match=r"roi\.checkpoint: no checkpoint missing\.ckpt"):
        resolve_region(Roi(checkpoint="missing.ckpt"), gone)


def test_a_calibrated_threshold_counts_until_one_is_given(cropper: Path, tmp_path: Path) -> None:
    content = torch.load(cropper, weights_only=True)
    content["loupe"]["calibration"] = {"temperature": 2.0, "thresholds": [0.7], "metric": "f1", "figures": {}}
    torch.save(content, tmp_path / "calibrated.ckpt")
    named = str(tmp_path / "calibrated.ckpt")
    region = Region.load(Roi(checkpoint=named))
    assert region.threshold == pytest.approx(0.7)
    assert Region.load(Roi(checkpoint=named, threshold=0.5)).threshold == 0.5
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "dark.png")
    confidence = region.windows([str(tmp_path / "dark.png")]).confidence[0]
    assert confidence == pytest.approx(1 / (1 + math.exp(-logit(CONFIDENCE) / 2)), abs=1e-5)  # 0.75


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Roi(margin=0.2), r"roi\.margin is set, and there is no cropper"),
        (Roi(threshold=0.6), r"roi\.threshold is set, and there is no cropper"),
        (Roi(checkpoint="x", margin=-0.1), r"roi\.margin is -0\.1"),
        (Roi(checkpoint="x", margin=math.inf), r"roi\.margin is inf"),
        (Roi(checkpoint="x", threshold=1.5), r"roi\.threshold is 1\.5; it is a confidence from 0 to 1"),
        (Roi(checkpoint="x"), r"roi\.checkpoint: no checkpoint x"),
    ],
)
def test_a_setting_that_cannot_be(options: Roi, said: str) -> None:
    with pytest.raises(LoupeError, match=said):
        resolve_region(options, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threshold", "0.5"), ("threshold", math.nan), ("margin", -1.0), ("margin", None), ("source", 3),
        ("card", []), ("state_dict", {"a": 1}), ("hyper_parameters", None),
    ],
)  # fmt: skip
def test_a_changed_entry_is_refused(
    cropper: Path, behind: dict[str, Any], tmp_path: Path, key: str, value: Any
) -> None:
    content = torch.load(cropper, weights_only=True) | {"roi": {**behind["roi"], key: value}}
    torch.save(content, tmp_path / "changed.ckpt")
    with pytest.raises(LoupeError, match="does not hold what Loupe writes: roi"):
        read_checkpoint(tmp_path / "changed.ckpt")


def test_what_has_no_regions_is_refused(
    loupe: Callable[..., Any], cropper: Path, stripes: Path, tmp_path: Path
) -> None:
    roi = f"--roi.checkpoint={cropper}"
    cached = loupe("fit", *words(stripes, roi, "--data.loader.cache=memory"))
    assert cached.code == 2 and "data.loader.cache=memory keeps whole pictures" in cached.err
    boxes = write_task("cropping", tmp_path / "boxes")
    config = f"--config={CONFIGS / 'crop_mobilenetv3.yaml'}"
    cropped = loupe("fit", config, *LCNET, *SMALL, *QUICK, f"--data.root={boxes}", roi)
    assert cropped.code == 2 and "roi is for classifiers and segmenters" in cropped.err
    data = write_task("segmentation", tmp_path / "masks")
    config = f"--config={CONFIGS / 'seg_unet.yaml'}"
    net = "--model.options={base_filters: 4, depth: 2}"
    loss = "--training.loss={type: categorical_crossentropy, class_weight: balanced}"
    balanced = loupe("fit", config, net, *SMALL, *QUICK, f"--data.root={data}", roi, loss)
    assert balanced.code == 2 and "counts the pixels of whole pictures" in balanced.err
    assert not list(Path("runs").rglob("version_*"))


# --- two processes ---


def test_two_processes_find_the_same_windows(cropper: Path, stripes: Path, tmp_path: Path) -> None:
    from tests.launched import free_port

    for source, target in ((cropper, "cropper.ckpt"), *((p, p.name) for p in stripes.parent.glob("*.png"))):
        (tmp_path / target).write_bytes(source.read_bytes())
    (tmp_path / "10.png").write_bytes(b"nothing")
    (tmp_path / "port").write_text(str(free_port()))
    first, second = run_two_ranks(str(Path(__file__)), tmp_path)
    alone = found_in(tmp_path)
    assert len(alone["windows"]) == 32 and alone["windows"].any(1).sum() == 31
    for name, rows in alone.items():
        assert torch.equal(first[name], rows) and torch.equal(second[name], rows), name


def found_in(folder: Path, trainer: Any = None) -> dict[str, Tensor]:
    region = Region.load(Roi(checkpoint=str(folder / "cropper.ckpt")))
    paths = sorted(str(path) for path in folder.glob("*.png"))
    found = region.windows(paths, trainer=trainer)
    return {name: torch.from_numpy(rows) for name, rows in vars(found).items()}


def run_rank(rank: int, folder: Path) -> None:
    from lightning.pytorch import Trainer

    from tests.launched import as_torchrun

    os.environ.update(as_torchrun(rank, 2, int((folder / "port").read_text())))
    trainer = Trainer(accelerator="cpu", strategy="ddp", devices=2, logger=False, enable_checkpointing=False)
    trainer.strategy.setup_environment()
    torch.save(found_in(folder, trainer), folder / f"rank{rank}.pt")


if __name__ == "__main__":
    run_rank(int(sys.argv[1]), Path(sys.argv[2]))
