"""The table of predictions, written from the journal without ever being in memory."""

import csv
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any

from errors import LoupeError
from predictions.journal import Record
from predictions.whole_files import whole_file

__all__ = ["require_parquet", "write_csv", "write_parquet", "write_table", "write_unreadable"]

_GROUP_ROWS = 50_000


def write_table(file: Path, records: Iterable[Record]) -> None:
    """predictions.csv or predictions.parquet by the suffix: ``path``, files, and what was predicted, a row a record."""
    match file.suffix:
        case ".csv":
            write_csv(file, records)
        case ".parquet":
            write_parquet(file, records)
        case _:
            raise AssertionError(file)


def write_csv(file: Path, records: Iterable[Record]) -> None:
    """UTF-8, a comma between cells, quotes where they are needed, a line feed at the end of a row."""
    rows = iter(records)
    with whole_file(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        first = next(rows, None)
        columns = ["path"] if first is None else first.columns
        writer.writerow(columns)
        for record in chain([] if first is None else [first], rows):
            assert record.columns == columns, "one task, one kind of row"
            writer.writerow(record.cells)


def write_parquet(file: Path, records: Iterable[Record]) -> None:
    """Texts as string, numbers as double or int64, in row groups of 50,000; needs pyarrow."""
    arrow, parquet = require_parquet()
    rows = iter(records)
    first = next(rows, None)
    columns = ["path"] if first is None else first.columns
    cells: list[Any] = [""] if first is None else first.cells
    kinds = {bool: arrow.bool_(), int: arrow.int64(), float: arrow.float64(), str: arrow.string()}
    schema = arrow.schema([(name, kinds[type(cell)]) for name, cell in zip(columns, cells, strict=True)])
    rows = chain([] if first is None else [first], rows)
    with whole_file(file) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        while group := [record.cells for record in islice(rows, _GROUP_ROWS)]:
            arrays = [
                arrow.array(column, type=kind.type)
                for column, kind in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_table(arrow.table(arrays, schema=schema))


def require_parquet() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet; LoupeError where they are not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise LoupeError(
            "predictions.table=parquet needs pyarrow; install it with pip install 'loupe-vision[parquet]', or use "
            "predictions.table=csv"
        ) from None
    return pyarrow, parquet


def write_unreadable(file: Path, entries: Iterable[tuple[str, str]]) -> None:
    """unreadable.csv: ``path`` and ``reason``."""
    with whole_file(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["path", "reason"])
        writer.writerows(entries)
