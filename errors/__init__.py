"""Errors meant for the person at the command line: what was given, what is valid, and the fix."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["LoupeError", "nearest", "unknown"]


class LoupeError(ValueError):
    """A user's mistake, told in a few lines.

    Only this error is shown without a traceback, so its message must stand alone: it names the key or the file,
    shows the value received, and says what would be valid or how to mend it.
    """


def nearest(name: object, choices: Iterable[str]) -> str | None:
    """The choice that looks most like ``name``, or None when nothing comes close.

    >>> nearest("dise", ["dice", "focal"])
    'dice'
    """
    found = get_close_matches(str(name), list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


def unknown(what: str, name: object, choices: Iterable[str]) -> LoupeError:
    """The error for a name that is not among ``choices``, with the nearest one proposed.

    >>> print(unknown("loss", "dise", ["dice", "focal"]))
    unknown loss 'dise' (did you mean 'dice'?); valid: dice, focal
    """
    choices = list(choices)
    near = nearest(name, choices)
    hint = f" (did you mean '{near}'?)" if near else ""
    return LoupeError(f"unknown {what} '{name}'{hint}; valid: {', '.join(choices)}")
