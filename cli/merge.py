"""Many layers of settings to one `training:` section: the later layer wins, whichever name it used."""

from dataclasses import dataclass, field
from typing import Any

from cli.aliases import ALIASES
from cli.layers import Layer, at, holder_of
from cli.vocabulary import BLOCKS, KEYS, SWITCHED, TYPED
from errors import LoupeError, nearest

__all__ = ["Merged", "merge"]


@dataclass
class Merged:
    """The `training:` section of all layers together.

    Attributes:
        training: The section as nested plain data; only what some layer said.
        origins: For each key below `training` ("loss.gamma"), the layer that said it last.
    """

    training: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)


_NEW = object()


def merge(layers: list[Layer]) -> Merged:
    """One `training:` section from ``layers``, the first being the defaults.

    Takes `training` and the other names of its values (`trainer.max_epochs`) out of each layer's values.

    Raises:
        LoupeError: unknown key, two names with different values in one layer, options of a block that is off.
    """
    merged = Merged()
    switched_on: dict[str, list[tuple[str, str]]] = {}
    defaults: dict[str, Any] = {}
    for number, layer in enumerate(layers):
        said, written = _said(layer)
        _overrule(layers[:number], layer, said, written)
        defaults = defaults or said
        for block in dict.fromkeys(key.split(".")[0] for key in said):
            own = {key: value for key, value in said.items() if key.split(".")[0] == block}
            _apply(merged, block, own, layer.name)
            if block in SWITCHED:
                if own.get(f"{block}.enabled") is False or number == 0:
                    switched_on.pop(block, None)
                if number > 0:
                    # Said again in a copy of the default file, a default has the effect that it always had.
                    options = [(k, layer.name) for k, v in own.items() if defaults.get(k, _NEW) != v]
                    options = [(k, where) for k, where in options if k != f"{block}.enabled"]
                    switched_on.setdefault(block, []).extend(options)
    for block, options in switched_on.items():
        if merged.training.get(block, {}).get("enabled") is False and options:
            key, where = options[0]
            raise LoupeError(
                f"training.{key} is set {at(where)}, but training.{block} is off, so it would have no effect; "
                f"add training.{block}.enabled=true or remove training.{key}"
            )
    for block in SWITCHED:
        if merged.training.get(block, {}).get("enabled") is False:
            merged.training[block] = {"enabled": False}
    return merged


def _is_block(key: str) -> bool:
    return key in SWITCHED or key in TYPED or key in BLOCKS


def _apply(merged: Merged, block: str, own: dict[str, Any], where: str) -> None:
    """Lay one layer's keys of one block over what earlier layers said."""
    if not _is_block(block):
        merged.training[block] = own[block]
        merged.origins[block] = where
        return
    target: dict[str, Any] = merged.training.setdefault(block, {})
    # A new type starts from its own defaults: focal's gamma means nothing to dice.
    if f"{block}.type" in own:
        kept = {"enabled": target["enabled"]} if "enabled" in target else {}
        merged.training[block] = target = kept
    for key, value in own.items():
        target[key.split(".", 1)[1]] = value
        merged.origins[key] = where


def _overrule(earlier: list[Layer], layer: Layer, said: dict[str, Any], written: dict[str, str]) -> None:
    """Take out of earlier layers what stays under the other name (a logger, 64-true) and this layer speaks against."""
    for alias in ALIASES:
        switch = f"{alias.training}.enabled"
        if switch not in said or _found(layer.values, alias.other) is not None:
            continue
        for values in (other.values for other in earlier):
            found = _found(values, alias.other)
            if found is None:
                continue
            holder, last = found
            meant = (alias.say(holder[last]) or {"enabled": False})["enabled"]
            if written[switch] == alias.other or said[switch] != meant:
                del holder[last]


def _found(values: dict[str, Any], key: str) -> tuple[dict[str, Any], str] | None:
    """Where a layer holds ``key``, written dotted (command line) or nested (files): the mapping and its key there."""
    if key in values:
        return values, key
    *path, last = key.split(".")
    holder = holder_of(values, path)
    return (holder, last) if holder is not None and last in holder else None


def _said(layer: Layer) -> tuple[dict[str, Any], dict[str, str]]:
    """All that one layer says of `training`, under our names ("loss.gamma" -> value), and the name it used."""
    said: dict[str, Any] = {}
    written: dict[str, str] = {}

    def say(key: str, value: Any, name: str) -> None:
        if key in said and _plain(said[key]) != _plain(value) and written[key] != name:
            raise LoupeError(
                f"{written[key]}={said[key]} and {name}={value} {at(layer.name)} are two names of one value "
                f"with different values; keep one"
            )
        said[key] = value
        written[key] = name

    for key, value in _section_items(layer):
        for inner, item in _expand(key, value, layer.name):
            say(inner, item, f"training.{key}")
    for alias in ALIASES:
        found = _found(layer.values, alias.other)
        if found is None:
            continue
        holder, last = found
        value = holder[last]
        if (value is not None and not alias.stays(value)) or value is None:
            del holder[last]
        if value is None and alias.training != "gradient_clip":
            continue
        words = alias.say(value)
        if words is None and value is not None:
            continue
        for inner, item in _expand(alias.training, words, layer.name):
            say(inner, item, alias.other)
    return said, written


def _section_items(layer: Layer) -> list[tuple[str, Any]]:
    """The layer's `training` as (key, value), whether written nested (files) or dotted (command line)."""
    section = layer.values.pop("training", None) or {}
    items = list(section.items())
    dotted = [key for key in layer.values if key.startswith("training.")]
    return [*items, *((key.removeprefix("training."), layer.values.pop(key)) for key in dotted)]


def _expand(key: str, value: Any, where: str) -> list[tuple[str, Any]]:
    """One setting as leaves of a block: short forms opened, names checked."""
    block, _, option = str(key).partition(".")
    if block not in KEYS:
        near = nearest(block, KEYS)
        hint = f" (did you mean '{near}'?)" if near else f"; valid: {', '.join(KEYS)}"
        raise LoupeError(f"unknown key training.{block} {at(where)}{hint}")
    if option:
        if not _is_block(block):
            raise LoupeError(
                f"training.{key} {at(where)}: training.{block} is a single value and has no keys"
            )
        _check_option(block, option, where)
        return [(f"{block}.{option}", value)]
    if isinstance(value, dict) and (_is_block(block)):
        for name in value:
            _check_option(block, str(name), where)
        return [(f"{block}.{name}", item) for name, item in value.items()]
    if isinstance(value, bool) and block in SWITCHED:
        return [(f"{block}.enabled", value)]
    if isinstance(value, str) and block in TYPED:
        return [(f"{block}.type", value)] + ([(f"{block}.enabled", True)] if block in SWITCHED else [])
    if _is_block(block):
        short = " or true/false" if block in SWITCHED else ""
        short += " or a type's name" if block in TYPED else ""
        raise LoupeError(
            f"training.{block} {at(where)}: expected a mapping of settings{short}, got {value!r}"
        )
    return [(block, value)]


def _check_option(block: str, option: str, where: str) -> None:
    if block in TYPED:
        return  # the options depend on the type, and are checked when that is known
    valid = list(BLOCKS[block].__dataclass_fields__)
    if option not in valid:
        near = nearest(option, valid)
        hint = f" (did you mean '{near}'?)" if near else ""
        raise LoupeError(
            f"unknown key training.{block}.{option} {at(where)}{hint}; valid: {', '.join(valid)}"
        )


def _plain(value: Any) -> Any:
    return 1 if value == "batch" else value
