"""Parquet files as lists of values, as far as one can be a manifest."""

from pathlib import Path
from typing import Any

from errors import LoupeError

__all__ = ["read_parquet"]


def read_parquet(file: Path) -> list[tuple[str, list[Any]]]:
    """Each column's name and values, as Python has them.

    Raises LoupeError where pyarrow is missing, the file is damaged, or it claims more rows than can be in it.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise LoupeError(
            f"{file}: reading Parquet needs pyarrow; install it with pip install 'loupe-vision[parquet]'"
        ) from None
    try:
        with ParquetFile(file) as stored:
            rows, size = stored.metadata.num_rows, file.stat().st_size
            if rows > 1_000_000 and rows > 10 * size:  # a repeated value takes no space in the file
                raise LoupeError(f"{file} claims {rows} rows in {size} bytes; paths would need more")
            table: Any = stored.read()
        return [
            (str(name), column.to_pylist())
            for name, column in zip(table.column_names, table.columns, strict=True)
        ]
    except OSError as error:
        raise LoupeError(f"cannot open the manifest {file}: {error.strerror or error}") from error
    except LoupeError:
        raise
    except (ArrowException, ValueError, ArithmeticError) as error:  # the latter two: not UTF-8, no such date
        raise LoupeError(f"{file} is not a Parquet file: {error}") from error
