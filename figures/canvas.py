"""The sheet of paper of every chart: size, title, ink, and how it becomes a PNG or a part of a page."""

from __future__ import annotations

import hashlib
import io
import re
import textwrap
import warnings
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from figures.lettering import clean, fallback_families, text_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DASHES",
    "INK",
    "SERIES",
    "amount",
    "drawing",
    "finished",
    "frame",
    "label_inches",
    "legend_above",
    "name_rows",
    "to_png",
    "to_svg",
]

INK = "#1f2328"
"""Text, axes and grid. A page gets ``currentColor`` in its place, so no series may have this colour."""

SERIES = ("#0f74bd", "#cf5a08", "#a557b0", "#148a6b", "#8a7a1f", "#d1477b", "#6f7682", "#5a69d6")
"""Colours of lines and bars; each stands at least 3:1 from white and from #17191c."""

DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
"""Line styles that go with the colours, so that no line is known by its colour alone."""

_DPI = 130
_SETTINGS: dict[str, Any] = {
    "text.usetex": False,
    "text.hinting": "no_hinting",  # a third quicker than the default, and as sharp at this size
    "text.parse_math": False,  # a class may be called $5
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "font.weight": "normal",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.labelsize": 9.0,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "auto",
    "savefig.bbox": None,
    "svg.fonttype": "none",
    "svg.hashsalt": "loupe",
}


@contextmanager
def drawing() -> Generator[None, None, None]:
    """The settings of our charts, whatever the user's matplotlibrc says; those of the process are back afterwards."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):  # pyright: ignore[reportArgumentType]
        yield


def frame(
    title: str,
    note: str = "",
    *,
    height: float,
    left: float,
    bottom: float = 0.5,
    right: float = 0.2,
    width: float = 5.0,
    legend: bool = False,
) -> tuple[Figure, Axes]:
    """A figure with its title above one pair of axes; all lengths in inches, ``height`` is that of the axes.

    At 5 inches the text is legible where a phone shows the figure over its whole width.
    """
    from matplotlib.figure import Figure

    titles = textwrap.wrap(clean(title), int(width * 9.2))[:3]
    notes = textwrap.wrap(clean(note), int(width * 13))[:3]
    top = 0.12 + 0.19 * len(titles) + 0.155 * len(notes) + (0.34 if legend else 0.12)
    total = top + height + bottom
    figure = Figure(figsize=(width, total), dpi=_DPI)
    axes = figure.add_axes((left / width, bottom / total, (width - left - right) / width, height / total))
    y = total - 0.26
    for line in titles:
        figure.text(0.1 / width, y / total, line, fontsize=11, fontweight="bold")
        y -= 0.19
    for line in notes:
        figure.text(0.1 / width, (y + 0.02) / total, line, fontsize=8.5, alpha=0.8)
        y -= 0.155
    axes.tick_params(length=3, width=0.8)
    return figure, axes


def label_inches(labels: Iterable[str], size_pt: float = 8.5) -> float:
    """How long the longest label is."""
    return max((text_length(label, 40) for label in labels), default=0.0) / 40 * size_pt / 72


def name_rows(axes: Axes, labels: Sequence[str], first: float = 0.0, size_pt: float = 8.5) -> None:
    """Labels left of the rows at first, first + 1, ...; as plain text, which costs a third of what ticks do."""
    axes.set_yticks([])
    for row, label in enumerate(labels):
        axes.text(
            -0.012,
            first + row,
            label,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center_baseline",
            fontsize=size_pt,
        )


def legend_above(axes: Axes) -> None:
    """The legend between title and axes, at the right; ``frame`` leaves room for one line."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 0.985),
        ncols=4,
        borderaxespad=0.1,
        handlelength=2.6,
        columnspacing=1.2,
    )


def finished(figure: Figure) -> Figure:
    """The figure with a font for each of its letters."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if not text.get_text().isascii():
            text.set_fontfamily(fallback_families(text.get_text()))
    return figure


def to_png(figure: Figure) -> bytes:
    """The figure as an opaque PNG of 130 pixels an inch."""
    return _saved(figure, format="png", dpi=_DPI, pil_kwargs={"compress_level": 3})


def to_svg(figure: Figure, *, title: str, description: str) -> str:
    """The figure as an ``<svg>`` element to be put into a page.

    It has no ground and no size of its own: it fills the width it is given. Text stays text, and all ink is
    ``currentColor``, so it follows the page into dark mode and into print. ``title`` and ``description`` are what a
    screen reader says.
    """
    none = {"Creator": None, "Date": None, "Format": None, "Type": None}
    text = _saved(figure, format="svg", transparent=True, metadata=none).decode()
    text = text[text.index("<svg") :].rstrip()
    text = re.sub(r"\s*<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<!--.*?-->", "", text, flags=re.DOTALL)
    # A page has many charts, so a name must be one of its own, and names that nobody refers to are left out.
    own = "c" + hashlib.sha256((title + text).encode()).hexdigest()[:8]
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{own}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\1#{own}-", text)
    text = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 system-ui, sans-serif", text)
    text = text.replace(INK, "currentColor")
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} '
        f'role="img" aria-labelledby="{own}-t {own}-d" stroke-linejoin="round" stroke-linecap="butt">'
        f'<title id="{own}-t">{escape(clean(title))}</title><desc id="{own}-d">{escape(clean(description))}</desc>'
    )
    return opening + text[text.index(">") + 1 :]


def _saved(figure: Figure, **options: Any) -> bytes:
    kept = io.BytesIO()
    with drawing(), warnings.catch_warnings():
        # No font of this system has the letter: a PNG shows a box, and a browser has fonts of its own.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        figure.savefig(kept, **options)
    return kept.getvalue()


def amount(number: float) -> str:
    """A count in few letters.

    >>> [amount(n) for n in (0, 940, 12345, 2_340_000)]
    ['0', '940', '12k', '2.3M']
    """
    for limit, unit, letter in ((1e4, 1.0, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M"), (1e12, 1e9, "G")):
        if round(number) < limit:
            short = number / unit
            return f"{short:.1f}{letter}" if letter and short < 9.95 else f"{short:.0f}{letter}"
    return f"{number:.1e}"
