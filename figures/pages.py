"""The look that all HTML pages share, and the means to fill them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page_templates"]


def page_templates(folder: Path) -> Environment:
    """Templates of a folder; ``head.html`` for them to begin with, up to the open style, which holds ``look.css``.

    Everything that is put into a page is escaped: names of classes and files come from the data, and a page is opened
    by people who did not make it.

    >>> page_templates(Path()).from_string("<b>{{ name }}</b>").render(name="<script>")
    '<b>&lt;script&gt;</b>'
    """
    from jinja2 import Environment, FileSystemLoader  # here: --help does without

    loader = FileSystemLoader([folder, Path(__file__).parent])
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
