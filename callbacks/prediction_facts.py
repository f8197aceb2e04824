"""What predictions are made with: for predictions.json, and to know them again."""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from inference import read_checkpoint
from predictions import Inputs, Predictions, Task, identity_of

__all__ = ["first_sidecar", "now", "task_of"]


def task_of(pl_module: LightningModule) -> Task:
    """What the module gives, and its classes."""
    module: Any = pl_module
    kind = next((kind for kind in ("mask", "box") if kind in module.learns), "label")
    return Task(
        kind, list(module.class_names or []), module.calibration.threshold() if kind == "box" else 0.5
    )


def first_sidecar(
    trainer: Trainer, facts: Mapping[str, Any], options: Predictions, inputs: Inputs, started: int
) -> dict[str, Any]:
    """predictions.json as it is while the run is on.

    Args:
        trainer: About to predict with a module that knows its classes.
        facts: See `PredictionWriter`; what lacks is taken from the checkpoint.
        options: What is written.
        inputs: What is predicted on.
        started: When the run began, ns; it stands for a model that nobody can know again.
    """
    module: Any = trainer.lightning_module
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    path = facts.get("checkpoint")  # Lightning 2.6 sets trainer.ckpt_path after this
    fingerprint = facts.get("fingerprint") or (None if path is None else _fingerprint(path))
    epoch = facts.get("epoch")
    if epoch is None and path is not None:
        epoch = read_checkpoint(path).get("epoch")
    # the table is written anew in any case, and coco.json needs run lengths that only the masks' makers note down
    makes = {"probability_maps": options.probability_maps, "overlays": options.overlays, "coco": options.coco}
    same = {
        "loupe": _version(),
        "class_names": list(module.class_names or []),
        "input": module.input_contract,
        "calibration": module.calibration.to_card(),
        "inference": facts.get("inference"),
        "outputs": {**makes, "crops": bool(getattr(module, "save_crops", False))},
        "precision": str(trainer.precision),
    }
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    return {
        "complete": False,
        # names count from the root: below another one, another picture may have the name of one that is done
        "identity": identity_of(
            {**same, "fingerprint": fingerprint or started, "module": kind, "root": inputs.root}
        ),
        "date": now(),
        "command": facts.get("command"),
        "model": {
            "module": kind,
            "checkpoint": None if path is None else str(path),
            "fingerprint": fingerprint,
            "epoch": epoch,
        },
        "config_sha256": hashlib.sha256(str(facts.get("config", "")).encode()).hexdigest(),
        "predict_path": data.predict_path,
        "names_count_from": inputs.root,
        **same,
        "table": options.table,
        "counts": {"inputs": len(inputs)},
    }


def now() -> str:
    """The date and time with the zone's offset."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _version() -> str | None:
    try:
        return importlib.metadata.version("loupe-vision")
    except importlib.metadata.PackageNotFoundError:
        return None


def _fingerprint(path: str | Path) -> str:
    """SHA-256 of the checkpoint's bytes."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
