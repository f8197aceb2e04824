"""The parser: Lightning's, with short errors and a saved form that can be read back."""

import dataclasses
import inspect
from typing import Any, ClassVar, NoReturn

import yaml
from jsonargparse import Namespace, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from cli.aliases import ALIASES
from cli.messages import setting_error
from cli.sections import leave_out_defaults
from cli.vocabulary import SWITCHED
from cli.yaml_file import load_yaml

__all__ = ["LoupeParser"]

# `omegaconf+` resolves ${...} after all files and flags are in; its own loader would lack our stricter YAML.
set_loader("omegaconf+", load_yaml, (yaml.YAMLError,))

# jsonargparse keeps numbers as its own PositiveInt and the like, which YAML's safe dumper does not know (4.53).
# Lightning's defaults hold members of its string enums (Timer's interval); they are read back as plain texts.
yaml.SafeDumper.add_multi_representer(str, lambda dumper, value: dumper.represent_str(str.__str__(value)))
yaml.SafeDumper.add_multi_representer(int, lambda dumper, value: dumper.represent_int(int(value)))
yaml.SafeDumper.add_multi_representer(float, lambda dumper, value: dumper.represent_float(float(value)))


class LoupeParser(LightningArgumentParser):
    """Raises LoupeError for what a user got wrong, instead of printing 80 lines of usage and leaving."""

    #: Base class of what a section chooses by class_path, for the names of its settings.
    sections: ClassVar[dict[str, type]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(allow_abbrev=False, parser_mode="omegaconf+", dump_header=None)
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Turn the parser's words into ours."""
        raise setting_error(message, self._known_keys()) from ex

    def _known_keys(self) -> list[str]:
        """Every setting by its full name, those of modules and datamodules included."""
        parsers = [
            self,
            *(self._subcommands_action._name_parser_map.values() if self._subcommands_action else ()),
        ]
        keys = {action.dest for parser in parsers for action in parser._actions}
        for section, base in self.sections.items():
            for cls in _subclasses(base):
                for parameter in inspect.signature(cls).parameters.values():
                    if parameter.kind is parameter.VAR_KEYWORD or parameter.name == "training":
                        continue  # **others are those of the base class
                    keys.add(f"{section}.{parameter.name}")
                    if dataclasses.is_dataclass(parameter.annotation):
                        fields = dataclasses.fields(parameter.annotation)
                        keys |= {f"{section}.{parameter.name}.{field.name}" for field in fields}
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
    leave_out_defaults(section)
    for key in ("config", "ckpt_path"):
        section.pop(key, None)


def _subclasses(base: type) -> list[type]:
    return [base, *(cls for child in base.__subclasses__() for cls in _subclasses(child))]
