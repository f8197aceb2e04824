"""Which samples train, validate and test."""

import logging
from collections.abc import Sequence

import numpy as np

from datamodules.draws import deal_folds, lots, take_groups, take_of_each
from datamodules.options import Split
from datamodules.problems import REFUSE, Problems
from datamodules.samples import PARTS, Samples, name_some
from datamodules.texts import Texts
from errors import LoupeError

__all__ = ["GROUP", "split_samples"]

log = logging.getLogger(__name__)

#: The column that says which samples belong together: a patient, a place, a day.
GROUP = "group"


def split_samples(
    samples: Samples, split: Split, strata: Sequence[str] | None = None, problems: Problems = REFUSE
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
    rows = _named_parts(samples)
    if not len(rows["train"]):
        named = " and ".join(part for part in PARTS if len(rows[part]))
        raise LoupeError(f"the data has only {named} pictures and none to train on; add a train part")
    groups = _groups(samples)
    _tell_torn_groups(samples, groups, problems)
    if split.fold is not None and len(rows["val"]):
        raise LoupeError(
            f"data.split.fold is {split.fold}, but the data names its val part; leave one of them out"
        )

    has_val, has_test = len(rows["val"]) > 0, len(rows["test"]) > 0
    given = [part for part in PARTS if len(rows[part])] if Texts.of(samples.parts).lengths().any() else []
    shares = {"val": 0.0 if has_val or split.fold is not None else split.val}
    shares["test"] = 0.0 if has_val or has_test else split.test
    made = [part for part in PARTS if shares.get(part)]
    _tell_without_effect(split, shares, drawn=bool(made) or split.fold is not None)
    if made or split.fold is not None:
        _draw(samples, rows, shares, split, strata, groups)
    if not len(rows["val"]) and not shares["val"] and split.fold is None:
        raise LoupeError(
            "data.split.val is 0 and the data names no val part; training needs one, such as 0.15"
        )
    if not len(rows["train"]) or not len(rows["val"]) or (shares["test"] and not len(rows["test"])):
        total = sum(map(len, rows.values()))
        what = f"{len(set(groups))} groups of {total} pictures" if groups else f"{total} pictures"
        raise LoupeError(
            f"{what} are too few to split into train, val and test (data.split.val {split.val}, "
            f"data.split.test {split.test}); name the parts yourself or give more pictures"
        )
    parts = {part: samples.take(rows[part], part=part) for part in PARTS}
    return parts, _origin(given, made, split, grouped=bool(groups))


def _named_parts(samples: Samples) -> dict[str, np.ndarray]:
    """The rows of each part, in the order of their names; rows without a part count as `train`."""
    order = Texts.of(samples.names).order()
    codes, parts = Texts.of(samples.parts).codes()
    rows: dict[str, np.ndarray] = {part: np.array([], dtype=np.intp) for part in PARTS}
    for code, part in enumerate(parts):
        rows[part or "train"] = order[codes[order] == code] if len(parts) > 1 else order
    return rows


def _draw(
    samples: Samples,
    rows: dict[str, np.ndarray],
    shares: dict[str, float],
    split: Split,
    strata: Sequence[str] | None,
    groups: list[str],
) -> None:
    """Moves rows from `train` to the parts that are drawn, each sorted by name."""
    by_name = rows["train"]
    names = Texts.of(samples.names).take(by_name)
    train = by_name[np.argsort(lots(split.seed, names.encoded()), kind="stable")]
    codes = None if strata is None else Texts.of(strata).codes()
    total = len(train)
    for part in ("test", "val"):
        if shares[part]:
            count = max(1, round(total * shares[part]))
            rows[part], train = _take(train, count, codes, groups, split.seed)
    if split.fold is not None and split.num_folds is not None:
        listed = None if strata is None else list(strata)
        val, rest = _fold(train.tolist(), listed, groups, split.fold, split.num_folds, split.seed)
        rows["val"], train = np.array(val, dtype=np.intp), np.array(rest, dtype=np.intp)
    rows["train"] = train
    place = np.empty(len(samples), dtype=np.intp)
    place[by_name] = np.arange(len(by_name))
    for part in PARTS:
        if part == "train" or shares.get(part) or (part == "val" and split.fold is not None):
            rows[part] = rows[part][np.argsort(place[rows[part]])]


def _tell_without_effect(split: Split, shares: dict[str, float], *, drawn: bool) -> None:
    """Warn of what the settings ask for and the data decides."""
    used = {"val": shares["val"] > 0, "test": shares["test"] > 0, "seed": drawn}
    for key, default in (("val", Split.val), ("test", Split.test), ("seed", Split.seed)):
        given = getattr(split, key)
        if given and given != default and not used[key]:
            log.warning(
                "data.split.%s=%s has no effect: the data names its parts, or folds are dealt", key, given
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


def _tell_torn_groups(samples: Samples, groups: list[str], problems: Problems) -> None:
    parts: dict[str, set[str]] = {}
    for group, part in zip(groups, samples.parts, strict=False):
        parts.setdefault(group, set()).add(part)
    torn = [
        f"{group.removeprefix('group ')} ({', '.join(p for p in PARTS if p in found)})"
        for group, found in parts.items()
        if len(found) > 1
    ]
    if torn:
        of_them = {group for group, found in parts.items() if len(found) > 1}
        problems.add(
            "group in two parts",
            f"in more than one part: {name_some(torn, 'group')}. Pictures of one group are alike, so scores would be "
            "too good; keep each in one part, or leave the column split out, and whole groups are drawn",
            [path for path, group in zip(samples.paths, groups, strict=True) if group in of_them],
            cases=len(torn),
        )


def _take(
    rows: np.ndarray, count: int, strata: tuple[np.ndarray, list[str]] | None, groups: list[str], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """What goes to a drawn part, and what stays. `strata`: the number of each sample's, and their names."""
    if groups:
        names = [strata[1][strata[0][i]] if strata else "" for i in rows]
        taken, left = take_groups(rows.tolist(), names, [groups[i] for i in rows], count, seed)
        return np.array(taken, dtype=np.intp), np.array(left, dtype=np.intp)
    if strata is not None:
        taken = take_of_each(strata[0][rows], strata[1], count, seed)
        return rows[taken], rows[~taken]
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
