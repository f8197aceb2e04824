"""ONNX: for ONNX Runtime on servers, desktops, phones and in browsers."""

from collections.abc import Mapping
from pathlib import Path

import torch

from errors import LoupeError
from export.program import Program
from export.requirements import needs

__all__ = ["stamp", "write_onnx"]


def write_onnx(
    program: Program, example: torch.Tensor, path: Path, *, opset: int, metadata: Mapping[str, str]
) -> None:
    """Write the program; the batch, and without a fixed picture size height and width, may be any.

    Args:
        program: From `create_program`.
        example: Two pictures (2, C, H, W), of the fixed size where there is one.
        path: The file.
        opset: Version of ONNX's operators.
        metadata: Kept in the file as ``metadata_props``.

    Raises:
        LoupeError: onnx or onnxscript is missing; an opset that the exporter does not write.
    """
    needs("onnx", "onnxscript", extra="export")
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise LoupeError(
            f"export.opset is {opset}; the newest that onnx {onnx.__version__} knows is {newest}"
        )
    batch = torch.export.Dim("batch")
    height, width = (torch.export.Dim(name, min=2) for name in ("height", "width"))
    sides = {} if program.resample.picture_size else {2: height, 3: width}
    exported = torch.onnx.export(
        program,
        (example,),
        dynamo=True,
        opset_version=opset,
        input_names=["image"],
        output_names=list(program.names),
        dynamic_shapes=({0: batch, **sides},),
        verbose=False,
    )
    assert exported is not None
    model = exported.model_proto
    written = next(entry.version for entry in model.opset_import if entry.domain == "")
    if written != opset:  # the exporter only says so in a log
        raise LoupeError(f"export.opset is {opset}, and only {written} could be written; use that")
    onnx.save_model(model, str(path))
    stamp(path, metadata)


def stamp(path: Path, metadata: Mapping[str, str]) -> None:
    """Put the metadata into a file in place of its own, name no operator sets that are not used, and check it."""
    import onnx

    model = onnx.load(str(path))
    used = {node.domain for node in model.graph.node}
    unused = [entry for entry in model.opset_import if entry.domain and entry.domain not in used]
    for entry in unused:
        model.opset_import.remove(entry)
    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name = "loupe"
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path))
