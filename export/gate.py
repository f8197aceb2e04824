"""Turning a trained model into a file that is only handed out once it was shown to answer as `predict` does."""

import importlib.metadata
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import nn

from datamodules import LoupeDataModule
from errors import LoupeError
from export.formats import check_options, write_artefact
from export.latency import measure_latency
from export.options import OPSET, Export
from export.parity import Bounds, Parity, measure_parity
from export.pictures import PictureFiles
from export.program import Program, create_program
from export.runtimes import FORMATS, load_runtime
from export.unproven import unproven_file
from inference.roi import Region
from lightning_modules import LoupeModule

__all__ = ["ExportResult", "export_model"]

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "executorch", "litert-torch", "ai-edge-litert")


@dataclass(frozen=True)
class ExportResult:
    """What came of an export.

    Attributes:
        passed: Whether the artefact is there.
        artefact: The file; where the gate did not let it pass, the file that would have been.
        report: The JSON beside it.
        content: What is in that.
        parity: The comparison.
    """

    passed: bool
    artefact: Path
    report: Path
    content: Mapping[str, Any]
    parity: Parity

    def lines(self) -> list[str]:
        """A few lines for the terminal."""
        parity, bounds = self.parity, self.content["bounds"]
        speed, score = self.content["latency"], (parity.predicted_score, parity.exported_score)
        bound = "no bound" if bounds["max_error"] is None else f"bound {bounds['max_error']:g}"
        mode = f"{self.content['format']} {self.content['precision']}"
        rows = [
            ("pictures compared", f"{parity.pictures} of the val part, from file to answer"),
            ("max error", f"{parity.max_error:.2g} ({bound}), mean {parity.mean_error:.2g}"),
            ("equal answers", f"{100 * parity.equal_answers:.2f} %"),
            (
                parity.metric,
                f"{_shown(score[1])}, by predict {_shown(score[0])} (bound {bounds['max_metric_difference']:g})",
            ),
        ]
        whole = parity.predicted_score_of_whole_files
        if whole is not None:
            height, width = self.content["metadata"]["input"]["picture_size"]
            rows.append(
                (
                    "",
                    f"both of pictures brought to {height}x{width} first; predict, of whole files: {_shown(whole)}",
                )
            )
        if parity.left_out:
            rows.append(("left out", f"{parity.left_out} that cannot be read"))
        if parity.read_otherwise:
            rows.append(
                (
                    "large JPEGs",
                    f"{parity.read_otherwise}, which predict decodes smaller: max error "
                    f"{parity.max_error_from_files:.2g} from their files",
                )
            )
        if parity.windows_differ:
            rows.append(
                ("regions differ", f"{parity.windows_differ} by a pixel; only in the {parity.metric}")
            )
        one = "" if speed["one_thread_ms"] is None else f"{speed['one_thread_ms']:.1f} ms on one thread, "
        rows.append(("size", f"{self.content['size_bytes'] / 1e6:.2f} MB"))
        rows.append(
            (
                "one picture",
                f"{one}{speed['all_threads_ms']:.1f} ms on {speed['threads']} threads; PyTorch "
                f"{speed['pytorch_one_thread_ms']:.1f} ms on one ({speed['picture_hw'][0]}x{speed['picture_hw'][1]})",
            )
        )
        end = (
            f"passed: {self.artefact}"
            if self.passed
            else f"NOT passed, no file is left: {'; '.join(parity.failed)}"
        )
        table = [f"  {name:<18} {value}" for name, value in rows]
        return [f"export: {mode}", *table, f"  {end}", f"  figures: {self.report}"]


def export_model(
    module: LoupeModule,
    data: LoupeDataModule,
    options: Export,
    *,
    folder: str | Path,
    response: nn.Module | None = None,
    region: Region | None = None,
    facts: Mapping[str, Any] | None = None,
    name: str = "model",
) -> ExportResult:
    """Write a model as a file, run that in its own runtime on validation pictures, and keep it if it is equal enough.

    The program is float32 and is compared with float32, also where the training was in mixed precision. The file is
    written under another name, which begins with ``unproven-``, and renamed when it has passed; otherwise it is
    deleted, and with it an older file of the name. The JSON beside it is always written.

    Args:
        module: Built, with its weights; goes to the CPU, and answers with ``response`` from now on.
        data: Set up, for the validation pictures, and for int8 also the training pictures.
        options: The section `export`.
        folder: Where to.
        response: What answers in place of the network; None: it.
        region: The cropper in front.
        facts: Plain values that go into the metadata, such as the checkpoint and the hash of the config.
        name: Of the file, without suffix.

    Raises:
        LoupeError: options that do not go together, a missing package, a model that cannot be exported, no pictures.
    """
    check_options(options)
    if region is not None and options.format == "litert":
        raise LoupeError(
            "export.format=litert cannot take the cropper in front (roi): its converter has no 64-bit floats, which "
            "the letterbox of a window needs; use onnx, torch_export or executorch, or export the two models apart"
        )
    folder = Path(folder)
    stem = f"{name}_int8" if options.int8.enabled else name
    artefact = folder / f"{stem}{FORMATS[options.format]}"
    report = artefact.with_name(f"{artefact.name}.json")
    module.to("cpu").eval()
    module.answer_with(response)
    if region is not None:
        region.module.to("cpu").eval()
    size = _picture_size(module, options)
    files = PictureFiles(
        module.input_contract,
        picture_size=size,
        floats=_are_floats(module, data, options),
        skips=data.read.on_error == "skip",
    )
    program = create_program(module, response, region, floats=files.floats, picture_size=size)
    metadata = _metadata(module, program, options, region, facts or {})
    with unproven_file(artefact) as unproven:
        write_artefact(program, unproven, options, metadata=metadata, files=files, data=data)
        runtime = load_runtime(options.format, unproven, program.names)
        parity = measure_parity(runtime, module, data, options, files=files, region=region)
        bounds = Bounds.of(options)
        passed = not parity.judged_by(bounds).failed
        first = next(files.of(data.samples["val"].paths, options.pictures))
        content = {
            "passed": passed,
            "failed": parity.failed,
            "artefact": artefact.name,
            "format": options.format,
            "precision": metadata["precision"],
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
            "size_bytes": unproven.stat().st_size,
            "bounds": asdict(bounds),
            "parity": {k: v for k, v in asdict(parity).items() if k != "failed"}
            | {"metric_difference": parity.metric_difference},
            "latency": measure_latency(program, options.format, unproven, first.batch),
            "versions": _versions(),
            "metadata": metadata,
        }
        artefact.unlink(missing_ok=True)
        if passed:
            os.replace(unproven, artefact)  # noqa: PTH105  over an existing file on every system
        _write_json(report, content)
    return ExportResult(passed, artefact, report, content, parity)


def _picture_size(module: LoupeModule, options: Export) -> tuple[int, int] | None:
    if options.picture_size is not None or options.format in ("onnx", "torch_export"):
        return None if options.picture_size is None else (options.picture_size[0], options.picture_size[1])
    height, width = module.input_contract["image_size"]
    return int(height), int(width)


def _are_floats(module: LoupeModule, data: LoupeDataModule, options: Export) -> bool:
    """Whether any picture that the file will be given here has more than 8 bits, so that all come as float32."""
    if not len(data.samples["val"]):
        raise LoupeError("the parity gate compares validation pictures, and the data has none")
    parts = {"val": options.pictures} | ({"train": options.int8.pictures} if options.int8.enabled else {})
    # what cannot be read is told by those who read it for its content
    files = PictureFiles(module.input_contract, picture_size=None, floats=False, skips=True)
    return any(
        picture.image.is_floating_point()
        for part, count in parts.items()
        for picture in files.of(data.samples[part].paths, count)
    )


def _metadata(
    module: LoupeModule, program: Program, options: Export, region: Region | None, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What a program must know to use the file, plain values."""
    size, calibration = program.resample.picture_size, module.calibration
    channels = int(module.input_contract["in_channels"])
    one = options.format in ("executorch", "litert")
    return {
        **facts,
        "loupe": _version("loupe-vision"),
        "task": type(module).__name__,
        "class_names": list(module.class_names or []),
        "multi_label": module.multi_label,
        "outputs": list(program.names),
        "input": {
            "name": "image",
            "dtype": "float32" if program.resample.floats else "uint8",
            "range": [0, 1] if program.resample.floats else [0, 255],
            "zero_to_one_of": _zero_to_one_of(module) if program.resample.floats else None,
            "layout": "BCHW",
            "channels": {3: "RGB", 1: "grey"}.get(channels, f"{channels} as in the file"),
            "orientation": "upright, EXIF orientation applied",
            "batch": 1 if one else "any",
            "picture_size": "any" if size is None else list(size),
            "inside": "resize, normalisation, network, probabilities, and the way back to the picture's pixels",
        },
        "network_input": dict(module.input_contract),
        "thresholds": None if calibration.thresholds is None else list(calibration.thresholds),
        "threshold_metric": calibration.metric,
        "temperature": calibration.temperature,
        "roi": None if region is None else {"threshold": region.threshold, "margin": region.margin},
        "precision": "int8" if options.int8.enabled else "float32",
        "opset": (options.opset or OPSET) if options.format == "onnx" else None,
    }


def _zero_to_one_of(module: LoupeModule) -> dict[str, list[float]]:
    """Which values of a file are 0 and 1 in the input, by the type of its values."""
    given = module.input_contract.get("value_range")
    deep = (
        {"uint16": [0.0, 65535.0], "float": [0.0, 1.0]}
        if given is None
        else {"deeper": [float(v) for v in given]}
    )
    return {"uint8": [0.0, 255.0], **deep}


def _versions() -> dict[str, str]:
    return {name: version for name in _PACKAGES if (version := _version(name)) is not None}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_name(f"unproven-{path.name}")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)  # noqa: PTH105


def _shown(score: float | None) -> str:
    return "none" if score is None else f"{score:.4f}"
