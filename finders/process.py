"""A search runs in a process of its own, which takes all that it has used with it.

In the process of the fit it would leave memory in pieces, kernels that were compiled for other sizes, a device in use
before others are started, and random numbers drawn.
"""

import logging
import multiprocessing
import os
import signal
import traceback
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import seed_everything

from errors import LoupeError
from finders.isolation import end_with_parent
from finders.wanted import Wanted

__all__ = ["find_numbers"]

CONTEXT = multiprocessing.get_context("spawn")


def find_numbers(wanted: Wanted) -> dict[str, Any]:
    """The numbers that are wanted, by their keys in `training`; says nothing.

    LoupeError where one cannot be found, or for what a fit would refuse; RuntimeError with the traceback of whatever
    else was raised.
    """
    state = {
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "seed": os.environ.get("PL_GLOBAL_SEED"),
    }
    with TemporaryDirectory(prefix="loupe-search-", ignore_cleanup_errors=True) as folder:
        kind, content = _answer(wanted, state, folder)
    match kind:
        case "found":
            return content
        case "refused":
            raise LoupeError(content)
        case _:
            raise RuntimeError(f"in the search for numbers:\n{content}")


def _answer(wanted: Wanted, state: Mapping[str, Any], folder: str) -> tuple[str, Any]:
    """What the process that searches has to tell; it has ended then."""
    receiving, sending = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_search, args=(sending, wanted, state, folder))
    try:
        process.start()
        sending.close()  # so that the end of the process is the end of the pipe
        return receiving.recv()
    except EOFError:
        process.join()
        raise LoupeError(
            f"training: the search for numbers ended with exit code {process.exitcode}, before anything was found; "
            f"give numbers instead of auto"
        ) from None
    finally:
        receiving.close()
        if process.pid is not None:
            process.join(10)
            if process.is_alive():  # this process is about to end
                process.kill()
                process.join()


def _search(sending: Connection, wanted: Wanted, state: Mapping[str, Any], folder: str) -> None:
    # Who ends a group of processes tells them all; the one that waits here ends, and so does this one then.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent(folder)
    wanted.work_in(folder)
    torch.set_num_threads(state["threads"])
    torch.set_float32_matmul_precision(state["precision"])
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with Path(os.devnull).open("w") as unread, redirect_stdout(unread), redirect_stderr(unread):
        os.dup2(unread.fileno(), 1)  # of libraries, and of worker processes
        os.dup2(unread.fileno(), 2)
        if state["seed"] is not None:  # the search begins with the weights of the fit
            seed_everything(int(state["seed"]), workers=True)
        try:
            answer = "found", wanted.find()
        except LoupeError as error:
            answer = "refused", str(error)
        except Exception:  # told where it can be read
            answer = "failed", traceback.format_exc()
        sending.send(answer)
