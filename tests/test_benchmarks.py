"""What the benchmarks say of figures, and that their ways of measuring do what they are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import compare
from benchmarks.timing import differences, in_turn, keep, ratios


@pytest.mark.parametrize(
    ("name", "before", "after", "worse"),
    [
        ("ratio", 1.0, 1.16, True),
        ("ratio", 1.0, 1.14, False),
        ("ratio", 1.0, 0.5, False),
        ("images_speed", 0.9, 0.7, True),
        ("images_speed", 0.9, 1.5, False),
        ("step_ms", 0.1, 0.19, False),  # so little is noise
        ("step_ms", 0.1, 0.21, True),
    ],
)
def test_what_counts_as_slower(name: str, before: float, after: float, worse: bool) -> None:
    (change,) = compare.changes({name: before}, {name: after}, 0.15)
    assert change.is_worse is worse


def test_new_and_gone_figures_are_told_and_not_judged() -> None:
    found = list(compare.changes({"old": 1.0}, {"new": 2.0}, 0.15))
    assert [(c.name, c.before, c.after, c.is_worse) for c in found] == [
        ("old", 1.0, None, False),
        ("new", None, 2.0, False),
    ]


def test_the_comparison_of_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, value in (("stored", 1.0), ("same", 1.1), ("slow", 1.3)):
        keep("startup", {"help": value}, about={}, folder=tmp_path / folder)
    assert json.loads((tmp_path / "slow" / "startup.json").read_text())["machine"]["torch"]
    assert compare.main(tmp_path / "stored", tmp_path / "same", 0.15) == 0
    assert "nothing got slower" in capsys.readouterr().out
    assert compare.main(tmp_path / "stored", tmp_path / "slow", 0.15) == 1
    assert "SLOWER" in capsys.readouterr().out


def test_ways_are_measured_in_turn() -> None:
    called: list[str] = []

    def way(name: str, seconds: float) -> float:
        called.append(name)
        return seconds

    found = in_turn({"a": lambda: way("a", 2.0), "b": lambda: way("b", 1.0)}, rounds=4)
    assert found == {"a": [2.0] * 4, "b": [1.0] * 4}
    assert called == ["a", "b", "b", "a", "b", "a", "a", "b"], "neither is always the first"
    assert ratios(found, "a", "b") == {"median": 2.0, "least": 2.0, "most": 2.0}
    assert differences(found, "a", "b")["median"] == 1.0
