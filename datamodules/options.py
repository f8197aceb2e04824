"""The groups of settings that a datamodule takes from YAML: reading, splitting, augmenting, loading."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Augment", "Interpolation", "LabelRead", "Loader", "MaskRead", "Read", "Resize", "Split"]

Resize = Literal["letterbox", "stretch"]
Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Read:
    """How files become tensors.

    Args:
        resize: `letterbox` keeps the shape of things and pads, `stretch` fills the whole input.
        interpolation: between pixels, always with antialiasing; `auto` is that of the backbone's pretrained weights.
        on_error: `raise` ends at a picture or mask that cannot be read; `skip` puts the next one in its place for
            training and leaves it out of scores, and says so at the end.
    """

    resize: Resize = "letterbox"
    interpolation: Interpolation | Literal["auto"] = "auto"
    on_error: Literal["raise", "skip"] = "raise"


@dataclass(frozen=True)
class LabelRead(Read):
    """How pictures and their labels become tensors.

    Args:
        resize: `letterbox` keeps the shape of things and pads, `stretch` fills the whole input.
        interpolation: between pixels, always with antialiasing; `auto` is that of the backbone's pretrained weights.
        on_error: `raise` ends at a picture or mask that cannot be read; `skip` puts the next one in its place for
            training and leaves it out of scores, and says so at the end.
        class_names: names in the order of the class numbers; null: the labels found, sorted.
    """

    class_names: list[str] | None = None


@dataclass(frozen=True)
class MaskRead(Read):
    """How pictures and masks become tensors.

    Args:
        resize: `letterbox` keeps the shape of things and pads, `stretch` fills the whole input.
        interpolation: between pixels, always with antialiasing; `auto` is bilinear.
        on_error: `raise` ends at a picture or mask that cannot be read; `skip` puts the next one in its place for
            training and leaves it out of scores, and says so at the end.
        ignore_index: the value in the mask files that means "no label here"; null: 255 where it stands beside
            classes other than 0.
        class_names: names in the order of the class numbers; fixes the number of classes.
        label_mapping: value in the mask files -> class number, 255 for "no label here".
        class_colors: for coloured masks, class name -> [red, green, blue] or "#rrggbb", in the order of the class
            numbers; `void` is "no label here".
    """

    ignore_index: int | None = None
    class_names: list[str] | None = None
    label_mapping: dict[int, int] | None = None
    class_colors: dict[str, list[int] | str] | None = None


@dataclass(frozen=True)
class Split:
    """Which share of the pictures goes where, when the data does not say it.

    Args:
        val: share for validation, 0..1.
        test: share for the test, 0..1; used only when the data names neither `val` nor `test`.
        seed: another seed, another split; the same on every machine and in every order of the files.
        num_folds: deal the training pictures out into so many folds, of which one validates.
        fold: which one, counted from 0.
    """

    val: float = 0.15
    test: float = 0.15
    seed: int = 0
    num_folds: int | None = None
    fold: int | None = None


@dataclass(frozen=True)
class Augment:
    """Random changes of training pictures.

    Args:
        preset: `light` flips, `medium` also moves, scales and changes the brightness a little, `strong` does more.
    """

    preset: Literal["none", "light", "medium", "strong"] = "none"


@dataclass(frozen=True)
class Loader:
    """How batches are made and moved.

    Args:
        batch_size: images per optimizer step over all processes and micro-batches.
        num_workers: processes that read pictures, for each training process; `auto` looks at the usable cores.
        prefetch: batches that each worker prepares ahead.
        pin_memory: page-locked memory for faster copies; `auto` on CUDA only.
    """

    batch_size: int = 32
    num_workers: int | Literal["auto"] = "auto"
    prefetch: int = 2
    pin_memory: bool | Literal["auto"] = "auto"
