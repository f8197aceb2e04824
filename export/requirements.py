"""Packages that only some formats need, and that an extra of the installation brings."""

import importlib.util

from errors import LoupeError

__all__ = ["needs"]


def needs(*packages: str, extra: str) -> None:
    """LoupeError, naming the command that installs them, where one of the packages is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise LoupeError(
            f"this needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed; "
            f"pip install 'loupe-vision[{extra}]'"
        )
