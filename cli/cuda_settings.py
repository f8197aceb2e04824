"""What makes CUDA fast and is off in torch: convolutions by trial, and TF32 in products."""

from typing import Any

import torch

from callbacks import uses_cuda

__all__ = ["cuda_settings"]


def cuda_settings(command: str, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the Trainer for a run on CUDA, where the user gave none; nothing elsewhere.

    cuDNN tries its algorithms for each shape that comes (``benchmark``) in a fit, whose pictures have one size; not
    with ``trainer.deterministic``, since another algorithm sums in another order. What a network multiplies in float32
    is rounded to TF32, as torch has it for convolutions already; the environment variable NVIDIA_TF32_OVERRIDE=0
    switches both off. Losses and scores have no such products.

    Args:
        command: fit, validate, ...
        given: What the user gave under `trainer`.
    """
    if not uses_cuda(str(given.get("accelerator", "auto"))):
        return {}
    if torch.get_float32_matmul_precision() == "highest":
        torch.set_float32_matmul_precision("high")
    if command != "fit" or given.get("benchmark") is not None or given.get("deterministic"):
        return {}
    return {"benchmark": True}
