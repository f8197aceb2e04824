"""Every shipped config from the demo data to a proven export: fit, test, predict, export, and the parity gate."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

import inference
from datamodules.shapes import ensure_shapes

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
#: The large networks see smaller pictures: what is tried here is the way, not the score.
SMALLER = {"cls_resnet50v2": 64, "crop_resnet50v2": 64, "cls_efficientnetb0": 64, "crop_efficientnetb0": 64}
SCORES = {"cls": "accuracy", "seg": "iou", "crop": "box_iou"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*_*.yaml")))
def test_a_config_goes_all_the_way(name: str, loupe: Callable[..., Any]) -> None:
    words = [f"--config={CONFIGS / f'{name}.yaml'}", "training.epochs=1", "--training.tensorboard=false"]
    words += ["--trainer.accelerator=cpu", "--data.loader.num_workers=0", "training.pictures=0"]
    words += ["--trainer.limit_train_batches=12"]
    if name in SMALLER:
        words.append(f"--data.image_size={SMALLER[name]}")
    assert loupe("fit", *words).code == 0
    run = Path("runs") / name / "version_0"
    use = [f"--config={run / 'config.yaml'}", "--ckpt_path=best", "--trainer.accelerator=cpu"]

    assert loupe("test", *use).code == 0
    scores = json.loads((run / "test.json").read_text())["scores"]
    kind = name.partition("_")[0]
    assert np.isfinite(scores["test/loss"]) and 0 <= scores[f"test/{SCORES[kind]}"] <= 1

    pictures = ensure_shapes() / "test" / "images"
    assert loupe("predict", *use, f"--data.predict_path={pictures / '*.png'}").code == 0
    with (run / "predictions" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list(pictures.glob("*.png"))) > 5
    if kind == "seg":
        for row in rows:
            with Image.open(run / "predictions" / row["mask"]) as mask, Image.open(row["path"]) as whole:
                assert mask.size == whole.size and mask.mode == "P"

    assert loupe("export", *use, "--format=onnx").code == 0
    artefact = run / "export" / "model.onnx"
    figures = json.loads(artefact.with_suffix(".onnx.json").read_text())
    assert figures["passed"] and figures["parity"]["max_error"] <= figures["bounds"]["max_error"] == 0.001
    assert figures["parity"]["metric_difference"] <= 0.002
    _same_answer_as_predict(artefact, run / "checkpoints" / "best.ckpt", rows[0]["path"], kind)


def _same_answer_as_predict(artefact: Path, checkpoint: Path, picture: str, kind: str) -> None:
    """From the file with nothing but ONNX Runtime and Pillow, as somebody would who has no Loupe."""
    import onnxruntime

    session = onnxruntime.InferenceSession(artefact, providers=["CPUExecutionProvider"])
    pixels = np.asarray(Image.open(picture).convert("RGB")).transpose(2, 0, 1)[None]
    outputs = [output.name for output in session.get_outputs()]
    found = dict(zip(outputs, session.run(None, {"image": np.ascontiguousarray(pixels)}), strict=True))
    own = inference.load(checkpoint).predict(picture)
    if kind == "seg":
        assert (found["mask"][0] == own["mask"]).mean() > 0.999
    elif kind == "cls":
        probs = [value for key, value in own["row"].items() if key.startswith("prob_")]
        np.testing.assert_allclose(found["probs"][0], probs, atol=1e-3)
    else:
        box = [own["row"][key] for key in ("x1", "y1", "x2", "y2")]
        np.testing.assert_allclose(found["box_xyxy_px"][0], box, atol=0.1)
