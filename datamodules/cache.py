"""The folder for what can be made again: the demo data and what was found in users' files."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """`$LOUPE_CACHE`, else `~/.cache/loupe`; not created here."""
    named = os.environ.get("LOUPE_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "loupe"
