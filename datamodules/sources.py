"""Where the data is: a folder or a manifest of the user's, torchvision's sets by name, or the demo."""

from pathlib import Path

from datamodules.cache import cache_folder
from datamodules.formats import ensure_builtin
from datamodules.samples import existing
from datamodules.shapes import ensure_shapes
from errors import LoupeError

__all__ = ["find_source"]


def find_source(root: str | None, dataset: str | None, *, demo_file: str, gives: tuple[str, ...]) -> Path:
    """The folder or manifest that `data.root` and `data.dataset` mean.

    Args:
        root: a folder or a manifest; with `dataset`, where torchvision keeps its sets.
        dataset: `shapes`, the demo, or the name of one of torchvision's sets.
        demo_file: what the task reads of the demo.
        gives: what the task reads of a batch.
    """
    if root is not None and dataset is None:
        return existing("data.root", root)
    place = None if root is None else Path(root).expanduser()
    match dataset:
        case None:
            raise LoupeError("no data is named; give --data.root FOLDER or --data.dataset shapes")
        case "shapes" if place is not None:
            raise LoupeError(f"data.root {root} and data.dataset {dataset} are both set; keep one")
        case "shapes":
            return ensure_shapes() / demo_file
        case _:
            return ensure_builtin(dataset, place or cache_folder() / "torchvision", gives)
