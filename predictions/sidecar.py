"""predictions.json: with what the predictions were made, and how many there are."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from predictions.whole_files import whole_file

__all__ = ["SIDECAR", "identity_of", "identity_there", "write_sidecar"]

SIDECAR = "predictions.json"


def identity_of(facts: Mapping[str, Any]) -> str:
    """A short name of all that an answer depends on beside its picture; equal for equal facts.

    >>> identity_of({"a": 1, "b": [2]}) == identity_of({"b": [2], "a": 1})
    True
    """
    return hashlib.sha256(_text(facts).encode()).hexdigest()[:16]


def write_sidecar(folder: Path, content: Mapping[str, Any]) -> None:
    """Write it so that it is there whole or not at all."""
    with whole_file(folder / SIDECAR) as temporary:
        temporary.write_text(_text(content, indent=1) + "\n", encoding="utf-8")


def identity_there(folder: Path) -> str | None:
    """The identity of the predictions in a folder; None where there are none, or nobody knows of what."""
    try:
        found = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
        return str(found["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _text(content: Mapping[str, Any], indent: int | None = None) -> str:
    return json.dumps(content, indent=indent, sort_keys=indent is None, default=str, ensure_ascii=False)
