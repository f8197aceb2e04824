"""One sample as pictures side by side: what went in, what is true, what was predicted, and where they differ."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from figures.palette import palette
from figures.shown import VOID, Box, BoxShown, ClassShown, MaskShown, Shown

__all__ = [
    "ERRORS",
    "HEAT",
    "PREDICTION",
    "TRUTH",
    "draw_dashed",
    "draw_tile",
    "draw_void",
    "heat_colours",
    "labels_at",
    "paint_mask",
    "panels_of",
    "resized",
]

RGB = tuple[int, int, int]

# Told apart by lightness as well as by hue, so that no pair needs an eye for red and green.
ERRORS: dict[str, RGB] = {
    "right": (74, 134, 255),
    "missed": (255, 176, 0),
    "false alarm": (230, 30, 130),
    "wrong class": (245, 245, 245),
    "void": (128, 128, 128),
}
"""Colours of the error map; void is hatched as well, and right background stays a dark grey picture."""

TRUTH: RGB = (86, 190, 255)
PREDICTION: RGB = (255, 176, 0)
"""Colours of boxes: the true one solid, the predicted one dashed."""

HEAT = np.array([(10, 7, 40), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)
"""Dark to light, five evenly spaced stops of the inferno colour map."""

_GAP_PX = 3
_FLATTEST = 16
_DASH_PX = 6


def draw_tile(sample: Shown, *, side: int) -> Image.Image:
    """One sample without words: a row of panels, each at most ``side`` pixels high and wide, white between them.

    A classifier's sample is the picture, then what its prediction rests on where there is ``heat``. A segmenter's is
    picture, truth, prediction and error map. A cropper's is the picture with the true box solid and the predicted one
    dashed. A sample without a prediction shows picture and truth. Pictures flatter than 16:1 are stretched to that.
    """
    panels = [panel for _, panel in panels_of(sample, side=side)]
    width = sum(panel.width for panel in panels) + _GAP_PX * (len(panels) - 1)
    tile = Image.new("RGB", (width, panels[0].height), "white")
    x = 0
    for panel in panels:
        tile.paste(panel, (x, 0))
        x += panel.width + _GAP_PX
    return tile


def panels_of(
    sample: Shown, *, side: int, several_classes: bool | None = None
) -> list[tuple[str, Image.Image]]:
    """(heading, picture) of each panel; all of one size.

    ``several_classes``: whether masks are painted in the colours of their classes rather than outlined; None: whether
    this sample has more than background and one class.
    """
    size = _fit(sample.image.shape[1], sample.image.shape[0], side)
    picture = resized(sample.image, size)
    match sample:
        case ClassShown():
            panels = [("picture", picture)]
            if sample.heat is not None:
                panels.append(("heat", _heat(picture, sample.heat)))
        case MaskShown():
            panels = _mask_panels(sample, picture, several_classes)
        case BoxShown():
            panels = [("picture", _boxes(picture, sample))]
        case _:
            raise AssertionError(sample)
    return panels


def _fit(width: int, height: int, side: int) -> tuple[int, int]:
    longest, least = max(width, height), math.ceil(side / _FLATTEST)
    return max(round(width * side / longest), least), max(round(height * side / longest), least)


def resized(image: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """(H, W, 3) uint8 as a picture of this width and height."""
    whole = Image.fromarray(np.ascontiguousarray(image))
    if max(whole.size) * 2 <= max(size):  # few pixels are shown as what they are
        return whole.resize(size, Image.Resampling.NEAREST)
    # A plain average down to three times the size first: a large picture costs no more than its reading.
    return whole.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def labels_at(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) class numbers at this width and height, none of them mixed."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(mask)).resize(size, Image.Resampling.NEAREST))


# --- masks ---


def _mask_panels(
    sample: MaskShown, picture: Image.Image, several: bool | None
) -> list[tuple[str, Image.Image]]:
    truth = labels_at(sample.truth, picture.size)
    predicted = None if sample.predicted is None else labels_at(sample.predicted, picture.size)
    if several is None:
        several = any(bool(((m > 1) & (m != VOID)).any()) for m in (truth, predicted) if m is not None)
    plain = np.asarray(picture)
    panels = [("picture", picture), ("truth", paint_mask(plain, truth, several))]
    if predicted is not None:
        panels.append(("prediction", paint_mask(plain, predicted, several)))
        panels.append(("errors", _error_map(plain, truth, predicted)))
    return panels


def paint_mask(plain: np.ndarray, labels: np.ndarray, several: bool, *, line_px: int = 1) -> Image.Image:
    """The classes over the picture: a thin wash and a full outline, so that the picture is seen through.

    Args:
        plain: (H, W, 3) uint8.
        labels: (H, W) uint8, class numbers, 255 = void.
        several: Whether there are more classes than background and one other: then colours count more.
        line_px: About how wide an outline is.
    """
    colours = np.array(palette(), np.float32)
    strength = np.where((labels == 0) | (labels == VOID), 0.0, 0.45 if several else 0.15)[..., None]
    painted = plain * (1 - strength) + colours[labels] * strength
    edge = _edges(labels)
    inner = edge & (labels != 0) & (labels != VOID)
    for _ in range(line_px // 2):
        inner = (
            _grown(inner) & (labels != 0) & (labels != VOID)
        )  # to the inside: another class is not painted over
    rim = inner
    for _ in range(max(1, line_px // 2)):
        rim = _grown(rim)
    if line_px > 1:
        rim &= (labels == 0) | (labels == VOID)
    painted[rim & ~inner] *= 0.35  # a dark rim, so that the outline is seen on every ground
    painted[inner] = colours[labels[inner]]
    void = labels == VOID
    return Image.fromarray(draw_void(painted.astype(np.uint8), void))


def _error_map(plain: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> Image.Image:
    grey = plain @ np.array([0.299, 0.587, 0.114], np.float32)
    drawn = np.repeat((grey * 0.4)[..., None], 3, axis=2)
    void = truth == VOID
    for name, where in (
        ("right", (truth == predicted) & (truth != 0)),
        ("missed", (truth != 0) & (predicted == 0)),
        ("false alarm", (truth == 0) & (predicted != 0)),
        ("wrong class", (truth != predicted) & (truth != 0) & (predicted != 0)),
    ):
        seen = where & ~void
        # The picture stays a little visible below; mistakes are stronger than what is right.
        below = 0.45 if name == "right" else 0.15
        drawn[seen] = below * grey[seen][:, None] + (1 - below) * np.array(ERRORS[name], np.float32)
    return Image.fromarray(draw_void(drawn.astype(np.uint8), void))


def draw_void(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The picture with hatched grey where it counts neither for nor against."""
    rows, columns = np.nonzero(where)
    light = (rows + columns) % 6 < 2
    grey = ERRORS["void"][0]
    picture[rows, columns] = np.where(light, grey + 70, grey - 30)[:, None]
    return picture


def _edges(labels: np.ndarray) -> np.ndarray:
    """Pixels with a neighbour (of four) of another class."""
    edge = np.zeros(labels.shape, bool)
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge


def _grown(where: np.ndarray) -> np.ndarray:
    grown = where.copy()
    grown[1:] |= where[:-1]
    grown[:-1] |= where[1:]
    grown[:, 1:] |= where[:, :-1]
    grown[:, :-1] |= where[:, 1:]
    return grown


# --- boxes ---


def _boxes(picture: Image.Image, sample: BoxShown) -> Image.Image:
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    for box, colour, dashed in ((sample.truth, TRUTH, False), (sample.predicted, PREDICTION, True)):
        if box is None or not all(map(math.isfinite, box)):
            continue
        corners = _corners(box, picture.size)
        for path, ink, width in ((corners, (0, 0, 0), 4), (corners, colour, 2)):
            if dashed:
                draw_dashed(draw, path, ink, width)
            else:
                draw.line(path, fill=ink, width=width, joint="curve")
    return picture


def _corners(box: Box, size: tuple[int, int]) -> list[tuple[float, float]]:
    width, height = size
    x1, x2 = (min(max(x, 0.0), 1.0) * (width - 3) + 1 for x in (box[0], box[2]))
    y1, y2 = (min(max(y, 0.0), 1.0) * (height - 3) + 1 for y in (box[1], box[3]))
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]


def draw_dashed(
    draw: ImageDraw.ImageDraw, path: Sequence[tuple[float, float]], ink: RGB | str, width: int
) -> None:
    """A line of dashes along the points, each stretch beginning and ending with one."""
    for (x1, y1), (x2, y2) in itertools.pairwise(path):
        length = math.hypot(x2 - x1, y2 - y1)
        dashes = max(round(length / (2 * _DASH_PX)), 1)
        step = 1 / (2 * dashes - 1)
        for number in range(dashes):
            begin, end = 2 * number * step, (2 * number + 1) * step
            draw.line(
                [
                    (x1 + (x2 - x1) * begin, y1 + (y2 - y1) * begin),
                    (x1 + (x2 - x1) * end, y1 + (y2 - y1) * end),
                ],
                fill=ink,
                width=width,
            )


# --- heat ---


def heat_colours(heat: np.ndarray) -> np.ndarray:
    """0..1 of any shape -> RGB 0..255 float32 with one more axis.

    >>> heat_colours(np.array([0.0, 1.0])).astype(int).tolist()
    [[10, 7, 40], [252, 255, 164]]
    """
    stops = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(heat, stops, HEAT[:, channel]) for channel in range(3)], axis=-1)


def _heat(picture: Image.Image, heat: np.ndarray) -> Image.Image:
    """The heat's colours over the picture in grey; where it is cold the picture is seen best."""
    values = np.clip(np.nan_to_num(heat.astype(np.float32)), 0, 1)
    grown = np.asarray(Image.fromarray(values).resize(picture.size, Image.Resampling.BICUBIC)).clip(0, 1)
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    strength = 0.25 + 0.4 * grown[..., None]
    return Image.fromarray((grey * (1 - strength) + heat_colours(grown) * strength).astype(np.uint8))
