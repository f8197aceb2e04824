"""Run directories as a fit and a test leave them, made from numpy arrays; their scores come from `metrics`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from metrics import BoxScores, ClassificationScores, MultiLabelScores, SegmentationScores
from metrics.calibration import bin_confidence

NAMES = ["cat", "dog", "<script>alert(1)</script>"]


def jpeg(side: int = 48, *, seed: int = 0) -> bytes:
    picture = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG")
    return file.getvalue()


def scored(metric: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scalars and columns of a metric as `meta` has them: null where absent."""
    scores: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    for name, value in metric.compute().items():
        plain = [None if v != v else v for v in value.double().reshape(-1).tolist()]
        if name.endswith("_per_class"):
            columns[name.removesuffix("_per_class")] = plain
        elif value.ndim == 0:
            scores[name] = plain[0]
    return scores, columns


def classification(
    size: int, names: list[str], *, skill: float = 2.0, seed: int = 0
) -> tuple[dict[str, Any], ...]:
    """Meta and arrays of a classifier whose logits favour the truth by ``skill``."""
    rng = np.random.default_rng(7)
    label = rng.integers(0, len(names), size)
    logits = np.random.default_rng(seed).normal(size=(size, len(names))).astype(np.float32)
    logits[np.arange(size), label] += skill
    metric = ClassificationScores(len(names))
    metric.update(torch.from_numpy(logits), torch.from_numpy(label))
    log_odds, likeliest = metric.log_odds[0], metric.log_odds[0].max(1)
    right = likeliest.indices == torch.from_numpy(label)
    arrays = {
        "label": label,
        "log_odds": log_odds.numpy(),
        "confusion": metric.checked().numpy(),
        "reliability": bin_confidence(likeliest.values.sigmoid(), right).numpy(),
    }
    return meta("classification", names, size, metric), arrays


def multi_label(size: int, names: list[str], *, seed: int = 0) -> tuple[dict[str, Any], ...]:
    rng = np.random.default_rng(seed)
    label = rng.random((size, len(names))) < 0.4
    logits = (rng.normal(size=label.shape) + 2 * label - 1).astype(np.float32)
    metric = MultiLabelScores(len(names))
    metric.update(torch.from_numpy(logits), torch.from_numpy(label).float())
    right = torch.from_numpy((logits > 0) == label)
    table = bin_confidence(torch.from_numpy(logits).abs().sigmoid().flatten(), right.flatten())
    arrays = {"label": label, "log_odds": logits, "reliability": table.numpy()}
    return meta("classification", names, size, metric) | {"multi_label": True}, arrays


def segmentation(
    size: int, names: list[str], *, wrong: float = 0.1, seed: int = 0
) -> tuple[dict[str, Any], ...]:
    """Maps of 16x16, of whose pixels a share is predicted at random."""
    classes = len(names)
    truth = np.random.default_rng(7).integers(0, classes, (size, 16, 16))
    rng = np.random.default_rng(seed)
    predicted = np.where(rng.random(truth.shape) < wrong, rng.integers(0, classes, truth.shape), truth)
    metric = SegmentationScores(classes)
    metric.update(torch.from_numpy(predicted), torch.from_numpy(truth))
    each = np.arange(classes)
    arrays = {
        "hits": ((truth[..., None] == each) & (predicted[..., None] == each)).sum((1, 2)),
        "truth": (truth[..., None] == each).sum((1, 2)),
        "predicted": (predicted[..., None] == each).sum((1, 2)),
        "confusion": metric.checked().numpy(),
    }
    return meta("segmentation", names, size, metric), arrays


def cropping(size: int, *, seed: int = 0) -> tuple[dict[str, Any], ...]:
    rng = np.random.default_rng(seed)
    has_box = np.random.default_rng(7).random(size) < 0.8
    corner = torch.from_numpy(rng.random((size, 2)).astype(np.float32) * 40)
    truth = torch.cat([corner, corner + 40], 1)
    box = truth + torch.from_numpy(rng.normal(scale=5, size=(size, 4)).astype(np.float32))
    confidence = torch.from_numpy((rng.normal(size=size) + 3 * has_box - 1).astype(np.float32))
    metric = BoxScores()
    metric.update(box, confidence, truth, torch.from_numpy(has_box))
    arrays = {"iou": metric.iou[0].numpy(), "confidence": confidence.numpy(), "has_box": has_box}
    return meta("cropping", ["object"], size, metric), arrays


def meta(task: str, names: list[str], size: int, metric: Any) -> dict[str, Any]:
    scores, columns = scored(metric)
    return {
        "stage": "test",
        "command": "test",
        "task": task,
        "multi_label": False,
        "class_names": names,
        "epoch": 2,
        "checkpoint": "checkpoints/best.ckpt",
        "date": "2026-11-24T19:10:00",
        "samples": size,
        "scores": scores,
        "per_class": columns,
        "worst": [],
        "description": "the probability of the true class",
    }


def write_evaluation(
    run: Path, found: tuple[dict[str, Any], ...], *, pictures: list[bytes] | None = None, **changes: Any
) -> Path:
    """`RUN/evaluation/STAGE.npz`; ``changes`` go into meta, but ``index`` and ``group``, which are arrays."""
    about, arrays = found
    more = {name: changes.pop(name) for name in ("index", "group") if name in changes}
    pictures = pictures or []
    worst = [
        {"file": f"folder/<b>{n}.jpg", "caption": f"IoU 0.{n:02d}", "figure": n / 100}
        for n in range(len(pictures))
    ]
    about = {**about, "worst": worst, **changes}
    path = run / "evaluation" / f"{about['stage'] if about['command'] != 'validate' else 'validate'}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"index": np.arange(about["samples"]), **arrays, **more}
    kept |= {f"worst_{n:02d}": np.frombuffer(picture, np.uint8) for n, picture in enumerate(pictures)}
    np.savez(path, meta=np.array(json.dumps(about)), **kept)
    return path


def write_run(run: Path, *, score: str = "accuracy", epochs: int = 3, **settings: Any) -> Path:
    """config.yaml, metrics.csv and run.json of a fit; ``settings`` go into the config by dotted keys."""
    run.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "seed_everything": 0,
        "data": {
            "class_path": "datamodules.ClassificationDataModule",
            "init_args": {
                "root": "pictures",
                "dataset": None,
                "image_size": 64,
                "split": {"val": 0.15, "seed": 0},
            },
        },
        "training": {"epochs": epochs, "batch_size": 8, "learning_rate": 0.001, "loss": {"type": "dice_ce"}},
        "run": {"name": run.parent.name, "directory": "runs"},
    }
    for key, value in settings.items():
        section, *path, last = key.split("__")
        inner = config.setdefault(section, {})
        for name in path:
            inner = inner[name]
        inner[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    with (run / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        columns = [
            "train/loss",
            "val/loss",
            f"val/{score}",
            "train/learning_rate",
            "train/data_time",
            "train/images_per_s",
        ]
        writer.writerow(["epoch", "step", *columns])
        for n in range(epochs):
            far = 1 - np.exp(-3 * (n + 1) / epochs)
            writer.writerow([n, 10 * n, 2 - far, 2.1 - far, "" if n == 1 else 0.8 * far, 1e-3, 0.05, 120.5])
    about = {
        "command": ["train.py", "fit", "--config", "configs/my file.yaml"],
        "loupe": "0.1.0",
        "git": {"commit": "afe0ee7", "changed": True},
        "environment": {
            "python": "3.11.2",
            "torch": "2.9.1",
            "cores": 2,
            "memory_gib": 15.6,
            "accelerators": [],
            "cuda": None,
        },
        "data": {
            "lines": ["data: pictures, 100 train, 20 val, 20 test (folders)"],
            "parts": {"train": 100, "val": 20, "test": 20},
            "class_counts": {"cat": 70, "dog": 30},
            "classes": ["cat", "dog"],
        },
        "model": {
            "class": "ClassificationModule",
            "name": "lcnet_035",
            "parameters": 1_200_000,
            "trainable": 200_000,
        },
        "training": {"batch_size": 8, "steps_per_epoch": 13, "precision": "32-true", "devices": "1 cpu"},
        "sessions": [
            {
                "began": "2026-11-24T18:00:00",
                "ended": "2026-11-24T18:01:00",
                "seconds": 60.0,
                "first_epoch": 0,
                "epochs": epochs,
                "images": 100 * epochs,
            }
        ],
        "best": {"monitor": f"val/{score}", "score": 0.76, "epoch": 2},
    }
    (run / "run.json").write_text(json.dumps(about))
    return run
