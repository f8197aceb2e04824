"""The data in a few lines, for the opening summary of a run."""

from typing import TYPE_CHECKING

from datamodules.samples import PARTS

if TYPE_CHECKING:
    from datamodules.base import LoupeDataModule

__all__ = ["describe_data"]


def describe_data(data: "LoupeDataModule") -> list[str]:
    """What is read, from where, and how it is changed."""
    height, width = data.size_hw
    channels = "" if data.read.in_channels == 3 else f" x {data.read.in_channels} channels"
    shape = f"input: {height}x{width}{channels} {data.read.resize}"
    if not data.samples:
        return [f"data: {len(data.predict_paths)} pictures of {data.predict_path}", shape]
    counts = ", ".join(f"{len(data.samples[part])} {part}" for part in PARTS)
    loading = [
        text
        for text, wanted in (
            (f"{data.loader.sampling} sampling", data.loader.sampling != "uniform"),
            (f"pictures kept in {data.loader.cache}", data.loader.cache == "memory"),
            ("pictures kept on disk", data.loader.cache == "disk"),
        )
        if wanted
    ]
    return [
        f"data: {data.root or data.dataset}, {counts} ({data.split_origin})",
        data.describe_annotations(),
        ", ".join([shape, f"augment {_augmentation(data)}", *loading]),
    ]


def _augmentation(data: "LoupeDataModule") -> str:
    augment = data.augment
    named = [augment.preset] if augment.preset != "none" else []
    named += [augment.crop] if augment.crop != "none" else []
    named += [f"{key} {getattr(augment, key):g}" for key in ("mixup", "cutmix") if getattr(augment, key)]
    named += [str(entry.get("class_path")).rpartition(".")[2] for entry in augment.transforms]
    return " + ".join(named) or "none"
