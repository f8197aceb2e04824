"""How far a prediction is, in a pipe: a line now and then, where a terminal has a bar."""

import sys
import time

from callbacks.terminal import is_live, spoken_time

__all__ = ["PredictionLines", "told"]

_FIRST_S, _EVERY_S = 10.0, 30.0


class PredictionLines:
    """Counts pictures, prints a line after ten seconds and every thirty from then on, and tells the speed.

    Args:
        total: Pictures to do.
        shown: Whether lines are wanted at all, as on the first process; none come where stderr is a terminal.
    """

    def __init__(self, total: int, *, shown: bool) -> None:
        self.total = total
        self.done = 0
        self._shown = shown and not is_live(sys.stderr)
        self._began = time.monotonic()
        self._due = self._began + _FIRST_S

    @property
    def seconds(self) -> float:
        """Since the beginning, never 0."""
        return max(time.monotonic() - self._began, 1e-6)

    @property
    def images_per_s(self) -> float:
        """Since the beginning."""
        return self.done / self.seconds

    def count(self, pictures: int) -> None:
        """So many more are done, over all processes."""
        self.done = min(self.done + pictures, self.total)
        now = time.monotonic()
        if self._shown and now >= self._due and self.done < self.total:
            self._due = now + _EVERY_S
            speed = self.images_per_s
            left = spoken_time((self.total - self.done) / speed)
            print(f"predict: {self.done} of {self.total} pictures, {told(speed)}, {left} left", flush=True)


def told(images_per_s: float) -> str:
    """A speed in few digits.

    >>> told(123.4), told(1.234)
    ('123 images/s', '1.2 images/s')
    """
    return f"{images_per_s:.{0 if images_per_s >= 10 else 1}f} images/s"
