"""Writes Loupe manifests for the real data sets, with the splits of their authors.

python benchmarks/manifests.py DATASETS OUT     writes OUT/trashnet.csv and OUT/bccd.csv

DATASETS holds `trashnet/` (class folders, `official_split.csv`) and `bccd/` (`images/`, `boxes_all.csv`, and the names
of the parts in `train.txt`, `val.txt`, `test.txt`). Paths in the manifests are absolute.
"""

import csv
import sys
from pathlib import Path


def trashnet(folder: Path) -> list[list[str]]:
    """path,label,split: the label is the folder, the split is the authors'."""
    with (folder / "official_split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [[str(folder / row["file"]), row["file"].split("/")[0], row["split"]] for row in rows]


def bccd(folder: Path) -> list[list[str]]:
    """path,x1,y1,x2,y2,split: a row for each white cell, one with empty fields where there is none."""
    boxes: dict[str, list[list[str]]] = {}
    with (folder / "boxes_all.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["class"] == "WBC":
                boxes.setdefault(Path(row["file"]).stem, []).append(
                    [row[key] for key in ("x1", "y1", "x2", "y2")]
                )
    return [
        [str(folder / "images" / f"{name}.jpg"), *box, part]
        for part in ("train", "val", "test")
        for name in (folder / f"{part}.txt").read_text().split()
        for box in boxes.get(name, [[""] * 4])
    ]


def main(datasets: Path, out: Path) -> None:
    """Write both manifests."""
    out.mkdir(parents=True, exist_ok=True)
    for name, header, rows in (
        ("trashnet", ["path", "label", "split"], trashnet(datasets / "trashnet")),
        ("bccd", ["path", "x1", "y1", "x2", "y2", "split"], bccd(datasets / "bccd")),
    ):
        with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
        print(f"{out / f'{name}.csv'}: {len(rows)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]))
