"""The section `export:` of a config: what a trained model is turned into."""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["OPSET", "Export", "Quantization"]

#: What PyTorch's exporter writes; newer ones are converted from it.
OPSET = 18


@dataclass
class Quantization:
    """Weights and activations of convolutions and linear layers in 8 bits, for ONNX.

    Attributes:
        enabled: Quantise.
        pictures: Training pictures from which the ranges of the activations are taken.
    """

    enabled: bool = False
    pictures: int = 128


@dataclass
class Export:
    """What a trained model is turned into, and how equal it must be.

    Attributes:
        format: onnx; torch_export (a .pt2 of torch.export); executorch (a .pte for phones and boards); litert (a
            .tflite).
        directory: Where to; null: `export` in the run directory.
        picture_size: Height and width of the pictures that it takes, pixels; null: any size where the format can, else
            the network's own.
        opset: Of ONNX; null: 18.
        int8: Quantisation, for ONNX.
        pictures: Validation pictures that the parity gate compares; null: all.
        max_error: Largest difference of a probability, or of a box as a share of the picture's side, between the
            exported model and `predict`; null: 0.001, and no bound with int8.
        max_metric_difference: Largest difference of the score (accuracy, IoU, box IoU); null: 0.002, with int8 0.02.
    """

    format: Literal["onnx", "torch_export", "executorch", "litert"] = "onnx"
    directory: str | None = None
    picture_size: tuple[int, int] | None = None
    opset: int | None = None
    int8: Quantization = field(default_factory=Quantization)
    pictures: int | None = None
    max_error: float | None = None
    max_metric_difference: float | None = None
