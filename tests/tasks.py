"""The three tasks as tests see them: tiny pictures on disk, and the settings that make a config a run of seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
PARTS = {"train": 8, "val": 4, "test": 4}
SIZE = 32


@dataclass(frozen=True)
class Task:
    """A task, one config of it, and the settings that make its network tiny."""

    name: str
    config: str
    tiny: tuple[str, ...]
    score: str

    @property
    def words(self) -> list[str]:
        return [f"--config={CONFIGS / self.config}.yaml", *self.tiny, *SMALL]


SMALL = (
    f"--data.image_size={SIZE}",
    "--data.augment.preset=light",
    "--data.loader.num_workers=0",
    "--training.epochs=1",
    "--training.batch_size=4",
    "--trainer.accelerator=cpu",
    "--trainer.num_sanity_val_steps=0",
    "--training.pictures=0",
    "--training.tensorboard=false",  # its graph takes as long as all the rest; test_seeing.py has it on
)
LCNET = ("--model.backbone=lcnet_035", "--model.weights=null")
SEGMENTATION = Task("segmentation", "seg_unet", ("--model.options={base_filters: 4, depth: 2}",), "val/iou")
CLASSIFICATION = Task("classification", "cls_mobilenetv3", LCNET, "val/accuracy")
CROPPING = Task("cropping", "crop_mobilenetv3", LCNET, "val/box_iou")
TASKS = {task.name: task for task in (SEGMENTATION, CLASSIFICATION, CROPPING)}


def draw(number: int, *, with_object: bool = True) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A dark noisy picture with a bright rectangle, and its box; in the left half for even numbers."""
    rng = np.random.default_rng(number)
    picture = rng.integers(0, 90, (SIZE, SIZE, 3), dtype=np.uint8)
    x, y = int(rng.integers(1, 6)) + 16 * (number % 2), int(rng.integers(2, 16))
    w, h = int(rng.integers(6, 10)), int(rng.integers(8, 14))
    if with_object:
        picture[y : y + h, x : x + w] += 140
    return picture, (x, y, x + w, y + h)


def numbered() -> Iterator[tuple[str, int, int]]:
    """Part, number within it, number over all."""
    total = 0
    for part, count in PARTS.items():
        for number in range(count):
            yield part, number, total
            total += 1


def write_task(task: str, root: Path) -> Path:
    """The data of a task below ``root``; what ``data.root`` names."""
    root.mkdir(parents=True, exist_ok=True)
    rows = ["path,x1,y1,x2,y2,split"]
    for part, number, total in numbered():
        empty = task == "cropping" and number == 3
        picture, box = draw(total, with_object=not empty)
        match task:
            case "segmentation":
                path = root / part / "images" / f"{number}.png"
                mask = np.zeros((SIZE, SIZE), np.uint8)
                mask[box[1] : box[3], box[0] : box[2]] = 1
                (root / part / "masks").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(root / part / "masks" / f"{number}.png")
            case "classification":
                path = root / part / ("right" if total % 2 else "left") / f"{number}.png"
            case "cropping":
                path = root / f"{part}_{number}.png"
                fields = ["", "", "", ""] if empty else [str(value) for value in box]
                rows.append(",".join([path.name, *fields, part]))
            case _:
                raise AssertionError(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    if task == "cropping":
        (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root
