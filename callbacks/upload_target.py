"""Which files of a run go to one folder elsewhere, under which names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from callbacks.remote_folder import RemoteFolder

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """A folder elsewhere, and what of the run goes there.

    Attributes:
        folder: Where.
        what: The same for the user, as "event files".
        patterns: Files of the run directory, in the order in which they go.
        below: The part of the run directory that ``folder`` stands for; what lies beside it goes there by its path.
        grows: The files may be appended to while they are read.
        restores: From here a run goes on on another machine; so ``uploaded.json`` goes there as well.
        final: Only once the fit has ended.
        by_hand: The command that copies one file, where uploads fail; "" where none is known.
    """

    folder: RemoteFolder
    what: str
    patterns: tuple[str, ...]
    below: str = ""
    grows: bool = False
    restores: bool = False
    final: bool = False
    by_hand: str = ""

    @property
    def key(self) -> str:
        """What it is called in ``uploaded.json``: two targets may share an address, and each removes its own only."""
        return f"{self.what} {self.folder.address}"

    def files(self, run: Path) -> dict[str, Path]:
        """Name there -> file here, in the order in which they are copied."""
        found: dict[str, Path] = {}
        base = run / self.below
        for pattern in self.patterns:
            for path in sorted(run.glob(pattern)):
                hidden = any(part.startswith(".") for part in path.relative_to(run).parts)
                if path.is_file() and not hidden:
                    inside = path.is_relative_to(base)
                    found[path.relative_to(base if inside else run).as_posix()] = path
        return found

    def by_hand_for(self, names: Sequence[str], files: Mapping[str, Path]) -> str:
        """What a user types to copy these of the files, each to its name there."""
        place = self.folder.address.rstrip("/")
        return " && ".join(f"{self.by_hand} {files[name]} {place}/{name}" for name in names)
