"""Charts and pictures as parts of a page that needs no other file."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from figures import to_png, to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawing", "draw", "within_budget"]

_LARGEST_SVG = 250_000  # bytes; above, a chart is smaller as a picture
_SIDES = (640, 480, 360, 240, 160)  # pixels


@dataclass(frozen=True)
class Drawing:
    """One chart: as SVG text that follows the page's colours, or as the address of a PNG where that is smaller."""

    title: str
    description: str
    caption: str = ""
    svg: str | None = None
    uri: str | None = None


def draw(figure: "Figure", title: str, description: str, caption: str = "") -> Drawing:
    """A chart for a page; title and description are read aloud in its place, the caption stands below it."""
    svg = to_svg(figure, title=title, description=description)
    if len(svg) <= _LARGEST_SVG:
        return Drawing(title, description, caption, svg=svg)
    return Drawing(title, description, caption, uri=_uri(to_png(figure), "png"))


def within_budget(jpegs: Sequence[bytes], budget: int) -> list[str | None]:
    """Addresses of pictures (data:), together at most ``budget`` characters; None for one that cannot be read.

    Where they take more they are all shrunk alike, to a longest side of 640, 480, ... 160 pixels; where that is not
    enough, the last ones are None.
    """
    uris = [_readable(jpeg) for jpeg in jpegs]
    for side in _SIDES:
        if sum(len(uri or "") for uri in uris) <= budget:
            break
        uris = [_shrunk(jpeg, side) if uri else None for jpeg, uri in zip(jpegs, uris, strict=True)]
    spent, kept = 0, list[str | None]()
    for uri in uris:
        spent += len(uri or "")
        kept.append(uri if spent <= budget else None)
    return kept


def _readable(jpeg: bytes) -> str | None:
    try:
        Image.open(io.BytesIO(jpeg)).verify()
    except (OSError, ValueError, SyntaxError):  # SyntaxError: Pillow's word for a damaged PNG
        return None
    return _uri(jpeg, "jpeg")


def _shrunk(jpeg: bytes, side: int) -> str | None:
    try:
        picture = Image.open(io.BytesIO(jpeg)).convert("RGB")
    except (OSError, ValueError):
        return None
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return _uri(file.getvalue(), "jpeg")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
