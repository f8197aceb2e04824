"""Manifest files as columns of text: CSV, JSON lines, Parquet."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.formats.parquet import read_parquet
from datamodules.texts import Texts
from errors import LoupeError

__all__ = ["TABLE_KINDS", "TABLE_SUFFIXES", "Table", "find_table", "read_table"]

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
TABLE_KINDS = "CSV, JSON lines (.jsonl) or Parquet"

_MARK = b"\xef\xbb\xbf"  # a spreadsheet's way of saying UTF-8
_NEWLINE, _RETURN, _COMMA = b"\n\r,"
_LONGEST = 131_072  # letters of a field, as for Python's csv; all fields are compared eight letters at a time
_CHUNK = 20_000  # rows that are Python lists at a time


@dataclass(frozen=True)
class Table:
    """Equally long columns of text, by name in the order of the file.

    Args:
        columns: the entries, without spaces around them.
        places: where each row stands in the file: the number of its line, or of the row.
        unit: what `places` counts, `line` or `row`.
    """

    columns: dict[str, Texts]
    places: np.ndarray
    unit: str

    def __len__(self) -> int:
        return len(self.places)

    def where(self, row: int) -> str:
        """The row's place in the file, for messages."""
        return f"{self.unit} {int(self.places[row])}"


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


def read_table(file: Path, *, known: set[str]) -> Table:
    """The file's columns. Those in `known` are in lower case, whatever their letter case in the file.

    Numbers become their shortest text, nothing (null, a missing key) becomes "". Raises LoupeError where the file is
    not what its suffix says, has a column twice, or holds lists or objects in place of numbers and text.
    """
    match file.suffix.lower():
        case ".csv":
            header, table = _read_csv(file)
        case ".jsonl":
            header, table = _read_json_lines(file)
        case ".parquet":
            header, table = _read_parquet(file)
        case suffix:
            raise LoupeError(f"{file} is no manifest that is read ({suffix}); valid: {TABLE_KINDS}")
    names = [_column_name(name, known) for name in header]
    doubled = [name for name, count in Counter(names).items() if name and count > 1]
    if doubled:
        raise LoupeError(f"{file} has the column {', '.join(doubled)} more than once")
    for written, column in table.columns.items():
        lengths = column.lengths()
        if lengths.max(initial=0) > _LONGEST:
            row = int(lengths.argmax())
            raise LoupeError(
                f"{file} {table.where(row)}: the column {written[:60]} has {lengths[row]} letters, at most {_LONGEST}"
            )
    renamed = {name: table.columns[written].stripped() for name, written in zip(names, header, strict=True)}
    return Table(renamed, table.places, table.unit)


def _column_name(written: str, known: set[str]) -> str:
    """Without spaces around it, and in lower case where it is one of ours; others may be names of classes."""
    name = written.strip()
    return name.lower() if name.lower() in known else name


def _read_csv(file: Path) -> tuple[list[str], Table]:
    try:
        data = file.read_bytes().removeprefix(_MARK)
        data.decode()
        header = next(csv.reader(io.StringIO(data.partition(b"\n")[0].decode(), newline="")), [])
        plain = b'"' not in data and data.count(b"\r") == data.count(b"\r\n")  # an old Mac ends lines by "\r"
        found = _split_csv(data, len(header)) if plain else None
        if found is None:
            return _read_quoted_csv(file)
    except OSError as error:
        raise _cannot_open(file, error) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LoupeError(f"{file} is not a CSV file in UTF-8: {error}") from error
    _refuse_twice(file, header)
    if len(header) == 1 and ";" in header[0]:
        raise LoupeError(f"{file} has its columns separated by semicolons ({header[0]}); save it with commas")
    columns, places = found
    return header, Table(dict(zip(header, columns, strict=True)), places, "line")


def _split_csv(data: bytes, width: int) -> tuple[list[Texts], np.ndarray] | None:
    """The columns below the header, and the lines of the rows; None where rows are not of one width.

    Without quotes a field is what lies between two separators: no text has to be made of it.
    """
    letters = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(letters == _NEWLINE)
    if len(data) and (not len(ends) or ends[-1] != len(data) - 1):
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    returns = (ends > starts) & (letters[np.maximum(ends - 1, 0)] == _RETURN)
    filled = np.flatnonzero(ends - returns > starts)
    filled = filled[filled > 0]  # the header
    commas = np.flatnonzero(letters == _COMMA)
    starts, ends = starts[filled], ends[filled]
    first, behind = np.searchsorted(commas, starts), np.searchsorted(commas, ends)
    if not width or (behind - first != width - 1).any():
        return None
    inner = commas[first[:, None] + np.arange(width - 1)]
    edges = np.concatenate([starts[:, None] - 1, inner, ends[:, None]], axis=1)
    return [Texts.within(data, edges[:, k] + 1, edges[:, k + 1]) for k in range(width)], filled + 1


def _refuse_twice(file: Path, header: list[str]) -> None:
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    if twice:
        raise LoupeError(f"{file} has the column {', '.join(twice)} more than once")


def _read_quoted_csv(file: Path) -> tuple[list[str], Table]:
    places: list[int] = []
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        _refuse_twice(file, header)
        width = len(header)
        columns: list[list[str]] = [[] for _ in header]
        for rows, lines in _chunks_of(reader):
            for line, entries in zip(lines, rows, strict=True):
                if len(entries) > width:
                    raise LoupeError(
                        f"{file} line {line} has more fields than the header ({', '.join(header)})"
                    )
                entries += [""] * (width - len(entries))
            for column, entries in zip(columns, zip(*rows, strict=True), strict=True):
                column += entries
            places += lines
    texts = dict(zip(header, map(Texts, columns), strict=True))
    return header, Table(texts, np.array(places, dtype=np.int64), "line")


def _chunks_of(reader: Any) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Some rows that are not empty, and the lines on which they end."""
    while True:
        rows: list[list[str]] = []
        lines: list[int] = []
        for entries in islice(reader, _CHUNK):
            rows.append(entries)
            lines.append(reader.line_num)
        if not rows:
            return
        filled = [i for i, entries in enumerate(rows) if entries]
        if filled:
            yield [rows[i] for i in filled], [lines[i] for i in filled]


def _read_json_lines(file: Path) -> tuple[list[str], Table]:
    columns: dict[str, list[str]] = {}
    places: list[int] = []
    try:
        with file.open(encoding="utf-8-sig") as stream:
            lines = enumerate(stream, 1)
            while chunk := list(islice(lines, _CHUNK)):
                chunk = [(number, line) for number, line in chunk if not line.isspace()]
                _add_objects(file, chunk, columns, len(places))
                places += [number for number, _ in chunk]
    except OSError as error:
        raise _cannot_open(file, error) from error
    except UnicodeDecodeError as error:
        raise LoupeError(f"{file} is not a file of JSON lines in UTF-8: {error}") from error
    texts = {name: _texts(file, name, column, places) for name, column in columns.items()}
    return list(columns), Table(texts, np.array(places, dtype=np.int64), "line")


def _texts(file: Path, name: str, column: list[str], places: list[int]) -> Texts:
    """The column; JSON can say half a character, which no name of a file or a class may hold."""
    try:
        name.encode()
        return Texts(column)
    except (UnicodeEncodeError, LoupeError):
        half = (
            n
            for n, text in zip(places, column, strict=True)
            if text.encode("utf-8", "ignore").decode() != text
        )
        raise LoupeError(
            f"{file} line {next(half, places[0])}: the column {name!a} has half a character (\\ud800 to \\udfff)"
        ) from None


def _add_objects(
    file: Path, chunk: list[tuple[int, str]], columns: dict[str, list[str]], before: int
) -> None:
    """One entry to each column for each line; `before`: how many rows are there already."""
    try:
        objects: list[Any] = json.loads(f"[{','.join(line for _, line in chunk)}]")
    except (ValueError, RecursionError):
        objects = []
    if len(objects) != len(chunk) or not all(type(entries) is dict for entries in objects):
        objects = [_object(file, number, line) for number, line in chunk]
    names = dict.fromkeys(str(name) for entries in objects for name in entries)
    for name in names:
        columns.setdefault(name, [""] * before)
    for name, column in columns.items():
        column += [
            value if type(value) is str else _text(file, f"line {chunk[i][0]}", name, value)
            for i, value in enumerate([entries.get(name) for entries in objects])
        ]


def _object(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        entries = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LoupeError(f"{file} line {number} is no JSON: {error}") from error
    if not isinstance(entries, dict):
        raise LoupeError(
            f'{file} line {number} is no object like {{"path": "a.jpg", ...}}: {line.strip()[:60]}'
        )
    return entries


def _read_parquet(file: Path) -> tuple[list[str], Table]:
    held = read_parquet(file)
    columns = {
        name: Texts(
            [
                value if type(value) is str else _text(file, f"row {row}", name, value)
                for row, value in enumerate(values, 1)
            ]
        )
        for name, values in held
    }
    rows = max(map(len, columns.values()), default=0)
    return [name for name, _ in held], Table(columns, np.arange(1, rows + 1), "row")


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
        case list() if name.strip().lower() == "labels":
            return ";".join(map(str, value))
        case _:
            raise LoupeError(
                f"{file} {where}: the column {name} holds a {type(value).__name__}; valid: text and numbers"
            )


def _cannot_open(file: Path, error: OSError) -> LoupeError:
    return LoupeError(f"cannot open the manifest {file}: {error.strerror or error}")
