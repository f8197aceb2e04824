"""ONNX in 8 bits: convolutions and linear layers, with ranges from real pictures."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from export.pictures import Picture
from export.requirements import needs

__all__ = ["QUANTIZED", "quantize_onnx"]

#: Operators that are quantised: the networks' layers. The resize rule is matrix products, which stay exact.
QUANTIZED = ("Conv", "Gemm")


def quantize_onnx(source: Path, target: Path, pictures: Iterator[Picture]) -> None:
    """Write a file of the same inputs and outputs whose convolutions and linear layers work in 8 bits.

    Weights have a scale for each output channel, activations one for each tensor, from their smallest and largest
    values over the pictures; quantised and dequantised in the graph (QDQ). Weights are signed and activations are not:
    the pair that x86 processors with VNNI multiply in one instruction. With both signed, MobileNetV3 took 2.5 times as
    long there (onnxruntime 1.32); older processors with AVX2 alone may saturate.
    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html

    Raises:
        LoupeError: onnx or onnxruntime is missing.
    """
    needs("onnx", "onnxruntime", extra="export")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # pyright: ignore[reportUntypedBaseClass]
        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            picture = next(pictures, None)
            return None if picture is None else {"image": picture.batch}

    prepared = target.with_name(f"prepared-{target.name}")
    # It advises on the root logger to do what is done here.
    logging.getLogger().addFilter(_is_no_advice)
    try:
        # norms are folded into the convolutions before them, so that they are quantised together
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        options: dict[str, Any] = {"ActivationSymmetric": False, "WeightSymmetric": True}
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=options,
        )
    finally:
        logging.getLogger().removeFilter(_is_no_advice)
        prepared.unlink(missing_ok=True)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.getMessage()
