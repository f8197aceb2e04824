"""torch.export: a .pt2 that PyTorch runs without Loupe, and compiles ahead of time for a server."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from export.program import Program

__all__ = ["write_torch_export"]


def write_torch_export(
    program: Program, example: torch.Tensor, path: Path, *, metadata: Mapping[str, str]
) -> None:
    """Write the program; the batch, and without a fixed picture size height and width, may be any from 1 on.

    Args:
        program: From `create_program`.
        example: Two pictures (2, C, H, W), of the fixed size where there is one.
        path: The file.
        metadata: Kept in the file as ``extra_files``.
    """
    sides = {} if program.resample.picture_size else dict.fromkeys((2, 3), torch.export.Dim.DYNAMIC)
    exported = torch.export.export(
        program, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC, **sides},)
    )
    with warnings.catch_warnings():
        # 2026-11: torch 2.15 says of each file that it is written in a format that older versions of torch do not read
        torch.export.save(exported, path, extra_files=dict(metadata))
