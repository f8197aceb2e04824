"""The house rules that a program can check: who imports whom, how long a file is, what a name may be."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

# Who may import whom, in the order the data flows. Everybody may import `errors`.
MAY_IMPORT: dict[str, set[str]] = {
    **{name: set() for name in ("errors", "figures", "datamodules", "models", "losses", "metrics", "optim")},
    "predictions": {"figures"},
    "lightning_modules": {"models", "losses", "metrics", "optim"},
    "callbacks": {"figures", "inference", "metrics", "predictions"},
    "inference": {"lightning_modules", "models", "datamodules", "metrics"},
    "finders": {"datamodules", "lightning_modules"},
    "inspection": {"datamodules", "figures", "metrics"},
    "reports": {"datamodules", "figures", "metrics"},
    "export": {"datamodules", "inference", "lightning_modules", "models", "metrics"},
    "train": {"cli"},
}
MAY_IMPORT["cli"] = set(MAY_IMPORT) - {"train"}
OURS = set(MAY_IMPORT)
NOT_PACKAGES = {"benchmarks", "configs", "docs", "tests"}
NAMELESS = {"util", "utils", "helper", "helpers", "common", "misc"}
MAX_MODULE_LINES, MAX_TRAIN_LINES, MAX_CONFIG_LINES = 300, 100, 60
BATCH_KEYS = {"image", "label", "mask", "box", "has_box", "index", "valid", "size_hw_px", "to_original"}
MACHINE_PATH = re.compile(r"(?<![\w.:/$}-])/(?:tmp|work|root|home|Users|content)/\w")


# --- what is read ---


def kept_files(root: Path = ROOT) -> list[Path]:
    """Every file that git keeps or would keep."""
    command = ["git", "ls-files", "-coz", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(path for name in listed.split("\0") if name and (path := root / name).is_file())


def distribution_name(name: str) -> str:
    """A distribution's one spelling: lower case, with hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared_dependencies() -> set[str]:
    """The distributions that a user's installation brings, or may bring: extras, but not those for working on Loupe."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [
        lines for extra, lines in project["optional-dependencies"].items() if extra not in ("dev", "bench")
    ]
    wanted = [*project["dependencies"], *(line for lines in extras for line in lines)]
    return {distribution_name(re.split(r"[\s\[<>=!~;]", line)[0]) for line in wanted}


FILES = kept_files()
DECLARED = declared_dependencies()
IMPORTED_AS = {"PIL": "pillow", "yaml": "pyyaml"}
MODULES = [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in OURS]
PACKAGES = sorted({path.parent for path in MODULES})
TRAIN = ROOT / "train.py"
SOURCES = [*MODULES, TRAIN] if TRAIN.is_file() else MODULES


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=label)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, also inside functions, by string, and relative ones (as '.name')."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
        elif isinstance(node, ast.Call) and called_name(node) in {"import_module", "__import__"}:
            name = first_string(node)
            if name is not None:
                yield node.lineno, name


def called_name(call: ast.Call) -> str | None:
    """``f`` for ``f(...)`` and for ``anything.f(...)``."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else None


def first_string(call: ast.Call) -> str | None:
    """The first argument where it is a literal string."""
    if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str):
        return call.args[0].value
    return None


def forbidden_imports(path: Path, root: Path = ROOT) -> list[str]:
    """The imports of ours in this file that its place does not allow, as 'file:line imports name'."""
    place = path.relative_to(root).with_suffix("").parts[0]
    allowed = MAY_IMPORT[place] | {place, "errors"}
    return [
        f"{path.relative_to(root).as_posix()}:{line} imports {name}"
        for line, name in imported(parse(path))
        if name.startswith(".") or (name.split(".")[0] in OURS - allowed)
    ]


def undocumented(package: Path, public: set[str]) -> list[str]:
    """The functions and classes of these names, defined in the package's files, that have no docstring."""
    return [
        f"{module.name}:{node.lineno} {node.name}"
        for module in sorted(package.glob("*.py"))
        for node in parse(module).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and node.name in public
        and not ast.get_docstring(node)
    ]


def batch_keys(text: str) -> set[str]:
    """The keys by which this code reads or writes something named ``batch``."""
    return set(re.findall(r"""\bbatch(?:\[|\.get\(|\.pop\()["'](\w+)["']""", text))


# --- the rules ---


@each(SOURCES)
def test_imports_go_one_way(path: Path) -> None:
    assert forbidden_imports(path) == []


@each(SOURCES)
def test_a_module_is_short(path: Path) -> None:
    limit = MAX_TRAIN_LINES if path == TRAIN else MAX_MODULE_LINES
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


@each(SOURCES)
def test_every_import_is_a_declared_dependency(path: Path) -> None:
    tops = {name.split(".")[0] for _, name in imported(parse(path))} - OURS - sys.stdlib_module_names
    assert {IMPORTED_AS.get(top, distribution_name(top)) for top in tops} - DECLARED == set()


@each([path for path in FILES if path.suffix == ".py"])
def test_a_thing_is_named(path: Path) -> None:
    assert not NAMELESS & set(path.relative_to(ROOT).with_suffix("").parts)


@each(PACKAGES)
def test_a_package_offers_what_it_says_and_documents_it(path: Path) -> None:
    package = importlib.import_module(".".join(path.relative_to(ROOT).parts))
    names = list(package.__all__)
    assert len(set(names)) == len(names), "a name twice"
    assert [name for name in names if not hasattr(package, name)] == []
    assert undocumented(path, set(names)) == []


def test_every_folder_has_its_place_in_the_design() -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in FILES if path.parent != ROOT}
    assert {name for name in folders if not name.startswith(".")} <= OURS | NOT_PACKAGES
    scripts = {path.name for path in FILES if path.parent == ROOT and path.suffix == ".py"}
    assert scripts <= {"train.py"}


@pytest.mark.parametrize("name", sorted({path.relative_to(ROOT).parts[0] for path in MODULES} | {"train"}))
def test_our_names_resolve_inside_the_repository(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None, f"{name} is a folder without __init__.py"
    assert Path(spec.origin).resolve().is_relative_to(ROOT)


@each([path for path in FILES if path.relative_to(ROOT).parts[0] == "configs" and path.suffix == ".yaml"])
def test_a_config_is_short_and_says_how_to_run_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_CONFIG_LINES
    assert lines[0].startswith("#")


def test_no_path_of_one_machine_is_kept() -> None:
    found = [
        f"{label(path)}: {line.strip()[:100]}"
        for path in FILES
        if path != Path(__file__).resolve() and is_text(path)
        for line in path.read_text(encoding="utf-8").splitlines()
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def is_text(path: Path) -> bool:
    return b"\0" not in path.read_bytes()[:4096]


def test_the_batch_page_names_every_key() -> None:
    page = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    used = set().union(*(batch_keys(path.read_text(encoding="utf-8")) for path in MODULES))
    assert {key for key in BATCH_KEYS | used if f"`{key}`" not in page} == set()


def test_tests_are_flat_and_are_no_package() -> None:
    inside = [path.relative_to(ROOT / "tests") for path in FILES if path.is_relative_to(ROOT / "tests")]
    assert not [
        path for path in inside if path.suffix == ".py" and (len(path.parts) > 1 or path.stem == "__init__")
    ]


# --- the rules see what they should ---


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("losses/dice.py", "from models import create_model"),
        ("losses/dice.py", "def f():\n    import models.unet"),
        ("losses/dice.py", "import importlib\nimportlib.import_module('cli.vocabulary')"),
        ("losses/dice.py", "from .reduction import reduce"),
        ("callbacks/writer.py", "import lightning_modules"),
        ("train.py", "import datamodules"),
        ("cli/__init__.py", "import train"),
    ],
)
def test_a_forbidden_import_is_seen(tmp_path: Path, place: str, code: str) -> None:
    assert len(forbidden_imports(written(tmp_path / place, code), tmp_path)) == 1


def test_an_allowed_import_passes(tmp_path: Path) -> None:
    loss = written(
        tmp_path / "losses/dice.py", "import torch\nfrom losses.regions import a\nfrom errors import b"
    )
    command = written(tmp_path / "cli/__init__.py", "import callbacks, inference, errors")
    assert forbidden_imports(loss, tmp_path) + forbidden_imports(command, tmp_path) == []


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_missing_docstring_is_seen(tmp_path: Path) -> None:
    written(tmp_path / "one.py", 'class A:\n    """Yes."""\n\ndef b(): ...\n\ndef private(): ...\n')
    assert undocumented(tmp_path, {"A", "b", "CONSTANT"}) == ["one.py:4 b"]


def test_a_machine_path_is_seen() -> None:
    seen = ["root: /home/ann/data", 'cache = "/tmp/x"']
    passed = ["https://example.org/root/x", "../root/x", "${HOME}/work/x", "a folder /data/x"]
    assert [bool(MACHINE_PATH.search(line)) for line in seen + passed] == [True] * 2 + [False] * 4


def test_a_batch_key_is_seen() -> None:
    assert batch_keys("batch['a'] + batch.get(\"b\", 1)\nother['c']\nbatch[d]\nminibatch['e']") == {"a", "b"}
