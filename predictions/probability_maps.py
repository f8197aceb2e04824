"""The probability of each class for each pixel, as a file that numpy reads."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

__all__ = ["write_probability_map"]


def write_probability_map(file: Path, probs: np.ndarray, class_names: Sequence[str]) -> None:
    """An .npz of ``probs`` (K, H, W) float16, rounded to 0.0005 or better, and ``class_names`` (K,).

    One channel has two maps, those of no and yes. The same bytes for the same values; `numpy.load` opens it.
    """
    names = list(class_names)
    if len(probs) == 2 and len(names) == 1:
        names = [f"not {names[0]}", names[0]]
    assert len(names) == len(probs), "a name for each map"
    # as numpy.savez_compressed, at a level of compression that is four times as fast
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, values in (("probs", probs.astype(np.float16)), ("class_names", np.array(names))):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                npy.write_array(entry, np.ascontiguousarray(values), allow_pickle=False)
