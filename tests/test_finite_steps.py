"""A loss or gradient that is no number: who is named, what is kept, and what skipping leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from callbacks import FiniteSteps
from callbacks.finite import _Broken
from cli import main
from tests.crashes import assert_identical
from tests.fitting import CONFIG, SMALL, Fitter, options, write_pictures

FLAGS = ("--training.epochs=3", "--training.learning_rate=0.01")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("finite"), {"train": 10, "val": 4})


class Poison(Callback):
    """Makes the gradient, or the picture and so the loss, no number in some optimizer steps.

    Args:
        steps: Their numbers, from 1.
        what: ``gradient`` or ``picture``.
    """

    def __init__(self, steps: list[int], what: str = "gradient") -> None:
        self.steps, self.what = steps, what
        self.seen: list[list[int]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step + 1 in self.steps:
            self.seen.append(batch["index"].tolist())
            if self.what == "picture":
                batch["image"] = torch.full_like(batch["image"], torch.nan, dtype=torch.float32)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        if self.what == "gradient" and trainer.global_step + 1 in self.steps:
            next(p for p in pl_module.parameters() if p.grad is not None).grad.fill_(torch.inf)


def run(data: Path, poison: Poison, *flags: str, monkeypatch: pytest.MonkeyPatch) -> int:
    import cli.app

    build = cli.app.trainer_arguments

    def with_poison(*args: Any, **kwargs: Any) -> dict[str, Any]:
        arguments = build(*args, **kwargs)
        # First, as something in the network would be, and not a callback that is asked last.
        return {**arguments, "callbacks": [poison, *arguments["callbacks"]]}

    with monkeypatch.context() as patch:
        patch.setattr(cli.app, "trainer_arguments", with_poison)
        return main(["fit", f"--config={CONFIG}", *SMALL, f"--data.root={data}", options(), *FLAGS, *flags])


@pytest.mark.parametrize(
    ("what", "told"), [("gradient", "the gradient is not finite"), ("picture", "the loss is nan")]
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_stops_and_names_the_pictures(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fit: Fitter,
    data: Path,
    what: str,
    told: str,
    accumulate: int,
) -> None:
    poison = Poison([5], what)
    flags = ("--training.checkpoint.every_n_steps=1", f"--training.accumulate={accumulate}")
    assert run(data, poison, *flags, monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert f"error: {told} in step 5 (epoch 2), made of " in error
    pictures = [i for batch in poison.seen for i in batch]
    assert len(pictures) == 4 and error.count(".png") == 4
    names = sorted(path.name for path in (data / "train" / "images").iterdir())
    for index in pictures:
        assert names[index] in error
    for advice in (
        "a smaller training.learning_rate (it is 0.01)",
        "training.gradient_clip=1",
        "on_nonfinite=skip",
    ):
        assert advice in error
    (checkpoints,) = (fit.folder / "runs").glob("*/version_*/checkpoints")
    steps = {}
    for path in checkpoints.glob("*.ckpt"):
        content = torch.load(path, map_location="cpu", weights_only=True)
        steps[path.name] = content["global_step"]
        assert all(bool(t.isfinite().all()) for t in content["state_dict"].values())
    assert steps["last.ckpt"] == 4, "the state before the step"
    assert steps["best.ckpt"] == 3


def test_the_last_step_of_an_epoch_is_looked_at_before_the_epoch_is_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fit: Fitter, data: Path
) -> None:
    assert run(data, Poison([3]), monkeypatch=monkeypatch) == 2
    assert "in step 3 (epoch 1)" in capsys.readouterr().err
    assert not list((fit.folder / "runs").glob("*/version_*/checkpoints/*"))


@pytest.mark.parametrize("optimizer", ["adamw", "{type: sgd, momentum: 0.9, weight_decay: 0.1}"])
@pytest.mark.parametrize("what", ["gradient", "picture"])
def test_a_step_that_is_skipped_has_not_been(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fit: Fitter,
    data: Path,
    optimizer: str,
    what: str,
) -> None:
    """Weights, moments, batch-norm statistics and sums after steps 1, 3 are those of steps 1, 3 alone."""
    monkeypatch.setattr("callbacks.finite._NORM_EVERY", 1)
    flags = ("--training.lr_schedule=constant", f"--training.optimizer={optimizer}", "--training.epochs=1")
    poison = Poison([2], what)
    assert run(data, poison, *flags, "--training.on_nonfinite=skip", monkeypatch=monkeypatch) == 0
    assert caplog.text.count("step left out") == 1
    (run_directory,) = (fit.folder / "runs").glob("*/version_*")
    skipped = torch.load(run_directory / "checkpoints" / "last.ckpt", weights_only=True)

    class Without(Callback):
        """The same two steps, the pictures of the second never seen by the network."""

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.before = [buffer.clone() for buffer in pl_module.buffers()]

        def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
            if trainer.global_step == 1:
                for parameter in pl_module.parameters():
                    parameter.grad = None
                for buffer, before in zip(pl_module.buffers(), self.before, strict=True):
                    buffer.copy_(before)

    other = fit(data, *FLAGS, *flags, callbacks=(Without(),)).checkpoint()
    assert_identical(skipped["state_dict"], other["state_dict"], "state_dict")
    assert_identical(skipped["optimizer_states"], other["optimizer_states"], "optimizer")
    finite = skipped["callbacks"]["FiniteSteps"]
    assert finite["skipped"] == 1 and finite["norms"][1] == 2, (
        "the norm of a step that was left out does not count"
    )


def test_ten_in_a_row_are_enough(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fit: Fitter, data: Path
) -> None:
    poison = Poison(list(range(2, 30)))
    flags = ("--training.on_nonfinite=skip", "--training.batch_size=1")  # ten steps an epoch
    assert run(data, poison, *flags, monkeypatch=monkeypatch) == 2
    assert "It is the 11th such step in a row" in capsys.readouterr().err


def test_skipped_steps_are_counted_in_the_table(
    monkeypatch: pytest.MonkeyPatch, fit: Fitter, data: Path
) -> None:
    assert run(data, Poison([2, 5]), "--training.on_nonfinite=skip", monkeypatch=monkeypatch) == 0
    (table,) = (fit.folder / "runs").glob("*/version_*/metrics.csv")
    header, *rows = table.read_text().splitlines()
    column = header.split(",").index("train/nonfinite_steps")
    assert [row.split(",")[column] for row in rows] == ["1", "2", "2"]
    losses = [row.split(",")[header.split(",").index("train/loss")] for row in rows]
    assert all(losses), "the sums of the epoch have not seen the step"


@pytest.mark.parametrize("every", [1, None], ids=["saved-at-each-step", "saved-at-the-end-of-epochs"])
def test_a_look_that_comes_late_is_not_too_late(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fit: Fitter,
    data: Path,
    every: int | None,
) -> None:
    """As on a GPU, where the newest step is left for later: nothing is saved before it was looked at."""
    look = FiniteSteps._look

    def late(self: FiniteSteps, trainer: Any, *, all_but: int | None = None) -> None:
        look(self, trainer, all_but=0 if all_but is None else 1)

    monkeypatch.setattr(FiniteSteps, "_look", late)
    saves = [f"--training.checkpoint.every_n_steps={every}"] if every else []
    assert run(data, Poison([5]), *saves, monkeypatch=monkeypatch) == 2
    assert "in step 5 (epoch 2)" in capsys.readouterr().err
    (checkpoints,) = (fit.folder / "runs").glob("*/version_*/checkpoints")
    last = torch.load(checkpoints / "last.ckpt", map_location="cpu", weights_only=True)
    assert last["global_step"] == (4 if every else 3)
    assert all(bool(t.isfinite().all()) for t in last["state_dict"].values())


def test_the_norm_is_that_of_every_tenth_step(fit: Fitter, data: Path) -> None:
    """And of the epoch's first; by a callback that works out all of them."""
    norms: list[float] = []

    class Norms(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    flags = (
        "--training.batch_size=1",
        "--training.epochs=3",
        "--training.learning_rate=0.01",
    )  # ten steps an epoch
    run = fit(data, *flags, callbacks=(Norms(),))
    logged = run.column("train/gradient_norm")
    assert len(norms) == 30
    for epoch, value in enumerate(logged):
        first, tenth = norms[10 * epoch], norms[10 * epoch + 9]
        assert float(value) == pytest.approx((first + tenth) / 2, rel=1e-5)


@pytest.mark.parametrize("bad", [None, torch.inf, torch.nan])
@pytest.mark.parametrize(
    "kind", ["float32", "float64", "bfloat16", "complex64", "mixed", "shared", "sparse", "empty"]
)
def test_any_gradient_is_asked_whether_it_is_finite(kind: str, bad: float | None) -> None:
    """One whose squares overflow, and with them its norm, is finite; and nothing is changed by the question."""
    gradients = [torch.full((3, 4), 1e25), torch.ones(2)]
    match kind:
        case "float64" | "bfloat16" | "complex64":
            gradients = [gradient.to(getattr(torch, kind)) for gradient in gradients]
        case "mixed":
            gradients[1] = gradients[1].double()
        case "shared":
            gradients[1] = torch.ones(1).expand(4)
        case "sparse":
            gradients[1] = torch.ones(2).to_sparse()
        case "empty":
            gradients[1] = torch.zeros(0)
        case _:
            assert kind == "float32"
    if bad is not None:
        gradients[0][1, 2] = bad
    before = [gradient.clone() for gradient in gradients]
    check = _Broken()
    assert bool(check(gradients)) is (bad is not None)
    assert not check([torch.ones(2)]), "one bad gradient is not remembered"
    for gradient, old in zip(gradients, before, strict=True):
        same = gradient.to_dense(), old.to_dense()
        assert torch.equal(*(torch.nan_to_num(torch.view_as_real(g) if g.is_complex() else g) for g in same))


@pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch", "ignore:Swapping scheduler")
def test_a_pass_in_which_nothing_is_learned(fit: Fitter, data: Path) -> None:
    """Lightning's averaging of weights has a schedule of its own, and ends with a pass without gradients."""
    averaging = "--trainer.callbacks+=StochasticWeightAveraging"
    found = fit(
        data, *FLAGS, averaging, "--trainer.callbacks.swa_lrs=0.01", "--trainer.callbacks.device=null"
    )
    assert len(found.rows) == 4
