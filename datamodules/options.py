"""The groups of settings that a datamodule takes from YAML: reading, splitting, augmenting, loading."""

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "Augment",
    "BoxRead",
    "Interpolation",
    "LabelRead",
    "Loader",
    "MaskRead",
    "Preset",
    "Read",
    "Resize",
    "Split",
]

Resize = Literal["letterbox", "stretch"]
Interpolation = Literal["bilinear", "bicubic"]
Preset = Literal["none", "light", "medium", "strong", "randaugment", "trivialaugment"]


@dataclass(frozen=True)
class Read:
    """How files become tensors.

    Args:
        resize: `letterbox` keeps the shape of things and pads, `stretch` fills the whole input.
        interpolation: between pixels, always with antialiasing; `auto` is that of the backbone's pretrained weights.
        on_error: `raise` ends at a picture or mask that cannot be read; `skip` puts the next one in its place for
            training and leaves it out of scores, and says so at the end. `predict` always skips and tells which.
        in_channels: channels of the network's input: 3 is RGB, 1 is grey, other numbers must be the file's.
        value_range: darkest and brightest value of pictures deeper than 8 bits; null: what their type can hold.
        outside_root: whether a manifest may name files outside of its folder, which for one from elsewhere is a risk.
    """

    resize: Resize = "letterbox"
    interpolation: Interpolation | Literal["auto"] = "auto"
    on_error: Literal["raise", "skip"] = "raise"
    in_channels: int = 3
    value_range: tuple[float, float] | None = None
    outside_root: bool = False


@dataclass(frozen=True)
class LabelRead(Read):
    """How pictures and their labels become tensors.

    Args:
        resize: `letterbox` keeps the shape of things and pads, `stretch` fills the whole input.
        interpolation: between pixels, always with antialiasing; `auto` is that of the backbone's pretrained weights.
        on_error: `raise` ends at a picture or mask that cannot be read; `skip` puts the next one in its place for
            training and leaves it out of scores, and says so at the end. `predict` always skips and tells which.
        in_channels: channels of the network's input: 3 is RGB, 1 is grey, other numbers must be the file's.
        value_range: darkest and brightest value of pictures deeper than 8 bits; null: what their type can hold.
        outside_root: whether a manifest may name files outside of its folder, which for one from elsewhere is a risk.
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
            training and leaves it out of scores, and says so at the end. `predict` always skips and tells which.
        in_channels: channels of the network's input: 3 is RGB, 1 is grey, other numbers must be the file's.
        value_range: darkest and brightest value of pictures deeper than 8 bits; null: what their type can hold.
        outside_root: whether a manifest may name files outside of its folder, which for one from elsewhere is a risk.
        ignore_index: the value in the mask files that means "no label here"; null: 255 where it stands beside
            classes other than 0.
        class_names: names in the order of the class numbers; fixes the number of classes.
        label_mapping: value in the mask files -> class number, 255 for "no label here".
        class_colors: for coloured masks, class name -> [red, green, blue] or "#rrggbb", in the order of the class
            numbers; `void` is "no label here".
        images: the folder of pictures.
        masks: where the mask of a picture is, `{stem}` for the picture's name without its suffix.
    """

    ignore_index: int | None = None
    class_names: list[str] | None = None
    label_mapping: dict[int, int] | None = None
    class_colors: dict[str, list[int] | str] | None = None
    images: str = "images"
    masks: str = "masks/{stem}"


@dataclass(frozen=True)
class BoxRead(Read):
    """How pictures and boxes become tensors.

    Args:
        resize: `letterbox` keeps the shape of things and pads, `stretch` fills the whole input.
        interpolation: between pixels, always with antialiasing; `auto` is that of the backbone's pretrained weights.
        on_error: `raise` ends at a picture or mask that cannot be read; `skip` puts the next one in its place for
            training and leaves it out of scores, and says so at the end. `predict` always skips and tells which.
        in_channels: channels of the network's input: 3 is RGB, 1 is grey, other numbers must be the file's.
        value_range: darkest and brightest value of pictures deeper than 8 bits; null: what their type can hold.
        outside_root: whether a manifest may name files outside of its folder, which for one from elsewhere is a risk.
        category: the class of object to find, where the annotations (COCO, Pascal VOC) have several; null: any.
        mask_value: where boxes come from masks, the object's value; null: every value but 0 (and void).
        mask_object: where boxes come from masks, the `largest` connected piece, or the `union` of all.
        images: the folder of pictures, where boxes come from masks.
        masks: where the mask of a picture is, `{stem}` for the picture's name without its suffix.
    """

    category: str | None = None
    mask_value: int | None = None
    mask_object: Literal["largest", "union"] = "largest"
    images: str = "images"
    masks: str = "masks/{stem}"


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
        preset: `light` flips, `medium` also moves, scales and changes the brightness a little, `strong` does more;
            `randaugment` and `trivialaugment` are the published recipes, for masks and boxes too.
        crop: `random_resized` cuts a random part out, `scale_jitter` also shrinks and keeps the shape of things; both
            before the preset, from the picture at its full size.
        crop_scale: smallest and largest share of the picture's area (random_resized, null: [0.35, 1]), or factor of
            its size (scale_jitter, null: [0.5, 2]).
        foreground: with a crop, the chance that it is placed around a random pixel of an object (masks and boxes).
        mixup: alpha of MixUp's Beta distribution, 0 for none; classifiers only.
        cutmix: alpha of CutMix's Beta distribution, 0 for none; classifiers and segmenters.
        transforms: more transforms of torchvision.transforms.v2, after the preset, each a class_path and its
            init_args.
    """

    preset: Preset = "none"
    crop: Literal["none", "random_resized", "scale_jitter"] = "none"
    crop_scale: tuple[float, float] | None = None
    foreground: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    transforms: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Loader:
    """How batches are made and moved.

    Args:
        batch_size: images per optimizer step over all processes and micro-batches.
        num_workers: processes that read pictures, for each training process; `auto` looks at the usable cores.
        prefetch: batches that each worker prepares ahead.
        pin_memory: page-locked memory for faster copies; `auto` on CUDA only.
        sampling: which training pictures an epoch has: `uniform`, each once; `balanced`, of each class as many, rare
            ones repeated; `weighted`, in proportion to the manifest's column `weight`.
        cache: keep pictures as they are after decoding and resizing: in `memory`, or on `disk` for later runs too.
        cache_limit_gb: how large a cache may grow, 10^9 bytes; pictures beyond it are decoded each time.
    """

    batch_size: int = 32
    num_workers: int | Literal["auto"] = "auto"
    prefetch: int = 2
    pin_memory: bool | Literal["auto"] = "auto"
    sampling: Literal["uniform", "balanced", "weighted"] = "uniform"
    cache: Literal["none", "memory", "disk"] = "none"
    cache_limit_gb: float = 20.0
