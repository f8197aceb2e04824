"""Temperatures and thresholds: against brute force, by hand, and from a validation to the label that is predicted."""

from __future__ import annotations

import copy
import csv
import json
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from PIL import Image

import datamodules
import lightning_modules
from cli import main
from errors import LoupeError
from inference import (
    Calibrate,
    calibration_lines,
    load,
    read_checkpoint,
    run_calibration,
    store_calibration,
)
from inference.temperature import HIGHEST, LOWEST, fit_temperature, negative_log_likelihood
from inference.thresholds import (
    MEASURES,
    Rule,
    ValueCounts,
    best_threshold,
    counts_above,
    measure,
)
from lightning_modules.calibration import Calibration, decide
from metrics import PixelSample, answers_of
from reports.run_files import read_evaluation
from reports.weighted_scores import score_function
from tests.conftest import Outcome, forget_leaked
from tests.tasks import CLASSIFICATION, CROPPING, SEGMENTATION, Task

Loupe = Callable[..., Outcome]
SIZE = 32

# --- the temperature ------------------------------------------------------------------------------------------------


def drawn(kind: str, temperature: float, count: int = 40_000, classes: int = 4) -> tuple[Any, Any]:
    """Logits that are right when they are divided by the temperature, and what was true."""
    logits = 3 * torch.randn(count, classes, dtype=torch.float64)
    if kind == "softmax":
        return logits * temperature, torch.distributions.Categorical(logits=logits).sample()
    return logits * temperature, torch.bernoulli(logits.sigmoid())


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_known_temperature_is_found(kind: Any, temperature: float) -> None:
    assert fit_temperature(*drawn(kind, temperature), kind=kind) == pytest.approx(temperature, rel=0.04)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@given(seed=st.integers(0, 10_000), size=st.floats(0.05, 50), wrong=st.floats(0.05, 0.6))
@settings(max_examples=15, deadline=None)
def test_no_other_temperature_is_better(kind: Any, seed: int, size: float, wrong: float) -> None:
    torch.manual_seed(seed)
    logits, target = drawn(kind, size, 40)
    mixed = torch.rand(len(target)) < wrong
    target[mixed] = target[mixed.nonzero()[:, 0].flip(0)]
    found = fit_temperature(logits, target, kind=kind)
    least = negative_log_likelihood(logits, target, found, kind=kind)
    for other in np.geomspace(LOWEST, HIGHEST, 400):
        assert negative_log_likelihood(logits, target, float(other), kind=kind) >= least - 1e-9


def test_the_likelihood_is_torchs() -> None:
    logits, label = torch.randn(50, 3), torch.randint(3, (50,))
    expected = torch.nn.functional.cross_entropy(logits.double() / 2, label)
    assert negative_log_likelihood(logits, label, 2.0, kind="softmax") == pytest.approx(float(expected))
    yes = torch.randint(2, (50, 3)).double()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits.double() / 2, yes)
    assert negative_log_likelihood(logits, yes, 2.0, kind="sigmoid") == pytest.approx(float(expected))


def test_where_there_is_no_temperature() -> None:
    """Always right: the bound below. Worse than chance: the bound above. Nothing said: 1."""
    logits, label = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1])
    assert fit_temperature(logits, label, kind="softmax") == LOWEST
    assert fit_temperature(logits, 1 - label, kind="softmax") == HIGHEST
    assert fit_temperature(torch.zeros(2, 2), label, kind="softmax") == 1
    assert fit_temperature(
        torch.tensor([[-torch.inf, 0.0]] * 3), torch.tensor([1, 1, 1]), kind="softmax"
    ) in (
        1.0,
        LOWEST,
    )
    with pytest.raises(LoupeError, match="no sample"):
        fit_temperature(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), kind="softmax")
    with pytest.raises(LoupeError, match="NaN"):
        fit_temperature(torch.tensor([[math.nan, 1.0]]), torch.tensor([0]), kind="softmax")


def test_a_young_network_has_small_logits() -> None:
    """Its best temperature is far below 1, and it is found, not taken for one that has no end."""
    logits, label = drawn("softmax", 0.02, 5_000)
    found = fit_temperature(logits, label, kind="softmax")
    assert LOWEST < found < 0.05
    grid = np.geomspace(LOWEST, 1, 400)
    least = min(negative_log_likelihood(logits, label, float(value), kind="softmax") for value in grid)
    assert negative_log_likelihood(logits, label, found, kind="softmax") <= least + 1e-9


def test_log_odds_of_classes_stand_for_their_logits() -> None:
    """What a classifier's scores keep, in float32, gives the temperature of the logits, also of very sure ones."""
    from metrics import ClassificationScores

    logits, label = drawn("softmax", 6.0, 5_000)
    logits = logits.float()
    scores = ClassificationScores(4)
    scores.update(logits, label)
    log_odds = scores.compute()["log_odds"]
    log_probs = -torch.nn.functional.softplus(-log_odds.double())
    exact = fit_temperature(logits, label, kind="softmax")
    assert fit_temperature(log_probs, label, kind="softmax") == pytest.approx(exact, rel=1e-6)


# --- thresholds -----------------------------------------------------------------------------------------------------


def brute_force(score: np.ndarray, truth: np.ndarray, rule: Rule) -> float:
    """The best value of what the rule makes best, over a threshold between any two scores and outside of them."""
    values = np.unique(score)
    places = np.r_[values[0] - 1, (values[1:] + values[:-1]) / 2, values[-1] + 1]
    best = -math.inf
    for place in places:
        said = score > place
        counts = [(said & truth).sum(), (said & ~truth).sum(), (~said & truth).sum(), (~said & ~truth).sum()]
        value = measure(rule.measure, np.array(counts, float))
        if rule.at_least is not None:
            other = "recall" if rule.measure == "precision" else "precision"
            value = measure(other, np.array(counts, float)) if value >= rule.at_least else math.nan
        best = max(best, value if not math.isnan(value) else -math.inf)
    return best


RULES = [Rule(name) for name in MEASURES if name not in ("precision", "recall")]
RULES += [Rule("precision", 0.8), Rule("recall", 0.9), Rule("recall", 1.0)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.measure}-{rule.at_least}")
@given(seed=st.integers(0, 10_000), count=st.integers(2, 60), levels=st.sampled_from([3, 10, 1000]))
@settings(max_examples=25, deadline=None)
def test_no_other_threshold_is_better(rule: Rule, seed: int, count: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    score = np.round(rng.normal(size=count) * levels / 4) / levels * 4  # few levels: many ties
    truth = rng.random(count) < 1 / (1 + np.exp(-3 * score))
    counts = ValueCounts.of_scores(score, truth, rng.integers(0, 5, count))
    found = best_threshold(counts, rule)
    expected = brute_force(score, truth, rule)
    if truth.all() or not truth.any() or expected == -math.inf:
        assert found is None
        return
    assert found is not None
    said = score > found
    own = np.array(
        [(said & truth).sum(), (said & ~truth).sum(), (~said & truth).sum(), (~said & ~truth).sum()]
    )
    assert counts_above(counts, found).tolist() == own.tolist()
    got = measure(rule.measure, own.astype(float))
    if rule.at_least is not None:
        assert got >= rule.at_least - 1e-12
        got = measure("recall" if rule.measure == "precision" else "precision", own.astype(float))
    assert got == pytest.approx(expected, abs=1e-12)


def test_where_a_threshold_stands() -> None:
    def best(score: list[float], truth: list[int]) -> float | None:
        counts = ValueCounts.of_scores(np.array(score), np.array(truth) > 0, np.zeros(len(score), np.int64))
        return best_threshold(counts, Rule("accuracy"))

    assert best([1, 2, 4], [0, 0, 1]) == 3, "halfway"
    assert best([-1, 3], [0, 1]) == 0, "a half, where a half is as good as any"
    assert best([-4, -3, -2], [0, 1, 1]) == -3.5
    assert best([1, 1, 2], [0, 1, 1]) == 0, (
        "above 1 one of three is missed, below 1 one is wrong: a half is as good"
    )
    assert best([1, 1 + 1e-9, 5], [0, 1, 1]) == 0, "what only rounding tells apart is one value"
    assert best([1, 2], [1, 1]) is None
    assert best([40, 50], [0, 1]) is None, "nowhere near any probability that float64 can hold"


def test_f1_of_two_classes_is_the_score_that_is_logged() -> None:
    assert measure("f1_of_both", np.array([3.0, 1, 2, 4])) == pytest.approx((6 / 9 + 8 / 11) / 2)


# --- pixels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
def test_pixels_are_counted_exactly_above_an_edge(channels: int) -> None:
    logits = 4 * torch.randn(3, channels, 8, 9)
    target = torch.randint(2, (3, 8, 9))
    target[0, :2] = 255
    sample = PixelSample(channels, per_picture=20, folds=5)
    valid = torch.tensor([True, True, False])
    for one in (slice(0, 1), slice(1, 3)):  # in batches
        index = torch.arange(3)[one]
        sample.update(logits[one], target[one], index, valid[one], index % 5)
    found = sample.compute()
    table = ValueCounts.of_bins(*(found[name].double().numpy() for name in ("edges", "yes", "no")))
    log_odds = logits[:2, -1] if channels == 1 else (logits[:, 1] - logits[:, 0])[:2]
    truth = target[:2]
    for edge in (-2.0, 0.0, 0.5, 3.25):
        said = log_odds > edge
        hits = (said & (truth == 1)).sum()
        alarms = (said & (truth == 0)).sum()
        assert counts_above(table, edge)[:2].tolist() == [int(hits), int(alarms)]
    assert int(found["yes"].sum()) == int((truth == 1).sum())
    assert set(found["index"].tolist()) == {0, 1}, "padding is not drawn"
    assert set(found["truth"].tolist()) <= {0, 1}, "nor is void"
    # of the picture without void, each stretch of pixels has one that was drawn, and its logits
    own = found["logits"][found["index"] == 1]
    assert len(own) == 20
    pixels = logits[1].flatten(1).T
    places = [int((pixels == row).all(1).nonzero()[0]) for row in own]
    assert [place * 20 // 72 for place in places] == sorted(place * 20 // 72 for place in places)
    assert len(set(places)) == 20


def test_pixels_that_are_drawn_do_not_depend_on_the_batch() -> None:
    logits, target, index = torch.randn(4, 3, 16, 16), torch.randint(3, (4, 16, 16)), torch.arange(4)
    together, apart = (PixelSample(3, per_picture=30, folds=5) for _ in range(2))
    valid = torch.ones(4, dtype=torch.bool)
    together.update(logits, target, index, valid, index)
    for i in (2, 0, 3, 1):
        one = slice(i, i + 1)
        apart.update(logits[one], target[one], index[one], valid[one], index[one])
    first, second = together.compute(), apart.compute()
    order = second["index"].argsort(stable=True)
    assert torch.equal(first["logits"], second["logits"][order])
    assert torch.equal(first["truth"], second["truth"][order])


def test_pixels_of_a_nan_are_refused() -> None:
    sample = PixelSample(1, per_picture=2, folds=1)
    logits = torch.full((1, 1, 2, 2), math.nan)
    zero = torch.zeros(1, dtype=torch.int64)
    sample.update(logits, torch.zeros(1, 2, 2, dtype=torch.int64), zero, torch.tensor([True]), zero)
    with pytest.raises(LoupeError, match="NaN in 4 pixels"):
        sample.compute()


# --- deciding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 0.8])
def test_the_same_is_decided_everywhere(threshold: float) -> None:
    """Also where a logit is the threshold itself, as far as its type can hold it."""
    limit = torch.tensor(math.log(threshold / (1 - threshold)))
    near = torch.stack([limit, limit.nextafter(torch.tensor(9.0)), limit.nextafter(torch.tensor(-9.0))])
    for logits in (near, near.bfloat16(), near.half()):
        one = decide(logits[:, None], (threshold,))
        several = decide(logits[:, None].expand(-1, 2), (threshold, 0.5), several=True)
        two = decide(torch.stack([torch.zeros_like(logits), logits], dim=1), (threshold,))
        column = logits.float().numpy()
        kept = answers_of(np.stack([-column, column], axis=1), (threshold,), several=False)
        assert one.tolist() == several[:, 0].long().tolist() == two.tolist() == kept.tolist()
    assert decide(near[:, None], (threshold,)).tolist() == [0, 1, 0]


# --- from a validation to a prediction ------------------------------------------------------------------------------


def noisy(kind: str, root: Path, counts: dict[str, int]) -> Path:
    """Pictures whose brightness tells the truth only often, and yes less often than no."""
    rng = np.random.default_rng(1)
    rows = ["path,label,split" if kind != "multi_label" else "path,labels,split"]
    if kind == "cropping":
        rows = ["path,x1,y1,x2,y2,split"]
    for part, count in counts.items():
        for number in range(count):
            level = rng.random(3)
            yes = level + rng.normal(0, 0.35, 3) > 0.75
            picture = (rng.integers(0, 60, (SIZE, SIZE, 3)) + 190 * level).clip(0, 255).astype(np.uint8)
            name = f"{part}_{number}.png"
            match kind:
                case "binary":
                    rows.append(f"{name},{'ill' if yes[0] else 'fine'},{part}")
                case "multi_label":
                    said = [
                        label for label, there in zip(("blue", "green", "red"), yes, strict=True) if there
                    ]
                    rows.append(f"{name},{';'.join(said)},{part}")
                case "cropping":
                    rows.append(f"{name},{'8,8,24,24' if yes[0] else ',,,'},{part}")
                case "segmentation":
                    # larger than the network's input: a threshold is for the pictures as they are
                    shown = rng.random((SIZE // 2, SIZE)).repeat(3, 0).repeat(2, 1)
                    mask = (shown + rng.normal(0, 0.3, shown.shape) > 0.8).astype(np.uint8)
                    mask[0] = 255
                    picture = np.stack([(255 * shown).astype(np.uint8)] * 3, axis=-1)
                    (root / part / "masks").mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(root / part / "masks" / name)
                    name = f"{part}/images/{name}"
                case _:
                    raise AssertionError(kind)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(root / name)
    if kind != "segmentation":
        (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


MULTI = ("--training.loss=categorical_crossentropy",)
KINDS: dict[str, tuple[Task, tuple[str, ...], str]] = {
    "binary": (CLASSIFICATION, ("--training.epochs=4",), "balanced_accuracy"),
    "multi_label": (CLASSIFICATION, (*MULTI, "--training.epochs=4"), "f1"),
    "cropping": (CROPPING, ("--training.epochs=1",), "f1"),
    "segmentation": (SEGMENTATION, ("--training.epochs=2",), "iou"),
}
QUIET = ("--training.tensorboard=false", "--training.monitor=train/loss", "--data.augment.preset=none")


class Trained:
    """A run of one kind, and what `calibrate` does with it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.data = noisy(kind, folder / "data", {"train": 24, "val": 40, "test": 24})
        task, words, self.metric = KINDS[kind]
        before = Path.cwd()
        os.chdir(folder)
        try:
            forget_leaked()
            rate = "--training.learning_rate=1e-2"
            words = (*task.words, f"--data.root={self.data}", rate, *words, *QUIET)
            assert main(["fit", *words]) == 0
        finally:
            os.chdir(before)
        (self.run,) = (folder / "runs").glob("*/version_0")
        self.checkpoint = self.run / "checkpoints" / "last.ckpt"

    def objects(self, path: Path | None = None) -> tuple[Trainer, Any, Any]:
        """As the command line makes them."""
        forget_leaked()
        config = yaml.safe_load((self.run / "config.yaml").read_text())
        content = read_checkpoint(path or self.checkpoint)
        cls = getattr(lightning_modules, config["model"]["class_path"].rpartition(".")[2])
        given = {k: v for k, v in content["hyper_parameters"].items() if not k.startswith("_")}
        module = cls(**given)
        module.adopt(content["loupe"])
        loader = datamodules.Loader(batch_size=8, num_workers=0)
        cls = getattr(datamodules, config["data"]["class_path"].rpartition(".")[2])
        data = cls(str(self.data), image_size=SIZE, loader=loader)
        quiet = dict.fromkeys(
            ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
        )
        trainer = Trainer(accelerator="cpu", use_distributed_sampler=False, **quiet)  # pyright: ignore
        return trainer, module, data

    def calibrate(self, path: Path, **options: Any) -> Calibration:
        """A copy of the checkpoint at ``path`` is calibrated."""
        if not path.exists():
            path.write_bytes(self.checkpoint.read_bytes())
        with warnings.catch_warnings():
            for message in (".*does not have many workers.*", "Be aware that when using `ckpt_path`.*"):
                warnings.filterwarnings("ignore", message)
            trainer, module, data = self.objects(path)
            return run_calibration(trainer, module, data, path, Calibrate(**options))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    made: dict[str, Trained] = {}

    def get(kind: str) -> Trained:
        if kind not in made:
            made[kind] = Trained(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return get


def use(loupe: Loupe, run: Path, command: str, path: Path, *words: str) -> Outcome:
    outcome = loupe(command, f"--config={run / 'config.yaml'}", f"--ckpt_path={path}", *words)
    assert outcome.code == 0, outcome.err
    return outcome


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_calibrated(trained: Callable[[str], Trained], kind: str, tmp_path: Path) -> None:
    here = trained(kind)
    path = tmp_path / "model.ckpt"
    before = read_checkpoint(here.checkpoint)
    found = here.calibrate(path, metric=here.metric)
    after = read_checkpoint(path)
    # all but the calibration is as it was, tensors that share memory too
    assert after.keys() == before.keys()
    assert {k: v for k, v in after["loupe"].items() if k != "calibration"} == before["loupe"]
    assert all(torch.equal(value, after["state_dict"][name]) for name, value in before["state_dict"].items())
    assert path.stat().st_size == pytest.approx(here.checkpoint.stat().st_size, rel=0.02)
    assert Calibration.of_card(after["loupe"]) == found
    assert [file.name for file in tmp_path.iterdir()] == ["model.ckpt"]
    figures = found.figures
    assert json.loads(json.dumps(figures)) == figures, "plain values"
    assert figures["pictures"] == 40
    assert figures["nll_after"] <= figures["nll_before"]
    assert found.thresholds is not None
    assert len(found.thresholds) == len(figures["names"]) == (3 if kind == "multi_label" else 1)
    assert all(a >= b for a, b in zip(figures["metric_after"], figures["metric_before"], strict=True))
    lines = "\n".join(calibration_lines(found))
    assert f"temperature {found.temperature:.4g}" in lines
    assert f"thresholds for {here.metric}" in lines
    assert "only 40 pictures" in lines
    # once more, from the calibrated file: the same, for what it holds has no part in it
    again = here.calibrate(path, metric=here.metric)
    assert (again.temperature, again.thresholds) == (found.temperature, found.thresholds)


@pytest.mark.parametrize("kind", ["binary", "multi_label", "segmentation"])
def test_what_is_promised_is_what_validate_scores(
    trained: Callable[[str], Trained], kind: str, tmp_path: Path, loupe: Loupe
) -> None:
    here = trained(kind)
    path = tmp_path / "model.ckpt"
    found = here.calibrate(path, metric=here.metric)
    use(loupe, here.run, "validate", path)
    scores = json.loads((here.run / "validate.json").read_text())["scores"]
    after = found.figures["metric_after"]
    assert scores[f"val/{here.metric}"] == pytest.approx(sum(after) / len(after), abs=1e-6)


def table_of(run: Path) -> list[dict[str, str]]:
    with (run / "predictions" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scores_of_a_test_are_those_of_the_predictions(
    trained: Callable[[str], Trained], tmp_path: Path, loupe: Loupe
) -> None:
    here = trained("binary")
    path = tmp_path / "model.ckpt"
    here.calibrate(path, metric="recall", at_least=0.95)
    use(loupe, here.run, "test", path)
    use(loupe, here.run, "predict", path, f"--data.predict_path={here.data}")
    scores = json.loads((here.run / "test.json").read_text())["scores"]
    with (here.data / "manifest.csv").open(newline="") as file:
        truth = {row["path"]: row["label"] for row in csv.DictReader(file) if row["split"] == "test"}
    said = {Path(row["path"]).name: row for row in table_of(here.run)}
    right = [said[name]["label"] == label for name, label in truth.items()]
    assert scores["test/accuracy"] == pytest.approx(sum(right) / len(right))
    plain = [max(("fine", "ill"), key=lambda c: float(said[name][f"prob_{c}"])) for name in truth]
    assert plain != [said[name]["label"] for name in truth], "the threshold decides otherwise than a half"
    evaluation = read_evaluation(here.run / "evaluation" / "test.npz")
    function = score_function(evaluation)
    assert function is not None
    with np.errstate(invalid="ignore"):
        own = function(np.ones((24, 1)))
    for name in ("accuracy", "balanced_accuracy", "f1"):
        assert float(own[name][0]) == pytest.approx(scores[f"test/{name}"]), "the report says the same"


def test_probabilities_are_those_of_the_temperature(
    trained: Callable[[str], Trained], tmp_path: Path
) -> None:
    here = trained("binary")
    path = tmp_path / "model.ckpt"
    picture = np.full((SIZE, SIZE, 3), 170, np.uint8)
    path.write_bytes(here.checkpoint.read_bytes())
    plain = load(path).predict(picture)["row"]["prob_ill"]
    log_odds = math.log(plain / (1 - plain))
    store_calibration(path, Calibration(temperature=4.0))
    cool = load(path).predict(picture)["row"]
    assert cool["prob_ill"] == pytest.approx(1 / (1 + math.exp(-log_odds / 4)), abs=1e-4)
    labels = []
    for threshold in (cool["prob_ill"] - 0.01, cool["prob_ill"] + 0.01):
        store_calibration(path, Calibration(4.0, (threshold,), "f1"))
        labels.append(load(path).predict(picture)["row"]["label"])
    assert labels == ["ill", "fine"]


@pytest.mark.slow
def test_a_fit_that_goes_on_drops_the_calibration(
    trained: Callable[[str], Trained], tmp_path: Path, loupe: Loupe
) -> None:
    here = trained("binary")
    path = tmp_path / "model.ckpt"
    here.calibrate(path, metric="f1")
    words = ("--training.epochs=5", f"--run.directory={tmp_path / 'runs'}")
    use(loupe, here.run, "fit", path, *words)
    (last,) = (tmp_path / "runs").rglob("last.ckpt")
    assert "calibration" not in read_checkpoint(last)["loupe"]
    plain = tmp_path / "plain"
    copied = tmp_path / "plain.ckpt"
    copied.write_bytes(here.checkpoint.read_bytes())
    use(loupe, here.run, "fit", copied, "--training.epochs=5", f"--run.directory={plain}")
    rows = [next(folder.rglob("metrics.csv")).read_text() for folder in (tmp_path / "runs", plain)]
    scores = [
        {k: v for k, v in list(csv.DictReader(text.splitlines()))[-1].items() if k.startswith("val/")}
        for text in rows
    ]
    assert scores[0] == scores[1], "nor was it used"


def test_the_command(trained: Callable[[str], Trained], tmp_path: Path, loupe: Loupe) -> None:
    here = trained("binary")
    path = tmp_path / "model.ckpt"
    found = here.calibrate(path, metric="f1")
    path.write_bytes(here.checkpoint.read_bytes())
    outcome = use(loupe, here.run, "calibrate", path, "--metric=f1", "--data.loader.batch_size=8")
    assert "thresholds for f1" in outcome.out
    kept = Calibration.of_card(read_checkpoint(path)["loupe"])
    assert kept.thresholds == pytest.approx(found.thresholds, abs=1e-3)
    assert kept.temperature == pytest.approx(found.temperature, rel=1e-3)


def test_the_chart_shows_both(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from figures import calibration_chart, to_svg

    figures = trained("binary").calibrate(tmp_path / "model.ckpt").figures
    before, after = (np.array(figures[f"reliability_{when}"]) for when in ("before", "after"))
    errors = figures["calibration_error_before"], figures["calibration_error_after"]
    figure = calibration_chart(before, after, errors)
    lines = figure.axes[0].get_lines()
    for line, table in zip(lines, (before, after), strict=False):
        some = table[:, 0] > 0
        assert np.allclose(line.get_ydata(), table[some, 1] / table[some, 0])
    assert f"{errors[0]:.3f} before" in to_svg(figure, title="Calibration", description="before and after")


# --- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "precision"}, "calibration.at_least=0.9"),
        ({"metric": "recall", "at_least": 1.5}, "at most 1, got 1.5"),
        ({"metric": "recall", "at_least": math.nan}, "got nan"),
        ({"metric": "f1", "at_least": 0.5}, "is for the metrics precision and recall"),
        ({"temperature": False}, "nothing to do"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        Calibrate(**options).check()


def test_a_metric_of_another_task_is_refused_before_anything(
    trained: Callable[[str], Trained], tmp_path: Path
) -> None:
    here = trained("binary")
    path = tmp_path / "model.ckpt"
    with pytest.raises(LoupeError, match="'iou' is no score of two classes; choose from: accuracy"):
        here.calibrate(path, metric="iou")
    assert path.read_bytes() == here.checkpoint.read_bytes()


def test_a_wanted_precision_that_is_never_reached_is_told(
    trained: Callable[[str], Trained], tmp_path: Path
) -> None:
    found = trained("segmentation").calibrate(tmp_path / "model.ckpt", metric="precision", at_least=1.0)
    assert found.thresholds is not None
    unreached = found.thresholds == (0.5,) and "never reaches 1" in "".join(found.figures["notes"])
    assert unreached or found.figures["precision_after"] == [1.0]


def test_a_file_that_is_none_or_damaged_stays_as_it_is(
    trained: Callable[[str], Trained], tmp_path: Path
) -> None:
    path = tmp_path / "bad.ckpt"
    data = bytearray(trained("binary").checkpoint.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(LoupeError, match="damaged"):
        store_calibration(path, Calibration(2.0))
    assert path.read_bytes() == data
    torch.save({"state_dict": {}}, path)
    with pytest.raises(LoupeError, match="no Loupe checkpoint"):
        store_calibration(path, Calibration(2.0))
    assert [file.name for file in tmp_path.iterdir()] == ["bad.ckpt"]


def test_only_the_named_file_is_changed(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    """`best` and `last` may be one file; and a link keeps pointing."""
    best, last, link = tmp_path / "best.ckpt", tmp_path / "last.ckpt", tmp_path / "link.ckpt"
    best.write_bytes(trained("binary").checkpoint.read_bytes())
    best.chmod(0o640)
    os.link(best, last)
    link.symlink_to(best)
    store_calibration(link, Calibration(2.0))
    assert link.is_symlink()
    assert read_checkpoint(best)["loupe"]["calibration"]["temperature"] == 2.0
    assert "calibration" not in read_checkpoint(last)["loupe"]
    assert best.stat().st_mode & 0o777 == 0o640


def test_tensors_that_share_memory_still_do(trained: Callable[[str], Trained], tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    content = dict(read_checkpoint(trained("binary").checkpoint))
    large = torch.randn(100_000)
    content["callbacks"] = {"Twice": {"one": large, "two": large[:50_000]}}
    torch.save(content, path)
    size = path.stat().st_size
    store_calibration(path, Calibration(2.0))
    assert path.stat().st_size == pytest.approx(size, abs=50_000), "a second copy would take 200,000"
    held = read_checkpoint(path)["callbacks"]["Twice"]
    assert held["one"].untyped_storage().data_ptr() == held["two"].untyped_storage().data_ptr()


WRONG: list[Any] = [
    None,
    [],
    {},
    "x",
    -1,
    2,
    True,
    math.nan,
    math.inf,
    0,
    [None],
    [2.0],
    [0.5, 0.5],
    {"a": "b"},
]
GOOD = {
    ("temperature", "2"),
    ("thresholds", "None"),
    ("metric", "'x'"),
    ("figures", "{}"),
    ("figures", "{'a': 'b'}"),
}


@pytest.mark.parametrize("key", ["temperature", "thresholds", "metric", "figures", "all"])
def test_a_calibration_with_a_value_of_another_type(
    trained: Callable[[str], Trained], key: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.ckpt"
    content = dict(read_checkpoint(trained("binary").checkpoint))
    for wrong in [*WRONG, torch.zeros(1)]:
        changed = {**content, "loupe": copy.deepcopy(content["loupe"])}
        kept = Calibration(2.0, (0.5,), "f1").to_card()
        changed["loupe"]["calibration"] = wrong if key == "all" else {**kept, key: wrong}
        torch.save(changed, path)
        if (key, repr(wrong)) in GOOD or (key == "all" and wrong is None):
            read_checkpoint(path)
            continue
        with pytest.raises(LoupeError, match="does not hold what Loupe writes: calibration"):
            read_checkpoint(path)
