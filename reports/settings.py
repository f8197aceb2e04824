"""Configurations as flat keys: what a run changed of the defaults, and where two runs differ."""

from pathlib import Path
from typing import Any

import yaml

__all__ = ["changed_settings", "differing_settings", "flat_settings"]

_DEFAULTS = Path(__file__).resolve().parent.parent / "configs" / "training" / "default.yaml"
_SHORT_FORMS = ("optimizer", "loss")


def flat_settings(value: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves by dotted keys; an empty mapping is a leaf.

    >>> flat_settings({"a": {"b": 1, "c": {}}, "d": [2]})
    {'a.b': 1, 'a.c': {}, 'd': [2]}
    """
    if not isinstance(value, dict) or not value:
        return {prefix: value} if prefix else {}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat.update(flat_settings(inner, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def differing_settings(configs: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """The keys whose values differ, with each configuration's value as text, "–" where it has none.

    >>> differing_settings([{"a": 1, "b": 2}, {"a": 1, "b": 3}])
    [('b', ['2', '3'])]
    """
    flat = [flat_settings(config) for config in configs]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    rows = [(key, [_text(one[key]) if key in one else "–" for one in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def changed_settings(config: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Key, value and default of the `training` settings that are not those of `configs/training/default.yaml`.

    Empty where the project's configs are not beside the code. A block that is off in both counts as equal.
    """
    if not _DEFAULTS.is_file() or not isinstance(config.get("training"), dict):
        return []
    default = yaml.safe_load(_DEFAULTS.read_text(encoding="utf-8"))["training"]
    for key in _SHORT_FORMS:
        if isinstance(default.get(key), str):
            default[key] = {"type": default[key]}
    given = {
        key: value
        for key, value in config["training"].items()
        if not (_off(value) and _off(default.get(key)))
    }
    known = flat_settings(default)
    return [
        (f"training.{key}", _text(value), _text(known[key]) if key in known else "–")
        for key, value in flat_settings(given).items()
        if key not in known or known[key] != value
    ]


def _off(block: Any) -> bool:
    return isinstance(block, dict) and block.get("enabled") is False


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
