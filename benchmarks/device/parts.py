"""Parts in order of importance, each within what is left of the time; what is known is on disk after each of them."""

from __future__ import annotations

import json
import signal
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class TooLongError(Exception):
    """A part took all that was left."""


@dataclass(frozen=True)
class Part:
    """One measurement.

    Attributes:
        name: Where its result stands.
        kind: Parts of one kind take about as long as each other.
        needs_s: What it takes, by an estimate; it is not begun where less is left. The longest of its kind so far
            counts where that is more.
        run: Makes the result.
    """

    name: str
    kind: str
    needs_s: float
    run: Callable[[], Any]


@dataclass
class Results:
    """All that was found, and the file that it is kept in."""

    path: Path
    found: dict[str, Any] = field(default_factory=dict)
    times_s: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        """To a temporary name and then to its own: a killed run leaves a whole file."""
        content = {
            "failures": self.failures,
            "left_out": self.left_out,
            "times_s": self.times_s,
            **self.about,
            "found": self.found,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".part")
        draft.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
        draft.replace(self.path)


def run_parts(parts: list[Part], results: Results, *, seconds: float, reserve_s: float = 10.0) -> None:
    """Run them; one that raises is written down, and the others go on.

    Args:
        seconds: From now on.
        reserve_s: What is kept back for the end.
    """
    end, longest = time.monotonic() + seconds - reserve_s, dict[str, float]()
    for part in parts:
        left = end - time.monotonic()
        needs = max(part.needs_s, longest.get(part.kind, 0.0))
        if left < needs:
            results.left_out[part.name] = f"needs about {needs:.0f} s, {max(0.0, left):.0f} s were left"
            print(f"left out: {part.name}: {results.left_out[part.name]}", flush=True)
            results.write()
            continue
        began = time.monotonic()
        try:
            with at_most(left):
                results.found[part.name] = part.run()
        except (Exception, SystemExit) as error:
            lines = traceback.format_exception(error)
            results.failures[part.name] = f"{type(error).__name__}: {error}\n" + "".join(lines)[-3000:]
            print(f"FAILED: {part.name}: {type(error).__name__}: {error}", flush=True)
        took = time.monotonic() - began
        results.times_s[part.name] = round(took, 1)
        longest[part.kind] = max(longest.get(part.kind, 0.0), took)
        print(f"{part.name}: {took:.1f} s", flush=True)
        results.write()


@contextmanager
def at_most(seconds: float) -> Generator[None]:
    """TooLongError in what runs here after so many seconds; nothing where there are no such signals (Windows)."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: Any) -> None:
        raise TooLongError(f"took longer than the {seconds:.0f} s that were left")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
