"""jsonargparse's words as ours: the setting first, then what is expected and what was given."""

import os
import re
import sys
from typing import TextIO

from cli.cluster import is_first_of_node, is_first_process, place_among_nodes
from errors import LoupeError, nearest

__all__ = ["print_on_each_node", "print_once", "setting_error"]

_KINDS = {
    "PositiveInt": "a whole number above 0",
    "NonNegativeInt": "a whole number from 0",
    "PositiveFloat": "a number above 0",
    "NonNegativeFloat": "a number from 0",
    "ClosedUnitInterval": "a number from 0 to 1",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "NoneType": "null",
    "dict": "a mapping",
    "list": "a list",
    "tuple": "[height, width]",
}


def print_once(text: str, file: TextIO | None = None) -> None:
    """Print on the first process only: under DDP all say alike."""
    if is_first_process(os.environ):
        print(text, file=file or sys.stdout, flush=True)


def print_on_each_node(text: str, file: TextIO | None = None) -> None:
    """Print on the first process of each node, whose disk and log are its own, with the node's number."""
    if is_first_of_node(os.environ):
        place = place_among_nodes(os.environ)
        print(f"{place}: {text}" if place else text, file=file or sys.stdout, flush=True)


def setting_error(message: str, known: list[str] | None = None) -> LoupeError:
    """The error for a message of the parser.

    Args:
        message: As jsonargparse 4.53 writes it.
        known: All settings by their full names, to propose the nearest.
    """
    known = known or []
    unrecognized = re.search(r"unrecognized arguments: (\S+)|does not accept option '([^']*)'", message)
    if unrecognized:
        return _unknown(unrecognized.group(1) or unrecognized.group(2), known)
    missing = re.search(r"arguments are required: (.*)", message)
    if missing:
        keys = ", ".join(key.split(".", 1)[-1] for key in missing.group(1).split(", "))
        return LoupeError(f"{keys} not given; name a config, for example --config configs/seg_unet.yaml")
    section = re.match(r"\s*Option '([^'.]+)[^']*' is not accepted", message)
    if section:
        return _unknown(section.group(1), known)
    parts = re.split(r'Parser key "([^"]+)":\s*', message)
    if len(parts) < 3:
        return LoupeError(message.strip())
    key, detail = parts[-2].replace(".init_args", ""), parts[-1]
    # Sections chosen by class_path are parsed by a parser of their own, whose error (already ours) stands inside.
    unknown = re.search(r"- unknown setting ([\w.]+)|Option '([^']+)' is not accepted", detail)
    if unknown:
        return _unknown(f"{key}.{unknown.group(1) or unknown.group(2)}", known)
    inner = re.search(r"- ([a-z_][\w.]*: (?:expected|there is) .*)", detail)
    if inner:
        return LoupeError(f"{key}.{inner.group(1)}")
    config = re.search(r"- ([a-z_][\w.]*: )?.*Unable to load config \"(.*)\"", detail)
    if config:
        where = f"{key}.{config.group(1)}" if config.group(1) else f"{key}: "
        return LoupeError(f"{where}expected a mapping of settings, got '{config.group(2)}'")
    path = re.search(r"Expected a dot import path string: (\S+)", detail)
    if path:
        return LoupeError(
            f"{key}: there is no class '{path.group(1)}'; give its full path, package.module.Class"
        )
    given = re.findall(
        r"Got value: (.*)|Given value: (.*)|base 10: (.*)|to float: (.*)|Not of type \w+: (\S+) (?:not an|does not)",
        detail,
    )
    value = next((text.strip("'\" ") for text in given[0] if text), "") if given else ""
    nested = re.match(r"NestedArg\(key='[^']*', val='(.*)'\)", value)
    expected = _expected(detail)
    if not expected:
        return LoupeError(f"{key}: {' '.join(detail.split())}")
    return LoupeError(f"{key}: expected {expected}, got {nested.group(1) if nested else value!r}")


def _unknown(given: str, known: list[str]) -> LoupeError:
    key = given.lstrip("-").split("=", 1)[0]
    plain = key.replace(".init_args", "")
    near = nearest(plain, known)
    if plain in known:
        hint = ", which another task has"
    else:
        hint = f" (did you mean {near}?)" if near else ""
    return LoupeError(f"unknown setting {key}{hint}; all settings: python train.py fit --help")


def _expected(detail: str) -> str:
    """What the parser would have taken, in words."""
    kinds: list[str] = []
    found: list[tuple[str, str]] = re.findall(
        r"Expected an? typing\.Literal\[([^\]]*)\]|(?:Expected an? |Not of type )(?:<class ')?([\w.]+)",
        detail,
    )
    for choices, kind in found:
        if choices:
            kinds.extend(choice.strip(" '\"") for choice in choices.split(","))
        elif kind != "path":
            name = kind.rsplit(".", 1)[-1]
            kinds.append(_KINDS.get(name, name))
    kinds = list(dict.fromkeys(kinds))
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} or {kinds[-1]}" if kinds else ""
