"""`python train.py compare RUN RUN ...` and `python train.py report RUN ...`: finished runs, looked at again."""

import glob
from pathlib import Path

from callbacks.run_directory import write_atomically
from errors import LoupeError, unknown
from reports import (
    Comparison,
    compare_runs,
    difference_text,
    is_run,
    score_title,
    write_comparison,
    write_report,
)

__all__ = ["run_compare", "run_report"]

_COMPARE = """usage: python train.py compare RUN RUN [RUN ...] [--output FILE]

RUN is a run directory, a folder with run directories in it, or a pattern such as 'runs/*/version_*'.
The other runs are compared with the first. FILE is the page, compare.html where none is named.
"""
_REPORT = """usage: python train.py report RUN [RUN ...]

Writes RUN/report.html anew from what the run directory holds. RUN is as in `compare`.
"""


def run_compare(words: list[str]) -> int:
    """Prints the comparison and writes its page; the exit code.

    Args:
        words: Those after ``compare``.
    """
    if not words or words[0] in ("-h", "--help"):
        print(_COMPARE)
        return 0 if words else 2
    places, output = _split(words)
    runs = _find(places, "compare")
    if len(runs) < 2:
        raise LoupeError(
            f"compare: needs at least two run directories, got {len(runs)} ({', '.join(map(str, runs))}); "
            f"give RUN RUN, or a folder that holds several"
        )
    comparison = compare_runs(runs)
    print(*_lines(comparison), sep="\n")
    page = write_comparison(comparison, output, write=write_atomically)
    print(f"\n  page: {page}", flush=True)
    return 0


def run_report(words: list[str]) -> int:
    """Writes the page of each run anew; the exit code.

    Args:
        words: Those after ``report``.
    """
    if not words or words[0] in ("-h", "--help"):
        print(_REPORT)
        return 0 if words else 2
    flags = [word for word in words if word.startswith("-")]
    if flags:
        raise unknown("option of report", flags[0], ["--help"])
    for run in _find(words, "report"):
        print(f"  report: {write_report(run, write=write_atomically)}", flush=True)
    return 0


def _split(words: list[str]) -> tuple[list[str], Path]:
    places: list[str] = []
    output, rest = Path("compare.html"), list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name == "--output":
            if not equals:
                value = rest.pop(0) if rest else ""
            if not value or value.startswith("-"):
                raise LoupeError("--output: no file; give --output compare.html")
            output = Path(value)
        elif word.startswith("-"):
            raise unknown("option of compare", name, ["--output", "--help"])
        else:
            places.append(word)
    if output.is_dir():
        raise LoupeError(
            f"--output: {output} is a folder; give a file in it, such as {output / 'compare.html'}"
        )
    return places, output


def _find(places: list[str], command: str) -> list[Path]:
    """The run directories meant, each once, in the order given; within a folder by version number."""
    found: list[Path] = []
    for place in places:
        # a pattern that the shell did not open; a folder's own name may hold brackets
        paths = [Path(place)] if Path(place).exists() else [Path(name) for name in glob.glob(place)]  # noqa: PTH207
        folders = [path for path in paths if path.is_dir()]
        if not folders:
            raise LoupeError(
                f"{command}: no folder {place}; give run directories, such as runs/seg_unet/version_0"
            )
        runs = [run for folder in sorted(folders, key=_order) for run in _within(folder)]
        if not runs:
            raise LoupeError(
                f"{command}: {place} is no run directory and holds none: there is no config.yaml, metrics.csv or "
                f"run.json in it; give a folder such as runs/seg_unet/version_0"
            )
        found += runs
    return list({run.resolve(): run for run in found[::-1]}.values())[::-1]


def _within(folder: Path) -> list[Path]:
    """The folder where it is a run, else the runs one and two levels below it."""
    if is_run(folder):
        return [folder]
    below = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_dir()]
    return sorted((path for path in below if is_run(path)), key=_order)


def _order(path: Path) -> tuple[str, int, str]:
    digits = path.name.rpartition("_")[2]
    return str(path.parent), int(digits) if digits.isdigit() else -1, path.name


def _lines(comparison: Comparison) -> list[str]:
    """The comparison on the terminal: narrow, a line a run and score."""
    lines = ["", *(f"  {n}  {name}" for n, name in enumerate(comparison.names, 1))]
    lines += [line for warning in comparison.warnings for line in ("", f"  ! {warning}")]
    for stage in comparison.stages:
        part = "test" if stage.stage == "test" else "validation"
        lines += ["", f"  {part}: score [95 %], difference to the first run [95 %]"]
        for name, cells in stage.scores:
            lines.append(f"  {score_title(name)[0]}")
            for number, cell in enumerate(cells, 1):
                own = f"[{cell.estimate.low:.3f}, {cell.estimate.high:.3f}]" if cell.estimate.interval else ""
                lines.append(
                    f"    {number}  {cell.estimate.shown:<6} {own:<15} {difference_text(cell)}".rstrip()
                )
        lines += [f"  ! {note}" for note in stage.notes]
    if comparison.settings:
        lines += ["", "  settings that differ"]
        for key, values in comparison.settings:
            lines.append(f"  {key}")
            lines += [f"    {number}  {value}" for number, value in enumerate(values, 1)]
    for title, rows in (("time", comparison.times), ("environment", comparison.environment)):
        if rows:
            lines += ["", f"  {title}"]
            lines += [f"  {key}: {' | '.join(values)}" for key, values in rows]
    return lines
