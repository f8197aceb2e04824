"""Each format in its own runtime: a file -> what takes pictures and gives answers."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from errors import unknown
from export.requirements import needs

__all__ = ["FORMATS", "Runtime", "load_runtime", "torch_threads"]

#: Name of a format: the suffix of its files.
FORMATS = {"onnx": ".onnx", "torch_export": ".pt2", "executorch": ".pte", "litert": ".tflite"}

Answers = Mapping[str, np.ndarray]


class Runtime(Protocol):
    """Takes pictures (B, C, H, W) and gives the outputs of the program by name."""

    def __call__(self, image: np.ndarray) -> Answers: ...


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        needs("onnxruntime", extra="export")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session: Any = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.names = [output.name for output in self.session.get_outputs()]

    def __call__(self, image: np.ndarray) -> Answers:
        return dict(zip(self.names, self.session.run(None, {"image": image}), strict=True))


class TorchExportRuntime:
    """PyTorch without Loupe."""

    def __init__(self, path: Path, names: Sequence[str], threads: int) -> None:
        self.module = torch.export.load(path).module()
        self.names, self.threads = names, threads

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Answers:
        with torch_threads(self.threads):
            outputs = self.module(torch.from_numpy(image))
        return {name: value.numpy() for name, value in zip(self.names, outputs, strict=True)}


class ExecutorchRuntime:
    """ExecuTorch's runtime; it chooses its number of threads itself."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        needs("executorch", extra="executorch")
        from executorch.runtime import Runtime as Executorch  # pyright: ignore[reportMissingImports]

        self.method: Any = Executorch.get().load_program(str(path)).load_method("forward")
        self.names = names

    def __call__(self, image: np.ndarray) -> Answers:
        outputs = self.method.execute([torch.from_numpy(image)])
        # the memory of the outputs is used again by the next call
        return {name: value.numpy().copy() for name, value in zip(self.names, outputs, strict=True)}


class LitertRuntime:
    """LiteRT's interpreter with XNNPACK."""

    def __init__(self, path: Path, names: Sequence[str], threads: int) -> None:
        needs("ai_edge_litert", extra="litert")
        from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

        self.interpreter: Any = Interpreter(model_path=str(path), num_threads=threads)
        signature = next(iter(self.interpreter.get_signature_list().values()))
        self.run: Any = self.interpreter.get_signature_runner()
        self.takes, self.names = signature["inputs"][0], names

    def __call__(self, image: np.ndarray) -> Answers:
        outputs = self.run(**{self.takes: image})
        return {name: outputs[f"output_{place}"] for place, name in enumerate(self.names)}


def load_runtime(format: str, path: Path, names: Sequence[str], threads: int = 1) -> Runtime:
    """The runtime of a format with a file in it; LoupeError where it is not installed.

    Args:
        format: onnx, torch_export, executorch or litert.
        path: The file.
        names: Of the program's outputs, in their order.
        threads: How many it may use, where the runtime lets itself be told.
    """
    match format:
        case "onnx":
            return OnnxRuntime(path, threads)
        case "torch_export":
            return TorchExportRuntime(path, names, threads)
        case "executorch":
            return ExecutorchRuntime(path, names)
        case "litert":
            return LitertRuntime(path, names, threads)
        case _:
            raise unknown("export.format", format, FORMATS)


@contextmanager
def torch_threads(count: int) -> Generator[None]:
    """PyTorch with this number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
