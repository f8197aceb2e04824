"""What 8 and 512 GPUs would do, by arithmetic: the tables of docs/scale.md. Nothing here is measured on a GPU.

    python benchmarks/on_paper.py

Counted here: parameters, and the FLOPs of the forward pass (torch.utils.flop_counter; a multiplication and an addition
are two). Measured here: pictures that a core reads a second (docs/data.md) and the bytes of such a JPEG. From the
vendor: what the links carry and what the GPU could compute at most.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# NVIDIA H200 data sheet, SXM: 1,979 TFLOPS in bfloat16 "with sparsity", half of it without; NVLink 900 GB/s, both ways.
PEAK_FLOPS = 989e12
NVLINK_BYTES = 450e9
# DGX H200 (NVIDIA DGX BasePOD reference architecture): 8 ConnectX-7 of 400 Gb/s, 112 cores, for 8 GPUs.
INFINIBAND_BYTES = 400e9 / 8
GPUS_A_NODE = 8
CORES_A_GPU = 14
#: Pictures of 500x375 that Loupe reads on one core a second (docs/data.md, AMD EPYC, 2026-11-24).
READ_A_CORE = 781
#: Name, classes, picture size, pictures of a GPU's step.
MODELS = (
    ("cls_mobilenetv3", 1000, 224, 256),
    ("cls_efficientnetb0", 1000, 224, 256),
    ("cls_resnet50v2", 1000, 224, 256),
    ("seg_unet", 21, 512, 32),
    ("seg_resnet50_unet", 21, 512, 32),
)


class Counted(NamedTuple):
    """A network: its trainable parameters, and FLOPs of the forward pass of a picture."""

    parameters: int
    forward_flops: float


def sent_bytes(parameters: int, gpus: int) -> float:
    """What each GPU sends in a step: a ring's all-reduce of float32 gradients, 2 (N - 1) / N times their bytes.

    >>> sent_bytes(1_000_000, 8), sent_bytes(1_000_000, 1)
    (7000000.0, 0.0)
    """
    return 4 * parameters * 2 * (gpus - 1) / gpus


def reduce_s(parameters: int, gpus: int) -> float:
    """Seconds of that at the full speed of the slowest link, latency left out.

    Within a node each GPU sends over NVLink. Beyond, the data goes around in eight rings, each over a network card of
    its own, so that a node's boundary carries it at eight times the speed of a card, less than NVLink.

    >>> round(1e6 * reduce_s(1_000_000, 8), 2), round(1e6 * reduce_s(1_000_000, 512), 2)
    (15.56, 19.96)
    """
    speed = NVLINK_BYTES if gpus <= GPUS_A_NODE else min(NVLINK_BYTES, GPUS_A_NODE * INFINIBAND_BYTES)
    return sent_bytes(parameters, gpus) / speed


def step_s(forward_flops: float, images: int, share: float) -> float:
    """Seconds of a step that computes at a share of the peak: the backward pass takes twice the forward's FLOPs.

    >>> step_s(989e9, 100, 0.5)
    0.6
    """
    return 3 * forward_flops * images / (share * PEAK_FLOPS)


def hidden_below(counted: Counted, images: int, gpus: int) -> float:
    """The share of the peak up to which the all-reduce takes no longer than the backward pass that it runs beside.

    Above 1 no GPU of this peak is fast enough to wait for it.

    >>> round(hidden_below(Counted(1_000_000, 1e9), 32, 8), 2)
    4.16
    """
    return 2 * counted.forward_flops * images / (PEAK_FLOPS * reduce_s(counted.parameters, gpus))


def images_a_second(counted: Counted, share: float) -> float:
    """Pictures that a GPU trains on a second.

    >>> images_a_second(Counted(1, 989e9 / 3), 0.25)
    250.0
    """
    return share * PEAK_FLOPS / (3 * counted.forward_flops)


def read_a_second(cores: float) -> float:
    """Pictures a second that so many cores read.

    >>> read_a_second(2)
    1562
    """
    return cores * READ_A_CORE


def count(name: str, classes: int, size: int) -> Counted:
    """Counts a model without computing anything: on the device `meta`."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from models import create_model

    with torch.device("meta"):
        network = create_model(name, num_classes=classes, weights=None)
    picture = torch.empty(2, 3, size, size, dtype=torch.uint8, device="meta")
    # The forward pass alone: of a backward pass through grouped convolutions torch 2.15 counts all groups' weights for
    # each group, 12 times too much for MobileNetV3; twice the forward's FLOPs is what ResNet-50 gives.
    with FlopCounterMode(display=False) as flops:
        network(picture)
    return Counted(
        sum(p.numel() for p in network.parameters() if p.requires_grad), flops.get_total_flops() / 2
    )


def jpeg_bytes() -> float:
    """The mean size of the 500x375 JPEGs that docs/data.md was measured with."""
    from benchmarks.scale_files import photo

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.jpg" for number in range(16)]
        for number, file in enumerate(files):
            photo(500, 375, file, number)
        return sum(file.stat().st_size for file in files) / len(files)


def tables() -> Iterator[str]:
    """The tables, as Markdown."""
    size = jpeg_bytes()
    counted = {name: count(name, classes, side) for name, classes, side, _ in MODELS}
    yield "| | parameters | FLOPs of a picture's step | sent by each of 8, of 512 GPUs | all-reduce of 8, of 512 |"
    yield "|---|---|---|---|---|"
    for name, _, side, images in MODELS:
        model = counted[name]
        sent = ", ".join(f"{sent_bytes(model.parameters, gpus) / 1e6:.0f} MB" for gpus in (8, 512))
        took = ", ".join(f"{1000 * reduce_s(model.parameters, gpus):.2f} ms" for gpus in (8, 512))
        yield (
            f"| {name}, {side} px, {images} a GPU | {model.parameters / 1e6:.1f} M "
            f"| {3 * model.forward_flops / 1e9:,.1f} G | {sent} | {took} |"
        )
    yield ""
    yield (
        "| | backward pass / all-reduce of 8, of 512 | pictures/s of a GPU at 10 % | cores for them "
        f"| JPEG bytes/s of 8, of 512 | {CORES_A_GPU} cores feed |"
    )
    yield "|---|---|---|---|---|---|"
    for name, _, _, images in MODELS:
        model = counted[name]
        hidden = ", ".join(f"{hidden_below(model, images, gpus):,.1f}" for gpus in (8, 512))
        rate = images_a_second(model, 0.1)
        input_bytes = ", ".join(_bytes(gpus * rate * size) for gpus in (8, 512))
        fed = read_a_second(CORES_A_GPU) / images_a_second(model, 1.0)
        yield f"| {name} | {hidden} | {rate:,.0f} | {rate / READ_A_CORE:,.1f} | {input_bytes} | {_share(fed)} |"
    yield ""
    yield f"A JPEG of 500x375 has {size / 1000:.0f} kB here."


def _share(value: float) -> str:
    return "all" if value > 1 else f"{100 * value:.2g} %"


def _bytes(value: float) -> str:
    return f"{value / 1e9:,.1f} GB" if value >= 1e9 else f"{value / 1e6:,.0f} MB"


if __name__ == "__main__":
    print("\n".join(tables()))
