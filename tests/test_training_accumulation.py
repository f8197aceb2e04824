"""Fits whose steps come in micro-batches: they end where those with whole batches do, and say where they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from datamodules.loaders import WaitingLoader
from datamodules.mixing import Mixing, mix_batch
from datamodules.sampler import Draw, GlobalBatchSampler
from tests.boards import events
from tests.fitting import Fit, Fitter, Probe, write_pictures
from tests.tasks import CONFIGS, PARTS, SMALL, TASKS, write_task

EXACT = (
    "--trainer.precision=64-true",
    "--training.optimizer={type: sgd, momentum: 0.9}",
    "--training.epochs=2",
)
#: Layer norm and no dropout: the pictures of a batch do not see each other.
LAYER_NORM = ("--model.backbone=test_convnext", "--model.weights=null")
REGULARIZER = "--training.regularizer={enabled: true, l1: 1.0e-4, l2: 1.0e-3}"


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven training pictures with void: in batches of four the last step has three, and one share has none."""
    return write_pictures(tmp_path_factory.mktemp("masks"), {"train": 7, "val": 2}, void=True)


def fit_task(fit: Fitter, task: str, data: Path, *flags: str, callbacks: tuple[Callback, ...] = ()) -> Fit:
    words = (*SMALL, *LAYER_NORM, f"--data.root={data}", *EXACT, "--training.epochs=1", *flags)
    return fit(data, *words, config=CONFIGS / f"{TASKS[task].config}.yaml", callbacks=callbacks)


class FixedStatistics(Callback):
    """Batch norm by its running statistics, as the cropper's head has no other norm."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        for module in pl_module.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
                module.eval()


def assert_same(whole: Fit, parts: Fit, *, tolerance: float = 1e-10) -> None:
    assert parts.checkpoint()["global_step"] == whole.checkpoint()["global_step"]
    stored = parts.checkpoint()["state_dict"]
    for name, value in whole.checkpoint()["state_dict"].items():
        torch.testing.assert_close(stored[name], value, rtol=0, atol=tolerance)
    for column in [key for key in whole.rows[0] if key.endswith(("/loss", "/regularizer"))]:
        assert parts.column(column) == pytest.approx(whole.column(column), rel=1e-9), column


@pytest.mark.parametrize(
    ("loss", "more"),
    [
        ("{type: categorical_crossentropy, class_weight: balanced}", (REGULARIZER,)),
        ("{type: dice_ce, per_image: true}", ("--data.augment.cutmix=1.0", "--training.batch_size=8")),
    ],
    ids=["entropy", "cutmix"],
)
def test_a_segmenter_in_quarters(fit: Fitter, masks: Path, loss: str, more: tuple[str, ...]) -> None:
    flags = (*EXACT, f"--training.loss={loss}", "--training.learning_rate=0.1", *more)
    whole = fit(masks, *flags, norm="group")
    parts = fit(masks, *flags, "--training.accumulate=4", norm="group")
    steps = 1 if "cutmix" in more[0] else 2
    assert len(parts.probe.batches) == 2 * 4 * steps and len(whole.probe.batches) == 2 * steps
    assert ("train/regularizer" in whole.rows[0]) == (REGULARIZER in more)
    assert_same(whole, parts)
    assert "micro-batches" not in parts.printed, "there is nothing to warn of"


def test_a_classifier_mixed_weighted_and_in_halves(fit: Fitter, tmp_path: Path) -> None:
    data = write_task("classification", tmp_path / "data")
    (data / "train" / "left" / "6.png").unlink()
    flags = (
        "--data.augment.mixup=0.4",
        "--data.loader.sampling=balanced",
        "--training.loss={type: categorical_crossentropy, class_weight: [1.0, 3.0]}",
    )
    whole = fit_task(fit, "classification", data, *flags)
    parts = fit_task(fit, "classification", data, *flags, "--training.accumulate=2")
    assert [len(batch["image"]) for batch in parts.probe.batches[:4]] == [2, 2, 2, 1]
    assert_same(whole, parts)


def test_a_cropper_in_halves(fit: Fitter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eleven pictures in steps of six, some without an object; the last halves are three and two."""
    monkeypatch.setitem(PARTS, "train", 11)
    manifest = write_task("cropping", tmp_path / "data") / "manifest.csv"
    rows = manifest.read_text().splitlines()
    empty = ("train_1.png", "train_7.png", "train_8.png")
    rows = [f"{row.split(',')[0]},,,,,train" if row.startswith(empty) else row for row in rows]
    manifest.write_text("\n".join(rows) + "\n")
    runs = [
        fit_task(
            fit,
            "cropping",
            manifest.parent,
            "--training.batch_size=6",
            f"--training.accumulate={accumulate}",
            callbacks=(FixedStatistics(),),
        )
        for accumulate in (1, 2)
    ]
    batches = runs[1].probe.batches
    assert [len(batch["valid"]) for batch in batches[:4]] == [3, 3, 3, 2]
    objects = [int(batch["has_box"].sum()) for batch in batches[:4]]
    assert sum(objects) == 7 and len(set(objects)) > 1, "a mean of means would be another"
    assert_same(*runs)


def test_a_ratio_over_the_batch_is_said_once(fit: Fitter, masks: Path) -> None:
    loss = "{type: weighted_sum, losses: [{type: dice}, {type: iou, per_image: true}, {type: focal}]}"
    ran = fit(masks, f"--training.loss={loss}", "--training.accumulate=2", norm="group")
    (line,) = [line for line in ran.printed.splitlines() if "micro-batches" in line]
    assert "warning: training.loss dice is a ratio" in line and "per_image: true" in line
    assert "focal" not in line and "iou" not in line
    whole = fit(masks, f"--training.loss={loss}", norm="group")
    assert "micro-batches" not in whole.printed


def test_what_lightning_leaves_out_is_not_waited_for(fit: Fitter, masks: Path) -> None:
    """limit_train_batches ends the second step after one of its two micro-batches: that one is the step."""
    flags = (
        *EXACT,
        "--training.epochs=1",
        "--training.loss=categorical_crossentropy",
        "--training.learning_rate=0.1",
    )
    ran = fit(
        masks,
        *flags,
        "--training.accumulate=2",
        "--trainer.limit_train_batches=3",
        norm="group",
        probe=Probe(states=True),
    )
    last = ran.probe.batches[-1]
    net, criterion = ran.module.network, ran.module.criterion
    net.load_state_dict(
        {k.removeprefix("model."): v for k, v in ran.probe.states[2].items() if k.startswith("model.")}
    )
    net.zero_grad()
    criterion(net(last["image"]), last["mask"], sample_weight=last["valid"]).backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(
            ran.probe.gradients[2][f"model.{name}"], parameter.grad, rtol=1e-9, atol=1e-14
        )


def test_points_of_steps_are_those_of_whole_steps(fit: Fitter, masks: Path) -> None:
    flags = (
        *EXACT,
        "--training.loss=focal",
        "--training.accumulate=2",
        "--training.tensorboard={update_freq: batch}",
    )

    class Points(Probe):
        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            assert "ahead" not in batch

    ran = fit(masks, *flags, norm="group", probe=Points())
    logged = [point.value for point in events(ran.run, "train").Scalars("loss/step")]
    parts = torch.tensor(ran.probe.losses, dtype=torch.float64).view(-1, 2).mean(1)  # of twice the parts
    assert logged == pytest.approx(parts.tolist(), rel=1e-6)


# --- looking ahead ------------------------------------------------------------------------------------------------


class Numbers(torch.utils.data.Dataset[dict[str, Tensor]]):
    """A picture, a mask and its number for each draw."""

    def __getitem__(self, draws: list[Draw]) -> dict[str, Tensor]:
        index = torch.tensor([draw.index for draw in draws])
        valid = torch.tensor([draw.valid for draw in draws])
        return {
            "image": index.view(-1, 1, 1, 1).float(),
            "mask": index.view(-1, 1, 1),
            "index": index,
            "valid": valid,
        }


@pytest.mark.parametrize(("workers", "start"), [(0, 0), (0, 4), (0, 5), (2, 0)])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_the_first_of_a_step_has_the_others(workers: int, accumulate: int, start: int) -> None:
    sampler = GlobalBatchSampler(23, batch_size=8, shuffle=True, accumulate=accumulate)
    expected = [[draw.index for draw in draws] for draws in sampler][start:]
    sampler.resume(0, start)
    loader = WaitingLoader(Numbers(), sampler=sampler, batch_size=None, num_workers=workers)  # type: ignore[arg-type]
    batches: list[dict[str, Any]] = list(loader)
    assert [batch["index"].tolist() for batch in batches] == expected
    for place, batch in enumerate(batches, start):
        if accumulate == 1 or (place % accumulate and place > start):
            assert "ahead" not in batch
            continue
        still = accumulate - place % accumulate
        others = batches[place - start + 1 : place - start + still]
        assert len(batch["ahead"]) == len(others) == still - 1
        for ahead, other in zip(batch["ahead"], others, strict=True):
            assert set(ahead) == {"mask", "index", "valid"}
            assert ahead["mask"] is other["mask"], "nothing is copied"
    assert loader.waited_s > 0


@pytest.mark.parametrize("target", ["label", "mask"])
def test_what_lies_ahead_is_mixed_as_it_will_be(target: str) -> None:
    g = torch.Generator().manual_seed(1)
    mixing = Mixing(0.5 if target == "label" else 0.0, 1.0, seed=3)

    def batch(first: int, size: int) -> dict[str, Any]:
        draws = [Draw(i, 0, i, True) for i in range(first, first + size)]
        shape = (size,) if target == "label" else (size, 8, 8)
        return {
            "image": torch.randint(0, 256, (size, 3, 8, 8), generator=g, dtype=torch.uint8),
            target: torch.randint(0, 5, shape, generator=g),
            "mix": mixing.plan(draws, (8, 8)),
        }

    first, *others = [batch(0, 4), batch(4, 4), batch(8, 3)]
    first["ahead"] = [{key: value for key, value in other.items() if key != "image"} for other in others]
    mixed = mix_batch(first, 5)
    for ahead, other in zip(mixed["ahead"], others, strict=True):
        assert set(ahead) == {target}
        torch.testing.assert_close(ahead[target], mix_batch(other, 5)[target], rtol=0, atol=0)
    if target == "mask":
        pairs = zip(mixed["ahead"], others, strict=True)
        assert any((ahead[target] != other[target]).any() for ahead, other in pairs)
    else:
        assert any(((ahead[target] > 0) & (ahead[target] < 1)).any() for ahead in mixed["ahead"])
