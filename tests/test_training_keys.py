"""Every key of `training:` by its effect on a real fit over real files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from callbacks.mixed_precision import cpu_has_bfloat16
from cli import Training
from cli.vocabulary import BLOCKS
from losses import create_loss
from tests.boards import events
from tests.fitting import ROOT, Fitter, Probe, write_pictures

VOID = 255
SGD = "--training.optimizer={type: sgd, momentum: 0.0, nesterov: false, weight_decay: 0.0}"
CONSTANT = "--training.lr_schedule=constant"
PROVEN: set[str] = set()
Test = TypeVar("Test", bound=Callable[..., Any])


def proves(*keys: str) -> Callable[[Test], Test]:
    """Says which keys of the section a test shows the effect of."""

    def note(test: Test) -> Test:
        PROVEN.update(keys)
        return test

    return note


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 pictures to train on, 5 to validate, 4 to test; no void pixels."""
    return write_pictures(tmp_path_factory.mktemp("clean"), {"train": 12, "val": 5, "test": 4})


@pytest.fixture(scope="module")
def void_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 and 3 pictures, each with some void pixels."""
    return write_pictures(tmp_path_factory.mktemp("void"), {"train": 6, "val": 3}, void=True)


def closed_form(
    decay: Callable[[float, float], float], *, total: int, per_epoch: int, warmup: int = 0
) -> list[float]:
    """Learning rates of all steps: linear warm-up, then ``decay(share, epochs)`` over what is left."""
    rates: list[float] = []
    for step in range(total):
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        after = max(0, step - warmup)
        rates.append(rise * decay(after / (total - warmup), after / per_epoch))
    return rates


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 0.0) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def weights_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters and norms of the network, without the metrics' own state."""
    return {name: value for name, value in state.items() if name.startswith("model.")}


# --- the loop -----------------------------------------------------------------------------------------------------


@proves("epochs", "batch_size")
def test_epochs_and_global_batch_size_set_the_steps(fit: Fitter, data: Path) -> None:
    ran = fit(data, "--training.epochs=2", "--training.batch_size=5")
    assert [len(batch["image"]) for batch in ran.probe.batches] == [5, 5, 2, 5, 5, 2]
    for epoch in (ran.probe.batches[:3], ran.probe.batches[3:]):
        assert sorted(int(i) for batch in epoch for i in batch["index"]) == list(range(12))
    assert [int(row["epoch"]) for row in ran.rows] == [0, 1]
    assert ran.checkpoint()["global_step"] == 6


@proves("learning_rate", "optimizer")
@pytest.mark.parametrize("rate", [0.1, 0.025])
def test_plain_sgd_steps_by_the_learning_rate(fit: Fitter, data: Path, rate: float) -> None:
    ran = fit(data, SGD, CONSTANT, f"--training.learning_rate={rate}", probe=Probe(states=True))
    before, after, gradient = ran.probe.states[0], ran.probe.states[1], ran.probe.gradients[0]
    assert len(gradient) == len(list(ran.module.parameters()))
    for name, g in gradient.items():
        torch.testing.assert_close(after[name], before[name] - rate * g, rtol=0, atol=1e-6)


@proves("optimizer")
def test_optimizer_by_name_and_by_mapping(fit: Fitter, data: Path) -> None:
    named = fit(data, "--training.optimizer=lion", CONSTANT, probe=Probe(states=True))
    # Lion moves every weight by the learning rate, whatever the gradient (Chen et al. 2023), decay aside (0 for norms).
    moved = (
        named.probe.states[1]["model.network.head.bias"] - named.probe.states[0]["model.network.head.bias"]
    )
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 1e-3), rtol=1e-3, atol=0)
    assert named.probe.trainer is not None and type(named.probe.trainer.optimizers[0]).__name__ == "Lion"
    mapped = fit(data, "--training.optimizer={type: adamw, betas: [0.8, 0.95], eps: 1e-6, weight_decay: 0.3}")
    assert mapped.probe.trainer is not None
    optimizer = mapped.probe.trainer.optimizers[0]
    assert type(optimizer).__name__ == "AdamW"
    assert {tuple(g["betas"]) for g in optimizer.param_groups} == {(0.8, 0.95)}
    assert {g["eps"] for g in optimizer.param_groups} == {1e-6}
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.3, 0.0}


LOSSES = {
    "categorical_crossentropy": {"class_weight": [1.0, 3.0]},
    "focal": {"alpha": 0.25, "gamma": 1.5},
    "dice": {"smooth": 0.5},
    "dice_ce": {},
    "tversky": {"alpha": 0.3, "beta": 0.7},
    "label_smoothing": {"smoothing": 0.2},
    "iou": {},
}


@proves("loss")
@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_the_one_asked_for_on_the_batches_it_saw(fit: Fitter, void_data: Path, name: str) -> None:
    block = yaml.safe_dump({"type": name, **LOSSES[name]}, default_flow_style=True).strip()
    # A learning rate that moves nothing: the loss of both steps is that of the first weights.
    flags = (f"--training.loss={block}", SGD, "--training.learning_rate=1e-30")
    ran = fit(void_data, *flags, norm="group", probe=Probe(states=True))
    criterion = create_loss(name, ignore_index=VOID, **LOSSES[name])
    ran.module.load_state_dict(ran.probe.states[0])
    losses: list[float] = []
    for batch in ran.probe.batches:
        assert bool((batch["mask"] == VOID).any())
        with torch.no_grad():
            losses.append(float(criterion(ran.module(batch["image"]), batch["mask"])))
    assert ran.probe.losses == pytest.approx(losses, rel=1e-5)
    assert ran.column("train/loss") == pytest.approx([(4 * losses[0] + 2 * losses[1]) / 6], rel=1e-5)


# --- the monitor --------------------------------------------------------------------------------------------------


@proves("monitor", "monitor_mode")
@pytest.mark.parametrize(
    ("flags", "best"),
    [
        (["--training.monitor=val/iou"], max),
        (["--training.monitor=val/loss"], min),
        (["--training.monitor=train/loss"], min),
        (["--training.monitor=val/iou", "--training.monitor_mode=min"], min),
        (["--training.monitor=val/loss", "--training.monitor_mode=max"], max),
    ],
)
def test_best_checkpoint_follows_the_monitor(
    fit: Fitter, data: Path, flags: list[str], best: Callable[[list[float]], float]
) -> None:
    ran = fit(data, "--training.epochs=4", "--training.learning_rate=0.02", "--training.batch_size=6", *flags)
    scores = ran.column(flags[0].split("=")[1])
    assert len(set(scores)) > 1
    assert ran.checkpoint("best")["epoch"] == scores.index(best(scores))
    assert ran.checkpoint("last")["epoch"] == 3


def test_validation_every_second_epoch_still_gives_checkpoints(fit: Fitter, data: Path) -> None:
    ran = fit(data, "--training.epochs=4", "--trainer.check_val_every_n_epoch=2")
    assert [bool(row["val/iou"]) for row in ran.rows] == [False, True, False, True]
    assert ran.checkpoint("best")["epoch"] in (1, 3)
    assert ran.checkpoint("last")["epoch"] == 3


# --- steps --------------------------------------------------------------------------------------------------------


@proves("accumulate")
def test_accumulated_micro_batches_give_the_same_weights(fit: Fitter, data: Path) -> None:
    flags = (
        "--training.loss=categorical_crossentropy",
        SGD,
        "--training.learning_rate=0.1",
        "--training.batch_size=6",
    )
    whole = fit(data, *flags, norm="group")
    parts = fit(data, *flags, "--training.accumulate=3", norm="group")
    assert [len(batch["image"]) for batch in parts.probe.batches] == [2] * 6
    assert parts.checkpoint()["global_step"] == whole.checkpoint()["global_step"] == 2
    for name, value in whole.checkpoint()["state_dict"].items():
        torch.testing.assert_close(parts.checkpoint()["state_dict"][name], value, rtol=0, atol=1e-6)
    assert parts.column("train/loss") == pytest.approx(whole.column("train/loss"), rel=1e-5)
    assert "micro-batches" not in parts.printed, "cross entropy adds up"


class Dtypes(Callback):
    """The dtype of the network's output, and of its weights, in each training step."""

    def __init__(self) -> None:
        self.outputs: set[torch.dtype] = set()
        self.weights: set[torch.dtype] = set()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        pl_module.network.register_forward_hook(lambda m, i, output: self.outputs.add(output.dtype))
        self.weights = {p.dtype for p in pl_module.parameters()}


@proves("mixed_precision")
@pytest.mark.parametrize(
    ("flag", "dtype"),
    [
        ("false", torch.float32),
        ("true", torch.bfloat16 if cpu_has_bfloat16() else torch.float32),
        ("{enabled: true, dtype: bfloat16}", torch.bfloat16),
    ],
)
def test_mixed_precision_sets_the_dtype_of_the_forward(
    fit: Fitter, data: Path, flag: str, dtype: torch.dtype
) -> None:
    seen = Dtypes()
    ran = fit(data, f"--training.mixed_precision={flag}", callbacks=(seen,))
    assert seen.outputs == {dtype}
    assert seen.weights == {torch.float32}
    assert all(math.isfinite(loss) for loss in ran.probe.losses)


@proves("mixed_precision")
def test_a_cpu_without_bfloat16_computes_in_float32_and_says_so(
    monkeypatch: pytest.MonkeyPatch, fit: Fitter, data: Path
) -> None:
    monkeypatch.setattr("callbacks.mixed_precision.cpu_has_bfloat16", lambda: False)
    seen = Dtypes()
    ran = fit(data, "--training.mixed_precision=true", callbacks=(seen,))
    assert seen.outputs == {torch.float32}
    assert "this CPU does not multiply in 16 bits" in ran.printed
    seen = Dtypes()
    fit(data, "--training.mixed_precision={enabled: true, dtype: bfloat16}", callbacks=(seen,))
    assert seen.outputs == {torch.bfloat16}


@proves("mixed_precision")
def test_float16_on_the_cpu_is_refused_and_not_exchanged(fit: Fitter, data: Path) -> None:
    message = fit.fails(data, "--training.mixed_precision={enabled: true, dtype: float16}")
    assert "training.mixed_precision.dtype" in message
    assert "bfloat16" in message


SCHEDULES: dict[str, tuple[dict[str, Any], Callable[[float, float], float]]] = {
    "constant": ({}, lambda share, epochs: 1.0),
    "cosine_annealing": (
        {"final": 0.1},
        lambda share, epochs: 0.1 + 0.9 * (1 + math.cos(math.pi * share)) / 2,
    ),
    "exponential": ({"gamma": 0.5}, lambda share, epochs: 0.5 ** math.floor(epochs + 1e-9)),
    "step": ({"every": 2, "factor": 0.1}, lambda share, epochs: 0.1 ** math.floor(epochs / 2 + 1e-9)),
    "polynomial": ({"power": 2, "final": 0.2}, lambda share, epochs: 0.2 + 0.8 * (1 - share) ** 2),
    "one_cycle": (
        {"start_div": 10, "final_div": 100},
        lambda share, epochs: (
            0.1 + 0.9 * (1 - math.cos(math.pi * share / 0.3)) / 2
            if share < 0.3
            else 0.01 + 0.99 * (1 + math.cos(math.pi * (share - 0.3) / 0.7)) / 2
        ),
    ),
}


@proves("lr_schedule", "warmup")
@pytest.mark.parametrize("warmup", [0.0, 1.5])
@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_rate_of_each_step_is_the_closed_form(
    fit: Fitter, data: Path, name: str, warmup: float
) -> None:
    given, decay = SCHEDULES[name]
    block = yaml.safe_dump({"type": name, **given}, default_flow_style=True).strip()
    flags = ["--training.epochs=4", "--training.batch_size=6", f"--training.lr_schedule={block}"]
    if warmup:
        flags.append(f"--training.warmup={{enabled: true, epochs: {warmup}}}")
    ran = fit(data, *flags, "--training.learning_rate=0.004", "--trainer.limit_val_batches=1")
    expected = closed_form(decay, total=8, per_epoch=2, warmup=round(2 * warmup))
    assert ran.probe.rates == pytest.approx([0.004 * factor for factor in expected], rel=1e-6)


@proves("lr_schedule")
def test_a_schedule_that_is_off_is_constant(fit: Fitter, data: Path) -> None:
    ran = fit(data, "--training.lr_schedule=false", "--training.epochs=2")
    assert set(ran.probe.rates) == {1e-3}


@proves("lr_schedule", "warmup")
@pytest.mark.parametrize(("warmup", "monitor"), [(0, "val/iou"), (2, "val/loss"), (0, "train/loss")])
def test_plateau_cuts_when_the_monitor_rests_and_waits_for_the_warmup(
    fit: Fitter, data: Path, warmup: int, monitor: str
) -> None:
    # The epochs' scores: the best is the first that counts, so each `patience` epochs after it bring a cut.
    flags = ["--training.lr_schedule={type: reduce_on_plateau, factor: 0.5, patience: 2, min_delta: 1000}"]
    if warmup:
        flags.append(f"--training.warmup={{enabled: true, epochs: {warmup}}}")
    flags.append(f"--training.monitor={monitor}")
    ran = fit(data, "--training.epochs=7", "--training.batch_size=12", *flags)
    expected = {0: [1, 1, 1, 0.5, 0.5, 0.25, 0.25], 2: [0.5, 1, 1, 1, 0.5, 0.5, 0.25]}[warmup]
    assert ran.probe.rates == pytest.approx([1e-3 * factor for factor in expected])


# --- stopping -----------------------------------------------------------------------------------------------------


@proves("early_stopping", "warmup")
@pytest.mark.parametrize(("warmup", "epochs"), [(0, 4), (2, 5)])
def test_early_stopping_ends_after_patience_epochs_and_waits_for_the_warmup(
    fit: Fitter, data: Path, warmup: int, epochs: int
) -> None:
    # No improvement counts, so the first epoch that is judged (the one in which the warm-up ends) is the best, and
    # three more are waited for.
    flags = [
        "--training.early_stopping={enabled: true, patience: 3, min_delta: 1000}",
        "--training.epochs=12",
    ]
    if warmup:
        flags.append(f"--training.warmup={{enabled: true, epochs: {warmup}}}")
    ran = fit(data, *flags)
    assert len(ran.rows) == epochs


@proves("early_stopping")
@pytest.mark.parametrize("restore", [True, False])
def test_restored_weights_are_those_of_the_best_checkpoint(fit: Fitter, data: Path, restore: bool) -> None:
    # The monitor's worst is its best here: the first epoch keeps that title while the network learns.
    flags = ("--training.monitor=train/loss", "--training.monitor_mode=max", "--training.learning_rate=0.02")
    stopping = f"--training.early_stopping={{enabled: true, patience: 2, restore_best_weights: {str(restore).lower()}}}"
    ran = fit(data, *flags, stopping, "--training.epochs=5")
    best, last = ran.checkpoint("best"), ran.checkpoint("last")
    assert (best["epoch"], last["epoch"]) == (0, 2)
    assert_same(dict(ran.module.state_dict()), (best if restore else last)["state_dict"])
    assert not torch.equal(
        best["state_dict"]["model.network.head.weight"], last["state_dict"]["model.network.head.weight"]
    )


# --- penalties and clipping ---------------------------------------------------------------------------------------


@proves("regularizer")
def test_regularizer_adds_its_gradient_and_is_logged_apart(fit: Fitter, data: Path) -> None:
    flags = (SGD, "--training.learning_rate=1e-30", "--training.batch_size=12")
    plain = fit(data, *flags, probe=Probe(states=True))
    l1, l2 = 0.003, 0.02
    penal = fit(
        data,
        *flags,
        f"--training.regularizer={{enabled: true, l1: {l1}, l2: {l2}}}",
        probe=Probe(states=True),
    )
    weights = {
        name: value for name, value in plain.probe.states[0].items() if name in plain.probe.gradients[0]
    }
    assert_same(weights, {name: penal.probe.states[0][name] for name in weights})
    total = 0.0
    for name, weight in weights.items():
        added = l1 * weight.sign() + 2 * l2 * weight if weight.ndim >= 2 else torch.zeros_like(weight)
        difference = penal.probe.gradients[0][name] - plain.probe.gradients[0][name]
        torch.testing.assert_close(difference, added, rtol=1e-4, atol=1e-6)
        if weight.ndim >= 2:
            total += float(l1 * weight.abs().sum() + l2 * weight.square().sum())
    assert penal.column("train/regularizer") == pytest.approx([total], rel=1e-5)
    for score in ("train/loss", "val/loss"):
        assert penal.column(score) == pytest.approx(plain.column(score), rel=1e-6)
    assert "train/regularizer" not in plain.rows[0]


@proves("gradient_clip")
def test_gradient_clip_bounds_the_norm_and_keeps_the_direction(fit: Fitter, data: Path) -> None:
    flags = (SGD, "--training.batch_size=12")
    free = fit(data, *flags, probe=Probe(states=True)).probe.gradients[0]
    held = fit(data, *flags, "--training.gradient_clip=0.01", probe=Probe(states=True)).probe.gradients[0]
    norm = math.sqrt(sum(float(g.square().sum()) for g in free.values()))
    assert norm > 0.02
    for name, gradient in free.items():
        torch.testing.assert_close(held[name], gradient * 0.01 / norm, rtol=1e-3, atol=1e-7)


# --- the average --------------------------------------------------------------------------------------------------


@proves("ema")
def test_checkpoint_holds_the_average_by_hand(fit: Fitter, data: Path) -> None:
    flags = (
        "--training.ema={enabled: true, decay: 0.3}",
        "--training.epochs=2",
        "--training.learning_rate=0.02",
    )
    ran = fit(data, *flags, probe=Probe(states=True))
    states = ran.probe.states
    trained = {name for name, _ in ran.module.named_parameters()}
    # AveragedModel takes over the first weights that it is shown; from then on d = min(decay, (1 + n) / (10 + n)).
    expected = dict(states[1])
    for count, state in enumerate(states[2:], start=1):
        decay = min(0.3, (1 + count) / (10 + count))
        for name, value in state.items():
            expected[name] = decay * expected[name] + (1 - decay) * value if name in trained else value
    saved = ran.checkpoint()
    assert any(name.endswith("running_mean") for name in expected)
    for name, value in saved["state_dict"].items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    assert_same(saved["current_model_state"], states[-1])
    assert_same(
        dict(ran.module.state_dict()), saved["state_dict"]
    )  # the average stays in the model at the end
    assert not torch.allclose(expected["model.network.head.weight"], states[-1]["model.network.head.weight"])


@proves("ema")
def test_validation_scores_are_those_of_the_average(fit: Fitter, data: Path) -> None:
    ran = fit(data, "--training.ema=true", "--training.learning_rate=0.02", "--training.batch_size=6")
    module = ran.module
    module.load_state_dict(ran.checkpoint()["state_dict"])
    module.eval()
    loader = ran.probe.trainer.datamodule.val_dataloader()  # pyright: ignore
    total = count = 0
    for batch in loader:
        with torch.no_grad():
            total += float(module.criterion(module(batch["image"]), batch["mask"])) * len(batch["image"])
        count += len(batch["image"])
    assert count == 5
    assert ran.column("val/loss") == pytest.approx([total / count], rel=1e-5)


# --- TensorBoard --------------------------------------------------------------------------------------------------


def board(**changes: Any) -> str:
    return f"--training.tensorboard={yaml.safe_dump(changes, default_flow_style=True, width=999).strip()}"


@proves("tensorboard")
def test_no_event_files_where_tensorboard_is_off(fit: Fitter, data: Path) -> None:
    assert not list(fit(data, "--training.tensorboard=false").run.rglob("events.*"))


@proves("tensorboard")
@pytest.mark.parametrize(("frequency", "epochs"), [(0, []), (1, [1, 2, 3]), (2, [1, 3])])
def test_histograms_come_in_their_epochs(fit: Fitter, data: Path, frequency: int, epochs: list[int]) -> None:
    """As in Keras, whose first histogram is that of the first epoch (`epoch % histogram_freq == 0`)."""
    flags = (
        "--training.epochs=3",
        board(enabled=True, histogram_freq=frequency, write_images=True, write_graph=False),
    )
    ran = fit(data, *flags)
    seen = events(ran.run)
    names = [name.removeprefix("model.").replace(".", "/") for name, _ in ran.module.named_parameters()]
    tags = [f"{kind}/{name}" for kind in ("weights", "gradients") for name in names] if epochs else []
    assert sorted(seen.Tags()["histograms"]) == sorted(tags)
    for tag in tags:
        assert [event.step for event in seen.Histograms(tag)] == [3 * epoch - 1 for epoch in epochs]
    kernels = [
        f"weights/{name}" for name, p in zip(names, ran.module.parameters(), strict=True) if p.ndim >= 2
    ]
    assert sorted(seen.Tags()["images"]) == sorted(kernels if epochs else [])
    if epochs:
        head = ran.module.network.network.head.weight
        last = seen.Histograms("weights/network/head/weight")[-1].histogram_value
        if epochs[-1] == 3:  # written after the last step: the weights that are there now
            assert last.sum == pytest.approx(float(head.detach().sum()), rel=1e-4, abs=1e-5)
            assert last.num == head.numel()


@proves("tensorboard")
@pytest.mark.parametrize(("graph", "images"), [(True, False), (False, False)])
def test_graph_once_and_weight_images_only_when_asked(
    fit: Fitter, data: Path, graph: bool, images: bool
) -> None:
    ran = fit(data, board(enabled=True, write_graph=graph, write_images=images), "--training.epochs=2")
    seen = events(ran.run)
    assert seen.Tags()["graph"] is graph
    assert seen.Tags()["images"] == []
    if graph:
        operators = {node.op for node in seen.Graph().node}
        assert any("convolution" in name for name in operators), operators


@proves("tensorboard")
@pytest.mark.parametrize(
    ("frequency", "steps"), [("epoch", []), ("batch", [0, 1, 2, 3, 4, 5]), (2, [1, 3, 5]), (4, [3])]
)
def test_update_freq_is_the_steps_between_points(
    fit: Fitter, data: Path, frequency: str | int, steps: list[int]
) -> None:
    ran = fit(data, board(enabled=True, histogram_freq=0, update_freq=frequency), "--training.epochs=2")
    seen = events(ran.run, "train")
    points = seen.Scalars("loss/step") if steps else []
    assert ("loss/step" in seen.Tags()["scalars"]) is bool(steps)
    for name in ("learning_rate_step", "gradient_norm_step"):
        own = f"optimization/{name}"
        assert ([point.step for point in seen.Scalars(own)] if steps else []) == steps
    if steps:
        rates = [point.value for point in seen.Scalars("optimization/learning_rate_step")]
        assert rates == pytest.approx([ran.probe.rates[step] for step in steps], rel=1e-5)
    assert [point.step for point in points] == steps
    assert [point.value for point in points] == pytest.approx(
        [ran.probe.losses[step] for step in steps], rel=1e-5
    )
    # Scores of epochs come once an epoch, whatever the frequency of steps is.
    assert [point.value for point in seen.Scalars("loss/epoch")] == pytest.approx(
        ran.column("train/loss"), rel=1e-5
    )
    assert len(events(ran.run, "val").Scalars("scores/iou")) == 2


@proves("tensorboard", "accumulate")
def test_points_of_accumulated_steps_come_once_a_step(fit: Fitter, data: Path) -> None:
    ran = fit(data, board(enabled=True, histogram_freq=0, update_freq="batch"), "--training.accumulate=2")
    assert [point.step for point in events(ran.run, "train").Scalars("loss/step")] == [0, 1, 2]


@proves("pictures")
@pytest.mark.parametrize("wanted", [0, 1, 4])
def test_pictures_is_the_samples_on_a_sheet(fit: Fitter, data: Path, wanted: int) -> None:
    ran = fit(data, board(enabled=True, histogram_freq=0), f"--training.pictures={wanted}")
    train, val = events(ran.run, "train"), events(ran.run, "val")
    sheets = ["pictures/same", "pictures/worst", "pictures/uncertain"] if wanted else []
    assert set(val.Tags()["images"]) == {*sheets, *(["charts/confusion", "charts/classes"] if wanted else [])}
    assert train.Tags()["images"] == (["pictures/augmented"] if wanted else [])
    heights = {tag: val.Images(tag)[0].height for tag in sheets}
    # a row of two samples is about 230 pixels high
    assert all(
        (wanted + 1) // 2 * 150 < height < (wanted + 1) // 2 * 260 + 150 for height in heights.values()
    )
    with np.load(ran.run / "evaluation" / "val.npz") as record:
        assert len([key for key in record.files if key.startswith("worst_")]) == 5, "the report has its own"


# --- compile ------------------------------------------------------------------------------------------------------


@proves("compile")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_run_equals_the_eager_one(fit: Fitter, data: Path) -> None:
    flags = (SGD, "--training.learning_rate=0.05", "--training.epochs=2", "--training.tensorboard=true")
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    compiled = fit(data, *flags, "--training.compile=true")
    assert counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    eager = fit(data, *flags)
    assert_same(compiled.checkpoint()["state_dict"], eager.checkpoint()["state_dict"], 1e-5)
    assert not [name for name in compiled.checkpoint()["state_dict"] if "_orig_mod" in name]


@proves("compile")
def test_compile_is_asked_of_the_network_only_when_set(
    fit: Fitter, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "lightning_modules.base.compile_network",
        lambda network: asked.append(sum(1 for _ in network.parameters())),
    )
    fit(data, "--training.compile=false")
    assert asked == []
    ran = fit(data, "--training.compile=true")
    assert asked == [len(list(ran.module.parameters()))]


# --- checkpoints within an epoch ----------------------------------------------------------------------------------


def saved_steps(run: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step_")) for path in (run / "checkpoints").glob("step_*.ckpt"))


@proves("checkpoint")
@pytest.mark.parametrize(("accumulate", "expected"), [(1, [2, 4, 6, 8]), (2, [2, 4, 6, 8])])
def test_checkpoints_every_n_steps(fit: Fitter, data: Path, accumulate: int, expected: list[int]) -> None:
    flags = ("--training.checkpoint={every_n_steps: 2, keep: 100}", f"--training.accumulate={accumulate}")
    ran = fit(data, *flags, "--training.epochs=3", probe=Probe(states=True))
    assert saved_steps(ran.run) == expected
    for step in expected:
        saved = ran.checkpoint(f"step_{step:08d}")
        assert saved["global_step"] == step
        assert_same(saved["state_dict"], ran.probe.states[step * accumulate])


@proves("checkpoint")
def test_only_the_newest_are_kept(fit: Fitter, data: Path) -> None:
    ran = fit(data, "--training.checkpoint={every_n_steps: 1, keep: 2}", "--training.epochs=2")
    assert saved_steps(ran.run) == [5, 6]
    assert {path.name for path in (ran.run / "checkpoints").iterdir()} == {
        "best.ckpt", "last.ckpt", "previous.ckpt", "step_00000005.ckpt", "step_00000006.ckpt",
    }  # fmt: skip


@proves("checkpoint")
def test_checkpoints_every_few_minutes(fit: Fitter, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import callbacks.checkpoint as module

    class Clock:
        """A minute passes with each step."""

        now = 0.0

        def monotonic(self) -> float:
            return Clock.now

    class Minute(Callback):
        def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
            Clock.now += 60.0

    monkeypatch.setattr(module, "time", Clock())
    flags = ("--training.checkpoint={every_minutes: 1.5, keep: 9}", "--training.batch_size=2")
    ran = fit(data, *flags, callbacks=(Minute(),))
    assert saved_steps(ran.run) == [2, 4, 6]


class Overflow(Callback):
    """The gradient of the second step is infinite."""

    def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.global_step == 1:
            next(p.grad for p in pl_module.parameters() if p.grad is not None).fill_(torch.inf)


@proves("on_nonfinite")
def test_a_step_that_is_no_number_is_left_out(fit: Fitter, data: Path) -> None:
    ran = fit(data, "--training.on_nonfinite=skip", callbacks=(Overflow(),))
    assert ran.column("train/nonfinite_steps") == [1.0]
    assert all(bool(value.isfinite().all()) for value in ran.checkpoint()["state_dict"].values())


# --- the backbone -------------------------------------------------------------------------------------------------


def encoder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if ".encoder." in name}


def test_frozen_backbone_keeps_weights_and_norms_until_its_epoch(fit: Fitter, data: Path) -> None:
    flags = ("--model.freeze_backbone=true", "--model.unfreeze_epoch=1", "--training.epochs=2")
    ran = fit(data, *flags, probe=Probe(states=True))
    states = ran.probe.states
    assert any("running_mean" in name for name in encoder(states[0]))
    assert_same(encoder(states[3]), encoder(states[0]))
    assert not torch.equal(states[3]["model.network.head.weight"], states[0]["model.network.head.weight"])
    moved = [name for name, value in encoder(states[6]).items() if not torch.equal(value, states[3][name])]
    assert sorted(moved) == sorted(encoder(states[0]))
    assert ran.probe.modes == [False] * 3 + [True] * 3


def test_backbone_factor_scales_its_learning_rate(fit: Fitter, data: Path) -> None:
    flags = (SGD, CONSTANT, "--training.learning_rate=0.1", "--model.backbone_learning_rate_factor=0.25")
    ran = fit(data, *flags, probe=Probe(states=True))
    before, after = ran.probe.states[:2]
    for name, gradient in ran.probe.gradients[0].items():
        rate = 0.025 if ".encoder." in name else 0.1
        torch.testing.assert_close(after[name], before[name] - rate * gradient, rtol=0, atol=1e-6)


# --- the vocabulary -----------------------------------------------------------------------------------------------


def test_default_yaml_says_what_the_dataclasses_say() -> None:
    text = (ROOT / "configs" / "training" / "default.yaml").read_text(encoding="utf-8")
    written = yaml.safe_load(text)["training"]
    default = dataclasses.asdict(Training())
    for key in ("optimizer", "loss"):
        assert default[key] == {"type": written.pop(key)}
        del default[key]
    assert written == default
    assert set(BLOCKS) == {key for key, value in default.items() if isinstance(value, dict)} - {"lr_schedule"}


def test_each_key_has_a_test_of_its_effect() -> None:
    keys = {f.name for f in dataclasses.fields(Training)}
    assert keys - PROVEN == set(), "a key of `training:` that no test shows the effect of"
    assert PROVEN - keys == set()
