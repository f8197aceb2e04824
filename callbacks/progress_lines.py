"""How the progress bar looks: one line where it fits, else two, and never a line that is too long."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar as Bar
from rich.segment import Segment
from rich.style import Style

from callbacks.terminal import clock_time

__all__ = ["ProgressLines"]

_LONGEST_BAR, _SHORTEST_BAR = 40, 5
_BOLD, _DIM = Style(bold=True), Style(dim=True)
_GAP = 2


@dataclass
class ProgressLines:
    """What a progress bar shows at a moment.

    Attributes:
        name: ``epoch 3/50``, ``test``.
        done: Batches that are over.
        total: All batches, may be infinite.
        images_per_s: Over all processes, None before it is known.
        left_s: Seconds until ``total``, None before it is known.
        run_left_s: Seconds until the end of the run, likewise.
        figures: ``loss 0.4321``, in the order of their weight.
    """

    name: str
    done: int
    total: float
    images_per_s: float | None = None
    left_s: float | None = None
    run_left_s: float | None = None
    figures: Sequence[str] = field(default_factory=list[str])

    def texts(self, width: int) -> tuple[list[str], int, list[str], list[str]]:
        """Before the bar, the bar's length, behind it, and a second line, for a terminal of ``width`` columns."""
        bounded = self.total < float("inf")
        before = [self.name]
        behind = [f"{self.done}/{int(self.total)}" if bounded else str(self.done)]
        if self.images_per_s is not None:
            behind.append(f"{self.images_per_s:.{0 if self.images_per_s >= 10 else 1}f} images/s")
        if self.left_s is not None and bounded:
            behind.append(f"{clock_time(self.left_s)} left")
        run = [f"run {clock_time(self.run_left_s)} left"] if self.run_left_s is not None else []
        rest = [*run, *self.figures]
        needed = _length([*before, *behind, *rest]) + _GAP + 2 * _SHORTEST_BAR
        if needed <= width:
            behind, rest = [*behind, *rest], []
        while len(behind) > 1 and _length([*before, *behind]) + _GAP + _SHORTEST_BAR > width:
            behind.pop()
        bar = min(_LONGEST_BAR, width - _length([*before, *behind]) - _GAP)
        while rest and _length(["", *rest]) > width:
            rest.pop()
        return before, bar if bounded and bar >= _SHORTEST_BAR else 0, behind, rest

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it; the last column stays free, since some terminals wrap there."""
        width = options.max_width - 1
        before, bar, behind, rest = self.texts(width)
        gap = Segment(" " * _GAP)
        yield Segment(before[0][:width], _BOLD)
        if bar:
            yield gap
            yield from console.render(
                Bar(max(1, self.total), self.done, bar, complete_style="cyan", finished_style="cyan"),
                options.update(width=bar),
            )
        for number, text in enumerate(behind):
            if _length([*before, text]) <= width:
                yield gap
                yield Segment(text, _DIM if number and text.endswith(("images/s", "left")) else None)
        if rest:
            yield Segment.line()
            for text in rest:
                yield gap
                yield Segment(text, _DIM if text.endswith("left") else None)


def _length(texts: Sequence[str]) -> int:
    return sum(map(cell_len, texts)) + _GAP * (len(texts) - 1)
