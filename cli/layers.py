"""From the words on the command line to layers of settings: default file, config files, command line."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cli.aliases import ALIASES, alias_of, spell_out, spelled_out
from cli.yaml_file import load_yaml, read_yaml
from errors import LoupeError, unknown

__all__ = [
    "COMMANDS",
    "COMMAND_LINE",
    "PARSED_AS",
    "Layer",
    "Request",
    "at",
    "flatten",
    "holder_of",
    "read_request",
]

COMMANDS = ("fit", "validate", "test", "predict", "check", "calibrate", "export")
COMMAND_LINE = "the command line"
#: Sections about the use of a trained model; `cli.sections` says what is in them.
USES = ("roi", "inference", "predictions", "calibration", "export")
_SECTIONS = ("training", "trainer", "model", "data", "run", *USES)
_EXAMPLES = {
    "roi": "roi.checkpoint=FILE",
    "inference": "inference.flips=both",
    "predictions": "predictions.overlays=true",
    "calibration": "calibration.metric=f1",
    "export": "export.format=onnx",
}
#: Their blocks with an on/off switch; ``inference.tiles: true`` is short for ``{enabled: true}``.
SWITCHES = ("inference.tiles", "export.int8")
#: Commands that take the settings of another: check looks at what fit would do.
PARSED_AS = {"check": "fit", "calibrate": "validate", "export": "validate"}
#: Shorter names of settings in the section that a command is about: `export --format onnx`.
_OWN_SECTION = {
    "export": ("export", ("format", "int8", "picture_size", "opset")),
    "calibrate": ("calibration", ("metric",)),
}
_WITHOUT_VALUE = ("-h", "--help", "--print_config")


def at(layer: str) -> str:
    """The name of a layer with its preposition.

    >>> at("configs/a.yaml"), at(COMMAND_LINE)
    ('in configs/a.yaml', 'on the command line')
    """
    return f"on {layer}" if layer == COMMAND_LINE else f"in {layer}"


@dataclass
class Layer:
    """One source of settings: its name for messages, and its values as a nested mapping."""

    name: str
    values: dict[str, Any]


@dataclass
class Request:
    """What was asked for.

    Attributes:
        command: fit, validate, test, predict, check, calibrate or export.
        files: The config files in the order given.
        layers: One layer a file (the default first), then one for `training` as the command line has it.
        flags: All other settings on the command line, key -> text; for the parser, and to look at.
        words: The same as words for the parser, in order.
        demo: Whether the demo's layer was added, because no data is named.
        line: The command line as it was given.
    """

    command: str
    files: list[Path] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    flags: dict[str, str | None] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    demo: bool = False
    line: list[str] = field(default_factory=list)

    @property
    def parsed_as(self) -> str:
        """The command whose settings this one takes: check looks at what fit would do."""
        return PARSED_AS.get(self.command, self.command)


def _settings(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each setting of the command line as (key, text), text None where nothing follows the key."""
    words = ["--config" if word == "-c" else word for word in words]
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        bare = re.match(rf"({'|'.join(_SECTIONS)})[.=]", word)
        if not (word.startswith("-") or bare):
            raise LoupeError(f"'{word}' on the command line belongs to no setting; write --key=value")
        key, equals, text = word.removeprefix("--").partition("=")
        if equals:
            yield key, text
        elif word in _WITHOUT_VALUE or position == len(words) or words[position].startswith("--"):
            yield key, None
        else:
            yield key, words[position]
            position += 1


def _value(key: str, text: str | None) -> Any:
    if text is None:
        raise LoupeError(f"--{key} on the command line has no value; write --{key}=VALUE")
    try:
        return load_yaml(text)
    except yaml.YAMLError:
        if text.lstrip().startswith(("{", "[")):
            raise LoupeError(f"--{key} on the command line: not a valid value: {text}") from None
        return text


def _section(key: str, value: Any, base: Path) -> dict[str, Any]:
    """A whole section given at once: a mapping, or the name of a YAML file."""
    if isinstance(value, str) and value.endswith((".yaml", ".yml", ".json")):
        return read_yaml(base / value)
    if not isinstance(value, dict):
        raise LoupeError(f"{key}: expected a mapping of settings or a YAML file, got {value!r}")
    return value


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested mapping as (dotted key, value); lists and empty mappings are leaves.

    >>> list(flatten({"a": {"b": 1}, "c": [2]}))
    [('a.b', 1), ('c', [2])]
    """
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def holder_of(values: dict[str, Any], path: Sequence[str]) -> dict[str, Any] | None:
    """The mapping at ``path``, or None."""
    for part in path:
        inner = values.get(part)
        if not isinstance(inner, dict):
            return None
        values = inner
    return values


def _take_other_names(key: str, value: dict[str, Any]) -> dict[str, Any]:
    """The other names of our values, out of a mapping given for ``key`` on the command line."""
    taken: dict[str, Any] = {}
    for alias in ALIASES:
        if alias.other.startswith(f"{key}."):
            *path, last = alias.other.removeprefix(f"{key}.").split(".")
            holder = holder_of(value, path)
            if holder is not None and last in holder:
                taken[alias.other] = holder.pop(last)
    return taken


def _read_file(path: Path) -> Layer:
    values = read_yaml(path)
    for key in ("training", "trainer", *USES):
        if values.get(key) is None:
            values.pop(key, None)
        else:
            values[key] = _section(f"{key} in {path}", values[key], path.parent)
    data = values.get("data")
    if isinstance(data, dict):
        for inside in (data, data.get("init_args")):
            if isinstance(inside, dict):
                spell_out(inside, f"in {path}")
    for section in USES:
        _spell_switches(section, values.get(section))
    return Layer(str(path), values)


def _spell_switches(section: str, values: Any) -> None:
    """A block of a section given as true, false or null, as what that is short for."""
    for switch in SWITCHES:
        holder, block = switch.split(".")
        if holder == section and isinstance(values, dict) and isinstance(values.get(block, ""), bool | None):
            values[block] = {"enabled": bool(values[block])}


def _in_section(command: str, key: str) -> str:
    section, names = _OWN_SECTION.get(command, ("", ()))
    return f"{section}.{key}" if key.split(".")[0] in names else key


def _of_section(key: str, text: str | None) -> tuple[str, str | None]:
    """A setting of the sections of use, with the switch of a block spelled out; LoupeError for a section as a value."""
    if text is None:
        return (f"{key}.enabled", "true") if key in SWITCHES else (key, None)
    if text.lstrip().startswith("{"):
        if key in USES:
            values = _value(key, text)
            _spell_switches(key, values)
            text = json.dumps(values)
        return key, text
    if key in USES:
        raise LoupeError(f"--{key}: expected settings, as in --{_EXAMPLES[key]}, got '{text}'")
    return (f"{key}.enabled", text) if key in SWITCHES else (key, text)


def _pass_on(request: Request, key: str, text: str | None) -> None:
    request.flags[key] = text
    dashed = key if key.startswith("-") else f"--{key}"
    request.words.append(dashed if text is None else f"{dashed}={text}")


def read_request(words: Sequence[str], default: Path) -> Request:
    """Sort the command line into layers and the rest; LoupeError for what cannot be read.

    ``default`` is read before every other file.
    """
    if not words or words[0] not in COMMANDS:
        given = words[0] if words else "nothing"
        if given.startswith("-"):
            raise LoupeError(f"the command comes first, for example: python train.py fit {' '.join(words)}")
        raise unknown("command", given, COMMANDS)
    request = Request(words[0], line=list(words))
    ours: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for given, text in _settings(words[1:]):
        key, text = _of_section(spelled_out(_in_section(request.command, given)), text)
        if spelled.setdefault(key, given) != given and key != given.replace(".init_args", ""):
            raise LoupeError(
                f"--{spelled[key]} and --{given} on the command line are two names of one value; keep one"
            )
        if key == "config":
            request.files.append(Path(str(_value(key, text))))
        elif key == "training":
            ours.update(
                {f"training.{k}": v for k, v in _section("--training", _value(key, text), Path()).items()}
            )
        elif key.startswith("training."):
            ours[key] = _value(key, text)
        elif (alias := alias_of(key.removesuffix(".class_path"))) is not None:
            ours[alias.other] = _value(key, text)
            if alias.stays(ours[alias.other]):
                _pass_on(request, key, text)
        elif key == "trainer" and text is not None:
            for inner, value in _section("--trainer", _value(key, text), Path()).items():
                inner = f"trainer.{inner}"
                alias = alias_of(inner)
                if alias is not None:
                    ours[inner] = value
                if alias is None or alias.stays(value):
                    _pass_on(request, inner, value if isinstance(value, str) else json.dumps(value))
        elif (
            key.split(".")[0] == "data"
            and text is not None
            and "{stem}" not in text  # a name's template, and no mapping
            and isinstance(value := _value(key, text), dict)
        ):
            for inside in (value, value.get("init_args")):
                if isinstance(inside, dict):
                    spell_out(inside, "on the command line")
            ours.update(_take_other_names(key, value))
            _pass_on(request, key, json.dumps(value))
        else:
            _pass_on(request, key, text)
    request.layers = [_read_file(path) for path in (default, *request.files)]
    request.layers.append(Layer(COMMAND_LINE, ours))
    return request
