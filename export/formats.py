"""The formats by name: which options each has, and writing a file of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from datamodules import LoupeDataModule
from errors import LoupeError, unknown
from export.executorch_format import write_executorch
from export.int8 import quantize_onnx
from export.litert_format import write_litert
from export.onnx_format import stamp, write_onnx
from export.options import OPSET, Export
from export.pictures import PictureFiles
from export.program import Program
from export.runtimes import FORMATS
from export.torch_format import write_torch_export

__all__ = ["check_options", "write_artefact"]


def check_options(options: Export) -> None:
    """LoupeError for values that mean nothing, or that do not go together."""
    if options.format not in FORMATS:
        raise unknown("export.format", options.format, FORMATS)
    if options.int8.enabled and options.format != "onnx":
        raise LoupeError(
            f"export.int8 is for ONNX, and export.format is {options.format}; use export.format=onnx, or leave it out"
        )
    if options.opset is not None and options.format != "onnx":
        raise LoupeError(
            f"export.opset is of ONNX, and export.format is {options.format}; use export.format=onnx, or leave it out"
        )
    if options.opset is not None and options.opset < OPSET:
        raise LoupeError(f"export.opset is {options.opset}; the oldest that can be written is {OPSET}")
    if options.picture_size is not None and min(options.picture_size) < 1:
        raise LoupeError(
            f"export.picture_size is {list(options.picture_size)}; it is height and width in pixels, or null"
        )
    for key, value in (("pictures", options.pictures), ("int8.pictures", options.int8.pictures)):
        if value is not None and value < 1:
            raise LoupeError(f"export.{key} is {value}; it is a number of pictures from 1 on")
    for key in ("max_error", "max_metric_difference"):
        bound = getattr(options, key)
        if bound is not None and not bound >= 0:
            raise LoupeError(f"export.{key} is {bound}; it is a difference from 0 on")


def write_artefact(
    program: Program,
    path: Path,
    options: Export,
    *,
    metadata: Mapping[str, Any],
    files: PictureFiles,
    data: LoupeDataModule,
) -> None:
    """Write the program in the format of the options.

    ONNX and torch.export keep the metadata in the file; the other two have it in the JSON beside it alone.

    Args:
        program: From `create_program`.
        path: The file.
        options: The section `export`.
        metadata: Plain values.
        files: Reads the pictures that int8 takes its ranges from.
        data: Set up, for their paths.
    """
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    pair = _example(program, 2)
    match options.format:
        case "onnx":
            if not options.int8.enabled:
                write_onnx(program, pair, path, opset=options.opset or OPSET, metadata=texts)
                return
            plain = path.with_name(f"float32-{path.name}")
            try:
                write_onnx(program, pair, plain, opset=options.opset or OPSET, metadata=texts)
                quantize_onnx(plain, path, files.of(data.samples["train"].paths, options.int8.pictures))
                stamp(path, texts)
            finally:
                plain.unlink(missing_ok=True)
        case "torch_export":
            write_torch_export(program, pair, path, metadata=texts)
        case "executorch":
            write_executorch(program, pair[:1], path)
        case "litert":
            write_litert(program, pair[:1], path)
        case _:
            raise unknown("export.format", options.format, FORMATS)


def _example(program: Program, count: int) -> torch.Tensor:
    """Pictures to trace with: (count, C, H, W), noise; of the fixed size, else of one that is no special case."""
    resample, generator = program.resample, torch.Generator().manual_seed(0)
    height, width = resample.picture_size or (resample.size_hw[0] + 37, resample.size_hw[1] + 22)
    noise = torch.rand(count, resample.in_channels, height, width, generator=generator)
    return noise if resample.floats else (noise * 255).to(torch.uint8)
