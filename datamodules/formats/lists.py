"""Text files that list names, one a line."""

from pathlib import Path

from errors import LoupeError

__all__ = ["read_lines"]


def read_lines(file: Path) -> list[str]:
    """The file's lines; LoupeError where it cannot be read as UTF-8."""
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LoupeError(f"cannot open {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise LoupeError(f"{file} is not UTF-8: {error}") from error
