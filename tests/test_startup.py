"""What a command that trains nothing does without, and hooks that nobody has to call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback

from callbacks import pass_over_idle_hooks

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("words", "code"),
    [(["fit", "--help"], 0), (["fit", f"--config={ROOT}/configs/seg_unet.yaml", "--data.image_size=big"], 2)],
)
def test_help_and_errors_import_no_networks(words: list[str], code: int, tmp_path: Path) -> None:
    """timm and SMP take a second, TensorBoard and templates a tenth: nobody who asks for help should wait for them."""
    script = (
        "import sys; from cli import main\n"
        f"try: code = main({words!r})\n"
        "except SystemExit as end: code = end.code\n"
        "late = {'timm', 'segmentation_models_pytorch', 'captum', 'wandb', 'tensorboard', 'jinja2'}\n"
        "print(code or 0, sorted(late & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.splitlines()[-1] == f"{code} []", done.stderr


def test_empty_hooks_are_passed_over_and_others_are_called() -> None:
    called: list[str] = []

    class Ends(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            called.append("base")

    class More(Ends):
        def on_train_batch_end(self, *args: Any) -> None:
            super().on_train_batch_end(*args)
            super().on_train_batch_start(*args[:2], None, 0)  # empty, and there to be called
            called.append("more")

    watching, idle = More(), Callback()
    given = LambdaCallback(on_before_zero_grad=lambda *args: called.append("lambda"))
    pass_over_idle_hooks([watching, idle, given])
    pass_over_idle_hooks([watching, idle, given])  # twice is once
    hooks = (
        "on_train_batch_start",
        "on_before_zero_grad",
        "on_validation_batch_end",
        "on_before_optimizer_step",
    )
    for hook in hooks:
        assert getattr(watching, hook) is None and getattr(idle, hook) is None
    assert callable(Callback().on_train_batch_start), "only the objects at hand are changed"
    assert callable(watching.on_train_epoch_end)

    class Tiny(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return self.weight * 1

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            called.append("validated")

        def on_before_backward(self, loss: torch.Tensor) -> None:
            called.append("module")

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = pl.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        callbacks=[watching, idle, given],
    )
    module = Tiny()
    pass_over_idle_hooks([module])
    assert module.on_before_zero_grad is None and callable(Tiny().on_before_zero_grad)
    trainer.fit(module, [torch.zeros(2)], [torch.zeros(1)])  # a tensor is a loader of as many batches
    trained = [name for name in called if name != "validated"]
    assert trained == ["lambda", "module", "base", "more"] * 2
    assert called.count("validated") == 2, "once before the first epoch, and once after it"
