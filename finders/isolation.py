"""A process for each try of what fits: one that fails leaves memory in pieces, or is ended by the system."""

import multiprocessing
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from errors import LoupeError

__all__ = ["end_with_parent", "in_own_process"]

T = TypeVar("T")


def in_own_process(function: Callable[..., T], *arguments: Any, killed: T) -> T:
    """What the function returns in a copy of this process, or ``killed`` where the system ended that (SIGKILL).

    LoupeError as it was raised; RuntimeError with the traceback of anything else. In this process where there are no
    copies that may use torch: elsewhere than on Linux.
    """
    if sys.platform != "linux":
        return function(*arguments)
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sending, function, arguments))
    process.start()
    sending.close()  # so that the end of the process is the end of the pipe
    answer: tuple[str, Any]
    try:
        answer = receiving.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:
            return killed
        answer = "failed", f"a process of the search ended with exit code {process.exitcode}"
    finally:
        receiving.close()
        process.join()
    match answer:
        case "done", content:
            return content
        case "refused", content:
            raise LoupeError(content)
        case _, content:
            raise RuntimeError(content)


def _work(sending: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    end_with_parent()
    try:
        answer = "done", function(*arguments)
    except LoupeError as error:
        answer = "refused", str(error)
    except Exception:  # told where it can be read
        answer = "failed", traceback.format_exc()
    sending.send(answer)


def end_with_parent(folder: str | None = None) -> None:
    """Have this process end when the one that started it does: nobody waits for its answer any more.

    Args:
        folder: To be removed then: a process that ends so runs nothing that would.
    """
    threading.Thread(target=_wait_for_parent, args=(folder,), daemon=True).start()


def _wait_for_parent(folder: str | None) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
