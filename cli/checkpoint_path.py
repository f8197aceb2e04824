"""Which checkpoint is meant: `--ckpt_path best | last | FILE`."""

import os
from collections.abc import Iterable
from pathlib import Path

from cli.cluster import place_among_nodes
from errors import LoupeError

__all__ = ["evaluation_directory", "find_checkpoint", "find_run", "run_of"]


def run_of(path: Path) -> Path | None:
    """The run directory that a config or a checkpoint lies in, or None."""
    for folder in (path.parent, path.parent.parent):
        if (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir():
            return folder
    return None


def find_run(files: Iterable[Path], parent: Path) -> Path:
    """The run meant by the config files: the one a file lies in, else the newest below ``parent``."""
    for file in files:
        run = run_of(file)
        if run is not None:
            return run
    versions = [p for p in parent.glob("version_*") if p.name[8:].isdigit() and (p / "checkpoints").is_dir()]
    if not versions:
        raise LoupeError(
            f"--ckpt_path: there is no run with checkpoints in {parent}; "
            f"give --config RUN/config.yaml of the run, or --ckpt_path FILE{_hint()}"
        )
    return max(versions, key=lambda p: int(p.name[8:]))


def evaluation_directory(files: Iterable[Path], parent: Path) -> Path | None:
    """The run that is evaluated; None for a checkpoint from elsewhere, whose results get a new run directory."""
    try:
        return find_run(files, parent)
    except LoupeError:
        return None


def find_checkpoint(given: str, files: Iterable[Path], parent: Path) -> Path:
    """The checkpoint file for ``best``, ``last`` or a path; LoupeError names what is there when it is missing."""
    if given not in ("best", "last"):
        path = Path(given)
        if not path.is_file():
            raise LoupeError(f"--ckpt_path: no file {given}; give best, last or an existing file{_hint()}")
        return path
    folder = find_run(files, parent) / "checkpoints"
    path = folder / f"{given}.ckpt"
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in folder.glob("*.ckpt"))) or "none"
        raise LoupeError(f"--ckpt_path {given}: no {path}; checkpoints there: {there}{_hint()}")
    return path


def _hint() -> str:
    """What is missing on one machine may be there on another."""
    place = place_among_nodes(os.environ)
    return (
        f"; each node needs the run directory, on storage that all share (this is {place})" if place else ""
    )
