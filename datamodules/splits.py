"""Which samples train, validate and test."""

from collections.abc import Sequence

from datamodules.draws import deal_folds, lot, take_groups, take_of_each
from datamodules.options import Split
from datamodules.samples import PARTS, Samples, name_some
from errors import LoupeError

__all__ = ["GROUP", "split_samples"]

#: The column that says which samples belong together: a patient, a place, a day.
GROUP = "group"


def split_samples(
    samples: Samples, split: Split, strata: Sequence[str] | None = None
) -> tuple[dict[str, Samples], str]:
    """The three parts, sorted by name, and a sentence on where they come from.

    Parts that the data names are kept. A missing `val` is taken from `train`, or is a fold of it; a missing `test` is
    drawn too, but only where the data names neither. Which samples move depends on their names and the seed alone, and
    without groups and folds stays for the others when samples are added. With `strata`, one for each sample, a drawn
    part takes its share of every stratum, to the nearest whole sample; the last sample of a stratum stays in `train`.
    With the column `group` all samples of a group are in one part: a drawn part takes whole groups, and parts that the
    data names are refused where one is in two. A part that cannot be filled raises LoupeError, except for a `test`
    that nobody asked for.
    """
    _check(split)
    rows: dict[str, list[int]] = {part: [] for part in PARTS}
    for row in sorted(range(len(samples)), key=lambda i: samples.names[i]):
        rows[samples.parts[row] or "train"].append(row)
    if not rows["train"]:
        named = " and ".join(part for part in PARTS if rows[part])
        raise LoupeError(f"the data has only {named} pictures and none to train on; add a train part")
    groups = _groups(samples)
    _refuse_torn_groups(samples, groups)
    if split.fold is not None and rows["val"]:
        raise LoupeError(
            f"data.split.fold is {split.fold}, but the data names its val part; leave one of them out"
        )

    shares = {"val": 0.0 if rows["val"] or split.fold is not None else split.val}
    shares["test"] = split.test if not rows["val"] and not rows["test"] else 0.0
    given = [part for part in PARTS if rows[part]] if any(samples.parts) else []
    train = sorted(rows["train"], key=lambda i: lot(split.seed, samples.names[i]))
    total = len(train)
    for part in ("test", "val"):
        if shares[part]:
            rows[part], train = _take(train, max(1, round(total * shares[part])), strata, groups, split.seed)
    if split.fold is not None and split.num_folds is not None:
        rows["val"], train = _fold(train, strata, groups, split.fold, split.num_folds, split.seed)
    if not rows["val"] and not shares["val"] and split.fold is None:
        raise LoupeError(
            "data.split.val is 0 and the data names no val part; training needs one, such as 0.15"
        )
    if not train or not rows["val"] or (shares["test"] and not rows["test"]):
        what = f"{len(set(groups))} groups of {total} pictures" if groups else f"{total} pictures"
        raise LoupeError(
            f"{what} are too few to split into train, val and test (data.split.val {split.val}, "
            f"data.split.test {split.test}); name the parts yourself or give more pictures"
        )
    rows["train"] = train
    made = [part for part in PARTS if shares.get(part)]
    return {part: samples.take(_by_name(samples, rows[part]), part=part) for part in PARTS}, _origin(
        given, made, split, grouped=bool(groups)
    )


def _check(split: Split) -> None:
    for key, share in (("val", split.val), ("test", split.test)):
        if not 0.0 <= share < 1.0:
            raise LoupeError(f"data.split.{key} is {share}; it is a share between 0 and 1, such as 0.2")
    if split.val + split.test >= 1.0:
        raise LoupeError(
            f"data.split.val {split.val} and data.split.test {split.test} leave nothing to train on"
        )
    if (split.fold is None) != (split.num_folds is None):
        one, other = ("fold", "num_folds") if split.num_folds is None else ("num_folds", "fold")
        raise LoupeError(f"data.split.{one} is set and data.split.{other} is not; folds need both")
    if split.num_folds is not None and split.num_folds < 2:
        raise LoupeError(f"data.split.num_folds is {split.num_folds}; it must be at least 2")
    if split.fold is not None and split.num_folds is not None and not 0 <= split.fold < split.num_folds:
        raise LoupeError(
            f"data.split.fold is {split.fold}; with {split.num_folds} folds it is 0 to {split.num_folds - 1}"
        )


def _groups(samples: Samples) -> list[str]:
    """The group of each sample, those without one by themselves; empty where the data has no groups."""
    if GROUP not in samples.columns:
        return []
    named = samples.columns[GROUP]
    return [
        f"group {group}" if group else f"alone {name}"
        for group, name in zip(named, samples.names, strict=True)
    ]


def _refuse_torn_groups(samples: Samples, groups: list[str]) -> None:
    parts: dict[str, set[str]] = {}
    for group, part in zip(groups, samples.parts, strict=False):
        parts.setdefault(group, set()).add(part)
    torn = [
        f"{group.removeprefix('group ')} ({', '.join(p for p in PARTS if p in found)})"
        for group, found in parts.items()
        if len(found) > 1
    ]
    if torn:
        raise LoupeError(
            f"in more than one part: {name_some(torn, 'group')}. Pictures of one group are alike, so scores would be "
            "too good; keep each in one part, or leave the column split out, and whole groups are drawn"
        )


def _take(
    rows: list[int], count: int, strata: Sequence[str] | None, groups: list[str], seed: int
) -> tuple[list[int], list[int]]:
    """What goes to a drawn part, and what stays."""
    if groups:
        classes = [strata[i] if strata else "" for i in rows]
        return take_groups(rows, classes, [groups[i] for i in rows], count, seed)
    if strata:
        return take_of_each(rows, [strata[i] for i in rows], count, seed)
    return rows[:count], rows[count:]


def _fold(
    rows: list[int], strata: Sequence[str] | None, groups: list[str], fold: int, count: int, seed: int
) -> tuple[list[int], list[int]]:
    """The rows of one fold, and the others."""
    alone = groups or [str(i) for i in range(max(rows, default=0) + 1)]
    there = [alone[i] for i in rows]
    if len(set(there)) < count:
        what = "groups" if groups else "pictures"
        raise LoupeError(
            f"data.split.num_folds is {count}, but only {len(set(there))} {what} are there to deal out"
        )
    # rows come in the order of their lots, so position is as good a name for a sample without a group
    names = there if groups else [f"{place:09d}" for place in range(len(rows))]
    folds = deal_folds([strata[i] if strata else "" for i in rows], names, count, seed)
    return (
        [row for row, k in zip(rows, folds, strict=True) if k == fold],
        [row for row, k in zip(rows, folds, strict=True) if k != fold],
    )


def _by_name(samples: Samples, rows: list[int]) -> list[int]:
    return sorted(rows, key=lambda i: samples.names[i])


def _origin(given: list[str], made: list[str], split: Split, *, grouped: bool) -> str:
    drawn: list[str] = []
    if made:
        drawn.append(f"{' and '.join(made)} drawn")
    if split.fold is not None:
        drawn.append(f"val fold {split.fold} of {split.num_folds}")
    if not drawn:
        return "parts as the data names them"
    how = f"{' and '.join(drawn)} with data.split.seed {split.seed}{', whole groups' if grouped else ''}"
    return how if not given else f"{' and '.join(given)} as the data names them, {how} from train"
