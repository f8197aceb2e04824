"""Many samples on one sheet: tiles with their captions, a title above and a legend below, on a light ground."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from figures.legend import draw_legend, legend_entries, legend_height
from figures.lettering import draw_text, shorten_to, text_length
from figures.shown import BoxShown, ClassShown, MaskShown, Shown
from figures.tiles import panels_of

__all__ = ["caption", "draw_sheet"]

_INK, _FAINT, _GROUND = "#1f2328", "#59636e", "#ffffff"
_RIGHT, _WRONG = "#0a5fb4", "#b3470a"
_TITLE_PX, _TEXT_PX, _SMALL_PX, _LINE_PX = 17, 13, 11, 17
_MARGIN, _GAP, _PANEL_GAP = 14, 18, 4
_WIDEST, _SHAPE = 1640, 1.7


def caption(sample: Shown) -> str:
    """What to know of the sample beside its picture, on one line.

    >>> import numpy
    >>> image = numpy.zeros((1, 1, 3), numpy.uint8)
    >>> caption(ClassShown(image, "a.png", ("cat",), ("dog",), 0.931))
    'true cat, predicted dog 0.93'
    >>> caption(BoxShown(image, "a.png", None, (0.0, 0.0, 1.0, 1.0), 0.2))
    'no object, confidence 0.20'
    """
    match sample:
        case ClassShown():
            truth = _listed(sample.truth)
            if not sample.asked:
                return truth
            likely = f" {sample.probability:.2f}" if math.isfinite(sample.probability) else ""
            return f"true {truth}, predicted {_listed(sample.predicted)}{likely}"
        case MaskShown():
            if sample.predicted is None:
                return ""
            return "no IoU: nothing to find" if sample.score is None else f"IoU {sample.score:.2f}"
        case BoxShown():
            parts = ["no object"] if sample.truth is None else []
            if sample.score is not None:
                parts.append(f"IoU {sample.score:.2f}")
            if sample.predicted is not None and math.isfinite(sample.confidence):
                parts.append(f"confidence {sample.confidence:.2f}")
            return ", ".join(parts)
        case _:
            raise AssertionError(sample)


def _listed(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    if not names:
        return "none"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return " + ".join(names[:most]) + more


def draw_sheet(
    samples: Sequence[Shown], class_names: Sequence[str], *, title: str, side: int = 192
) -> Image.Image:
    """A sheet of samples of one task: RGB, opaque and light, so that it reads on a light and on a dark page.

    Args:
        samples: All of one kind; any number, also none.
        class_names: Of the data, in order; a segmenter's legend names those that are on the sheet.
        title: Above the tiles; cut where it is longer than the sheet is wide.
        side: Pixels that a panel is at most high and wide.
    """
    several = len(class_names) > 2
    tiles = [panels_of(sample, side=side, several_classes=several) for sample in samples]
    captions = [_caption_lines(sample) for sample in samples]
    panels = max((len(tile) for tile in tiles), default=1)
    headings = panels > 1 or any(isinstance(sample, MaskShown) for sample in samples)
    cell_width = max(panels * side + (panels - 1) * _PANEL_GAP, 120)
    lines = max(map(len, captions), default=0)
    picture_height = max((tile[0][1].height for tile in tiles), default=0)
    cell_height = (_LINE_PX if headings else 0) + picture_height + 5 + lines * _LINE_PX
    columns = _columns(len(tiles), cell_width, cell_height)
    rows = math.ceil(len(tiles) / columns)
    width = 2 * _MARGIN + max(columns * (cell_width + _GAP) - _GAP, 460)
    entries = legend_entries(samples, class_names)
    top = _MARGIN + _TITLE_PX + 14
    legend_top = top + max(rows * (cell_height + _GAP), 30)
    sheet = Image.new(
        "RGB", (width, legend_top + legend_height(entries, width - 2 * _MARGIN) + _MARGIN), _GROUND
    )
    draw = ImageDraw.Draw(sheet)
    title = shorten_to(title, width - 2 * _MARGIN, _TITLE_PX, bold=True)
    draw_text(draw, (_MARGIN, _MARGIN + _TITLE_PX - 2), title, size_px=_TITLE_PX, colour=_INK, bold=True)
    for number, (tile, words) in enumerate(zip(tiles, captions, strict=True)):
        left = _MARGIN + number % columns * (cell_width + _GAP)
        y = top + number // columns * (cell_height + _GAP)
        for column, (heading, panel) in enumerate(tile):
            x = left + column * (side + _PANEL_GAP)
            if headings:
                draw_text(draw, (x, y + 11), heading, size_px=_SMALL_PX, colour=_FAINT)
            sheet.paste(panel, (x, y + (_LINE_PX if headings else 0)))
        # Captions stand close below a flat picture, not at the foot of the cell.
        y += (_LINE_PX if headings else 0) + tile[0][1].height + 5
        for line, parts in enumerate(words):
            _draw_caption(draw, (left, y + line * _LINE_PX + 12), parts, cell_width)
    if not tiles:
        draw_text(draw, (_MARGIN, top + 16), "no samples", size_px=_TEXT_PX, colour=_FAINT)
    draw_legend(sheet, entries, (_MARGIN, legend_top), width - 2 * _MARGIN)
    return sheet


def _columns(tiles: int, width: int, height: int) -> int:
    """So many that the sheet comes nearest to a screen's shape."""

    def strangeness(columns: int) -> float:
        rows = math.ceil(tiles / columns)
        return abs(math.log(columns * (width + _GAP) / (rows * (height + _GAP)) / _SHAPE))

    most = max(min(tiles, _WIDEST // (width + _GAP)), 1)
    return min(range(1, most + 1), key=strangeness) if tiles else 1


# A part of a caption: text, colour, bold, and whether it gives way where the line is too long.
_Part = tuple[str, str, bool, bool]


def _caption_lines(sample: Shown) -> list[list[_Part]]:
    lines: list[list[_Part]] = []
    if isinstance(sample, ClassShown) and sample.asked:
        mark, colour = ("✓", _RIGHT) if sample.right else ("✗", _WRONG)
        likely = f" {sample.probability:.2f}" if math.isfinite(sample.probability) else ""
        lines.append(
            [
                (f"{mark} ", colour, True, False),
                (_listed(sample.predicted), colour, True, True),
                (likely, _INK, False, False),
            ]
        )
        if not sample.right:
            lines.append([("true ", _FAINT, False, False), (_listed(sample.truth), _INK, False, True)])
    elif isinstance(sample, ClassShown):
        lines.append([(caption(sample), _INK, True, True)])
    elif words := caption(sample):
        figure, comma, rest = words.partition(",")
        lines.append([(figure, _INK, True, False), (comma + rest, _INK, False, True)])
    lines.append([(sample.name, _FAINT, False, True)])
    return lines


def _draw_caption(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], parts: Sequence[_Part], width: float
) -> None:
    x, baseline = at
    fixed = sum(text_length(text, _TEXT_PX, bold=bold) for text, _, bold, gives_way in parts if not gives_way)
    for text, colour, bold, gives_way in parts:
        shown = shorten_to(text, width - fixed, _TEXT_PX, bold=bold) if gives_way else text
        x = draw_text(draw, (x, baseline), shown, size_px=_TEXT_PX, colour=colour, bold=bold)
