"""Manifest files as rows of text: CSV, JSON lines, Parquet."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

from errors import LoupeError

__all__ = ["TABLE_KINDS", "TABLE_SUFFIXES", "Row", "find_table", "read_table"]

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
TABLE_KINDS = "CSV, JSON lines (.jsonl) or Parquet"

#: Where in the file, for messages, and its entries by column.
Row = tuple[str, dict[str, str]]


def find_table(root: Path, columns: str) -> Path | None:
    """The manifest that `root` is, or holds under the name `manifest`; None where there is none in the folder.

    Raises LoupeError for a file of another kind, and for a folder with several manifests. `columns`: for messages.
    """
    if root.is_file():
        if root.suffix.lower() not in TABLE_SUFFIXES:
            raise LoupeError(
                f"data.root {root} is a file, and only manifests are read: {TABLE_KINDS} (columns {columns})"
            )
        return root
    held = [root / f"manifest{suffix}" for suffix in TABLE_SUFFIXES if (root / f"manifest{suffix}").is_file()]
    if len(held) > 1:
        raise LoupeError(
            f"data.root {root} has {' and '.join(file.name for file in held)}; give one of them as data.root"
        )
    return held[0] if held else None


def read_table(file: Path, *, known: set[str]) -> tuple[list[str], list[Row]]:
    """The columns and the rows. Columns in `known` are in lower case, whatever their letter case in the file.

    Numbers become their shortest text, nothing (null, a missing key) becomes "". Raises LoupeError where the file is
    not what its suffix says, has a column twice, or holds lists or objects in place of numbers and text.
    """
    match file.suffix.lower():
        case ".csv":
            header, rows = _read_csv(file)
        case ".jsonl":
            header, rows = _read_json_lines(file)
        case ".parquet":
            header, rows = _read_parquet(file)
        case suffix:
            raise LoupeError(f"{file} is no manifest that is read ({suffix}); valid: {TABLE_KINDS}")
    names = {name: _column_name(name, known) for name in header}
    doubled = [name for name, count in Counter(names[name] for name in header).items() if name and count > 1]
    if doubled:
        raise LoupeError(f"{file} has the column {', '.join(doubled)} more than once")
    return [names[name] for name in header], [
        (where, {names[name]: entry for name, entry in row.items()}) for where, row in rows
    ]


def _column_name(written: str, known: set[str]) -> str:
    """Without spaces around it, and in lower case where it is one of ours; others may be names of classes."""
    name = written.strip()
    return name.lower() if name.lower() in known else name


def _read_csv(file: Path) -> tuple[list[str], list[Row]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            lines = [(reader.line_num, entries) for entries in reader if entries]
    except OSError as error:
        raise _cannot_open(file, error) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LoupeError(f"{file} is not a CSV file in UTF-8: {error}") from error
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise LoupeError(f"{file} has the column {', '.join(twice)} more than once")
    rows: list[Row] = []
    for line, entries in lines:
        if len(entries) > len(header):
            raise LoupeError(f"{file} line {line} has more fields than the header ({', '.join(header)})")
        padded = entries + [""] * (len(header) - len(entries))
        rows.append((f"line {line}", dict(zip(header, padded, strict=True))))
    return header, rows


def _read_json_lines(file: Path) -> tuple[list[str], list[Row]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise _cannot_open(file, error) from error
    except UnicodeDecodeError as error:
        raise LoupeError(f"{file} is not a file of JSON lines in UTF-8: {error}") from error
    header: dict[str, None] = {}
    found: list[Row] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entries = json.loads(line)
        except json.JSONDecodeError as error:
            raise LoupeError(f"{file} line {number} is no JSON: {error}") from error
        if not isinstance(entries, dict):
            raise LoupeError(f'{file} line {number} is no object like {{"path": "a.jpg", ...}}: {line[:60]}')
        where = f"line {number}"
        row = {str(name): _text(file, where, str(name), value) for name, value in entries.items()}
        header.update(dict.fromkeys(row))
        found.append((where, row))
    return list(header), [(where, {name: row.get(name, "") for name in header}) for where, row in found]


def _read_parquet(file: Path) -> tuple[list[str], list[Row]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table as read
    except ImportError:
        raise LoupeError(
            f"{file}: reading Parquet needs pyarrow; install it with pip install 'loupe-vision[parquet]'"
        ) from None
    try:
        table: Any = read(file)
    except OSError as error:
        raise _cannot_open(file, error) from error
    except ArrowException as error:
        raise LoupeError(f"{file} is not a Parquet file: {error}") from error
    header = [str(name) for name in table.column_names]
    columns = [column.to_pylist() for column in table.columns]
    rows: list[Row] = []
    for number, entries in enumerate(zip(*columns, strict=True), 1):
        where = f"row {number}"
        named = zip(header, entries, strict=True)
        rows.append((where, {name: _text(file, where, name, value) for name, value in named}))
    return header, rows


def _text(file: Path, where: str, name: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case float() if value != value:  # how tables of numbers say nothing
            return ""
        case bool() | int() | float():
            return str(value)
        case _:
            raise LoupeError(
                f"{file} {where}: the column {name} holds a {type(value).__name__}; valid: text and numbers"
            )


def _cannot_open(file: Path, error: OSError) -> LoupeError:
    return LoupeError(f"cannot open the manifest {file}: {error.strerror or error}")
