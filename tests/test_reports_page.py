"""`report.html`: what is on it, that it is safe, small and legible, and that nothing of a run has to be there."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli import main
from errors import LoupeError
from reports import compare_runs, write_report
from tests import reported
from tests.tasks import TASKS, write_task

ROOT = Path(__file__).resolve().parent.parent
EVALUATIONS = {
    "classification": lambda: reported.classification(60, reported.NAMES),
    "multi_label": lambda: reported.multi_label(60, reported.NAMES),
    "segmentation": lambda: reported.segmentation(20, reported.NAMES),
    "cropping": lambda: reported.cropping(40),
}
VOID = {"meta", "img", "br", "link", "input", "hr", "path", "use"}


class Page(HTMLParser):
    """What a browser would make of a page: elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def page_of(run: Path) -> tuple[Page, str]:
    text = write_report(run, write=put).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    return page, text


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return reported.write_run(tmp_path / "seg_unet" / "version_0")


@pytest.mark.parametrize("task", EVALUATIONS)
def test_the_page_of_each_task_is_whole_safe_and_accessible(run: Path, task: str) -> None:
    reported.write_evaluation(run, EVALUATIONS[task](), pictures=[reported.jpeg(seed=n) for n in range(3)])
    page, text = page_of(run)
    assert page.all("html") == [{"lang": "en"}]
    assert not page.all("script") and not page.all("link")
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
    addresses = [
        value for _, a in page.elements for key in ("src", "href", "xlink:href") if (value := a.get(key))
    ]
    assert addresses and all(address.startswith(("#", "data:image/")) for address in addresses)
    assert not re.search(r"url\((?!['\"]?#)|@import", text)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
    assert len(page.all("img")) == 3 and all(attributes["alt"] for attributes in page.all("img"))
    drawn = [a for a in page.all("svg") if a.get("role") == "img"]
    assert len(drawn) >= 3 and all("viewbox" in a for a in drawn)
    assert text.count("<desc") >= len(drawn)
    if task != "cropping":
        assert "<script>alert(1)</script>" in page.text  # as text


def test_the_verdict_and_the_sections_come_in_their_order(run: Path) -> None:
    reported.write_evaluation(run, EVALUATIONS["classification"](), pictures=[reported.jpeg()])
    reported.write_evaluation(
        run, reported.classification(40, reported.NAMES, seed=1), stage="val", command="fit"
    )
    page, _ = page_of(run)
    meta, _arrays = EVALUATIONS["classification"]()
    assert re.search(
        rf"Accuracy {meta['scores']['accuracy']:.3f} \(95 % interval 0\.\d+ to [01]\.\d+\) at epoch 3, "
        r"on 60 test pictures",
        page.text,
    )
    titles = [a["id"] for tag, a in page.elements if tag == "h2"]
    assert titles == [
        *("test", "val", "curves", "test-detail", "val-detail"),
        *("data", "configuration", "environment", "time", "reproduce"),
    ]
    assert "chosen among all epochs by val/accuracy" in page.text
    for words in (
        "The test scores are free of that",
        "100 train, 20 val, 20 test",
        "training.batch_size",
        "afe0ee7, with changes that are not committed",
        "20.0 s",  # an epoch
        "of the training time spent waiting for data",
        "train.py fit --config 'configs/my file.yaml'",
        "--ckpt_path best --data.predict_path FOLDER",
    ):
        assert words in page.text, words


def test_without_a_test_the_verdict_says_that_validation_chose_the_checkpoint(run: Path) -> None:
    reported.write_evaluation(run, EVALUATIONS["cropping"](), stage="val", command="fit")
    page, _ = page_of(run)
    assert "on 40 validation pictures that chose the checkpoint" in page.text
    assert "The command test scores pictures that chose nothing" in page.text


def change(run: Path, **values: Any) -> None:
    """Other values in run.json."""
    path = run / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("best", "meta"),
    [
        ({"monitor": "train/loss", "score": 0.1, "epoch": 2}, {"command": "fit", "epoch": 2}),
        ({"monitor": "val/accuracy", "score": None, "epoch": 0}, {"command": "fit", "epoch": 0}),
        (
            {"monitor": "val/accuracy", "score": 0.5, "epoch": 2},
            {"command": "validate", "checkpoint": "a/last.ckpt"},
        ),
    ],
    ids=["another monitor", "never a number", "other weights"],
)
def test_scores_that_chose_nothing_are_not_called_optimistic(
    run: Path, best: dict[str, Any], meta: dict[str, Any]
) -> None:
    change(run, best=best)
    reported.write_evaluation(run, EVALUATIONS["cropping"](), stage="val", **meta)
    page, _ = page_of(run)
    assert "optimistic" not in page.text and "that chose the checkpoint" not in page.text


def test_a_record_of_another_epoch_than_the_best_is_told(run: Path) -> None:
    """A run killed between best.ckpt and its record; the sessions after it make no fit's record older."""
    change(run, best={"monitor": "val/box_iou", "score": 0.5, "epoch": 1})
    reported.write_evaluation(run, EVALUATIONS["cropping"](), stage="val", command="fit", epoch=0)
    page, _ = page_of(run)
    assert "Of epoch 1, and best.ckpt is of epoch 2" in page.text
    assert "that chose the checkpoint" not in page.text and "Scored before" not in page.text
    old = "2020-01-01T00:00:00"
    reported.write_evaluation(run, EVALUATIONS["cropping"](), stage="val", command="fit", epoch=1, date=old)
    page, _ = page_of(run)
    assert "best.ckpt is of" not in page.text and "Scored before" not in page.text


def test_dates_of_other_zones_are_compared_as_moments(run: Path) -> None:
    sessions = [{"began": "2026-11-24T20:00:00+00:00", "seconds": 60.0, "epochs": 3, "first_epoch": 0}]
    change(run, sessions=sessions)
    reported.write_evaluation(run, EVALUATIONS["cropping"](), epoch=None, date="2026-11-24T16:00:00-05:00")
    assert "Scored before" not in page_of(run)[0].text
    reported.write_evaluation(run, EVALUATIONS["cropping"](), epoch=None, date="2026-11-24T20:30:00+01:00")
    assert "Scored before" in page_of(run)[0].text


@pytest.mark.parametrize(
    "wrong",
    [{"best": "x"}, {"sessions": {"a": 1}}, {"data": [1]}, {"best": {"monitor": "val/iou", "score": None}}],
)
def test_values_of_another_kind_make_no_page_fail(run: Path, wrong: dict[str, Any]) -> None:
    change(run, **wrong)
    page, _ = page_of(run)
    assert "Reproduce" in page.text


def test_of_two_validations_the_newer_is_shown(run: Path) -> None:
    reported.write_evaluation(run, reported.cropping(30), stage="val", command="fit")
    newer = {"stage": "val", "command": "validate", "date": "2026-11-25T10:00:00"}
    reported.write_evaluation(run, reported.cropping(50), **newer)
    page, _ = page_of(run)
    assert "50 pictures" in page.text and "30 pictures" not in page.text
    assert "The validation of 2026-11-24 19:10 by `fit` is not shown" in page.text


def test_a_test_without_an_epoch_is_of_the_best_unless_the_training_went_on(run: Path) -> None:
    reported.write_evaluation(run, EVALUATIONS["cropping"](), epoch=None)
    page, _ = page_of(run)
    assert "at epoch 3, on 40 test pictures" in page.text and "Scored before" not in page.text
    reported.write_evaluation(run, EVALUATIONS["cropping"](), epoch=None, date="2026-11-24T17:00:00")
    page, _ = page_of(run)
    assert "at epoch" not in page.text.partition("Test")[0] and "Scored before the last session" in page.text


def test_groups_are_told(run: Path) -> None:
    reported.write_evaluation(run, EVALUATIONS["segmentation"](), group=np.arange(20) // 4)
    page, _ = page_of(run)
    assert "1000 resamples of the 5 groups, since pictures of one group are not independent" in page.text


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "run.json", "evaluation/test.npz"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other"])
def test_a_file_that_is_missing_or_damaged_is_told_and_the_rest_is_shown(
    run: Path, name: str, damage: str
) -> None:
    reported.write_evaluation(run, EVALUATIONS["classification"](), pictures=[reported.jpeg()])
    file = run / name
    if damage == "missing":
        file.unlink()
    else:
        whole = file.read_bytes()
        file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "other": b"\x89PNG\xff\xfe"}[damage])
    page, _ = page_of(run)
    told = {"evaluation/test.npz": "No evaluation was kept" if damage == "missing" else "test.npz"}.get(
        name, name
    )
    if damage in ("missing", "other"):
        assert told in page.text
    if name != "evaluation/test.npz":
        assert "Accuracy" in page.text
    assert "Reproduce" in page.text


def test_a_run_of_nothing_but_a_config_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed_everything: 1\n")
    page, _ = page_of(tmp_path)
    assert "Nothing has been scored yet" in page.text and "There is no run.json" in page.text


def test_a_damaged_picture_is_left_out(run: Path) -> None:
    pictures = [reported.jpeg(), reported.jpeg()[:40], b""]
    reported.write_evaluation(run, EVALUATIONS["classification"](), pictures=pictures)
    page, _ = page_of(run)
    assert len(page.all("img")) == 1 and page.text.count("not shown") == 2


@pytest.mark.parametrize(("made", "words"), [(False, "no folder"), (True, "has no config.yaml, metrics.csv")])
def test_a_folder_that_is_no_run_is_an_error_with_the_fix(tmp_path: Path, made: bool, words: str) -> None:
    if made:
        (tmp_path / "photos").mkdir()
    with pytest.raises(LoupeError, match=f"{words}.*give"):
        write_report(tmp_path / "photos", write=put)


def test_the_page_stays_below_5_mb(tmp_path: Path) -> None:
    """24 large pictures in each of two parts, 200 classes with long names, 1000 epochs."""
    run = reported.write_run(tmp_path / "large" / "version_0", epochs=1000)
    names = [f"class {k} " + "x" * 80 for k in range(200)]
    pictures = [reported.jpeg(700, seed=n) for n in range(24)]
    for stage, command in (("test", "test"), ("val", "fit")):
        found = reported.classification(1000, names, seed=len(stage))
        reported.write_evaluation(run, found, pictures=pictures, stage=stage, command=command)
    assert 2 * sum(map(len, pictures)) > 10_000_000
    page, text = page_of(run)
    assert len(text.encode()) < 5_000_000
    assert len([a for a in page.all("img") if (a["src"] or "").startswith("data:image/jpeg")]) == 48


@pytest.mark.parametrize("name", ["classification", "cropping"])
def test_the_page_of_a_real_fit_and_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    task = TASKS[name]
    data = write_task(name, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *task.words, f"--data.root={data}", "--training.tensorboard=true"]) == 0
    run = Path(f"runs/{task.config}/version_0")
    assert main(["test", f"--config={run}/config.yaml", "--ckpt_path=best", "--trainer.accelerator=cpu"]) == 0
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert "on 4 test pictures" in page.text and "8 train, 4 val, 4 test" in page.text
    assert "What is not here" not in page.text and len(page.all("img")) == 8
    shown = json.loads((run / "test.json").read_text())["scores"][task.score.replace("val/", "test/")]
    assert f"{shown:.4f}" in page.text
    assert compare_runs([run, run]).stages[0].scores


def luminance(colour: str) -> float:
    """Relative luminance of a `#rgb` or `#rrggbb` (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * d for d in colour[1:])
    values = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_is_legible_in_both_themes_and_on_paper() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    style = (ROOT / "figures" / "look.css").read_text() + (
        ROOT / "reports" / "templates" / "report.css"
    ).read_text()
    themes = [
        dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{([^}]*)\}", style)
    ]
    assert len(themes) == 3  # light, dark, print
    for theme in themes:
        for name in ("ink", "soft", "red", "amber", "green", "accent"):
            # a verdict and a code block stand on 8 % and 6 % of a colour: the least contrast is a little lower
            assert contrast(theme[name], theme["paper"]) >= (
                5.2 if name in ("ink", "green", "red") else 4.5
            ), (name, theme)
