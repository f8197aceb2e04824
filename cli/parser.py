"""The parser: Lightning's, with short errors and a saved form that can be read back."""

import re
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from cli.aliases import ALIASES
from cli.vocabulary import SWITCHED
from cli.yaml_file import load_yaml
from errors import LoupeError, nearest

__all__ = ["LoupeParser", "setting_error"]

# `omegaconf+` resolves ${...} after all files and flags are in; its own loader would lack our stricter YAML.
set_loader("omegaconf+", load_yaml, (yaml.YAMLError,))


class LoupeParser(LightningArgumentParser):
    """Raises LoupeError for what a user got wrong, instead of printing 80 lines of usage and leaving."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(allow_abbrev=False, parser_mode="omegaconf+", dump_header=None)
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Turn the parser's words into ours."""
        raise setting_error(message, self._known_keys()) from ex

    def _known_keys(self) -> list[str]:
        keys = {action.dest for action in self._actions}
        for name in ("fit", "validate", "test", "predict"):
            for sub in self._subcommands_action._name_parser_map.items() if self._subcommands_action else ():
                if sub[0] == name:
                    keys |= {action.dest for action in sub[1]._actions}
        return sorted(keys)

    def dump(self, cfg: Namespace, *args: Any, **kwargs: Any) -> str:
        """The configuration as YAML that says the same when it is read again."""
        if not kwargs.get("skip_validation"):
            cfg = cfg.clone()
            for section in [cfg, *(value for value in vars(cfg).values() if isinstance(value, Namespace))]:
                _drop_what_is_said_elsewhere(section)
        return super().dump(cfg, *args, **kwargs)


def _drop_what_is_said_elsewhere(section: Namespace) -> None:
    """Blocks that are off keep nothing but that; the other names of our values go, and so does `config`."""
    training = section.get("training")
    if training is None:
        return
    for block in SWITCHED:
        settings = training.get(block)
        if settings is not None and not settings["enabled"]:
            training[block] = {"enabled": False}
    for alias in ALIASES:
        value = section.get(alias.other)
        if value is None or not alias.stays(value):
            section.pop(alias.other, None)
    section.pop("config", None)


def setting_error(message: str, known: list[str] | None = None) -> LoupeError:
    """jsonargparse's message as one of ours: the innermost key first, then what is wrong with it."""
    unrecognized = re.search(r"unrecognized arguments: (.*)|does not accept option '([^']*)'", message)
    if unrecognized:
        given = (unrecognized.group(1) or unrecognized.group(2)).split()[0]
        key = given.lstrip("-").split("=", 1)[0]
        near = nearest(key, known or [])
        hint = f" (did you mean {near}?)" if near else ""
        return LoupeError(f"unknown setting {key}{hint}; all settings: python train.py fit --help")
    parts = re.split(r'Parser key "([^"]+)":\s*', message)
    if len(parts) < 3:
        return LoupeError(message.strip())
    key, detail = parts[-2], parts[-1]
    return LoupeError(f"{key}: {_plain(detail)}")


def _plain(detail: str) -> str:
    lines = [line.strip(" -") for line in detail.strip().splitlines() if line.strip()]
    text = "; ".join(lines)
    text = re.sub(r"typing\.Literal(\[[^\]]*\])", r"one of \1", text)
    text = re.sub(r"<class '([\w.]*\.)?(\w+)'>", r"\2", text)
    text = re.sub(r"typing\.(Union|Optional)", r"\1", text)
    return re.sub(r"\. Got value: (.*)", r", got \1", text)
