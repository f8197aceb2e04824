"""The folder for what can be made again: the demo data, decoded pictures, and what was found in users' files."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["cache_folder", "remembered"]


def cache_folder() -> Path:
    """`$LOUPE_CACHE`, else `~/.cache/loupe`; not created here."""
    named = os.environ.get("LOUPE_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "loupe"


def remembered(kind: str, key: str, compute: Callable[[], Any]) -> Any:
    """What `compute` returned the last time that `key` was asked for: plain values, kept as JSON in the cache folder.

    A file that is not there or damaged is computed anew; a folder that cannot be written costs time, and nothing else.
    """
    record = cache_folder() / kind / f"{key}.json"
    try:
        return json.loads(record.read_text(encoding="utf-8"))["value"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or damaged: look again
    value = compute()
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=record.parent, suffix=".part", delete=False) as stream:
            json.dump({"value": value}, stream)
        Path(stream.name).replace(record)
    except OSError:
        pass  # a read-only home costs time in the next run, and nothing else
    return value
