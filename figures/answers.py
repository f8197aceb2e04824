"""A picture with what a model says of it drawn on it, and a strip of words below."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from figures.lettering import clean, draw_text, shorten_to, text_length
from figures.palette import palette
from figures.shown import VOID
from figures.tiles import PREDICTION, draw_dashed, labels_at, paint_mask, resized

__all__ = ["Answer", "draw_answer"]

_INK, _FAINT, _GROUND, _TRACK, _BAR = "#1f2328", "#59636e", "#ffffff", "#e6eaef", "#0f74bd"
_MOST_CLASSES, _MOST_BARS = 12, 3
_LEAST_PX, _FLATTEST = 480, 8


@dataclass(frozen=True)
class Answer:
    """What is said of one picture; what is left at its default was not said.

    Attributes:
        mask: (H, W) uint8, class numbers of the pixels.
        box: x1, y1, x2, y2 in pixels of the picture.
        confidence: 0..1, of the box.
        found: Whether that is confidence enough.
        labels: The names that are answered, none where no class was likely enough.
        probs: (name, 0..1) of classes, the likeliest first.
        seen: x1, y1, x2, y2 of the part that the model was shown, pixels; None: all of it.
    """

    mask: np.ndarray | None = None
    box: tuple[float, float, float, float] | None = None
    confidence: float = math.nan
    found: bool = True
    labels: tuple[str, ...] = ()
    probs: tuple[tuple[str, float], ...] = ()
    seen: tuple[float, float, float, float] | None = None


def draw_answer(
    image: np.ndarray, answer: Answer, class_names: Sequence[str], *, longest_px: int = 1600
) -> Image.Image:
    """The picture with the answer: masks washed and outlined, a box (dashed where none was found), a strip with words.

    Args:
        image: (H, W, 3) uint8, upright.
        answer: What the model says.
        class_names: In the order of the class numbers.
        longest_px: Of the longer side, strip included; smaller pictures stay as they are, from 480 pixels on.
    """
    height, width = image.shape[:2]
    text_px = _text_px(max(height, width), longest_px)
    size = _fit(width, height, longest_px)
    strip = _strip(answer, class_names, size[0], text_px)
    if size[1] + strip.height > longest_px:
        size = _fit(width, height, longest_px, room=longest_px - strip.height)
        strip = _strip(answer, class_names, size[0], text_px)
    picture = resized(image, size)
    line_px = max(3, round(max(size) / 320))
    if answer.mask is not None:
        labels = labels_at(answer.mask, size)
        picture = paint_mask(np.asarray(picture), labels, len(class_names) > 2, line_px=line_px - 1)
    if answer.box is not None:
        corners = _corners(picture, answer.box, (width, height), line_px)
        _draw_box(picture, corners, line_px, dashed=not answer.found)
    if answer.seen is not None and tuple(answer.seen) != (0, 0, width, height):
        _draw_box(picture, _corners(picture, answer.seen, (width, height), line_px), line_px, dashed=True)
    sheet = Image.new("RGB", (picture.width, picture.height + strip.height), _GROUND)
    sheet.paste(picture, (0, 0))
    sheet.paste(strip, (0, picture.height))
    return sheet


def _fit(width: int, height: int, longest: int, *, room: int | None = None) -> tuple[int, int]:
    """Width and height of the picture, at most ``longest``, and ``room`` high where that is less."""
    scale = min(longest / width, (room or longest) / height, max(1.0, _LEAST_PX / max(height, width)))
    least = _LEAST_PX // _FLATTEST
    return max(round(width * scale), least), max(round(height * scale), least)


def _text_px(side: int, longest: int) -> int:
    return min(max(round(min(max(side, _LEAST_PX), longest) / 45), 13), 30)


def _line(text_px: int) -> int:
    return round(text_px * 1.6)


def _corners(
    picture: Image.Image, box: Sequence[float], size: tuple[int, int], inset: int
) -> list[tuple[float, float]]:
    """The way around a box of a picture of ``size`` (width, height), on ``picture``."""
    x1, x2 = (min(max(x / size[0], 0), 1) * (picture.width - 1 - 2 * inset) + inset for x in box[::2])
    y1, y2 = (min(max(y / size[1], 0), 1) * (picture.height - 1 - 2 * inset) + inset for y in box[1::2])
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]


def _draw_box(
    picture: Image.Image, corners: list[tuple[float, float]], line_px: int, *, dashed: bool
) -> None:
    draw = ImageDraw.Draw(picture)
    if dashed:
        for ink, wide in (((0, 0, 0), line_px + 2), (PREDICTION, line_px)):
            draw_dashed(draw, corners, ink, wide)
        return
    for ink, wide in (((0, 0, 0), line_px + 2), (PREDICTION, line_px)):
        draw.line([*corners, corners[1]], fill=ink, width=wide, joint="curve")


def _strip(answer: Answer, class_names: Sequence[str], width: int, text_px: int) -> Image.Image:
    """Words below the picture: what the colours mean, or how sure the model is."""
    line, margin = _line(text_px), text_px // 2
    if answer.mask is not None:
        rows = _mask_rows(answer.mask, class_names, width - 2 * margin, text_px)
    elif answer.box is not None:
        rows = 1
    else:
        rows = 1 + min(len(answer.probs), _MOST_BARS)
    count = len(rows) if isinstance(rows, list) else rows
    strip = Image.new("RGB", (width, count * line + 2 * margin), _GROUND)
    draw = ImageDraw.Draw(strip)
    baseline = margin + round(text_px * 1.15)
    if isinstance(rows, list):
        _draw_legend(draw, rows, margin, baseline, text_px)
    elif answer.box is not None:
        words = "object found" if answer.found else "no object found"
        x = draw_text(draw, (margin, baseline), words, size_px=text_px, colour=_INK, bold=True)
        sure = f"confidence {answer.confidence:.2f}"
        draw_text(draw, (x + text_px * 0.6, baseline), sure, size_px=text_px, colour=_FAINT)
    else:
        _draw_labels(draw, answer, (margin, baseline), width - 2 * margin, text_px)
    return strip


_Entry = tuple[str, tuple[int, int, int] | None, float]


def _mask_rows(mask: np.ndarray, class_names: Sequence[str], width: int, text_px: int) -> list[list[_Entry]]:
    """Words, colour and place of each class that is there, the largest first, in rows that fit."""
    counts = np.bincount(mask.ravel(), minlength=256)
    colours = palette()
    there = [n for n in np.argsort(-counts, kind="stable").tolist() if counts[n] and 0 < n != VOID]
    named = [
        (f"{_name(n, class_names)}  {_share(int(counts[n]) / mask.size)}", colours[n])
        for n in there[:_MOST_CLASSES]
    ]
    entries: list[tuple[str, tuple[int, int, int] | None]] = [*named]
    if len(there) > _MOST_CLASSES:
        entries.append((f"and {len(there) - _MOST_CLASSES} more", None))
    if not there:
        entries.append((f"nothing but {_name(0, class_names)}", None))
    rows: list[list[_Entry]] = [[]]
    x = 0.0
    for words, colour in entries:
        words = shorten_to(words, width - 2 * text_px, text_px)
        length = text_length(words, text_px) + (text_px * 1.5 if colour else 0)
        if rows[-1] and x + length > width:
            rows.append([])
            x = 0.0
        rows[-1].append((words, colour, x))
        x += length + text_px * 1.4
    return rows


def _draw_legend(
    draw: ImageDraw.ImageDraw, rows: Sequence[Sequence[_Entry]], margin: int, baseline: int, text_px: int
) -> None:
    for number, row in enumerate(rows):
        y = baseline + number * _line(text_px)
        for words, colour, x in row:
            left = margin + x
            if colour is not None:
                top = y - round(text_px * 0.78)
                draw.rectangle(
                    (left, top, left + text_px, top + round(text_px * 0.85)), fill=colour, outline=_FAINT
                )
                left += text_px * 1.5
            draw_text(draw, (left, y), words, size_px=text_px, colour=_INK)


def _draw_labels(
    draw: ImageDraw.ImageDraw, answer: Answer, at: tuple[int, int], width: int, text_px: int
) -> None:
    x, y = at
    said = " + ".join(map(clean, answer.labels)) or "no label"
    draw_text(draw, at, shorten_to(said, width, text_px, bold=True), size_px=text_px, colour=_INK, bold=True)
    shown = answer.probs[:_MOST_BARS]
    names = [shorten_to(name, width * 0.4, text_px) for name, _ in shown]
    column = max((text_length(name, text_px) for name in names), default=0.0) + text_px * 0.8
    figure = text_length("0.00", text_px)
    track = max(width - column - figure - text_px * 0.8, text_px)
    for number, (name, (_, prob)) in enumerate(zip(names, shown, strict=True), 1):
        base = y + number * _line(text_px)
        draw_text(draw, (x, base), name, size_px=text_px, colour=_INK)
        top, bottom = base - round(text_px * 0.68), base - round(text_px * 0.06)
        left = x + column
        radius = (bottom - top) // 2
        draw.rounded_rectangle((left, top, left + track, bottom), radius, fill=_TRACK)
        if prob * track >= 1:
            draw.rounded_rectangle(
                (left, top, left + max(prob * track, 2 * radius), bottom), radius, fill=_BAR
            )
        draw_text(draw, (left + track + text_px * 0.6, base), f"{prob:.2f}", size_px=text_px, colour=_FAINT)


def _name(number: int, class_names: Sequence[str]) -> str:
    if len(class_names) == 1 and number == 1:
        return clean(class_names[0])  # one channel: a yes
    return clean(class_names[number]) if number < len(class_names) else f"class {number}"


def _share(share: float) -> str:
    """A share as per cent; never 0 for something that is there.

    >>> _share(0.1234), _share(0.0123), _share(0.00001)
    ('12 %', '1.2 %', 'below 0.1 %')
    """
    if share < 0.001:
        return "below 0.1 %"
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"
