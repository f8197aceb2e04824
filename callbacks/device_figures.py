"""A few numbers from the device, fetched without waiting for it."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["DeviceFigures"]


class DeviceFigures:
    """Copies a small tensor while the device works, and gives the newest copy that has arrived.

    From a CPU the numbers are there at once; from a GPU usually at the next question.

    >>> figures = DeviceFigures()
    >>> figures.known()
    >>> figures.ask(torch.tensor([[1.0], [2.0]])); figures.known()
    [[1.0], [2.0]]
    """

    def __init__(self) -> None:
        self._known: Any = None
        self._copy: Tensor | None = None
        self._arrived: torch.cuda.Event | None = None

    def forget(self) -> None:
        """Drop what is known, and what is on its way."""
        self._known = self._copy = self._arrived = None

    def ask(self, values: Tensor) -> None:
        """Begin to copy ``values``, unless an earlier copy is still on its way."""
        if self._arrived is not None and not self._arrived.query():
            return
        self._take()
        if values.device.type != "cuda":
            self._known = values.tolist()
            return
        self._copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._copy.copy_(values, non_blocking=True)
        self._arrived = torch.cuda.Event()
        self._arrived.record()

    def known(self) -> Any:
        """The newest numbers that are here, as nested lists; None before there are any."""
        if self._arrived is not None and self._arrived.query():
            self._take()
        return self._known

    def _take(self) -> None:
        if self._copy is not None:
            self._known = self._copy.tolist()
        self._copy = self._arrived = None
