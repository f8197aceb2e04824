"""What `check` found, on the terminal, as JSON, and as a page with pictures."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from errors import LoupeError
from figures.pages import page_templates
from inspection.finding import Example, Finding
from inspection.inspect import Inspection
from inspection.thumbnails import data_uri

__all__ = ["print_table", "write_report"]

_SHOWN = 12  # pictures of a finding on the page


def print_table(inspection: Inspection) -> None:
    """A line for each step and each finding, and the verdict."""
    lines = [f"  {'done':<8}{step}" for step in inspection.steps]
    lines.append("")
    width = max([len(finding.kind) for finding in inspection.findings], default=0)
    for finding in inspection.findings:
        first = finding.messages[0] if finding.messages else ""
        head = f"  {finding.severity:<8}{finding.kind:<{width}}  {finding.count:>5}  "
        lines.append(head + first.replace("\n", "\n" + " " * len(head)))
        if finding.fix:
            lines.append(" " * len(head) + finding.fix)
    print("", *lines, "", f"  {verdict(inspection)}", sep="\n", flush=True)


def verdict(inspection: Inspection) -> str:
    """The outcome in a sentence."""
    errors = sum(finding.severity == "error" for finding in inspection.findings)
    warnings = len(inspection.findings) - errors
    found = " and ".join(
        f"{count} kind{'s' if count > 1 else ''} of {what}"
        for count, what in ((errors, "errors"), (warnings, "warnings"))
        if count
    )
    if errors:
        return f"{found}: training would fail, or its scores be unsound"
    return f"{found}: training can begin" if found else "nothing is wrong: training can begin"


def write_report(
    inspection: Inspection, folder: Path, *, config: str, data: str, write: Callable[[Path, str], None]
) -> Path:
    """Writes `check.json` and `check.html` into the folder, whole or not at all; returns the page.

    Args:
        inspection: what was found.
        folder: made where it is not there.
        config: the configs that were checked, for the page's head.
        data: what was looked at.
        write: puts a text into a file, whole or not at all; may raise OSError.
    """
    about = {"config": config, "data": data, "date": time.strftime("%Y-%m-%d %H:%M")}
    content: dict[str, Any] = {
        **about,
        "sound": inspection.sound,
        "steps": inspection.steps,
        "parts": inspection.parts,
        "classes": inspection.classes,
        "sizes_px": {
            name: dict(zip(("min", "median", "max"), v, strict=True)) for name, v in inspection.sizes.items()
        },
        "findings": [_plain(finding) for finding in inspection.findings],
    }
    page = (
        page_templates(Path(__file__).parent)
        .get_template("page.html")
        .render(
            **about,
            sound=inspection.sound,
            verdict=verdict(inspection),
            inspection=inspection,
            findings=[(finding, _pictures(finding, inspection)) for finding in inspection.findings],
            bars=_bars(inspection),
            shown=_SHOWN,
        )
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "check.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        write(folder / "check.html", page)
    except OSError as error:
        raise LoupeError(f"run.directory: cannot write to {folder}: {error.strerror or error}") from error
    return folder / "check.html"


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "count": finding.count,
        "messages": list(finding.messages),
        "files": [example.file for example in finding.examples],
        "fix": finding.fix,
    }


def _pictures(finding: Finding, inspection: Inspection) -> list[dict[str, str | None]]:
    def one(example: Example) -> dict[str, str | None]:
        return {
            "uri": data_uri(example, inspection.read),
            "caption": example.caption or Path(example.file).name,
            "file": example.file,
        }

    return [one(example) for example in finding.examples[:_SHOWN]]


def _bars(inspection: Inspection) -> list[tuple[str, list[tuple[str, int, float]]]]:
    """For each class its counts, and their share of the largest as percent."""
    largest = max((count for counts in inspection.classes.values() for count in counts.values()), default=0)
    return [
        (name, [(part, count, 100 * count / max(1, largest)) for part, count in counts.items()])
        for name, counts in inspection.classes.items()
    ]
