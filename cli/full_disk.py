"""A disk that takes no more, told as what it is, wherever in a run it is met."""

import errno
import threading
from collections.abc import Generator
from contextlib import contextmanager

from errors import LoupeError

__all__ = ["full_disk_told"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def full_disk_told() -> Generator[None]:
    """Turn such an OSError into a LoupeError, and keep threads that write in the background from showing theirs.

    What a background thread met is raised again where the run waits for it (TensorBoard's writer does that).
    """
    before = threading.excepthook

    def quiet(args: threading.ExceptHookArgs) -> None:
        if not (isinstance(args.exc_value, OSError) and args.exc_value.errno in _FULL):
            before(args)

    threading.excepthook = quiet
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        where = error.filename or "a file of the run"
        raise LoupeError(
            f"{where} cannot be written: {error.strerror}. Make room; a fit goes on with --ckpt_path last"
        ) from error
    finally:
        threading.excepthook = before
