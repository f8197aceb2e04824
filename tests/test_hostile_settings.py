"""Configs and flags changed at random: an exit code and a message, never a traceback, no file elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli import main
from cli.yaml_file import load_yaml
from tests.fuzzing import fuzz

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml"))
RECIPES = [path for path in CONFIGS if path.parent.name == "configs" and path.stem != "demo"]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def ran(words: list[str]) -> Outcome:
    """One command; the test fails where anything but a code comes back."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as error:  # --help and --print_config of the parser
            code = error.code if isinstance(error.code, int) else 1
    return Outcome(code, out.getvalue(), err.getvalue())


def assert_told(outcome: Outcome, words: list[str]) -> None:
    assert outcome.code in (0, 1, 2), words
    assert "Traceback" not in outcome.err, words
    if outcome.code == 2:
        _, found, message = outcome.err.rpartition("error: ")
        assert found, (words, outcome.err)
        assert message.strip(), words
        assert message.count("\n") <= 12, (words, message)


@pytest.fixture
def yard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder of its own inside an otherwise empty one, in which nothing may appear."""
    folder = tmp_path / "around" / "here"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    yield folder
    outside = {name for name in listing(tmp_path / "around") if not name.startswith("here")}
    assert not outside, "files outside of the current folder"
    strange = {name for name in listing(folder) if name.split("/")[0] not in ("runs", "changed.yaml")}
    assert not strange, "files beside the runs"


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: " + "[" * 10_000 + "]" * 10_000,
        "a: " + "{a: " * 10_000 + "}" * 10_000,
        "- " * 10_000 + "x",
        "&a [*a]",
        "a: 0x_",
        "a: !!bool x",
        "a: !!binary x",
        "a: !!set {b}",
        "a: !!python/object/apply:os.system [touch hacked]",
        'run: {name: "\\ud800"}',
        "a: \0",
        "a: " + "1" * 5000,
        "training: &t {epochs: 1}\ntraining2: *x",
        "? [a, b]\n: c",
        "training: {<<: 3}",
        "[]",
        "3",
        "a: b\n---\nc: d",
        "training: 3",
        "training: [1, 2]",
        "training: {warmup: [1, 2]}",
        "training: {epochs: .nan}",
        "training: {epochs: 1e400}",
        "training: {1: 2}",
        "training: {null: 2}",
        "1: 2",
        "null: 2",
        "[a]: 2",
        "run: {name: ../../up}",
        "run: {name: 2024-01-01x/..}",
        'run: {name: "a\\0b"}',
        "seed_everything: ${seed_everything}",
        "run: {name: '${run.directory}', directory: '${run.name}'}",
        "run: {name: '" + "${" * 500 + "'}",
        "run: {name: '${oc.env:NO_SUCH_NAME}'}",
        "run: {name: '${nothing:3}'}",
        "run: {name: '${a.b.c}'}",
        "data: 3",
        "data: []",
        "data: {class_path: [1]}",
        "data: {init_args: 3}",
        "data: {class_path: os.system, init_args: {command: touch hacked}}",
        "model: {class_path: lightning_modules.SegmentationModule, init_args: {architecture: {a: b}}}",
        "trainer: 3",
        "trainer: nothing.yaml",
        "trainer: {callbacks: 3}",
        "trainer: {logger: {class_path: 3}}",
        "trainer: {max_epochs: {}}",
    ],
)
def test_a_hostile_config_ends_in_a_message(yard: Path, text: str) -> None:
    (yard / "changed.yaml").write_text(text)
    words = ["fit", f"--config={RECIPES[-1]}", "--config=changed.yaml", "--print_config"]
    outcome = ran(words)
    assert_told(outcome, [text[:200]])
    assert len(outcome.err) < 3000, "a message of a few lines"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "flag",
    [
        "--training={" + "a: {" * 10_000 + "}" * 10_001,
        "--data={" + "a: [" * 10_000,
        "--trainer=" + "[" * 10_000 + "]" * 10_000,
        "--model.options=" + "{a: " * 5000 + "}" * 5000,
        "--training=&a [*a]",
        "--data.read=&a {b: *a}",
        "--training.loss={type: focal, gamma: !!python/name:os.system }",
        "--training.loss.gamma=" + "9" * 5000,
        "--run.name=" + "x" * 5000,
        "--run.directory=a\0b",
        "--data.root=" + "x" * 5000,
        "--data.image_size=[[[[1]]]]",
        "--data.image_size=-1",
        "--data.read.label_mapping={a: b}",
        "--seed_everything=1e999",
        "--seed_everything=9" + "9" * 400,
        "--config=\0",
        "--config=" + "x" * 5000,
        "--=1",
        "--.=1",
        "--training.=1",
        "--training..=1",
        "--trainer.=1",
        "--data.=",
        "--run=3",
        "--trainer.callbacks+=3",
        "--trainer.callbacks+=[{class_path: 3}]",
        "--trainer.callbacks=os.system",
        "--trainer.precision=[1]",
        "--trainer.max_epochs={}",
        "--training.mixed_precision=[]",
        "--\udcff=\udcff",
        "training.epochs=\udcff",
        "-x",
        "--",
    ],
)
def test_a_hostile_flag_ends_in_a_message(yard: Path, flag: str) -> None:
    outcome = ran(["fit", f"--config={RECIPES[-1]}", flag, "--print_config"])
    assert_told(outcome, [flag[:200]])


# ---- at random


def leaves_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves_of(inner, (*path, key))


def names_of(path: Path) -> list[tuple[Any, ...]]:
    return [leaf for leaf in leaves_of(load_yaml(path.read_text())) if leaf]


FILES = {path: path.read_text() for path in CONFIGS}
PLACES = sorted({".".join(map(str, leaf)) for path in CONFIGS for leaf in names_of(path)})
GARBAGE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["${a.b}", "${oc.env:HOME}", "../..", "~", "1e-3", "auto", "null", "{", "os.system", "2024-01-01"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
KEY = st.sampled_from(PLACES) | st.text(max_size=10) | st.sampled_from(PLACES).map(lambda key: key[:-1] + "x")
FLAG = st.one_of(
    st.tuples(KEY, GARBAGE).map(lambda pair: f"--{pair[0]}={_as_text(pair[1])}"),
    st.tuples(KEY, st.text(max_size=12)).map(lambda pair: f"--{pair[0]}={pair[1]}"),
    st.tuples(st.sampled_from(PLACES), st.text(max_size=12)).map(lambda pair: f"{pair[0]}={pair[1]}"),
    st.text(max_size=12),
)
CASE = st.tuples(
    st.sampled_from(RECIPES),
    st.lists(st.tuples(KEY, GARBAGE), max_size=2),
    st.lists(FLAG, max_size=2),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=2),
)
Case = tuple[Path, list[tuple[str, Any]], list[str], list[tuple[float, int]]]


def _as_text(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True).strip().removesuffix("\n...")


def put(values: Any, key: str, value: Any) -> Any:
    first, _, rest = key.partition(".")
    if not isinstance(values, dict):
        values = {}
    return {**values, first: put(values.get(first), rest, value) if rest else value}


def try_case(yard: Path, case: Case) -> None:
    recipe, settings_, flags, bytes_ = case
    values = load_yaml(FILES[recipe])
    for key, value in settings_:
        values = put(values, key, value)
    data = bytearray(_as_text(values).encode() if settings_ else FILES[recipe].encode())
    for share, byte in bytes_:
        data[int(share * len(data))] = byte
    (yard / "changed.yaml").write_bytes(data)
    words = ["fit", "--config=changed.yaml", *flags, "--print_config"]
    assert_told(ran(words), [data.decode(errors="replace"), *words])


@fuzz(60)
@given(CASE)
def test_settings_changed_at_random(yard: Path, case: Case) -> None:
    try_case(yard, case)


@pytest.mark.soak
@fuzz(2000)
@given(CASE)
def test_many_settings_changed_at_random(yard: Path, case: Case) -> None:
    try_case(yard, case)
