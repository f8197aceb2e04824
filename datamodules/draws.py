"""Drawing samples by lot: a share of each stratum, whole groups, folds."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

__all__ = ["deal_folds", "lot", "lots", "take_groups", "take_of_each"]

_AT_A_TIME = 65_536  # names whose lots are drawn together; those of a million are 100 MB of objects


def lot(seed: int, name: str) -> bytes:
    """A lot for each name: unlike a shuffle, it does not change when other names come or go."""
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def lots(seed: int, names: Iterable[bytes]) -> np.ndarray:
    """The first 64 bits of the lot of each name (in UTF-8), for many of them, as uint64."""
    sha256, started = hashlib.sha256, map(f"{seed}:".encode().__add__, names)
    found = [np.empty(0, dtype=np.uint64)]
    while some := list(islice(started, _AT_A_TIME)):
        digests = b"".join([each.digest() for each in map(sha256, some)])
        found.append(np.frombuffer(digests, dtype=">u8")[::4].astype(np.uint64))
    return np.concatenate(found)


def take_of_each(strata: np.ndarray, names: Sequence[str], count: int, seed: int) -> np.ndarray:
    """Which samples to take, as bool: the first of each stratum, `count` in all where that leaves one of each.

    Whole shares first, then one more for the largest fractions (Hamilton's method), so that the sizes add up; of equal
    ones the lot decides.

    Args:
        strata: the number of each sample's stratum, samples in the order of their lots.
        names: of the strata, by number.
        count: how many.
        seed: of the lots.
    """
    sizes = np.bincount(strata, minlength=len(names)).tolist()
    exact = {k: count * size / len(strata) for k, size in enumerate(sizes) if size}
    quota = {k: min(int(share), sizes[k] - 1) for k, share in exact.items()}
    by_fraction = sorted(exact, key=lambda k: (int(exact[k]) - exact[k], lot(seed, names[k])))
    for k in by_fraction[: count - sum(quota.values())]:
        quota[k] = min(quota[k] + 1, sizes[k] - 1)
    order = np.argsort(strata, kind="stable")
    first = np.cumsum([0, *sizes])[:-1]
    place = np.empty(len(strata), dtype=np.int64)  # within its stratum
    place[order] = np.arange(len(strata)) - first[strata[order]]
    return place < np.array([quota.get(k, 0) for k in range(len(names))])[strata]


def take_groups(
    rows: Sequence[int], strata: Sequence[str], groups: Sequence[str], count: int, seed: int
) -> tuple[list[int], list[int]]:
    """About `count` of the rows in whole groups, and the rest; both in order.

    Groups are looked at by lot, and one is taken if that brings the numbers of the strata nearer to their shares and
    leaves something of each. Where no group does, the smallest that leaves something is taken.
    """
    members = _members(groups)
    sizes = Counter(strata)
    want = {name: count * size / len(rows) for name, size in sizes.items()}
    have: Counter[str] = Counter()

    def may_go(group: str) -> bool:
        there = Counter(strata[i] for i in members[group])
        return all(have[name] + number < sizes[name] for name, number in there.items())

    def gain(group: str) -> float:
        there = Counter(strata[i] for i in members[group])
        return sum(
            (have[name] - want[name]) ** 2 - (have[name] + number - want[name]) ** 2
            for name, number in there.items()
        )

    chosen: set[str] = set()
    for group in sorted(members, key=lambda group: lot(seed, group)):
        if gain(group) > 0 and may_go(group):
            chosen.add(group)
            have.update(strata[i] for i in members[group])
    if not chosen:
        rest = [group for group in members if may_go(group)]
        chosen.update(sorted(rest, key=lambda group: (len(members[group]), lot(seed, group)))[:1])
    picked = [group in chosen for group in groups]
    return (
        [row for row, take in zip(rows, picked, strict=True) if take],
        [row for row, take in zip(rows, picked, strict=True) if not take],
    )


def deal_folds(strata: Sequence[str], groups: Sequence[str], count: int, seed: int) -> list[int]:
    """The fold, 0 to `count - 1`, of each sample: groups whole, each stratum spread evenly.

    Groups are dealt out from the largest to the smallest, those of equal size by lot, each to the fold that has fewest
    of its strata so far, of equal ones to the smallest.
    """
    members = _members(groups)
    held: list[Counter[str]] = [Counter() for _ in range(count)]
    fold_of: dict[str, int] = {}
    for group in sorted(members, key=lambda group: (-len(members[group]), lot(seed, group))):
        there = Counter(strata[i] for i in members[group])
        best = min(
            range(count),
            key=lambda k: (sum(held[k][name] * number for name, number in there.items()), held[k].total(), k),
        )
        held[best].update(there)
        fold_of[group] = best
    return [fold_of[group] for group in groups]


def _members(groups: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        found.setdefault(group, []).append(i)
    return found
