"""Text for the eye: any Unicode made safe to draw, shortened, and set in a font that has its letters."""

import importlib.util
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

__all__ = [
    "clean",
    "draw_text",
    "fallback_families",
    "shorten",
    "shorten_apart",
    "shorten_to",
    "text_length",
    "width_in_letters",
]

_LATIN = 0x250
"""DejaVu Sans has every letter below."""


def clean(text: str) -> str:
    r"""The text on one line, without what neither a font nor an SVG file can hold.

    >>> clean("a\nb\x00\udcff") == "a b\ufffd\ufffd"
    True
    """
    if text.isascii() and text.isprintable():
        return text
    kept: list[str] = []
    for letter in text:
        kind = unicodedata.category(letter)
        if letter.isspace():
            kept.append(" ")
        elif kind in ("Cc", "Cs", "Cn"):
            kept.append("\ufffd")
        elif kind not in ("Cf", "Mn") or unicodedata.combining(letter):
            kept.append(letter)
    return "".join(kept)


def width_in_letters(text: str) -> float:
    """About how many Latin letters this text is as wide as: Chinese and Japanese signs count 1.7, marks nothing."""
    return sum(
        0.0 if unicodedata.combining(c) else 1.7 if unicodedata.east_asian_width(c) in "WF" else 1.0
        for c in text
    )


def shorten(text: str, letters: int) -> str:
    """The text, cut in its middle where it is longer than this: names differ at both of their ends.

    >>> shorten("a_very_long_class_name_2", 11)
    'a_ver…ame_2'
    """
    text = clean(text)
    if width_in_letters(text) <= letters:
        return text
    size = len(text)
    while size > 2 and width_in_letters(_cut(text, size)) > letters:
        size -= 1
    return _cut(text, size)


def shorten_apart(names: Sequence[str], letters: int) -> list[str]:
    """The names, shortened so that two that differ can be told apart where any cut allows it.

    >>> shorten_apart(["class_0001_of_things", "class_0002_of_things"], 12)
    ['…0001_of_th…', '…0002_of_th…']
    """
    short = [shorten(name, letters) for name in names]
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(short):
        groups.setdefault(name, []).append(place)
    for places in groups.values():
        whole = [clean(names[place]) for place in places]
        if len(set(whole)) > 1:
            same = max(_shared(whole) - 3, 0)
            for place, name in zip(places, whole, strict=True):
                rest = name[same:]
                size = min(len(rest), letters - 1)
                while size > 1 and width_in_letters(rest[:size]) > letters - 2:
                    size -= 1
                short[place] = f"…{rest[:size]}" + ("…" if size < len(rest) else "")
    return short


def _shared(names: Sequence[str]) -> int:
    """With how many letters all of the names begin."""
    least, most = min(names), max(names)
    return next((i for i, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))


def _cut(text: str, size: int) -> str:
    tail = (size - 1) // 2
    return f"{text[: size - 1 - tail]}…{text[len(text) - tail :]}"


# --- Pillow ---


@lru_cache(maxsize=1)
def _dejavu() -> Path:
    """The font that matplotlib brings; found without loading matplotlib."""
    found = importlib.util.find_spec("matplotlib")
    assert found is not None and found.origin is not None, "matplotlib is a dependency"
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"


@lru_cache(maxsize=32)
def _font(size_px: int, bold: bool, path: str = "") -> ImageFont.FreeTypeFont:
    own = _dejavu() / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    # The basic engine does not depend on what the system's Pillow was built with.
    return ImageFont.truetype(path or own, size_px, layout_engine=ImageFont.Layout.BASIC)


def _runs(text: str) -> list[tuple[str, str]]:
    """(font file or '' for DejaVu, letters) in their order."""
    if all(ord(letter) < _LATIN or letter in "…✓✗\ufffd" for letter in text):
        return [("", text)]
    runs: list[tuple[str, str]] = []
    for letter in text:
        path = _font_with(letter)[1]
        if runs and runs[-1][0] == path:
            runs[-1] = path, runs[-1][1] + letter
        else:
            runs.append((path, letter))
    return runs


def text_length(text: str, size_px: int, *, bold: bool = False) -> float:
    """Pixels that ``draw_text`` would take."""
    return sum(_font(size_px, bold, path).getlength(letters) for path, letters in _runs(text))


def shorten_to(text: str, width_px: float, size_px: int, *, bold: bool = False) -> str:
    """The text, cut in its middle so that it fits into this many pixels."""
    text = clean(text)
    whole = text_length(text, size_px, bold=bold)
    if whole <= width_px:
        return text
    if width_px <= 0:
        return ""
    size = min(len(text), int(len(text) * width_px / whole) + 2)
    while size > 1 and text_length(_cut(text, size), size_px, bold=bold) > width_px:
        size -= 1
    return _cut(text, size)


def draw_text(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    *,
    size_px: int,
    colour: str,
    bold: bool = False,
) -> float:
    """Draw one line with its baseline at ``at``; returns where it ends (x)."""
    x, baseline = at
    for path, letters in _runs(text):
        font = _font(size_px, bold, path)
        draw.text((x, baseline), letters, font=font, fill=colour, anchor="ls")
        x += font.getlength(letters)
    return x


# --- fonts of the system ---


def fallback_families(text: str) -> list[str]:
    """DejaVu Sans, then the families of the system that have what it lacks; letters that none has are left to it."""
    families = ["DejaVu Sans"]
    for letter in {letter for letter in text if ord(letter) >= _LATIN}:
        family = _font_with(letter)[0]
        if family not in families:
            families.append(family)
    return families


@lru_cache(maxsize=4096)
def _font_with(letter: str) -> tuple[str, str]:
    """(family, file or '') of the first upright font that has the letter; DejaVu's where none has."""
    if ord(letter) in _charmap(str(_dejavu() / "DejaVuSans.ttf")):
        return "DejaVu Sans", ""
    from matplotlib.font_manager import FontEntry, fontManager

    def order(font: FontEntry) -> tuple[bool, bool, str]:
        # Last Resort has a box for every letter there is.
        return font.name.startswith("Last Resort"), font.style != "normal", font.fname

    for font in sorted(fontManager.ttflist, key=order):
        if ord(letter) in _charmap(font.fname) and font.weight in (400, "normal", "regular"):
            return font.name, font.fname
    return "DejaVu Sans", ""


@lru_cache(maxsize=256)
def _charmap(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # a font that was removed, or that FreeType cannot read
        return frozenset()
