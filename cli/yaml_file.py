"""YAML as configs use it: safe, `1e-3` is a number, a key given twice is an error, nothing is larger than it looks."""

import re
import stat
from pathlib import Path
from typing import Any

import yaml

from errors import LoupeError

__all__ = ["load_yaml", "read_yaml"]


_LARGEST_FILE = 10_000_000  # bytes; a shipped config has two thousand
_MOST_VALUES = 200_000  # with every alias (*name) written out
_DEEPEST = 60  # levels; JSON, deepcopy and the parser go down by recursion, each with several frames a level


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads floats as YAML 1.2 does, refuses duplicate keys, and knows text, numbers and collections.

    A date stays the text that it is: nothing here takes one, and JSON, in which settings are handed on, has none.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node, as deep as a config may be."""
        self._depth = getattr(self, "_depth", 0) + 1
        if self._depth > _DEEPEST:
            raise _refused(f"nested deeper than {_DEEPEST} levels", self.peek_event().start_mark)
        node = super().compose_node(parent, index)  # pyright: ignore[reportUnknownVariableType]
        self._depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        """The document's root, after a look at how large it is with every alias written out."""
        root: yaml.Node | None = super().get_single_node()
        if root is not None:
            _count(root, {})
        return root

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


def _refused(problem: str, mark: yaml.Mark | None) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def _count(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Values and levels below a node, aliases written out; `known`: those of nodes already counted, (0, 0) if begun."""
    if id(node) in known:
        if known[id(node)] == (0, 0):
            raise _refused("a value contains itself", node.start_mark)
        return known[id(node)]
    known[id(node)] = (0, 0)
    below: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        below = [inner for pair in node.value for inner in pair]
    elif isinstance(node, yaml.SequenceNode):
        below = node.value
    found = [_count(inner, known) for inner in below]
    values = 1 + sum(count for count, _ in found)
    levels = 1 + max((level for _, level in found), default=0)
    if values > _MOST_VALUES:
        raise _refused(f"more than {_MOST_VALUES} values, aliases (*name) written out", node.start_mark)
    if levels > _DEEPEST:
        raise _refused(f"nested deeper than {_DEEPEST} levels", node.start_mark)
    known[id(node)] = values, levels
    return values, levels


_DATE = "tag:yaml.org,2002:timestamp"
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")  # of YAML's types, those that JSON has too
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != _DATE]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix("tag:yaml.org,2002:") in _PLAIN
}
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
    try:
        # _Loader is a SafeLoader: no Python objects can be built from a config.
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        # what PyYAML 6 lets through: `0x_` (a number without a digit), `!!bool x`, a character beyond Unicode
        raise _refused(f"a value that cannot be made: {error}", None) from error
    if "\\" in text and not _is_unicode(value):
        raise _refused("half a character (\\ud800 to \\udfff), which no file can hold", None)
    return value


def _is_unicode(value: Any) -> bool:
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, dict):
        return all(_is_unicode(key) and _is_unicode(inner) for key, inner in value.items())
    return all(map(_is_unicode, value)) if isinstance(value, list) else True


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in the YAML file ``path``; LoupeError for a missing, unreadable or malformed one."""
    try:
        _check_kind(path)
        value = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = _near_file(path)
        raise LoupeError(f"--config: no file {path}{near}") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL byte in the name
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
    strange = [key for key in value if not isinstance(key, str)]
    if strange:
        raise LoupeError(f"{path}: '{strange[0]}' is no name of a section")
    return value


def _check_kind(path: Path) -> None:
    """LoupeError for what is no file to be read to its end: a folder, a device, a pipe that nobody may write to.

    A shell's own pipes (`--config <(...)`, /dev/stdin) lie in /dev, and have a writer.
    """
    status = path.stat()
    mode = status.st_mode
    if stat.S_ISFIFO(mode) and str(path.absolute()).startswith(("/dev/", "/proc/self/fd/")):
        return
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise LoupeError(f"--config: {path} is {kind}; give a YAML file")
    if status.st_size > _LARGEST_FILE:
        raise LoupeError(f"--config: {path} has {status.st_size} bytes, and a config at most {_LARGEST_FILE}")


def _near_file(path: Path) -> str:
    from errors import nearest

    if not path.parent.is_dir():
        return ""
    names = sorted(p.name for p in path.parent.glob("*.yaml"))
    near = nearest(path.name, names)
    if near:
        return f" (did you mean {path.parent / near}?)"
    return f"; {path.parent} holds: {', '.join(names)}" if names else ""
