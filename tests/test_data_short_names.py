"""Shorter names of data settings mean the longer ones, and manifests are read however they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.aliases import DATA_NAMES, spell_out, spelled_out
from datamodules.formats.manifest import _Files, read_manifest
from datamodules.formats.tables import read_table
from datamodules.options import Loader, Read, Split
from datamodules.texts import Texts
from errors import LoupeError
from tests.tasks import CLASSIFICATION, write_task


def test_every_short_name_leads_to_a_setting() -> None:
    groups: dict[str, Any] = {"loader": Loader(), "split": Split(), "read": Read()}
    for short, (group, name) in DATA_NAMES.items():
        assert hasattr(groups[group], name)
        assert (
            spelled_out(f"data.{short}") == spelled_out(f"data.init_args.{short}") == f"data.{group}.{name}"
        )
    for other in ("data.root", "data.split.fold", "fold", "training.fold", "data.augment.cache"):
        assert spelled_out(other) == other


@pytest.mark.parametrize("empty", [{}, {"split": None}, {"split": {}}])
def test_settings_go_into_their_groups(empty: dict[str, Any]) -> None:
    data = {"fold": 2, "num_folds": 5, "on_error": "skip", "cache": "disk", "root": "x", **empty}
    spell_out(data, "in a.yaml")
    assert data == {
        "root": "x",
        "split": {"fold": 2, "num_folds": 5},
        "read": {"on_error": "skip"},
        "loader": {"cache": "disk"},
    }


def test_other_settings_of_a_group_stay() -> None:
    given = {"val": 0.2}
    data: dict[str, Any] = {"fold": None, "split": given}
    spell_out(data, "in a.yaml")
    assert data == {"split": {"val": 0.2, "fold": None}}
    assert given == {"val": 0.2}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"fold": 1, "split": {"fold": 1}},
            r"data\.fold and data\.split\.fold in a\.yaml are two names of one",
        ),
        ({"cache": "disk", "loader": {"cache": "none"}}, r"data\.cache and data\.loader\.cache in a\.yaml"),
        ({"fold": 1, "split": 5}, r"data\.split in a\.yaml is 5; it holds settings, such as fold"),
    ],
)
def test_two_names_of_one_value(data: dict[str, Any], message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        spell_out(data, "in a.yaml")


def test_a_run_by_short_names(loupe: Any, tmp_path: Path) -> None:
    root = write_task("classification", tmp_path / "data") / "train"  # parts are drawn
    words = [*CLASSIFICATION.words, f"--data.root={root}", "--training.tensorboard=false"]
    short = tmp_path / "short.yaml"
    short.write_text("data: {init_args: {cache: memory, num_folds: 4, fold: 1}}\n")
    outcome = loupe("fit", *words, f"--config={short}", "--data.fold=2", "--data.on_error=skip")
    assert outcome.code == 0, outcome.err
    assert "val fold 2 of 4" in outcome.out
    assert "pictures kept in memory" in outcome.out
    short.write_text("data: {init_args: {fold: 1, split: {fold: 2, num_folds: 4}}}\n")
    outcome = loupe("fit", *words, f"--config={short}")
    assert outcome.code != 0
    assert "two names of one value; keep one" in outcome.err


# --- manifests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_end_as_the_system_has_it(tmp_path: Path, end: str, last: bool) -> None:
    text = end.join(["path,label", "a.png,cat", "", "b.png,dog", " c.png ,é"]) + end * last
    (tmp_path / "m.csv").write_bytes(text.encode("utf-8-sig"))
    table = read_table(tmp_path / "m.csv", known={"path", "label"})
    assert (table.columns["path"], table.columns["label"]) == (
        ["a.png", "b.png", "c.png"],
        ["cat", "dog", "é"],
    )
    assert table.places.tolist() == [2, 4, 5]


def test_paths_from_the_top_stay_as_they_are() -> None:
    """Pictures are at the top where a container has its data mounted."""
    for entries, expected in (
        (["/a.png", "b.png"], ["/a.png", "/data/b.png"]),
        (["/x/a.png", "y/b.png"], ["/x/a.png", "/data/y/b.png"]),
        (["a.png", "y/b.png"], ["/data/a.png", "/data/y/b.png"]),
    ):
        assert _Files(Path("/data"), Texts(entries)).paths() == expected


def test_files_of_full_folders_are_asked_about_like_those_of_small_ones(tmp_path: Path) -> None:
    """Of more than 64 files the folder is listed; the answer is the same."""
    for folder, count in (("many", 100), ("few", 3)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            (tmp_path / folder / f"{i}.png").touch()
    (tmp_path / "many" / "5.png").unlink()
    (tmp_path / "many" / "6.png").unlink()
    (tmp_path / "many" / "6.png").mkdir()  # a folder is no file
    (tmp_path / "few" / "1.png").unlink()
    names = [f"many/{i}.png" for i in range(100)] + [f"few/{i}.png" for i in range(3)]
    names = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    (tmp_path / "m.csv").write_text("\n".join(["path", *names, "gone/x.png"]))
    with pytest.raises(LoupeError, match="4 of 104 files in the column path are missing") as caught:
        read_manifest(tmp_path / "m.csv", required=())
    wanted = {"many/5.png", "many/6.png", "few/1.png", "gone/x.png"}
    assert sum(str(tmp_path / name) in str(caught.value) for name in wanted) == 3  # and 1 more
    assert "and 1 more" in str(caught.value)
