"""What a run has put elsewhere, remembered in its own folder, and reading files that others write at the same time."""

import contextlib
import json
import shutil
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from callbacks.run_directory import write_atomically

__all__ = ["RECORD", "Stamp", "UploadRecord", "read_record", "stamp", "unchanging"]

RECORD = "uploaded.json"
_SNAPSHOT = ".being_uploaded"

#: Bytes, time of the last change in ns, and the number by which the file system knows a file of several names.
Stamp = tuple[int, int, int]


class UploadRecord:
    """``RUN/uploaded.json``: for each place the names that this run has put there, and of which state of the file.

    Only these may be removed there. A run that goes on, also on another machine, knows by it which files are its own.

    Args:
        run: The run directory.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / RECORD
        self._targets = read_record(self.path)
        self._written = ""

    @property
    def names(self) -> set[str]:
        """All names in all places."""
        return {f"{target} {name}" for target, known in self._targets.items() for name in known}

    def of(self, target: str) -> dict[str, Stamp | None]:
        """Name -> state of what is in one place; None for what is only meant to be there yet."""
        return self._targets.setdefault(target, {})

    def announce(self, target: str, names: Iterable[str]) -> None:
        """Note names before they are sent."""
        known = self.of(target)
        for name in names:
            known.setdefault(name, None)

    def missing(self, target: str, files: Mapping[str, Path]) -> list[str]:
        """Which of the files are not there as they are now."""
        known = self.of(target)
        return [name for name, path in files.items() if (now := stamp(path)) and known.get(name) != now]

    def write(self) -> None:
        """Keep it, where it has changed."""
        text = json.dumps(self._targets, indent=1)
        if text != self._written:
            write_atomically(self.path, text)
            self._written = text


def read_record(path: Path) -> dict[str, dict[str, Stamp | None]]:
    """The record in a file; an empty one where there is none, or none that can be read."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(address): {
                str(name): _stamp_of(state) for name, state in names.items() if _is_inside(str(name))
            }
            for address, names in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _is_inside(name: str) -> bool:
    """Whether a name stays in its folder: a record from elsewhere is no reason to write or remove anything outside."""
    path = PurePosixPath(name)
    return not (path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name)


def stamp(path: Path) -> Stamp | None:
    """The state of a file, None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


@contextlib.contextmanager
def unchanging(path: Path, run: Path, *, grows: bool) -> Generator[Path | None]:
    """A name under which the file stays as it is while it is read; None where it is gone.

    A file that grows is copied up to where it is now: what comes after would contradict the length that an upload
    begins by naming. One that is replaced as a whole gets a second name, which goes on naming the old file.
    """
    snapshot = run / f"{_SNAPSHOT}{path.suffix}"
    snapshot.unlink(missing_ok=True)
    try:
        try:
            if grows:
                _copy_prefix(path, snapshot)
            else:
                snapshot.hardlink_to(path)
        except FileNotFoundError:
            yield None
            return
        except OSError:  # a file system without links
            shutil.copyfile(path, snapshot)
        yield snapshot
    finally:
        with contextlib.suppress(OSError):
            snapshot.unlink(missing_ok=True)


def _copy_prefix(path: Path, target: Path) -> None:
    left = path.stat().st_size
    with path.open("rb") as source, target.open("wb") as copy:
        while left > 0 and (chunk := source.read(min(left, 1 << 20))):
            copy.write(chunk)
            left -= len(chunk)


def _stamp_of(state: Any) -> Stamp | None:
    if state is None:
        return None
    size, changed, number = state
    return int(size), int(changed), int(number)
