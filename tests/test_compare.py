"""`compare`: is a difference beyond chance, what else differs, and how runs are named on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cli.compare import run_compare, run_report
from errors import LoupeError
from reports import compare_runs
from reports.pairing import paired_intervals
from reports.run_files import Evaluation
from reports.weighted_scores import score_function
from tests import reported

NAMES = ["cat", "dog", "cow"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two runs on the same test pictures, the second much better, with another learning rate."""
    monkeypatch.chdir(tmp_path)
    made = [
        reported.write_run(Path(f"runs/seg/version_{n}"), training__learning_rate=rate)
        for n, rate in ((2, 0.001), (10, 0.01))
    ]
    for run, skill in zip(made, (1.0, 3.0), strict=True):
        reported.write_evaluation(run, reported.classification(200, NAMES, skill=skill))
    return made


def cells(comparison: object, name: str) -> list:
    return dict(comparison.stages[0].scores)[name]  # type: ignore[attr-defined]


def test_a_clear_difference_is_beyond_chance_and_its_setting_is_shown(runs: list[Path]) -> None:
    comparison = compare_runs(runs)
    first, second = cells(comparison, "accuracy")
    assert np.isnan(first.difference) and first.verdict == ""
    assert second.difference == pytest.approx(second.estimate.value - first.estimate.value)
    assert second.low < second.difference < second.high
    assert second.verdict == "better" and second.low > 0
    assert comparison.settings == [("training.learning_rate", ["0.001", "0.01"])]
    assert comparison.warnings == [] and comparison.stages[0].notes == []
    backwards = cells(compare_runs(runs[::-1]), "accuracy")[1]
    assert backwards.verdict == "worse" and backwards.high == pytest.approx(-second.low)


def test_a_run_against_itself_differs_by_nothing(runs: list[Path]) -> None:
    second = cells(compare_runs([runs[0], runs[0]]), "f1")[1]
    assert (second.difference, second.low, second.high, second.verdict) == (0, 0, 0, "within chance")


def test_few_pictures_are_not_judged(runs: list[Path]) -> None:
    """With ten pictures one interval in ten would leave 0 out where nothing differs."""
    for run, skill in zip(runs, (1.0, 3.0), strict=True):
        reported.write_evaluation(run, reported.classification(19, NAMES, skill=skill))
    comparison = compare_runs(runs)
    second = cells(comparison, "accuracy")[1]
    assert np.isnan(second.low) and second.verdict == "" and np.isfinite(second.difference)
    assert any("19 independent pictures are too few" in note for note in comparison.stages[0].notes)


def test_what_the_scores_are_of_is_said(runs: list[Path], tmp_path: Path) -> None:
    """A first run without scores, weights that are not best.ckpt's, more classes than are listed."""
    many = [f"c{number}" for number in range(250)]
    for run, checkpoint in ((runs[0], "last.ckpt"), (runs[1], "best.ckpt")):
        reported.write_evaluation(
            run, reported.classification(500, many), checkpoint=f"checkpoints/{checkpoint}"
        )
    bare = reported.write_run(Path("runs/seg/version_11"))
    comparison = compare_runs([bare, *runs])
    notes = " ".join(comparison.stages[0].notes)
    assert "Differences are to seg/version_2: seg/version_11 has no test scores." in notes
    assert "seg/version_2 was not scored with the weights of best.ckpt" in notes
    assert "seg/version_10 was not scored" not in notes
    assert "200 of 250 classes are listed, those with the lowest recall in 2." in notes
    assert len(comparison.stages[0].classes) == 200


def test_pairing_makes_the_interval_narrower_and_does_not_ask_for_an_order() -> None:
    """One answer in 20 is another: the accuracies' own intervals overlap, that of the difference is narrow."""
    meta, arrays = reported.classification(300, NAMES)
    rng = np.random.default_rng(0)
    right = rng.random(300) < 0.7
    before = np.where(right, arrays["label"], (arrays["label"] + 1) % 3)
    after = np.where(np.arange(300) % 20 == 0, arrays["label"], before)
    order = rng.permutation(300)
    one = Evaluation(meta, {"index": np.arange(300), "label": arrays["label"], "predicted": before}, [])
    two = Evaluation(meta, {"index": order, "label": arrays["label"][order], "predicted": after[order]}, [])
    found = paired_intervals(one, two)["accuracy"]
    scores = [score_function(e) for e in (one, two)]
    values = [float(s(np.ones((300, 1)))["accuracy"][0]) for s in scores if s]
    assert found.low <= values[1] - values[0] <= found.high
    assert found.high - found.low < 0.04  # 4 * sqrt(0.7 * 0.3 / 300) = 0.11 for each accuracy


def test_pairs_without_a_difference_are_beyond_chance_in_one_case_of_twenty() -> None:
    rng, beyond, cases = np.random.default_rng(3), 0, 120
    meta, arrays = reported.classification(150, NAMES)
    label = arrays["label"]
    for _ in range(cases):
        answers = [np.where(rng.random(150) < 0.8, label, (label + 1) % 3) for _ in range(2)]
        one, two = (
            Evaluation(meta, {"index": np.arange(150), "label": label, "predicted": a}, []) for a in answers
        )
        found = paired_intervals(one, two)["accuracy"]
        beyond += found.low > 0 or found.high < 0
    assert beyond / cases < 0.12  # 5 % and three standard errors


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"index": np.arange(200) + 1}, "they scored other pictures"),
        ({"class_names": ["a", "b", "c"]}, "their classes differ"),
        ({"group": np.arange(200) // 2}, "their groups differ"),
    ],
)
def test_other_pictures_are_not_paired_and_this_is_said(runs: list[Path], changes: dict, reason: str) -> None:
    reported.write_evaluation(runs[1], reported.classification(200, NAMES, skill=3.0), **changes)
    comparison = compare_runs(runs)
    assert reason in comparison.stages[0].notes[0]
    second = cells(comparison, "accuracy")[1]
    assert second.difference > 0 and np.isnan(second.low) and second.verdict == ""


def test_other_truth_is_not_paired(runs: list[Path]) -> None:
    meta, arrays = reported.classification(200, NAMES)
    reported.write_evaluation(runs[1], (meta, {**arrays, "label": arrays["label"][::-1]}))
    assert "the truth of the same positions differs" in compare_runs(runs).stages[0].notes[0]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"data__init_args__root": "others"}, "data.root"),
        ({"data__init_args__split": {"val": 0.15, "seed": 1}}, "data.split.seed"),
    ],
)
def test_other_data_or_splits_warn_and_are_not_paired(runs: list[Path], setting: dict, words: str) -> None:
    reported.write_run(runs[1], **setting)
    comparison = compare_runs(runs)
    assert words in comparison.warnings[0] and "cannot be compared" in comparison.warnings[0]
    assert cells(comparison, "accuracy")[1].verdict == ""


def test_another_picture_size_is_still_the_same_pictures(runs: list[Path]) -> None:
    reported.write_run(runs[1], data__init_args__image_size=96)
    comparison = compare_runs(runs)
    assert comparison.warnings == [] and cells(comparison, "accuracy")[1].verdict == "better"


def test_other_seeds_warn(runs: list[Path]) -> None:
    config = runs[1] / "config.yaml"
    config.write_text(config.read_text().replace("seed_everything: 0", "seed_everything: 1"))
    assert "The seeds differ" in compare_runs(runs).warnings[0]


def test_validation_alone_warns(runs: list[Path]) -> None:
    for run in runs:
        (run / "evaluation" / "test.npz").unlink()
        reported.write_evaluation(run, reported.classification(50, NAMES), stage="val", command="fit")
    assert "each run chose its checkpoint" in compare_runs(runs).warnings[0]


@pytest.mark.parametrize(
    "words", [["runs/seg/version_2", "runs/seg/version_10"], ["runs/seg"], ["runs"], ["runs/*/version_*"]]
)
def test_runs_are_named_by_folder_by_parent_or_by_pattern(
    runs: list[Path], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_compare([*words, "--output=out/two.html"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("1  seg/version_2") < printed.index("2  seg/version_10")
    assert "better" in printed and "page: out/two.html" in printed
    assert max(map(len, printed.splitlines())) <= 80
    page = Path("out/two.html").read_text(encoding="utf-8")
    assert "▲" in page and "training.learning_rate" in page and "<script" not in page
    assert page.count("<svg") >= 2 and len(page.encode()) < 5_000_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs/seg/version_2"], "at least two run directories, got 1"),
        (["runs/seg/version_2", "./runs/seg/version_2"], "at least two run directories, got 1"),
        (["runs/seg", "runs/none"], "no folder runs/none; give run directories"),
        (["runs/none*"], "no folder runs/none"),
        (["runs/seg", "empty"], "empty is no run directory and holds none"),
        (["runs/seg", "--outptu=x.html"], "unknown option of compare '--outptu' .did you mean '--output'"),
        (["runs/seg", "--output"], "--output: no file; give"),
        (["runs/seg", "--output", "empty"], "empty is a folder; give a file in it"),
        (
            ["runs/seg", "--output=empty/file/x.html"],
            "--output: cannot write empty/file/x.html.*give another file",
        ),
    ],
)
def test_mistakes_are_told_with_the_fix(runs: list[Path], words: list[str], message: str) -> None:
    Path("empty").mkdir()
    Path("empty/file").write_text("") if "file" in words[-1] else None
    with pytest.raises(LoupeError, match=message):
        run_compare(words)


def test_report_writes_the_pages_anew(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_report(["runs/seg"]) == 0
    assert capsys.readouterr().out.count("report.html") == 2
    assert all("<html" in (run / "report.html").read_text(encoding="utf-8") for run in runs)
    with pytest.raises(LoupeError, match="unknown option of report '--all'"):
        run_report(["runs/seg", "--all"])


def test_without_words_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert (run_compare([]), run_compare(["--help"]), run_report([]), run_report(["-h"])) == (2, 0, 2, 0)
    assert "usage: python train.py compare RUN RUN" in capsys.readouterr().out
