"""Exported models in their own runtimes, and the gate in front of them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from errors import LoupeError
from export import Export, ExportResult, Quantization, create_program, export_model, load_runtime
from export.parity import Bounds, Parity
from inference import Inference, Predictor, Region, Tiles, create_response
from lightning_modules import CropModule, LoupeModule
from lightning_modules.calibration import Calibration
from tests.exported import tiny_data, tiny_module

onnx = pytest.importorskip("onnx", reason="needs the extra export")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`exported(task)`: the module and what came of its export to ONNX, once."""

    @cache
    def export(task: str) -> tuple[LoupeModule, ExportResult]:
        folder = tmp_path_factory.mktemp(task)
        module = tiny_module(task)
        module.calibration = (
            Calibration(thresholds=(0.6,), metric="f1") if task == "segmentation" else Calibration()
        )
        result = export_model(
            module, tiny_data(task, folder / "data"), Export(), folder=folder / "export", facts=FACTS
        )
        return module, result

    return export


FACTS = {"config_sha256": "abc", "checkpoint": "best.ckpt"}
TASKS = ("classification", "segmentation", "cropping")


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("task", TASKS)
def test_the_artefact_passes_and_its_figures_lie_beside_it(exported: Any, task: str) -> None:
    module, result = exported(task)
    assert result.passed and result.artefact.name == "model.onnx"
    assert sorted(path.name for path in result.artefact.parent.iterdir()) == ["model.onnx", "model.onnx.json"]
    content = json.loads(result.report.read_text())
    assert content["passed"] and content["failed"] == []
    assert content["parity"]["pictures"] == 4
    assert content["parity"]["max_error"] <= content["bounds"]["max_error"] == 0.001
    assert content["parity"]["predicted_score"] == pytest.approx(
        content["parity"]["exported_score"], abs=0.002
    )
    assert content["size_bytes"] == result.artefact.stat().st_size
    assert content["latency"]["one_thread_ms"] > 0
    text = "\n".join(result.lines())
    assert "4 of the val part" in text and f"passed: {result.artefact}" in text
    assert result.parity.metric in text and set(content["metadata"]["outputs"]) >= {
        {"box": "confidence"}.get(module.link.kind, "probs")
    }


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("shape", [(1, 3, 40, 55), (3, 3, 20, 20), (2, 3, 32, 32)])
def test_any_number_of_pictures_of_any_size(exported: Any, task: str, shape: tuple[int, ...]) -> None:
    module, result = exported(task)
    image = pictures(*shape)
    found = load_runtime("onnx", result.artefact, ())(image)
    predictor = Predictor(module, torch.device("cpu"))
    assert all(len(value) == shape[0] for value in found.values())
    for number, picture in enumerate(image):
        want = predictor.predict(np.ascontiguousarray(picture.transpose(1, 2, 0)))
        row = want["row"]
        match task:
            case "classification":
                assert found["probs"][number].tolist() == pytest.approx(
                    [row["prob_one"], row["prob_two"]], abs=1e-4
                )
            case "segmentation":
                assert found["probs"].shape == (shape[0], 2, *shape[2:])
                assert found["mask"].dtype == np.uint8
                assert float((found["mask"][number] == want["mask"]).mean()) > 0.999
            case _:
                box = [row[name] for name in ("x1", "y1", "x2", "y2")]
                assert found["box_xyxy_px"][number].tolist() == pytest.approx(box, abs=0.02)
                assert float(found["confidence"][number]) == pytest.approx(row["confidence"], abs=1e-4)


def test_the_file_says_what_it_is(exported: Any) -> None:
    _, result = exported("segmentation")
    model = onnx.load(str(result.artefact))
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["class_names"]) == ["one", "two"]
    assert json.loads(told["thresholds"]) == [0.6]
    assert told["config_sha256"] == "abc" and told["task"] == "SegmentationModule"
    assert json.loads(told["input"])["dtype"] == "uint8"
    assert json.loads(told["network_input"])["image_size"] == [32, 32]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert [node.name for node in model.graph.output] == ["probs", "mask"]


class _Otherwise(nn.Module):
    """A network that answers otherwise once it is exported, as a wrongly translated operator would."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        outputs = self.network(image)
        return outputs.roll(1, 1) if torch.compiler.is_exporting() else outputs


def test_an_artefact_that_answers_otherwise_is_withheld(tmp_path: Path) -> None:
    module, data = tiny_module("segmentation"), tiny_data("segmentation", tmp_path / "data")
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "model.pt2").write_bytes(b"of an earlier export")
    result = export_model(
        module, data, Export(format="torch_export"), folder=folder, response=_Otherwise(module.network)
    )
    assert not result.passed
    assert [path.name for path in folder.iterdir()] == ["model.pt2.json"]
    content = json.loads(result.report.read_text())
    assert content["passed"] is False and "max error" in content["failed"][0]
    assert content["parity"]["equal_answers"] < 1
    assert "NOT passed" in "\n".join(result.lines())


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, data = tiny_module("segmentation"), tiny_data("segmentation", tmp_path / "data")
    Path(data.val_paths[2]).write_bytes(b"no picture")
    with pytest.raises(LoupeError, match=r"cannot read .*; --data.read.on_error=skip leaves out"):
        export_model(module, data, Export(format="torch_export"), folder=tmp_path / "a" / "export")
    assert not (tmp_path / "a").exists()


def test_what_cannot_be_read_is_left_out_where_that_is_asked(tmp_path: Path) -> None:
    module, data = tiny_module("classification"), tiny_data("classification", tmp_path / "data")
    data.read = replace(data.read, on_error="skip")
    for path in data.val_paths[:2]:
        Path(path).write_bytes(b"no picture")
    result = export_model(module, data, Export(format="torch_export"), folder=tmp_path / "export")
    assert result.passed and result.parity.left_out == 2
    assert result.parity.pictures == len(data.val_paths) - 2 and "2 that cannot be read" in str(
        result.lines()
    )
    for path in data.val_paths:
        Path(path).write_bytes(b"no picture")
    with pytest.raises(LoupeError, match="none of the validation pictures can be read"):
        export_model(module, data, Export(format="torch_export"), folder=tmp_path / "export")


def test_a_fixed_size_is_also_told_beside_whole_files(tmp_path: Path) -> None:
    """The score of `predict` is that of the files at their own size, not that of the shrunk pictures."""
    module, data = tiny_module("segmentation"), tiny_data("segmentation", tmp_path / "data")
    whole = export_model(module, data, Export(format="torch_export"), folder=tmp_path / "whole").parity
    assert whole.predicted_score_of_whole_files is None
    options = Export(format="torch_export", picture_size=(8, 8))
    result = export_model(module, data, options, folder=tmp_path / "small")
    small = result.parity
    assert small.predicted_score_of_whole_files == whole.predicted_score
    assert small.predicted_score != whole.predicted_score and small.metric_difference == 0
    assert f"brought to 8x8 first; predict, of whole files: {whole.predicted_score:.4f}" in "\n".join(
        result.lines()
    )


def test_one_deep_picture_makes_all_floats(tmp_path: Path) -> None:
    from PIL import Image

    module, data = tiny_module("classification"), tiny_data("classification", tmp_path / "data")
    grey = np.random.default_rng(0).integers(0, 65536, (40, 60), dtype=np.uint16)
    Image.fromarray(grey).save(data.val_paths[-1])
    module.input_contract["value_range"] = [100.0, 4095.0]
    result = export_model(module, data, Export(format="torch_export"), folder=tmp_path / "export")
    described = result.content["metadata"]["input"]
    assert result.passed and described["dtype"] == "float32"
    assert described["zero_to_one_of"] == {"uint8": [0.0, 255.0], "deeper": [100.0, 4095.0]}


def parity(**figures: Any) -> Parity:
    same = {"pictures": 4, "metric": "iou", "max_error": 0.0, "mean_error": 0.0, "equal_answers": 1.0}
    scores: dict[str, Any] = {"predicted_score": 0.5, "exported_score": 0.5}
    scores |= {"predicted_score_of_whole_files": None}
    return Parity(
        **{**same, **scores, "read_otherwise": 0, "max_error_from_files": 0.0, "windows_differ": 0, **figures}
    )


@pytest.mark.parametrize(
    ("figures", "options", "passes"),
    [
        ({}, Export(), True),
        ({"max_error": 0.0011}, Export(), False),
        ({"max_error": 0.0011}, Export(max_error=0.01), True),
        ({"max_error": float("nan")}, Export(), False),
        ({"exported_score": 0.497}, Export(), False),
        ({"exported_score": None}, Export(), False),
        ({"predicted_score": None, "exported_score": None}, Export(), True),
        ({"predicted_score": None, "exported_score": None}, Export(int8=Quantization(True)), False),
        ({"max_error": 0.4, "exported_score": 0.485}, Export(int8=Quantization(True)), True),
        ({"exported_score": 0.479}, Export(int8=Quantization(True)), False),
    ],
)
def test_the_bounds(figures: dict[str, Any], options: Export, passes: bool) -> None:
    assert (not parity(**figures).judged_by(Bounds.of(options)).failed) is passes


def test_eight_bits_are_of_the_networks_layers_alone(tmp_path: Path) -> None:
    module, data = tiny_module("segmentation"), tiny_data("segmentation", tmp_path / "data")
    options = Export(int8=Quantization(True, pictures=4), max_metric_difference=0.5)
    result = export_model(module, data, options, folder=tmp_path / "export", facts=FACTS)
    assert result.passed and result.artefact.name == "model_int8.onnx"
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [
        "model_int8.onnx",
        "model_int8.onnx.json",
    ]
    graph = onnx.load(str(result.artefact)).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul"):
            dequantized = made_by.get(node.input[0]) == "DequantizeLinear"
            assert dequantized is (node.op_type == "Conv"), node.name
    told = {entry.key: entry.value for entry in onnx.load(str(result.artefact)).metadata_props}
    assert told["precision"] == "int8" and "onnx.infer" not in told
    assert result.content["parity"]["equal_answers"] > 0.8


def test_torch_export_carries_the_looks_and_the_temperature(tmp_path: Path) -> None:
    module, data = tiny_module("segmentation"), tiny_data("segmentation", tmp_path / "data")
    module.calibration = Calibration(temperature=2.0)
    response = create_response(module, Inference(flips="both"))
    result = export_model(
        module, data, Export(format="torch_export", pictures=2), folder=tmp_path / "export", response=response
    )
    assert result.passed
    texts = {"class_names": "", "temperature": ""}
    torch.export.load(result.artefact, extra_files=texts)
    assert json.loads(texts["class_names"]) == ["one", "two"] and texts["temperature"] == "2.0"


def region_in_front() -> Region:
    cropper = tiny_module("cropping", seed=1)
    assert isinstance(cropper, CropModule)
    return Region(
        cropper, {"input": cropper.input_contract}, {}, threshold=0.4, margin=0.1, source="crop.ckpt"
    )


@pytest.mark.parametrize("task", TASKS)
def test_the_cropper_in_front_is_part_of_the_program(task: str) -> None:
    from export.pictures import PictureFiles
    from export.reference import Reference

    module, region = tiny_module(task), replace(region_in_front(), threshold=0.6)
    program = create_program(module, region=region)
    assert program.names[-2:] == ("roi_xyxy_px", "roi_confidence")
    image = pictures(6, 3, 50, 40) // np.arange(1, 7, dtype=np.uint8)[:, None, None, None]
    found = dict(zip(program.names, program(torch.from_numpy(image)), strict=True))
    files, cropped = PictureFiles(module.input_contract, picture_size=None, floats=False), 0
    for number, one in enumerate(image):
        picture = files.as_picture(torch.from_numpy(one))
        want = Reference(module, region).of_pixels(picture)
        cropped += float(want["roi_confidence"][0]) >= 0.6
        for name in program.names:
            np.testing.assert_allclose(found[name][number].numpy(), want[name][0], atol=1e-3, err_msg=name)
    assert 0 < cropped < 6, cropped


@pytest.mark.slow
def test_the_chain_as_one_onnx_file(tmp_path: Path) -> None:
    module, data = tiny_module("classification"), tiny_data("classification", tmp_path / "data")
    result = export_model(module, data, Export(), folder=tmp_path / "export", region=region_in_front())
    assert result.passed and result.content["metadata"]["roi"] == {"threshold": 0.4, "margin": 0.1}
    found = load_runtime("onnx", result.artefact, ())(pictures(3, 3, 61, 45))
    assert found["roi_xyxy_px"].shape == (3, 4)


def test_a_large_jpeg_is_told_apart_from_what_is_compared(tmp_path: Path) -> None:
    """`predict` decodes it at a quarter of its size: other pixels, which are not the exported model's error."""
    from PIL import Image

    module, data = tiny_module("classification"), tiny_data("classification", tmp_path / "data")
    Image.fromarray(pictures(600, 800, 3)).save(data.val_paths[1], format="JPEG", quality=95)
    result = export_model(module, data, Export(format="torch_export"), folder=tmp_path / "export")
    assert result.passed and result.parity.read_otherwise == 1
    assert result.parity.max_error < 1e-3 < result.parity.max_error_from_files
    assert "large JPEGs" in "\n".join(result.lines())


def test_deep_pictures_go_in_as_floats() -> None:
    from datamodules import InputReader

    module = tiny_module("classification")
    program = create_program(module, floats=True)
    picture = torch.rand(3, 40, 60)
    sample = InputReader(module.input_contract)(picture.permute(1, 2, 0).numpy())
    with torch.no_grad():
        want = module(sample["image"][None]).softmax(1)
    torch.testing.assert_close(program(picture[None])[0], want, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Export(format="tensorrt"), "export.format 'tensorrt'; valid: onnx, torch_export"),  # pyright: ignore
        (Export(format="torch_export", int8=Quantization(True)), "export.int8 is for ONNX"),
        (Export(opset=11), "the oldest that can be written is 18"),
        (Export(picture_size=(0, 5)), "height and width in pixels"),
        (Export(pictures=0), "export.pictures is 0"),
        (Export(max_error=-1.0), "export.max_error is -1.0"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path: Path, options: Export, words: str) -> None:
    with pytest.raises(LoupeError, match=words.replace("(", r"\(")):
        export_model(tiny_module("classification"), None, options, folder=tmp_path)  # pyright: ignore


def test_litert_takes_no_cropper_in_front(tmp_path: Path) -> None:
    module, options = tiny_module("classification"), Export(format="litert")
    with pytest.raises(LoupeError, match="cannot take the cropper in front"):
        export_model(module, None, options, folder=tmp_path, region=region_in_front())  # pyright: ignore


def test_tiles_are_refused() -> None:
    module = tiny_module("segmentation")
    response = create_response(module, Inference(tiles=Tiles(enabled=True)))
    with pytest.raises(LoupeError, match=r"inference\.tiles cannot be exported"):
        create_program(module, response)


@pytest.mark.parametrize("format", ["executorch", "litert"])
def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, format: Any) -> None:
    if find_spec({"executorch": "executorch", "litert": "litert_torch"}[format]):
        pytest.skip("it is installed")
    data = tiny_data("classification", tmp_path / "data")
    with pytest.raises(LoupeError, match=rf"loupe-vision\[{format}\]"):
        export_model(tiny_module("classification"), data, Export(format=format), folder=tmp_path / "export")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("format", "needed"), [("executorch", "executorch"), ("litert", "litert_torch")])
@pytest.mark.filterwarnings("default")  # of those packages, not ours
def test_phones(tmp_path: Path, task: str, format: Any, needed: str) -> None:
    pytest.importorskip(needed, reason="needs an environment with this extra")
    data = tiny_data(task, tmp_path / "data")
    result = export_model(tiny_module(task), data, Export(format=format), folder=tmp_path / "export")
    assert result.passed, result.lines()
    assert result.content["metadata"]["input"]["picture_size"] == [32, 32]


@pytest.mark.slow
@pytest.mark.real_data
def test_real_pictures_of_many_sizes(tmp_path: Path, real_data: Path) -> None:
    """Nuclei: RGBA files of nine sizes; the mask of the exported model has the pixels that `predict`'s has."""
    from datamodules import SegmentationDataModule
    from datamodules.options import Loader

    module = tiny_module("segmentation", size=(128, 128))
    module.class_names = ["background", "foreground"]
    data = SegmentationDataModule(str(real_data / "dsb2018"), image_size=128, loader=Loader(num_workers=0))
    data.setup("validate")
    result = export_model(module, data, Export(pictures=24), folder=tmp_path)
    assert result.passed, result.lines()
    assert result.parity.equal_answers > 0.9999
