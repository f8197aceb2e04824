"""Many texts as two arrays and their letters, which worker processes share."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from errors import LoupeError

__all__ = ["Texts"]

_AT_A_TIME = 65_536
_SPARE = b"\0" * 8  # so that eight bytes can be read from every place
#: Keeps the first 0 to 8 bytes of a little-endian word.
_KEEP = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)
_SPACES = np.array([chr(byte).isspace() for byte in range(128)] + [False] * 128)


class Texts(Sequence[str]):
    """An immutable sequence of texts: a million paths take the bytes of their letters, not a million objects.

    Python objects are counted where they lie, so a worker process that only reads a list of them copies its memory,
    page by page. Letters in one `bytes` and places in arrays stay shared. What is asked of all texts at once (which are
    equal, which comes first) is answered eight bytes at a time.

    Args:
        texts: the texts.
        prefix: what every text begins with, kept once.

    >>> files = Texts(["a.png", "b.png"], prefix="photos/")
    >>> files[1], len(files), files.take([1, 1, 0])
    ('photos/b.png', 2, Texts(3: photos/b.png, photos/b.png, photos/a.png))
    """

    __slots__ = ("_ends", "_letters", "_prefix", "_starts")

    def __init__(self, texts: Iterable[str] = (), *, prefix: str = "") -> None:
        listed = texts if isinstance(texts, list) else list(texts)
        whole = "".join(listed)
        try:
            letters = whole.encode()
        except UnicodeEncodeError:
            raise _no_unicode(listed) from None
        plain = len(letters) == len(whole)
        lengths = map(len, listed) if plain else (len(text.encode()) for text in listed)
        ends = np.cumsum(np.fromiter(lengths, dtype=np.int64, count=len(listed)))
        self._set(letters + _SPARE, np.concatenate([[0], ends[:-1]]) if len(ends) else ends, ends, prefix)

    @classmethod
    def within(cls, letters: bytes, starts: np.ndarray, ends: np.ndarray) -> "Texts":
        """The pieces of a UTF-8 text between these places."""
        new = cls.__new__(cls)
        new._set(letters + _SPARE, starts, ends, "")
        return new

    @classmethod
    def repeat(cls, text: str, count: int) -> "Texts":
        """The same text `count` times, in no memory."""
        return cls([text])._view(np.broadcast_to(np.zeros(1, np.intp), count))

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """`texts` itself where it is one already."""
        return texts if isinstance(texts, Texts) else cls(texts)

    def _set(self, letters: bytes, starts: np.ndarray, ends: np.ndarray, prefix: str) -> None:
        size = np.int32 if len(letters) < 2**31 else np.int64
        self._letters = letters
        self._starts: np.ndarray = starts.astype(size, copy=False)
        self._ends: np.ndarray = ends.astype(size, copy=False)
        self._prefix = prefix

    def _view(self, rows: Any) -> "Texts":
        new = Texts.__new__(Texts)
        new._letters, new._prefix = self._letters, self._prefix
        new._starts, new._ends = self._starts[rows], self._ends[rows]
        return new

    def _between(self, starts: np.ndarray, ends: np.ndarray) -> "Texts":
        new = Texts.__new__(Texts)
        new._set(self._letters, starts, ends, "")
        return new

    def with_prefix(self, prefix: str) -> "Texts":
        """The same letters behind `prefix`."""
        new = self._view(slice(None))
        new._prefix = prefix + self._prefix
        return new

    def take(self, rows: Sequence[int] | np.ndarray) -> "Texts":
        """Those at the given places, in that order; their letters stay where they are."""
        return self._view(np.asarray(rows, dtype=np.intp))

    # -- all at once, the prefix left out -------------------------------------------------------------------------

    def lengths(self) -> np.ndarray:
        """Bytes of each text."""
        return self._ends - self._starts

    def stripped(self) -> "Texts":
        """Without spaces around each."""
        bytes_, starts, ends = self._bytes(), self._starts, self._ends
        while (lead := (starts < ends) & _SPACES[bytes_[starts]]).any():
            starts = starts + lead
        while (trail := (starts < ends) & _SPACES[bytes_[np.maximum(ends - 1, 0)]]).any():
            ends = ends - trail
        return self._between(starts, ends)

    def contains(self, letter: str) -> bool:
        """Whether an ASCII letter occurs anywhere among them."""
        places = np.flatnonzero(self._bytes() == ord(letter))
        return bool((np.searchsorted(places, self._starts) < np.searchsorted(places, self._ends)).any())

    def split_last(self, letter: str) -> tuple["Texts", "Texts"]:
        """What stands before and behind the last `letter` (ASCII) of each; nothing before where it has none."""
        places = np.flatnonzero(self._bytes() == ord(letter)).astype(self._starts.dtype)
        last = np.searchsorted(places, self._ends) - 1
        at = places[np.maximum(last, 0)] if len(places) else self._starts - 1
        there = (last >= 0) & (at >= self._starts)
        before = self._between(self._starts, np.where(there, at, self._starts))
        return before, self._between(np.where(there, at + 1, self._starts), self._ends)

    def hashes(self, seed: int = 0) -> np.ndarray:
        """A uint64 for each text, the same for equal ones; different ones share one by a chance of 2^-64."""
        lengths = self.lengths()
        start = np.uint64(seed * 0xA0761D6478BD642F % 2**64)  # apart from the length: 2 + 0 is not 1 + 1
        found = lengths.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ start
        for place, word in enumerate(self._words()):
            mixed = (found ^ word) * np.uint64(0xD6E8FEB86659FD93)
            mixed ^= mixed >> np.uint64(32)
            found = np.where(lengths > 8 * place, mixed, found)
        found *= np.uint64(0xD6E8FEB86659FD93)
        return found ^ (found >> np.uint64(32))

    def order(self) -> np.ndarray:
        """The rows in the order of their texts, as `sorted` has it (UTF-8 sorts as its characters do)."""
        words = [word.byteswap() for word in self._words()]
        keys = [word for word in words if len(word) and (word != word[0]).any()]
        return (
            np.lexsort((self.lengths(), *reversed(keys)))
            if keys
            else np.argsort(self.lengths(), kind="stable")
        )

    def codes(self) -> tuple[np.ndarray, list[str]]:
        """A number for each text, counted in the order of first mention, and the different texts by number.

        >>> Texts(["cat", "dog", "cat"]).codes()
        (array([0, 1, 0]), ['cat', 'dog'])
        """
        _, first, inverse = np.unique(self.hashes(), return_index=True, return_inverse=True)
        second = self.hashes(seed=1)
        assert (second == second[first][inverse]).all(), "two texts of one hash"
        rank = np.empty(len(first), dtype=np.int64)
        by_mention = np.argsort(first)
        rank[by_mention] = np.arange(len(first))
        return rank[inverse], [self[int(row)] for row in first[by_mention]]

    def digest(self) -> str:
        """Another text for other texts or another order of them."""
        digest = hashlib.sha256(f"{self._prefix}\n{len(self)}".encode())
        for seed in range(4):
            digest.update(self.hashes(seed).tobytes())
        return digest.hexdigest()

    def _bytes(self) -> np.ndarray:
        return np.frombuffer(self._letters, dtype=np.uint8)

    def _words(self) -> Iterator[np.ndarray]:
        """The first eight bytes of each text as a little-endian word, the second eight, ...; zeros behind its end."""
        anywhere: np.ndarray = np.ndarray(
            (len(self._letters) - 7,), dtype="<u8", buffer=self._letters, strides=(1,)
        )
        lengths = self.lengths()
        for place in range(0, int(lengths.max(initial=0)), 8):
            left = np.clip(lengths - place, 0, 8)
            yield anywhere[np.minimum(self._starts + place, self._ends)] & _KEEP[left]

    # -- as a sequence --------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Texts": ...
    def __getitem__(self, index: int | slice) -> "str | Texts":
        if isinstance(index, slice):
            return self._view(index)
        return self._prefix + self._letters[self._starts[index] : self._ends[index]].decode()

    def __iter__(self) -> Iterator[str]:
        letters, prefix = self._letters, self._prefix
        places = self._places()
        if letters.isascii():
            text = letters.decode()
            return (prefix + text[start:end] for start, end in places)
        return (prefix + letters[start:end].decode() for start, end in places)

    def encoded(self) -> Iterator[bytes]:
        """Each text in UTF-8, without the prefix."""
        letters = self._letters
        return (letters[start:end] for start, end in self._places())

    def _places(self) -> Iterator[tuple[int, int]]:
        """Where each begins and ends; some at a time, since a million numbers as objects take 40 MB."""
        for first in range(0, len(self), _AT_A_TIME):
            rows = slice(first, first + _AT_A_TIME)
            yield from zip(self._starts[rows].tolist(), self._ends[rows].tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (Texts, list, tuple)) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))  # equal ones may keep their letters in different places

    def __repr__(self) -> str:
        more = ", ..." if len(self) > 3 else ""
        return f"Texts({len(self)}: {', '.join(self[:3])}{more})"


def _no_unicode(texts: list[str]) -> LoupeError:
    """The error for names as an old archive leaves them: nothing that is written about them could hold them."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            shown = text.encode(errors="backslashreplace").decode()
            return LoupeError(f"the name {shown} is not UTF-8; rename it")
    raise AssertionError("all of them are")
