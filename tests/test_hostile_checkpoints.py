"""Checkpoints that are damaged, or made to harm: a message, and nothing that a file could start."""

from __future__ import annotations

import copy
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cli import main
from errors import LoupeError
from inference import load
from tests.fitting import CONFIG, SMALL, options, write_pictures
from tests.fuzzing import fuzz

PICTURE = np.zeros((32, 32, 3), np.uint8)


class Content(dict[str, Any]):
    """What a checkpoint holds; hypothesis shows the arguments of a test, and would not stop."""

    def __repr__(self) -> str:
        return "Content()"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch over four pictures."""
    folder = tmp_path_factory.mktemp("hostile-run")
    data = write_pictures(folder / "data", {"train": 4, "val": 2, "test": 2})
    words = [*SMALL, f"--data.root={data}", options(), f"--run.directory={folder / 'runs'}"]
    assert main(["fit", f"--config={CONFIG}", *words]) == 0
    return folder / "runs" / CONFIG.stem / "version_0"


@pytest.fixture(scope="module")
def good(run: Path) -> bytes:
    return (run / "checkpoints" / "last.ckpt").read_bytes()


@pytest.fixture(scope="module")
def content(run: Path) -> Content:
    return Content(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True))


def assert_told(path: Path) -> None:
    """Loading and using the file ends in a LoupeError with a message, or works."""
    told = "nothing"
    try:
        load(path).predict(PICTURE)
    except LoupeError as error:
        told = str(error)
    assert told


class Harm:
    """What a pickle could do: start any function, here one that makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("place", ["alone", "in a checkpoint", "as a plain pickle"])
def test_a_pickle_in_a_checkpoint_runs_nothing(
    tmp_path: Path, run: Path, content: Content, place: str, loupe: Callable[..., Any]
) -> None:
    path, mark = tmp_path / "bad.ckpt", tmp_path / "harmed"
    match place:
        case "alone":
            torch.save(Harm(mark), path)
        case "in a checkpoint":
            torch.save({**content, "epoch": Harm(mark)}, path)
        case "as a plain pickle":
            path.write_bytes(pickle.dumps({**content, "loupe": Harm(mark)}))
        case _:
            raise AssertionError(place)
    with pytest.raises(LoupeError, match="cannot be read"):
        load(path)
    for command in ("test", "fit"):
        outcome = loupe(command, f"--config={run / 'config.yaml'}", f"--ckpt_path={path}")
        assert outcome.code == 2
        assert "cannot be read" in outcome.err
        assert "Traceback" not in outcome.err
    assert not mark.exists()


WRONG: list[Any] = [None, [], {}, "x", -1, float("nan"), [None], {"a": "b"}, torch.zeros(2)]


@pytest.mark.parametrize("wrong", [*WRONG, "missing"], ids=[*map(repr, WRONG), "missing"])
@pytest.mark.parametrize("key", ["state_dict", "loupe", "hyper_parameters", "epoch", "config"])
def test_a_value_of_another_type_in_a_checkpoint(
    tmp_path: Path, content: Content, key: str, wrong: Any
) -> None:
    changed = {k: v for k, v in content.items() if k != key}
    torch.save(
        changed if isinstance(wrong, str) and wrong == "missing" else {**changed, key: wrong},
        tmp_path / "bad.ckpt",
    )
    assert_told(tmp_path / "bad.ckpt")


@pytest.mark.parametrize("wrong", WRONG, ids=map(repr, WRONG))
def test_a_card_with_a_value_of_another_type(tmp_path: Path, content: Content, wrong: Any) -> None:
    failures: list[str] = []
    contract = ["value_range", *content["loupe"]["input"]]
    for part, key in [*(("", key) for key in content["loupe"]), *(("input", key) for key in contract)]:
        changed = copy.deepcopy(dict(content))
        (changed["loupe"][part] if part else changed["loupe"])[key] = wrong
        torch.save(changed, tmp_path / "bad.ckpt")
        try:
            assert_told(tmp_path / "bad.ckpt")
        except Exception as error:  # all of them are told at once
            failures.append(f"{part} {key}: {type(error).__name__}: {str(error)[:80]}")
    assert not failures


def endless() -> dict[str, Any]:
    """A mapping that contains itself, as a pickle of 50 bytes can say."""
    value: dict[str, Any] = {}
    value["a"] = value
    return value


def laughing() -> dict[str, Any]:
    """2^40 values in a kilobyte."""
    value: dict[str, Any] = {"a": 1}
    for _ in range(40):
        value = {"a": value, "b": value}
    return value


@pytest.mark.timeout(60)
@pytest.mark.parametrize("command", ["test", "fit"])
@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("state_dict", []),
        ("state_dict", {}),
        ("state_dict", {"network.x": "y"}),
        ("epoch", "x"),
        ("epoch", None),
        ("loupe", {}),
        ("loupe", []),
        ("loupe", {"module": 3}),
        ("optimizer_states", "x"),
        ("lr_schedulers", [3]),
        ("loops", "x"),
        ("callbacks", "x"),
        ("config", "x"),
        ("config", {"a": torch.zeros(2)}),
        ("config", endless()),
        ("callbacks", endless()),
        ("loops", laughing()),
        ("pytorch-lightning_version", 3),
    ],
)
def test_the_command_line_tells_of_it(
    tmp_path: Path, run: Path, content: Content, command: str, key: str, wrong: Any, loupe: Callable[..., Any]
) -> None:
    torch.save({**content, key: wrong}, tmp_path / "bad.ckpt")
    words = (f"--config={run / 'config.yaml'}", f"--ckpt_path={tmp_path / 'bad.ckpt'}", "--training.epochs=2")
    outcome = loupe(command, *words, f"--run.directory={tmp_path / 'runs'}")
    assert outcome.code in (0, 2)
    assert "Traceback" not in outcome.err


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in the content of a checkpoint, less the weights and the settings that are only told."""
    if path and path[0] not in ("state_dict", "config"):
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        if path[:1] not in (("state_dict",), ("config",)):
            yield from places_in(below, (*path, key))


def try_another(
    folder: Path, run: Path, content: Content, share: float, wrong: Any, loupe: Callable[..., Any]
) -> None:
    """A fit that goes on from a checkpoint with one other value: it does, or says why not."""
    places = list(places_in(content))
    *above, key = places[int(share * len(places))]
    changed = copy.deepcopy(dict(content))
    holder: Any = changed
    for step in above:
        holder = holder[step]
    if isinstance(wrong, str) and wrong == "missing" and isinstance(holder, dict):
        del holder[key]
    else:
        holder[key] = wrong
    torch.save(changed, folder / "bad.ckpt")
    words = (f"--config={run / 'config.yaml'}", f"--ckpt_path={folder / 'bad.ckpt'}", "--training.epochs=2")
    outcome = loupe("fit", *words, f"--run.directory={folder / 'runs'}")
    assert outcome.code in (0, 2), (*above, key)
    assert "Traceback" not in outcome.err, (*above, key)


@pytest.mark.parametrize("how", ["too short", "of one number, spread by its strides", "in another layout"])
def test_what_an_optimizer_remembers_cannot_reach_other_memory(
    tmp_path: Path, run: Path, content: Content, how: str, loupe: Callable[..., Any]
) -> None:
    """torch's fused kernels look at neither shape nor strides of it, and ended the process."""
    changed = copy.deepcopy(dict(content))
    memories: list[dict[str, Any]] = list(changed["optimizer_states"][0]["state"].values())
    assert all(group["fused"] for group in changed["optimizer_states"][0]["param_groups"])
    for memory in memories:
        for key in ("exp_avg", "exp_avg_sq"):
            shape = memory[key].shape
            match how:
                case "too short":
                    memory[key] = torch.zeros(2)
                case "of one number, spread by its strides":
                    memory[key] = torch.zeros(1).as_strided(shape, [0] * len(shape))
                case _:
                    memory[key] = memory[key].transpose(0, -1).contiguous().transpose(0, -1)
    torch.save(changed, tmp_path / "bad.ckpt")
    words = (f"--config={run / 'config.yaml'}", f"--ckpt_path={tmp_path / 'bad.ckpt'}", "--training.epochs=2")
    outcome = loupe("fit", *words, f"--run.directory={tmp_path / 'runs'}")
    if how == "too short":
        assert outcome.code == 2
        assert "exp_avg has the shape (2,)" in outcome.err
        return
    assert outcome.code == 0
    if how == "in another layout":  # the same numbers, so the same weights
        torch.save(dict(content), tmp_path / "good.ckpt")
        good = [*words[:1], f"--ckpt_path={tmp_path / 'good.ckpt'}", *words[2:]]
        assert loupe("fit", *good, f"--run.directory={tmp_path / 'runs'}").code == 0
        weights = [
            torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
            for folder in sorted((tmp_path / "runs" / run.parent.name).iterdir())
        ]
        assert len(weights) == 2
        assert all(torch.equal(one, weights[1][name]) for name, one in weights[0].items())


def test_a_zip_that_unpacks_to_more_than_it_says(tmp_path: Path) -> None:
    """Packed records, which torch never writes, are no way around the limits of memory."""
    path = tmp_path / "bad.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    with pytest.raises(LoupeError, match="cannot be read"):
        load(path)


CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8)


def try_bytes(folder: Path, good: bytes, changes: list[tuple[float, int]], cut: bool) -> None:
    data = bytearray(good)
    for share, byte in changes:
        data[int(share * len(data))] = byte
    path = folder / "bad.ckpt"
    path.write_bytes(data[: int(changes[0][0] * len(data))] if cut else data)
    assert_told(path)


OTHER = st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from([*WRONG, 1, 10**30, "missing"]))


@fuzz(25)
@given(OTHER)
def test_a_fit_goes_on_from_another_value_or_says_why_not(
    tmp_path: Path, run: Path, content: Content, loupe: Callable[..., Any], case: tuple[float, Any]
) -> None:
    try_another(tmp_path, run, content, *case, loupe)


@pytest.mark.soak
@fuzz(500)
@given(OTHER)
def test_a_fit_goes_on_from_many_other_values(
    tmp_path: Path, run: Path, content: Content, loupe: Callable[..., Any], case: tuple[float, Any]
) -> None:
    try_another(tmp_path, run, content, *case, loupe)


@fuzz(25)
@given(CHANGES, st.booleans())
def test_bytes_changed_at_random(
    tmp_path: Path, good: bytes, changes: list[tuple[float, int]], cut: bool
) -> None:
    try_bytes(tmp_path, good, changes, cut)


@pytest.mark.soak
@fuzz(1000)
@given(CHANGES, st.booleans())
def test_many_bytes_changed_at_random(
    tmp_path: Path, good: bytes, changes: list[tuple[float, int]], cut: bool
) -> None:
    try_bytes(tmp_path, good, changes, cut)
