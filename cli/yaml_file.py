"""YAML as configs use it: safe, `1e-3` is a number, a key given twice is an error."""

import re
from pathlib import Path
from typing import Any

import yaml

from errors import LoupeError

__all__ = ["load_yaml", "read_yaml"]


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads floats as YAML 1.2 does and refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, after a look for keys given twice (PyYAML silently keeps the last)."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$|^[-+]?\.[0-9]+[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def load_yaml(text: str) -> Any:
    """The value that YAML ``text`` stands for; raises `yaml.YAMLError`.

    >>> load_yaml("{a: 1e-3, b: [yes, no]}")
    {'a': 0.001, 'b': [True, False]}
    """
    # _Loader is a SafeLoader: no Python objects can be built from a config.
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in the YAML file ``path``; LoupeError for a missing, unreadable or malformed one."""
    try:
        value = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = _near_file(path)
        raise LoupeError(f"--config: no file {path}{near}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LoupeError(f"--config: {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or error
        raise LoupeError(f"{path}{where}: not valid YAML: {problem}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise LoupeError(
            f"{path}: a config is a mapping (key: value), this file holds a {type(value).__name__}"
        )
    return value


def _near_file(path: Path) -> str:
    from errors import nearest

    if not path.parent.is_dir():
        return ""
    names = sorted(p.name for p in path.parent.glob("*.yaml"))
    near = nearest(path.name, names)
    if near:
        return f" (did you mean {path.parent / near}?)"
    return f"; {path.parent} holds: {', '.join(names)}" if names else ""
