"""What got slower: results of today beside those that are stored.

    python benchmarks/compare.py [--stored benchmarks/results] [--found FOLDER] [--tolerance 0.15]

Ratios and differences are compared, never absolute times, so that another machine may say something. Exit code 1 where
a figure is worse by more than the tolerance (a share of it, and of differences in ms at least 0.1 ms).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Change(NamedTuple):
    """A figure then and now; None where there was or is none."""

    name: str
    before: float | None
    after: float | None
    is_worse: bool


def changes(before: Mapping[str, float], after: Mapping[str, float], tolerance: float) -> Iterator[Change]:
    """Each figure of either, in order.

    >>> before, after = {"a": 1.0, "b_speed": 2.0, "c_ms": 0.1}, {"a": 1.2, "b_speed": 1.5, "c_ms": 0.19}
    >>> [change.is_worse for change in changes(before, after, 0.15)]
    [True, True, False]
    """
    for name in [*before, *(name for name in after if name not in before)]:
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            yield Change(name, old, new, False)
            continue
        worse = old - new if name.endswith("_speed") else new - old
        allowed = max(tolerance * abs(old), 0.1 if name.endswith("_ms") else 0.0)
        yield Change(name, old, new, worse > allowed)


def main(stored: Path, found: Path, tolerance: float) -> int:
    slower = 0
    for path in sorted(found.glob("*.json")):
        other = stored / path.name
        if not other.is_file():
            print(f"{path.stem}: nothing is stored yet")
            continue
        old, new = (json.loads(file.read_text(encoding="utf-8")) for file in (other, path))
        print(f"{path.stem}: {old['machine']['date']} -> {new['machine']['date']}")
        for change in changes(old["figures"], new["figures"], tolerance):
            shown = ["none" if value is None else f"{value:.3g}" for value in change[1:3]]
            print(
                f"  {change.name:<50} {shown[0]:>8} -> {shown[1]:>8}{'  SLOWER' if change.is_worse else ''}"
            )
            slower += change.is_worse
    print(
        f"{slower} of the figures got slower by more than {tolerance:.0%}" if slower else "nothing got slower"
    )
    return int(slower > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stored", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--found", type=Path, required=True)
    parser.add_argument("--tolerance", type=float, default=0.15)
    given = parser.parse_args()
    sys.exit(main(given.stored, given.found, given.tolerance))
