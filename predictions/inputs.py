"""The pictures that are predicted on, found again by their path."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

__all__ = ["Inputs", "hashed"]


def hashed(text: str) -> int:
    """64 bits for a text, the same everywhere: two of a million texts share them by a chance of 3e-8."""
    return int.from_bytes(
        hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest(), "little"
    )


class Inputs(Sequence[str]):
    """Paths in the order of the input; a path's place is found in 16 bytes an input.

    Args:
        paths: Each once.
        root: The folder that names of results count from.

    >>> inputs = Inputs(["a/x.png", "a/y.png"], "a")
    >>> inputs.find("a/y.png"), inputs.find("b.png")
    (1, None)
    """

    def __init__(self, paths: Sequence[str], root: str = "") -> None:
        self.paths = paths
        self.root = root
        found = np.fromiter((hashed(path) for path in paths), dtype=np.uint64, count=len(paths))
        self._order = np.argsort(found)
        self._hashes = found[self._order]

    def find(self, path: str) -> int | None:
        """The place of this path, None where it is not among them."""
        at = int(np.searchsorted(self._hashes, np.uint64(hashed(path))))
        if at == len(self._hashes):
            return None
        place = int(self._order[at])
        return place if self.paths[place] == path else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.paths[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)
