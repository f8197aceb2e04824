"""Whether the device computes what is right: as the CPU, compiled as plain, bfloat16 as float32, and a real fit."""

from __future__ import annotations

import copy
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from benchmarks.device import ways
from benchmarks.device.clock import wait
from benchmarks.device.kept import classes_of, make_batches
from benchmarks.device.settings import ROOT, Case, Settings
from benchmarks.timing import command
from losses import BOX_LOSSES, LOSSES, create_box_loss, create_loss
from metrics import ClassificationScores, SegmentationScores

FLOAT32 = 1e-4
"""Largest difference of two float32 computations / largest value: sums in another order, some thousand terms deep."""
BFLOAT16 = 0.1
"""The same of bfloat16 and float32: 8 bits of mantissa, 50 layers; 0.045 on a CPU for the worst of the five."""
LOSS = 1e-5
TRAINING_LOSS, TRAINING_GRADIENT = 0.01, 0.1
"""Two orders of rounding to 8 bits, fused and not, through all layers and back."""
SCORE = 0.02
"""Difference of a score on 300 pictures: those that lie next to the border between two answers."""


class Checks:
    """What was compared, how far it was off, and what that may be."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float | bool]] = {}

    def at_most(self, name: str, found: float, allowed: float) -> None:
        self.rows[name] = {"found": found, "allowed": allowed, "right": bool(found <= allowed)}

    def at_least(self, name: str, found: float, wanted: float) -> None:
        self.rows[name] = {"found": found, "wanted": wanted, "right": bool(found >= wanted)}


@contextmanager
def exact_float32() -> Generator[None]:
    """Without TF32, which has 10 bits of mantissa, and with cuDNN's repeatable algorithms."""
    # one by one: `torch.backends.cudnn.flags` also sets the newer names of the same, and torch refuses a mixture
    cudnn: Any = torch.backends.cudnn
    wanted = {"allow_tf32": False, "benchmark": False, "deterministic": True}
    before = {name: getattr(cudnn, name) for name in wanted}
    products = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        for name, value in wanted.items():
            setattr(cudnn, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(cudnn, name, value)
        torch.set_float32_matmul_precision(products)


def networks(settings: Settings, checks: Checks) -> None:
    """Logits of the seed models."""
    for case in settings.cases:
        size = 32 if settings.tiny else 64
        plain = _settled(case, size)
        image = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
        with torch.inference_mode():
            expected = plain(image)
            moved = copy.deepcopy(plain).to(settings.device).to(memory_format=torch.channels_last)  # pyright: ignore
            there = image.to(settings.device).contiguous(memory_format=torch.channels_last)
            with exact_float32():
                exact = moved(there)
                checks.at_most(f"{case.name}: device to CPU, float32", _off(exact, expected), FLOAT32)
            with ways.autocast(settings.device):
                short = moved(there)
            checks.at_most(f"{case.name}: bfloat16 to float32", _off(short, exact), BFLOAT16)
            if case is settings.cases[0]:  # the others in training, see `compiled_training`
                compiled: Any = torch.compile(moved)
                with exact_float32():
                    found = compiled(there)
                checks.at_most(f"{case.name}: compiled to plain, float32", _off(found, exact), FLOAT32)
    torch.compiler.reset()


def compiled_training(case: Case, device: torch.device) -> dict[str, Any]:
    """Loss and gradient of a training step in bfloat16, compiled and plain; compiles what `fit` and the loop have.

    Returns:
        Seconds of the compiled pass, and the rows of `Checks`.
    """
    checks, classes = Checks(), classes_of(case)
    batch = make_batches(case, device)[0]
    model = ways.network(case, classes, device).to(memory_format=torch.channels_last)  # pyright: ignore
    loss = create_loss(case.loss).to(device)
    image = batch["image"].contiguous(memory_format=torch.channels_last)
    found: list[tuple[float, float]] = []
    took_s = 0.0
    for answers in (model, torch.compile(model, dynamic=False)):
        model.zero_grad()
        wait(device)
        began = time.perf_counter()
        with ways.autocast(device):
            value = loss(answers(image), ways.target_of(batch))
        value.backward()
        wait(device)
        took_s = time.perf_counter() - began
        norms = [one.grad.double().norm() for one in model.parameters() if one.grad is not None]
        found.append((value.item(), torch.stack(norms).norm().item()))
    (plain, plain_norm), (compiled, compiled_norm) = found
    name = f"{case.name}: compiled to plain, bfloat16 training"
    checks.at_most(f"{name}, loss", abs(compiled - plain) / plain, TRAINING_LOSS)
    checks.at_most(f"{name}, gradient norm", abs(compiled_norm - plain_norm) / plain_norm, TRAINING_GRADIENT)
    return {"seconds": round(took_s, 2), "checks": checks.rows}


def losses(settings: Settings, checks: Checks) -> None:
    """Value and gradient of each loss."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 5, 32, 32, generator=generator)
    target = torch.randint(0, 5, (4, 32, 32), generator=generator)
    target[:, :3] = 255
    corners = torch.rand(16, 2, 2, generator=generator).sort(1).values.flatten(1)
    other = torch.rand(16, 2, 2, generator=generator).sort(1).values.flatten(1)
    for name in LOSSES:
        parts = {"losses": [{"type": "dice"}, {"type": "focal"}]} if name == "weighted_sum" else {}
        _compare(
            f"loss {name}", create_loss(name, ignore_index=255, **parts), logits, target, settings, checks
        )
    for name in BOX_LOSSES:
        _compare(f"box loss {name}", create_box_loss(name), corners, other, settings, checks)


def _compare(
    name: str, loss: nn.Module, answer: Tensor, target: Tensor, settings: Settings, checks: Checks
) -> None:
    found: list[tuple[float, float]] = []
    for device in (torch.device("cpu"), settings.device):
        given = answer.detach().to(device).requires_grad_()
        value = loss.to(device)(given, target.to(device))
        value.backward()
        assert given.grad is not None
        found.append((value.item(), given.grad.double().norm().item()))
    for what, one, two in zip(("value", "gradient norm"), *found, strict=True):
        checks.at_most(f"{name}: {what}, device to CPU", abs(two - one) / max(abs(one), 1e-12), LOSS)


def counts(settings: Settings, checks: Checks) -> None:
    """Confusion matrices: whole numbers, so nothing may differ."""
    generator = torch.Generator().manual_seed(1)
    preds = torch.randint(0, 7, (6, 96, 96), generator=generator)
    target = torch.randint(0, 7, (6, 96, 96), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.1] = 255
    valid = torch.tensor([True] * 5 + [False])
    logits, label = torch.randn(512, 7, generator=generator), torch.randint(0, 7, (512,), generator=generator)
    found: list[list[Tensor]] = []
    for device in (torch.device("cpu"), settings.device):
        pixels, pictures = SegmentationScores(7).to(device), ClassificationScores(7).to(device)
        pixels.update(preds.to(device), target.to(device), valid.to(device))
        pictures.update(logits.to(device), label.to(device))
        found.append([pixels.confusion.cpu(), pictures.confusion.cpu()])
    for what, one, two in zip(("pixels", "pictures"), *found, strict=True):
        checks.at_most(f"confusion of {what}: device to CPU", float((one - two).abs().sum()), 0.0)


class _Scores(Callback):
    """The scores of the last validation."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.found = {key: float(value) for key, value in trainer.callback_metrics.items()}


def learning(settings: Settings, checks: Checks) -> None:
    """The demo's fits learn, and the CPU scores their checkpoints alike.

    By chance a classifier has 1 / classes right; IoU by chance is below 0.2, the share of the shape among the pixels.
    """
    demo = {
        "cls_mobilenetv3": ("val/accuracy", 2.0 / classes_of(_of(settings, "cls_mobilenetv3")), 6, 64),
        "seg_unet": ("val/iou", 0.4, 9, 64),
    }
    if settings.tiny:
        demo = {"seg_unet": ("val/iou", 0.3, 12, 32)}
    for name, (score, wanted, epochs, size) in demo.items():
        tiny = ["--model.options={base_filters: 8, depth: 2}"] if settings.tiny else []
        words = [f"--config={ROOT / 'configs' / name}.yaml", f"--data.image_size={size}", *tiny]
        words += ["--training.pictures=0", "--training.tensorboard=false", f"--training.monitor={score}"]
        learned = [f"--training.epochs={epochs}"]
        with settings.folder(f"learning_{name}") as folder:
            command(["fit", *words, *learned, *settings.trainer], _Scores())
            (run,) = (folder / "runs").glob("*/version_*")
            found: list[float] = []
            for trainer in (settings.trainer, ["--trainer.accelerator=cpu", "--trainer.devices=1"]):
                scores = _Scores()
                saved = [f"--config={run / 'config.yaml'}", "--ckpt_path=best"]
                command(["validate", *saved, *trainer], scores)
                found.append(scores.found[score])
        checks.at_least(f"{name}: {score} of the demo after {epochs} epochs", found[0], wanted)
        checks.at_most(f"{name}: {score} of its checkpoint, device to CPU", abs(found[0] - found[1]), SCORE)


def _of(settings: Settings, name: str) -> Case:
    return next(case for case in settings.cases if case.name == name)


def _settled(case: Case, size: int) -> nn.Module:
    """The network in evaluation, with statistics of its own, so that no layer's outputs are far from 1."""
    model = ways.network(case, classes_of(case), torch.device("cpu"))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _ in range(3):
            image = torch.randint(0, 256, (8, 3, size, size), dtype=torch.uint8, generator=generator)
            model(image)
    return model.eval()


def _off(found: Tensor, expected: Tensor) -> float:
    """Largest difference / largest value."""
    one, two = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((one - two).abs().max() / two.abs().max())
