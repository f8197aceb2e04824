"""Words for a reader at a terminal: colour where there is one to see it, plain text everywhere else."""

import os
import sys
from typing import TextIO

from rich.color import ColorSystem
from rich.style import Style

__all__ = ["clock_time", "emphasised", "is_live", "labelled", "spoken_time", "wants_colour"]

_LABELS = {"warning": "bold yellow", "note": "bold yellow"}


def wants_colour(stream: TextIO) -> bool:
    """Whether escape codes for colour may be written: on a terminal that knows them, without ``NO_COLOR``."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") != "dumb"


def is_live(stream: TextIO) -> bool:
    """Whether a line can be drawn over: a terminal whose cursor can be moved."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def emphasised(text: str, style: str) -> str:
    """``text`` in a style of rich (``bold``, ``bold yellow``) where stdout shows colour, else as it is.

    >>> emphasised("best", "bold")  # a test's stdout is no terminal
    'best'
    """
    if not wants_colour(sys.stdout):
        return text
    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


def labelled(line: str) -> str:
    """A line such as ``data: 8 pictures`` with its first word set off."""
    label, colon, rest = line.partition(": ")
    if not colon or " " in label.strip():
        return line
    return f"{emphasised(label + ':', _LABELS.get(label.strip(), 'bold'))} {rest}"


def spoken_time(seconds: float) -> str:
    """A duration in its two largest units.

    >>> spoken_time(8.4), spoken_time(95), spoken_time(7384), spoken_time(200000)
    ('8 s', '1 min 35 s', '2 h 3 min', '2 d 7 h')
    """
    whole = round(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{whole} s"


def clock_time(seconds: float) -> str:
    """A duration in hours, minutes and seconds, as short as it can be.

    >>> clock_time(8.4), clock_time(95), clock_time(7384)
    ('0:08', '1:35', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
