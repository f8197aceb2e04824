"""What the colours and marks of a sheet mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from figures.lettering import draw_text, shorten, text_length
from figures.palette import palette
from figures.shown import VOID, BoxShown, ClassShown, MaskShown, Shown
from figures.tiles import ERRORS, PREDICTION, TRUTH, draw_dashed, draw_void, heat_colours

__all__ = ["Entry", "draw_legend", "legend_entries", "legend_height"]

_INK, _FAINT = "#1f2328", "#59636e"
_TEXT_PX, _LINE_PX, _SWATCH, _GAP = 12, 20, (22, 12), 16
_MOST_CLASSES = 24

_ANSWERS = "✓ right   ✗ wrong   number: probability of the answer, of several labels of the least certain one"


@dataclass(frozen=True)
class Entry:
    """A swatch (or none) and its words; ``begins`` a new line where it opens a group."""

    words: str
    swatch: Image.Image | None = None
    begins: bool = False


def legend_entries(samples: Sequence[Shown], class_names: Sequence[str]) -> list[Entry]:
    """What the samples of one task need explained, in the order it is drawn."""
    if any(isinstance(sample, MaskShown) for sample in samples):
        masks = [sample for sample in samples if isinstance(sample, MaskShown)]
        return _mask_entries(masks, class_names)
    if any(isinstance(sample, BoxShown) for sample in samples):
        boxes = [Entry("true box", _swatch((40, 40, 40), _solid))]
        if any(isinstance(sample, BoxShown) and sample.predicted is not None for sample in samples):
            boxes.append(Entry("predicted box", _swatch((40, 40, 40), _dashed)))
        return boxes
    classes = [sample for sample in samples if isinstance(sample, ClassShown)]
    entries: list[Entry] = []
    if any(sample.asked for sample in classes):
        entries.append(Entry(_ANSWERS))
    if any(sample.heat is not None for sample in classes):
        words = "heat (Grad-CAM): what spoke least to most for the likeliest class; plain grey: nothing did"
        entries.append(Entry(words, _heat_swatch(), begins=True))
    return entries


def _mask_entries(masks: Sequence[MaskShown], class_names: Sequence[str]) -> list[Entry]:
    everything = [m for sample in masks for m in (sample.truth, sample.predicted) if m is not None]
    counts = [np.array(Image.fromarray(np.ascontiguousarray(m)).histogram()) for m in everything]
    seen: list[int] = np.flatnonzero(np.sum(counts, axis=0)).tolist()
    shown = [number for number in seen if 0 < number != VOID]
    colours = palette()
    entries = [
        Entry(
            shorten(class_names[number] if number < len(class_names) else f"class {number}", 28),
            _swatch(colours[number]),
        )
        for number in shown[:_MOST_CLASSES]
    ]
    if len(shown) > _MOST_CLASSES:
        entries.append(Entry(f"and {len(shown) - _MOST_CLASSES} more classes"))
    if class_names:
        entries.append(Entry(f"{shorten(class_names[0], 28)}: not painted"))
    if VOID in seen:
        entries.append(Entry("void", Image.fromarray(_void_swatch())))
    if any(sample.predicted is not None for sample in masks):
        entries.append(Entry("errors:", begins=True))
        for name, colour in ERRORS.items():
            if name == "void" or (name == "wrong class" and len(class_names) <= 2):
                continue
            entries.append(Entry(name, _swatch(colour)))
        entries.append(Entry("right background: dark picture"))
    return entries


def legend_height(entries: Sequence[Entry], width: int) -> int:
    """Pixels that ``draw_legend`` takes."""
    return (_placed(entries, width)[-1][1] + _LINE_PX) if entries else 0


def draw_legend(sheet: Image.Image, entries: Sequence[Entry], at: tuple[int, int], width: int) -> None:
    """Draw the entries in lines of at most ``width`` pixels."""
    draw = ImageDraw.Draw(sheet)
    for entry, (x, y) in zip(entries, _placed(entries, width), strict=True):
        x, y = x + at[0], y + at[1]
        if entry.swatch is not None:
            sheet.paste(entry.swatch, (x, y + 4))
            draw.rectangle(
                (x - 1, y + 3, x + entry.swatch.width, y + 4 + entry.swatch.height), outline=_FAINT
            )
            x += entry.swatch.width + 6
        draw_text(draw, (x, y + 15), entry.words, size_px=_TEXT_PX, colour=_INK)


def _placed(entries: Sequence[Entry], width: int) -> list[tuple[int, int]]:
    places: list[tuple[int, int]] = []
    x = y = 0
    for entry in entries:
        swatch = 0 if entry.swatch is None else entry.swatch.width + 6
        length = int(swatch + text_length(entry.words, _TEXT_PX)) + _GAP
        if x and (entry.begins or x + length - _GAP > width):
            x, y = 0, y + _LINE_PX
        places.append((x + (0 if entry.swatch is None else 1), y))
        x += length
    return places


def _swatch(
    colour: tuple[int, int, int], mark: Callable[[ImageDraw.ImageDraw], None] | None = None
) -> Image.Image:
    swatch = Image.new("RGB", _SWATCH, colour)
    if mark is not None:
        mark(ImageDraw.Draw(swatch))
    return swatch


def _solid(draw: ImageDraw.ImageDraw) -> None:
    draw.line([(0, 6), (22, 6)], fill=TRUTH, width=2)


def _dashed(draw: ImageDraw.ImageDraw) -> None:
    draw_dashed(draw, [(1, 6), (21, 6)], PREDICTION, 2)


def _void_swatch() -> np.ndarray:
    width, height = _SWATCH
    return draw_void(np.zeros((height, width, 3), np.uint8), np.ones((height, width), bool))


def _heat_swatch() -> Image.Image:
    ramp = heat_colours(np.linspace(0, 1, 88)).astype(np.uint8)
    return Image.fromarray(np.repeat(ramp[None], _SWATCH[1], axis=0))
