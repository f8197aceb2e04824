"""Masks whose classes are colours."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from datamodules.geometry import VOID
from datamodules.images import read_rgb
from datamodules.mask_readers import MaskReader
from errors import LoupeError

__all__ = ["VOID_NAME", "ClassColors"]

#: The name that stands for "no label here" among the classes.
VOID_NAME = "void"


class ClassColors(MaskReader):
    """Reads coloured masks as class numbers, in the order in which the classes are named; `void` is no class.

    Args:
        colors: class name -> `[red, green, blue]` 0..255, or "#rrggbb".

    >>> ClassColors({"road": [128, 64, 128], "void": "#000000"}).class_names
    ['road']
    """

    def __init__(self, colors: Mapping[str, Sequence[int] | str]) -> None:
        self.class_names = [name for name in colors if name != VOID_NAME]
        numbers = {name: number for number, name in enumerate(self.class_names)} | {VOID_NAME: VOID}
        codes = {name: _code(name, color) for name, color in colors.items()}
        if not self.class_names:
            raise LoupeError(f"data.read.class_colors names no class; got {dict(colors)}")
        by_code: dict[int, str] = {}
        for name, code in codes.items():
            if code in by_code:
                raise LoupeError(
                    f"data.read.class_colors gives {by_code[code]} and {name} one colour, {_shown(code)}"
                )
            by_code[code] = name
        self._codes = np.array(sorted(by_code), dtype=np.int64)
        self._numbers = np.array([numbers[by_code[code]] for code in sorted(by_code)], dtype=np.uint8)

    @property
    def key(self) -> str:
        """Another text for other colours or another order."""
        return f"{self._codes.tolist()} {self._numbers.tolist()}"

    def read(self, entry: str) -> Tensor:
        """The mask as (H, W) uint8 class numbers, 255 for void.

        Raises LoupeError naming the file where it is unreadable or holds a colour that is no class.
        """
        rgb = read_rgb(entry).astype(np.int64)
        codes = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
        place = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        strange = self._codes[place] != codes
        if strange.any():
            found, counts = np.unique(codes[strange], return_counts=True)
            most = [f"{_shown(int(found[i]))} ({counts[i]} pixels)" for i in np.argsort(-counts)[:3]]
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            lossy = "; a mask saved as JPEG looks like this, save it as PNG" if len(found) > 50 else ""
            raise LoupeError(
                f"mask {entry} has colours that are not in data.read.class_colors: {', '.join(most)}{more}{lossy}"
            )
        return torch.from_numpy(self._numbers[place])


def _code(name: str, color: Sequence[int] | str) -> int:
    try:
        if isinstance(color, str):
            digits = color.removeprefix("#")
            if len(digits) == 6:
                return int(digits, 16)
        elif len(color) == 3 and all(0 <= int(value) <= 255 for value in color):
            return int(color[0]) << 16 | int(color[1]) << 8 | int(color[2])
    except ValueError:
        pass  # no hexadecimal number: told below
    raise LoupeError(
        f"data.read.class_colors.{name} is {color!r}; valid: [red, green, blue] from 0 to 255, or '#rrggbb'"
    )


def _shown(code: int) -> str:
    return f"[{code >> 16}, {code >> 8 & 255}, {code & 255}]"
