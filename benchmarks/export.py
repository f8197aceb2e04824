"""Size and latency of the shipped configs' networks in ONNX Runtime, float32 and int8, with PyTorch beside.

    python benchmarks/export.py [--only cls_mobilenetv3]

Random weights, ranges for int8 from noise: times and sizes do not depend on them, scores would. Each program takes one
picture of its network's size, so the table holds normalisation, network and decoding, and no resizing; the last lines
are what resizing a photo adds. Times are medians of the calling thread's CPU time, which on one thread is what the wall
clock shows on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
import yaml  # noqa: E402

import lightning_modules  # noqa: E402
from export import create_program, load_runtime  # noqa: E402
from export.int8 import quantize_onnx  # noqa: E402
from export.latency import processor  # noqa: E402
from export.onnx_format import write_onnx  # noqa: E402
from export.pictures import PictureFiles  # noqa: E402
from export.resampling import Resample  # noqa: E402

PHOTOS = ((480, 640), (3000, 4000))


def built(config: Path) -> lightning_modules.LoupeModule:
    """The config's module with random weights."""
    settings: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    cls = getattr(lightning_modules, settings["model"]["class_path"].rpartition(".")[2])
    module = cls(**settings["model"]["init_args"])
    side = settings["data"]["init_args"]["image_size"]
    module.class_names = ["object"] if cls is lightning_modules.CropModule else ["one", "two"]
    module.restoring = True
    rule = {"image_size": [side, side], "resize": "letterbox", "in_channels": 3}
    module.input_contract = {**rule, "interpolation": module.input_interpolation}
    module.build()
    return module.eval()


def cpu_ms(call: Callable[[], Any], runs: int = 15) -> float:
    """Median of the calling thread's CPU time, after two calls that do not count."""
    times: list[float] = []
    for number in range(runs + 2):
        began = time.thread_time()
        call()
        if number >= 2:
            times.append(time.thread_time() - began)
    return 1000 * statistics.median(times)


def row(config: Path, folder: Path) -> str:
    module = built(config)
    size = (int(module.input_contract["image_size"][0]), int(module.input_contract["image_size"][1]))
    program = create_program(module, picture_size=size)
    pictures = torch.randint(0, 256, (4, 3, *size), dtype=torch.uint8)
    plain, small = folder / f"{config.stem}.onnx", folder / f"{config.stem}_int8.onnx"
    write_onnx(program, pictures[:2], plain, opset=18, metadata={})
    files = PictureFiles(module.input_contract, picture_size=None, floats=False)
    quantize_onnx(plain, small, (files.as_picture(picture) for picture in pictures))
    cells = [f"`{config.stem}`", f"{size[0]}x{size[1]}"]
    one = pictures[:1].numpy()
    for path in (plain, small):
        runtime = load_runtime("onnx", path, program.names)
        cells += [f"{path.stat().st_size / 1e6:.1f}", f"{cpu_ms(lambda runtime=runtime: runtime(one)):.1f}"]
        path.unlink()
    module.network.to(memory_format=torch.channels_last)  # pyright: ignore
    image = pictures[:1].contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        cells.append(f"{cpu_ms(lambda: module.network(image)):.1f}")
    return f"| {' | '.join(cells)} |"


def resizing(folder: Path) -> list[str]:
    """What the resize rule adds for photos."""
    lines: list[str] = []
    module = built(ROOT / "configs" / "cls_mobilenetv3.yaml")
    program = create_program(module)
    write_onnx(
        program, torch.zeros(2, 3, 240, 320, dtype=torch.uint8), folder / "any.onnx", opset=18, metadata={}
    )
    runtime = load_runtime("onnx", folder / "any.onnx", program.names)
    for hw in ((224, 224), *PHOTOS):
        picture = torch.randint(0, 256, (1, 3, *hw), dtype=torch.uint8)
        whole = cpu_ms(lambda picture=picture: runtime(picture.numpy()), 7)
        resample = Resample(module.input_contract)
        alone = cpu_ms(lambda picture=picture, resample=resample: resample(picture), 7)
        lines.append(
            f"cls_mobilenetv3, any size, {hw[0]}x{hw[1]}: {whole:.1f} ms; PyTorch resizes in {alone:.1f} ms"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="the stem of one config")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    print(f"{processor()}, one thread, PyTorch {torch.__version__}")
    print("| config | picture | float32 MB | ms | int8 MB | ms | PyTorch ms |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for config in sorted((ROOT / "configs").glob("*_*.yaml")):
            if options.only in (None, config.stem):
                print(row(config, Path(folder)), flush=True)
        if options.only is None:
            print("\n".join(resizing(Path(folder))))


if __name__ == "__main__":
    main()
