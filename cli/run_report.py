"""After a command: the page about the run, and everything sent to where it belongs."""

from collections.abc import Generator
from contextlib import contextmanager

from lightning.pytorch import Trainer

from callbacks import RunDirectory, write_atomically
from cli.messages import print_once
from cli.vertex import sending_the_rest

__all__ = ["reported"]

_COMMANDS = ("fit", "validate", "test")


@contextmanager
def reported(command: str, run: RunDirectory, trainer: Trainer) -> Generator[None]:
    """Around a command: where it ended well, write ``RUN/report.html`` on the first process.

    A page that cannot be written is told of, and is no failure of the training: `python train.py report RUN` makes it
    from the same files at any time.
    """
    with sending_the_rest(trainer):
        yield
        stopped = trainer.interrupted or trainer.fast_dev_run  # pyright: ignore[reportAttributeAccessIssue]
        if command in _COMMANDS and run.claimed and not stopped and trainer.is_global_zero:
            _write(run)


def _write(run: RunDirectory) -> None:
    from reports import write_report  # with templates and charts that no other part of a command needs

    try:
        page = write_report(run.path, write=write_atomically)
    except Exception as error:
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        print_once(
            f"warning: the report could not be written ({kind}{error}); all it is made from is kept: "
            f"python train.py report {run.path}"
        )
    else:
        print_once(f"report: {page}")
