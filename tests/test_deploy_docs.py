"""docs/deploy.md: its programs run as they stand there, on a model that was exported here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export import Export, export_model
from tests.exported import tiny_data, tiny_module

pytest.importorskip("onnxruntime", reason="needs the extra export")
ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def program(word: str) -> str:
    """The one program of the page that imports this."""
    (found,) = (text for text in PROGRAMS if re.search(rf"^(?:from|import) {word}\b", text, re.MULTILINE))
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.onnx and photo.jpg."""
    folder = tmp_path_factory.mktemp("deploy")
    export_model(
        tiny_module("classification"), tiny_data("classification", folder / "data"), Export(), folder=folder
    )
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(
        folder / "photo.jpg"
    )
    return folder


def test_every_program_of_the_page_is_run_here() -> None:
    assert [len(PROGRAMS), PROGRAMS.index(program("fastapi"))] == [3, 2]
    assert program("executorch") and len(PROGRAMS[0].splitlines()) <= 16


def test_onnxruntime(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(model)
    exec(compile(PROGRAMS[0], "docs/deploy.md", "exec"), {})
    name, share = capsys.readouterr().out.split()
    assert name in ("one", "two") and 0.5 <= float(share) <= 1


def test_fastapi(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="needs fastapi")
    testclient = pytest.importorskip("starlette.testclient", reason="needs httpx")
    monkeypatch.chdir(model)
    names: dict[str, Any] = {}
    exec(compile(program("fastapi"), "docs/deploy.md", "exec"), names)
    client = testclient.TestClient(names["app"])
    photo = (model / "photo.jpg").read_bytes()
    answer = client.post("/predict", content=photo, headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 200
    assert sum(answer.json().values()) == pytest.approx(1, abs=1e-5) and list(answer.json()) == ["one", "two"]
    assert client.post("/predict", content=b"none", headers={"Content-Type": "image/jpeg"}).status_code == 400


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of executorch
def test_executorch(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("executorch", reason="needs an environment with the extra executorch")
    data = tiny_data("classification", tmp_path / "data")
    export_model(tiny_module("classification"), data, Export(format="executorch"), folder=model)
    monkeypatch.chdir(model)
    capsys.readouterr()
    exec(compile(program("executorch"), "docs/deploy.md", "exec"), {})
    assert capsys.readouterr().out.split()[0] in ("one", "two")
