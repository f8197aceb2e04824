"""One kind of thing that is wrong, or worth knowing, about a data set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from datamodules import Problem

__all__ = ["Example", "Finding", "Severity", "of_problems", "worst"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Example:
    """A file to look at.

    Args:
        file: a picture or a mask.
        caption: what to see in it; empty: its name.
        box: x1, y1, x2, y2 in pixels, to be drawn.
    """

    file: str
    caption: str = ""
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Finding:
    """Everything of one kind.

    Args:
        kind: what it is, in a few words.
        severity: `error` where training would fail or its scores be unsound, else `warning`.
        messages: one for each case; the first is shown.
        examples: files to look at, all of them.
        fix: what to do; empty where the messages say it.
        cases: how many there are; 0: one a message.
    """

    kind: str
    severity: Severity
    messages: Sequence[str]
    examples: Sequence[Example] = field(default_factory=tuple)
    fix: str = ""
    cases: int = 0

    @property
    def count(self) -> int:
        """How many cases there are."""
        return self.cases or max(len(self.messages), 1)


def of_problems(problems: Iterable[Problem]) -> list[Finding]:
    """What a fit would refuse, gathered by kind."""
    by_kind: dict[str, list[Problem]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    return [
        Finding(
            kind,
            "error",
            [problem.message for problem in found],
            [
                Example(file, box=problem.boxes[place] if place < len(problem.boxes) else None)
                for problem in found
                for place, file in enumerate(problem.files)
            ],
            cases=sum(problem.cases for problem in found),
        )
        for kind, found in by_kind.items()
    ]


def worst(findings: Iterable[Finding]) -> Severity | None:
    """`error` where there is one, else `warning`, None where nothing was found."""
    severities = {finding.severity for finding in findings}
    return "error" if "error" in severities else "warning" if severities else None
