"""ExecuTorch: a .pte for phones and boards, run by XNNPACK's kernels where they exist."""

from pathlib import Path

import torch

from export.program import Program
from export.requirements import needs

__all__ = ["write_executorch"]


def write_executorch(program: Program, example: torch.Tensor, path: Path) -> None:
    """Write the program for one picture at a time, all of the size of the example.

    Args:
        program: From `create_program`, with a picture size.
        example: One picture (1, C, H, W).
        path: The file.

    Raises:
        LoupeError: executorch is missing.
    """
    needs("executorch", extra="executorch")
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner  # pyright: ignore[reportMissingImports]
    from executorch.exir import to_edge_transform_and_lower  # pyright: ignore[reportMissingImports]

    exported = torch.export.export(program, (example,))
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    path.write_bytes(lowered.buffer)
