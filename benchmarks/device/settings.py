"""What the GPU script measures: the five seed models, their sizes, and the words that `train.py` gets for each."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Case:
    """A seed model at the size that it is measured at.

    Attributes:
        name: A config and a name for `models.create_model`.
        kind: classification | segmentation.
        options: Of the network, to make it small.
        encoder: Of timm, where it is another than the name says.
        size, batch: Pixels and pictures.
    """

    name: str
    kind: str
    size: int
    batch: int
    encoder: str | None = None
    options: dict[str, Any] | None = None

    @property
    def loss(self) -> str:
        """That of the config."""
        return "label_smoothing" if self.kind == "classification" else "dice_ce"

    @property
    def timm_name(self) -> str:
        """The backbone of a classifier."""
        names = {
            "cls_mobilenetv3": "mobilenetv3_small_100",
            "cls_efficientnetb0": "efficientnet_b0",
            "cls_resnet50v2": "resnetv2_50",
        }
        return self.encoder or names[self.name]

    @property
    def words(self) -> list[str]:
        """The config, the demo data, and this network from scratch, without what is only looked at."""
        network = [] if self.options is None else [f"--model.options={self.options}".replace("'", "")]
        if self.encoder and self.kind == "classification":
            network.append(f"--model.backbone={self.encoder}")
        return [
            f"--config={ROOT / 'configs' / self.name}.yaml",
            "--data.dataset=shapes",
            f"--data.image_size={self.size}",
            f"--training.batch_size={self.batch}",
            "--model.weights=null",
            *network,
            "--training.pictures=0",
            "--training.tensorboard.write_graph=false",
            "--training.tensorboard.histogram_freq=0",
            "--trainer.num_sanity_val_steps=0",
        ]


FULL = (
    Case("cls_mobilenetv3", "classification", 224, 256),
    Case("cls_resnet50v2", "classification", 224, 256),
    Case("seg_resnet50_unet", "segmentation", 512, 32),
    Case("cls_efficientnetb0", "classification", 224, 256),
    Case("seg_unet", "segmentation", 512, 32),
)
SMALL_UNET = {"base_filters": 4, "depth": 2}
TINY = (
    Case("cls_mobilenetv3", "classification", 32, 8, encoder="lcnet_035"),
    Case("seg_unet", "segmentation", 32, 4, options=SMALL_UNET),
)


@dataclass(frozen=True)
class Settings:
    """Where and how much.

    Attributes:
        device: cuda, or cpu to try the script.
        tiny: Networks, pictures and numbers of steps so small that a CPU does all parts.
        work: A folder for what is left behind; ours, and empty at the start.
    """

    device: torch.device
    tiny: bool
    work: Path
    cases: tuple[Case, ...] = field(default=FULL)

    @property
    def rounds(self) -> int:
        """Windows of each way."""
        return 2 if self.tiny else 5

    @property
    def window_s(self) -> float:
        """How long a window should be, seconds."""
        return 0.05 if self.tiny else 0.6

    @property
    def trainer(self) -> list[str]:
        """Words for the Trainer."""
        return [
            f"--trainer.accelerator={'gpu' if self.device.type == 'cuda' else self.device.type}",
            "--trainer.devices=1",
        ]

    @property
    def precision(self) -> list[str]:
        """Words for bfloat16."""
        return ["--training.mixed_precision={enabled: true, dtype: bfloat16}"]

    @contextmanager
    def folder(self, name: str) -> Generator[Path]:
        """Work in a folder of this name."""
        path, before = self.work / name, Path.cwd()
        path.mkdir(parents=True, exist_ok=True)
        os.chdir(path)
        try:
            yield path
        finally:
            os.chdir(before)


def prepare(work: Path) -> None:
    """Caches of the compiler and of the demo data in a folder of ours; before torch compiles anything."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(work / "inductor")
    os.environ["TRITON_CACHE_DIR"] = str(work / "triton")
    os.environ.setdefault("LOUPE_CACHE", str(work / "loupe"))
    os.environ["HF_HUB_OFFLINE"] = "1"
