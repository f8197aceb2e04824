"""Mixed precision: which 16 bits a device has, and what float16's loss scaling is doing."""

import platform
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision as MixedPrecisionPlugin

from errors import LoupeError

__all__ = ["LossScale", "cpu_has_bfloat16", "resolve_precision", "uses_cuda"]


def uses_cuda(accelerator: str) -> bool:
    """Whether the Trainer's accelerator of this name computes on CUDA here."""
    return accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available()


def resolve_precision(enabled: bool, dtype: str, accelerator: str) -> str:
    """Lightning's name for a precision.

    Args:
        enabled: False is plain float32.
        dtype: auto takes bfloat16 where the device computes in it (CUDA from Ampere on, newer CPUs), else float16, and
            on a CPU float32, which is faster there than 16 bits that have to be imitated.
        accelerator: The Trainer's choice: ``cpu``, ``gpu``, ``cuda``, ``mps``, ``auto``.

    >>> resolve_precision(True, "bfloat16", "cpu")
    'bf16-mixed'
    """
    if not enabled:
        return "32-true"
    on_cuda = uses_cuda(accelerator)
    on_mps = accelerator in ("gpu", "mps", "auto") and torch.backends.mps.is_available()
    match dtype:
        case "float16":
            if not (on_cuda or on_mps):
                # Lightning would take bfloat16 instead, with a warning (2.6).
                raise LoupeError(
                    "training.mixed_precision.dtype: float16 needs a GPU, and this run is on the CPU; "
                    "use bfloat16 or auto"
                )
            return "16-mixed"
        case "bfloat16":
            return "bf16-mixed"
        case "auto":
            if on_cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
                return "16-mixed"
            on_cpu = accelerator in ("cpu", "auto") and not (on_cuda or on_mps)
            return "32-true" if on_cpu and not cpu_has_bfloat16() else "bf16-mixed"
        case _:
            raise AssertionError(dtype)


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AVX512-BF16, AMX); others than x86 are taken to."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    known = [getattr(torch.cpu, name) for name in names if hasattr(torch.cpu, name)]
    return platform.machine() not in ("x86_64", "AMD64") or not known or any(ask() for ask in known)


class LossScale(Callback):
    """Logs float16's loss scale and the number of optimizer steps skipped for overflow, once an epoch."""

    def __init__(self) -> None:
        self.skipped = 0
        self._before = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the scale; it falls exactly when a step is skipped."""
        self._before = self._scale(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a skipped step."""
        if self._scale(trainer) < self._before:
            self.skipped += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log both."""
        pl_module.log("train/loss_scale", self._scale(trainer))
        pl_module.log("train/skipped_steps", float(self.skipped))

    def state_dict(self) -> dict[str, int]:
        """How many were skipped so far."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on counting."""
        self.skipped = int(state_dict["skipped"])

    def _scale(self, trainer: Trainer) -> float:
        plugin = trainer.precision_plugin
        assert isinstance(plugin, MixedPrecisionPlugin) and plugin.scaler is not None
        return float(plugin.scaler.get_scale())
