"""Scores a segmentation run on its test part at the pictures' original size, file by file.

`train.py test` scores at the size of the network's input. This takes the same checkpoint, the same test part, the
masks as they are in the files, and predictions brought back to the original size.

python benchmarks/original_size.py runs/seg_unet/version_0
"""

import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import inference
from datamodules import Augment, Loader, MaskRead, SegmentationDataModule, Split, read_mask
from metrics import SegmentationScores


def test_part(init: dict[str, Any]) -> SegmentationDataModule:
    """The run's datamodule, from its saved configuration."""
    groups = {"read": MaskRead, "split": Split, "augment": Augment, "loader": Loader}
    data = SegmentationDataModule(
        **{key: groups[key](**v) if key in groups else v for key, v in init.items()}
    )
    data.setup("test")
    return data


def main(run: Path) -> None:
    """Print the dataset scores and the time."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    data = test_part(config["data"]["init_args"])
    predictor = inference.load(run / "checkpoints" / "best.ckpt")
    scores = SegmentationScores(data.num_classes)
    samples, began = data.samples["test"], time.perf_counter()
    for path, mask in zip(samples.paths, samples.columns["mask"], strict=True):
        truth = data.target(samples).table[read_mask(mask).long()]  # pyright: ignore
        predicted = torch.from_numpy(predictor.predict(path)["mask"])
        scores.update(predicted[None], truth[None])
    found = scores.compute()
    seconds = time.perf_counter() - began
    print(f"{len(samples)} pictures, {seconds:.0f} s")
    for name in ("iou", "dice", "accuracy"):
        print(f"{name} {found[name]:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
