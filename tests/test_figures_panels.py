"""Tiles and sheets: what is painted where, what the words say, and that any picture can be shown."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from figures import BoxShown, ClassShown, MaskShown, Shown, caption, draw_sheet, draw_tile, lettering
from figures.legend import legend_entries
from figures.palette import palette
from figures.panels import _caption_lines
from figures.tiles import ERRORS, PREDICTION, TRUTH

NAN = math.nan
GREY = np.full((40, 40, 3), 120, np.uint8)


def masks(*, predicted: bool = True, size: tuple[int, int] = (40, 40)) -> MaskShown:
    """Quarters: right, missed / false alarm, wrong class; the last row is void."""
    truth, guess = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    h, w = size[0] // 2, size[1] // 2
    truth[:h, :w] = guess[:h, :w] = 1
    truth[:h, w:] = 1
    guess[h:, :w] = 2
    truth[h:, w:], guess[h:, w:] = 1, 2
    truth[-4:] = 255
    picture = np.full((*size, 3), 120, np.uint8)
    return MaskShown(picture, "m.png", truth, guess if predicted else None, 0.5 if predicted else None)


def boxes() -> BoxShown:
    return BoxShown(GREY, "b.png", (0.1, 0.1, 0.5, 0.5), (0.3, 0.3, 0.9, 0.9), 0.913, 0.43)


def classes(truth: str = "cat", predicted: str = "dog", heat: np.ndarray | None = None) -> ClassShown:
    return ClassShown(GREY, "c.png", (truth,), (predicted,), 0.93, heat)


def is_colour(pixels: np.ndarray, colour: tuple[int, int, int], within: float = 40) -> np.ndarray:
    return np.abs(pixels.astype(float) - colour).max(axis=-1) <= within


# --- words ---


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (classes(), "true cat, predicted dog 0.93"),
        (ClassShown(GREY, "", ("cat",)), "cat"),
        (ClassShown(GREY, "", ("a", "b"), (), 0.4), "true a + b, predicted none 0.40"),
        (ClassShown(GREY, "", (), ("a",), 0.8), "true none, predicted a 0.80"),
        (ClassShown(GREY, "", tuple("abcde"), ("a",), NAN), "true a + b + c and 2 more, predicted a"),
        (masks(), "IoU 0.50"),
        (MaskShown(GREY, "", GREY[..., 0], GREY[..., 0], None), "no IoU: nothing to find"),
        (masks(predicted=False), ""),
        (boxes(), "IoU 0.43, confidence 0.91"),
        (BoxShown(GREY, "", None, (0, 0, 1, 1), 0.07), "no object, confidence 0.07"),
        (BoxShown(GREY, "", (0, 0, 1, 1)), ""),
        (BoxShown(GREY, "", None), "no object"),
    ],
)
def test_a_caption_says_what_there_is(sample: Shown, words: str) -> None:
    assert caption(sample) == words


def test_a_legend_names_what_is_on_the_sheet() -> None:
    def named(*samples: Shown, names: tuple[str, ...] = ("ground", "cat", "dog", "owl")) -> list[str]:
        return [entry.words for entry in legend_entries(samples, names)]

    assert named(masks()) == [
        *("cat", "dog", "ground: not painted", "void"),
        *("errors:", "right", "missed", "false alarm", "wrong class", "right background: dark picture"),
    ]
    assert "errors:" not in named(masks(predicted=False)) and "dog" not in named(masks(predicted=False))
    binary = MaskShown(GREY, "", np.ones((40, 40), np.uint8), np.zeros((40, 40), np.uint8))
    assert "wrong class" not in named(binary, names=("ground", "cell"))
    assert named(boxes()) == ["true box", "predicted box"]
    assert named(BoxShown(GREY, "", None)) == ["true box"]
    assert named(classes())[0].startswith("✓ right   ✗ wrong")
    assert "Grad-CAM" in named(classes(heat=np.ones((2, 2))))[-1]
    assert named(ClassShown(GREY, "", ("cat",))) == []


def test_a_legend_of_very_many_classes_says_how_many_are_left_out() -> None:
    truth = np.arange(40, dtype=np.uint8).repeat(40).reshape(40, 40)
    words = [e.words for e in legend_entries([MaskShown(GREY, "", truth)], [f"c{n}" for n in range(40)])]
    assert words == [*(f"c{n}" for n in range(1, 25)), "and 15 more classes", "c0: not painted"]


# --- what is painted ---


def test_an_error_map_tells_five_things_apart() -> None:
    tile = np.asarray(draw_tile(masks(), side=80))
    assert tile.shape == (80, 4 * 80 + 3 * 3, 3)
    errors = tile[:, -80:]
    for name, (y, x) in {
        "right": (20, 20),
        "missed": (20, 60),
        "false alarm": (50, 20),
        "wrong class": (50, 60),
    }.items():
        distances = {other: np.abs(errors[y, x].astype(float) - ERRORS[other]).sum() for other in ERRORS}
        assert min(distances, key=lambda other: distances[other]) == name
    void = errors[-6:-1]
    assert (void.max(axis=-1) == void.min(axis=-1)).all() and len(np.unique(void)) == 2, "hatched grey"


def test_right_background_is_the_dark_picture() -> None:
    sample = MaskShown(GREY, "", np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8))
    assert (np.asarray(draw_tile(sample, side=40))[:, -40:] == 48).all()


@pytest.mark.parametrize("several", [False, True])
def test_the_picture_is_seen_through_its_mask(several: bool) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (60, 60, 3), dtype=np.uint8)
    truth = np.zeros((60, 60), np.uint8)
    truth[10:50, 10:50] = 1
    truth[0, 0] = 2 if several else 0
    painted = np.asarray(draw_tile(MaskShown(picture, "", truth), side=60))[:, -60:].astype(float)
    inside = (slice(14, 46), slice(14, 46), 1)
    assert np.corrcoef(painted[inside].ravel(), picture[inside].ravel())[0, 1] > 0.99
    assert (painted[2:8, 2:8] == picture[2:8, 2:8]).all(), "background is left alone"
    assert is_colour(painted[10, 10:50], palette()[1], 1).all(), "an outline in the colour of the class"


def test_boxes_are_where_they_should_be_and_the_prediction_is_dashed() -> None:
    tile = np.asarray(draw_tile(boxes(), side=200))
    true, predicted = is_colour(tile, TRUTH), is_colour(tile, PREDICTION)
    for found, (low, high) in ((true, (20, 100)), (predicted, (60, 180))):
        rows, columns = np.nonzero(found)
        assert np.abs(np.array([rows.min(), columns.min()]) - low).max() <= 3
        assert np.abs(np.array([rows.max(), columns.max()]) - high).max() <= 3
    top, dashes = true[18:24, 24:56].any(axis=0), predicted[57:64, 105:175].any(axis=0)
    assert top.all()
    assert np.abs(np.diff(dashes.astype(int))).sum() >= 4 and 0.3 < dashes.mean() < 0.8


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, 1.0, 1.0), (-3.0, 0.2, 9.0, 0.2), (NAN, 0.1, 0.2, 0.3), (0.5,) * 4]
)
def test_any_box_can_be_drawn(box: tuple[float, float, float, float]) -> None:
    tile = np.asarray(draw_tile(BoxShown(GREY, "", box, box, 0.5), side=64))
    assert is_colour(tile, PREDICTION).any() == (not math.isnan(box[0]))


def test_heat_is_light_where_it_is_hot() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[0, 3] = 1
    tile = np.asarray(draw_tile(classes(heat=heat), side=80))
    assert tile.shape == (80, 163, 3) and (tile[:, :80] == 120).all()
    overlay = tile[:, 83:].astype(float).sum(axis=-1)
    assert overlay[5, 75] > overlay[70, 5] + 100
    broken = np.full((2, 2), np.nan, np.float32)
    assert np.asarray(draw_tile(classes(heat=broken), side=80)).shape == (80, 163, 3)


# --- any picture ---

SHAPES = [(1, 1), (1, 4096), (4096, 1), (3, 5), (32, 32), (700, 300), (4096, 4096)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_tile_fits_its_side_whatever_the_picture(shape: tuple[int, int]) -> None:
    picture, mask = np.full((*shape, 3), 9, np.uint8), np.ones(shape, np.uint8)
    for sample, panels in (
        (ClassShown(picture, "x", ("a",)), 1),
        (MaskShown(picture, "x", mask, mask), 4),
        (MaskShown(picture, "x", mask), 2),
        (BoxShown(picture, "x", (0.1, 0.1, 0.9, 0.9)), 1),
    ):
        tile = draw_tile(sample, side=96)
        width = (tile.width - 3 * (panels - 1)) / panels
        assert max(width, tile.height) == 96 and min(width, tile.height) >= 6
        ratio = min(max(shape[1] / shape[0], 1 / 16), 16)
        assert width / tile.height == pytest.approx(ratio, rel=0.1)


@pytest.mark.parametrize("number", [0, 1, 2, 7, 8, 24])
@pytest.mark.parametrize("kind", ["classes", "heat", "masks", "boxes"])
def test_a_sheet_holds_any_number_of_samples(kind: str, number: int) -> None:
    make = {
        "classes": classes,
        "heat": lambda: classes(heat=np.eye(3)),
        "masks": masks,
        "boxes": boxes,
    }[kind]
    sheet = draw_sheet([make() for _ in range(number)], ["ground", "cat", "dog"], title="a title", side=64)
    assert sheet.mode == "RGB" and sheet.width <= 1700
    pixels = np.asarray(sheet)
    assert (pixels[:8] == 255).all() and (pixels[:, :8] == 255).all() and (pixels[-8:] == 255).all()
    # Every picture is there: the grey of its first panel, which no letter and no ground has.
    plain = (pixels == 120).all(axis=-1)
    assert (plain.sum() >= number * 60 * 30) and (number or not plain.any())


def test_a_sheet_of_any_words_keeps_its_width() -> None:
    names = ["a cat with a very long name indeed", "\u65e5\u672c \udcff <b> $x$", "x" * 500]
    samples = [ClassShown(GREY, "folder/" * 40, (a,), (b,), 0.5) for a in names for b in names]
    sheet = draw_sheet(samples, names, title="title " * 100)
    assert sheet.width <= 1700
    assert (np.asarray(sheet)[:, -10:] == 255).all(), "nothing runs over the edge"


def test_right_and_wrong_differ_in_more_than_colour() -> None:
    (right, *_), (wrong, *_) = (_caption_lines(classes("cat", name)) for name in ("cat", "dog"))
    assert (right[0][0], wrong[0][0]) == ("✓ ", "✗ ")
    tick, cross, missing = (lettering._font(13, True).getmask(mark) for mark in "✓✗\uffff")
    assert len({bytes(tick), bytes(cross), bytes(missing)}) == 3, "the font has both"


@pytest.mark.parametrize("text", ["a" * 50, "日本語" * 20, "short", "", "e\u0301" * 40])
@pytest.mark.parametrize("width", [30, 100, 300])
def test_shortened_text_fits(text: str, width: int) -> None:
    short = lettering.shorten_to(text, width, 13)
    assert lettering.text_length(short, 13) <= width
    assert short == text or "…" in short
    assert lettering.width_in_letters(lettering.shorten(text, 12)) <= 12


def test_the_same_sample_gives_the_same_tile() -> None:
    first, second = (draw_tile(masks(size=(333, 250)), side=192) for _ in range(2))
    assert isinstance(first, Image.Image) and first.tobytes() == second.tobytes()
