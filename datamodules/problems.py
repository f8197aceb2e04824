"""What is wrong with the data: refused at once by a fit, collected by `check`."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from errors import LoupeError

__all__ = ["REFUSE", "Problem", "Problems"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        kind: what it is in a few words, the same for all of its kind.
        message: what a fit says when it refuses the data for it.
        files: the pictures or masks concerned, some or all of them.
        boxes: x1, y1, x2, y2 for each of these files, where it is about boxes.
        cases: how many things the message counts.
    """

    kind: str
    message: str
    files: tuple[str, ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    cases: int = 1


@dataclass
class Problems:
    """Where the readers of data tell what they find. As it stands the first problem ends the run.

    Args:
        collecting: keep the problems; whoever reports one goes on without the sample that it is about.
    """

    collecting: bool = False
    found: list[Problem] = field(default_factory=list)

    def add(
        self,
        kind: str,
        message: str,
        files: Iterable[str] = (),
        *,
        boxes: Iterable[tuple[float, float, float, float]] = (),
        cases: int = 1,
    ) -> None:
        """Raises LoupeError with the message unless problems are collected."""
        if not self.collecting:
            raise LoupeError(message)
        self.found.append(Problem(kind, message, tuple(files), tuple(boxes), cases))


#: For readers that are asked by themselves.
REFUSE = Problems()
