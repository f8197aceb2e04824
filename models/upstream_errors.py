"""What SMP and timm refuse, as an error for users."""

from collections.abc import Generator
from contextlib import contextmanager

from errors import LoupeError

__all__ = ["upstream_errors"]


@contextmanager
def upstream_errors(what: str) -> Generator[None]:
    """Turn what SMP and timm raise for settings that they do not take into one LoupeError that begins with ``what``."""
    try:
        yield
    except LoupeError:
        raise
    except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, AssertionError) as error:
        raise LoupeError(f"{what}: {error}") from error
