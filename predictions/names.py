"""How the files of a prediction are called: after their input, each another name, the same ones in every run."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath

import numpy as np

from predictions.inputs import hashed

__all__ = ["OutputNames", "output_names"]

#: What our files end in: a folder of such a name could stand where a file must.
_OURS = (".png", ".jpg", ".npz")
_LONGEST_BYTES = 200  # of a part; file systems take 255, and endings come behind it


class OutputNames(Sequence[str]):
    """A name without suffix for each input, counted from the root, unique, and never outside of a folder.

    It is the input's path below the root less its suffix, and with it where two would be the same else. Names that an
    earlier run gave stay. Only the exceptions are kept, the others are made when they are asked for.

    Args:
        paths: The inputs.
        root: The folder that names count from; of an input elsewhere the whole path counts.
        kept: Positions, and the names that their files have already.
    """

    def __init__(self, paths: Sequence[str], root: str = "", kept: Iterable[tuple[int, str]] = ()) -> None:
        self._paths = paths
        self._root = PurePath(root).parts if root else ()
        # in any letter case, since there are file systems to which it is the same
        stems = _hashes(self._stem(path).casefold() for path in paths)
        _, which, count = np.unique(stems, return_inverse=True, return_counts=True)
        self._whole = count[which] > 1
        self._own: dict[int, str] = {}
        has = np.zeros(len(paths), dtype=bool)
        for place, name in kept:
            has[place] = True
            if name != self[place]:
                self._own[place] = name
        chosen = _hashes(name.casefold() for name in self)
        taken, count = np.unique(chosen, return_counts=True)
        if (count > 1).any():
            self._part(chosen, taken, count, has)

    def _part(self, chosen: np.ndarray, taken: np.ndarray, count: np.ndarray, has: np.ndarray) -> None:
        """Give other names to those that are not the first of their name, such as x.png.png beside x.png and x.jpg."""
        known = set(taken.tolist())
        several = set(taken[count > 1].tolist())
        places: list[int] = [i for i, name in enumerate(chosen.tolist()) if name in several]
        given = {int(chosen[i]) for i in places if has[i]}
        for place in (i for i in places if not has[i]):
            if int(chosen[place]) not in given:
                given.add(int(chosen[place]))
                continue
            wanted = name = self._name(self._paths[place])
            number = 1
            while hashed(name.casefold()) in known:
                number += 1
                name = f"{wanted}_{number}"
            known.add(hashed(name.casefold()))
            self._own[place] = name

    def _name(self, path: str) -> str:
        parts = PurePath(path).parts
        if self._root and parts[: len(self._root)] == self._root and len(parts) > len(self._root):
            parts = parts[len(self._root) :]
        return "/".join([*(_folder(part) for part in parts[:-1]), *(_safe(part) for part in parts[-1:])])

    def _stem(self, path: str) -> str:
        name = self._name(path)
        return name.rsplit(".", 1)[0] if "." in name.rsplit("/", 1)[-1].lstrip(".") else name

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        if index in self._own:
            return self._own[index]
        path = self._paths[index]
        return self._name(path) if self._whole[index] else self._stem(path)


def output_names(paths: Sequence[str], root: str = "", kept: Iterable[tuple[int, str]] = ()) -> OutputNames:
    """A name without suffix for each input, unique, below the root, never outside.

    >>> list(output_names(["a/x.png", "a/y.png", "a/y.jpg"], "a"))
    ['x', 'y.png', 'y.jpg']
    >>> list(output_names(["a/y.png", "a/y.jpg"], "a", kept=[(0, "y")]))
    ['y', 'y.jpg']
    """
    return OutputNames(paths, root, kept)


def _hashes(texts: Iterable[str]) -> np.ndarray:
    return np.fromiter((hashed(text) for text in texts), dtype=np.uint64)


def _folder(part: str) -> str:
    safe = _safe(part)
    return f"{safe}_" if safe.lower().endswith(_OURS) else safe


def _safe(part: str) -> str:
    if part in (".", "..", "/", "\\"):
        return "_"
    safe = re.sub(r"[\\:/]", "_", part)
    written = safe.encode(errors="surrogateescape")
    if len(written) <= _LONGEST_BYTES:
        return safe
    suffix = safe[safe.rfind(".") :] if "." in safe[-6:] else ""
    start = written[: _LONGEST_BYTES - 30].decode(errors="ignore")
    return f"{start}_{hashlib.blake2b(written, digest_size=8).hexdigest()}{suffix}"
