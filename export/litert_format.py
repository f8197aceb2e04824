"""LiteRT, formerly TensorFlow Lite: a .tflite for phones and microcontrollers."""

from pathlib import Path

import torch

from export.program import Program
from export.requirements import needs

__all__ = ["write_litert"]


def write_litert(program: Program, example: torch.Tensor, path: Path) -> None:
    """Write the program for one picture at a time, all of the size of the example.

    Args:
        program: From `create_program`, with a picture size.
        example: One picture (1, C, H, W).
        path: The file.

    Raises:
        LoupeError: litert-torch is missing.
    """
    needs("litert_torch", "ai_edge_litert", extra="litert")
    import litert_torch  # pyright: ignore[reportMissingImports]

    litert_torch.convert(program, (example,)).export(str(path))
