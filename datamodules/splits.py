"""Which samples train, validate and test."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from datamodules.options import Split
from datamodules.samples import PARTS, Samples
from errors import LoupeError

__all__ = ["split_samples"]


def split_samples(
    samples: Samples, split: Split, strata: Sequence[str] | None = None
) -> tuple[dict[str, Samples], str]:
    """The three parts, sorted by name, and a sentence on where they come from.

    Parts that the data names are kept. A missing `val` is taken from `train`; a missing `test` is too, but only where
    the data names neither. Which samples move depends on their names and the seed alone, and stays for the others
    when samples are added. With `strata`, one for each sample, a drawn part takes its share of every stratum, to the
    nearest whole sample; the last sample of a stratum stays in `train`. A part that cannot be filled raises LoupeError,
    except for a `test` that nobody asked for.
    """
    for key, share in (("val", split.val), ("test", split.test)):
        if not 0.0 <= share < 1.0:
            raise LoupeError(f"data.split.{key} is {share}; it is a share between 0 and 1, such as 0.2")
    if split.val + split.test >= 1.0:
        raise LoupeError(
            f"data.split.val {split.val} and data.split.test {split.test} leave nothing to train on"
        )

    rows: dict[str, list[int]] = {part: [] for part in PARTS}
    for row in sorted(range(len(samples)), key=lambda i: samples.names[i]):
        rows[samples.parts[row] or "train"].append(row)
    if not rows["train"]:
        named = " and ".join(part for part in PARTS if rows[part])
        raise LoupeError(f"the data has only {named} pictures and none to train on; add a train part")

    shares = {"val": 0.0 if rows["val"] else split.val}
    shares["test"] = split.test if not rows["val"] and not rows["test"] else 0.0
    given = [part for part in PARTS if rows[part]] if any(samples.parts) else []
    train = sorted(rows["train"], key=lambda i: _lot(split.seed, samples.names[i]))
    total = len(train)
    for part in ("test", "val"):
        if shares[part]:
            count = max(1, round(total * shares[part]))
            if strata is None:
                rows[part], train = train[:count], train[count:]
            else:
                rows[part], train = _take_of_each(train, [strata[i] for i in train], count, split.seed)
    if not rows["val"] and not shares["val"]:
        raise LoupeError(
            "data.split.val is 0 and the data names no val part; training needs one, such as 0.15"
        )
    if not train or not rows["val"]:
        raise LoupeError(
            f"{total} pictures are too few to split into train, val and test (data.split.val {split.val}, "
            f"data.split.test {split.test}); name the parts yourself or give more pictures"
        )
    rows["train"] = train
    made = [part for part in PARTS if shares.get(part)]
    return {part: samples.take(_by_name(samples, rows[part]), part=part) for part in PARTS}, _origin(
        given, made, split
    )


def _take_of_each(rows: list[int], strata: list[str], count: int, seed: int) -> tuple[list[int], list[int]]:
    """The first rows of each stratum, `count` in all where that leaves one of each, and the rest; both in order.

    Whole shares first, then one more for the largest fractions (Hamilton's method), so that the sizes add up;
    of equal ones the lot decides.
    """
    sizes = Counter(strata)
    exact = {name: count * size / len(rows) for name, size in sizes.items()}
    quota = {name: min(int(share), sizes[name] - 1) for name, share in exact.items()}
    by_fraction = sorted(exact, key=lambda name: (int(exact[name]) - exact[name], _lot(seed, name)))
    for name in by_fraction[: count - sum(quota.values())]:
        quota[name] = min(quota[name] + 1, sizes[name] - 1)
    taken: list[int] = []
    left: list[int] = []
    for row, name in zip(rows, strata, strict=True):
        quota[name] -= 1
        (taken if quota[name] >= 0 else left).append(row)
    return taken, left


def _lot(seed: int, name: str) -> bytes:
    """A lot for each name: unlike a shuffle, it does not change when other names come or go."""
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _by_name(samples: Samples, rows: list[int]) -> list[int]:
    return sorted(rows, key=lambda i: samples.names[i])


def _origin(given: list[str], made: list[str], split: Split) -> str:
    if not made:
        return "parts as the data names them"
    drawn = f"{' and '.join(made)} drawn with data.split.seed {split.seed}"
    return drawn if not given else f"{' and '.join(given)} as the data names them, {drawn} from train"
