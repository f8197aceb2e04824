"""`train.py` in processes of its own, started from one that has imported everything: half a second instead of ten."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preloaded"])


def start(words: list[str], folder: Path, prepare: Callable[[], Any] | None = None) -> BaseProcess:
    """Begin `train.py WORDS` in ``folder``; what it prints goes to ``folder/printed.txt``.

    Args:
        words: The command line.
        folder: Where it runs; made where it is not there.
        prepare: Called in the new process first; must be picklable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    process = _CONTEXT.Process(target=_main, args=(words, str(folder), prepare))
    process.start()
    return process


def finish(
    words: list[str], folder: Path, prepare: Callable[[], Any] | None = None, *, within_s: float = 200
) -> int:
    """Run `train.py WORDS` to its end; returns the exit code, negative for a signal."""
    process = start(words, folder, prepare)
    process.join(within_s)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError(f"still running after {within_s} s:\n{printed(folder)[-3000:]}")
    assert process.exitcode is not None
    return process.exitcode


def printed(folder: Path) -> str:
    """All that the processes in ``folder`` have printed."""
    path = folder / "printed.txt"
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _main(words: list[str], folder: str, prepare: Callable[[], Any] | None) -> None:
    multiprocessing.set_start_method(
        "fork", force=True
    )  # a program's own default; here it would be the forkserver
    os.chdir(folder)
    with Path("printed.txt").open("a", buffering=1, encoding="utf-8") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            from cli import main

            try:
                if prepare is not None:
                    prepare()
                code = main(words)
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            except BaseException:
                traceback.print_exc()
                code = 1
    sys.stdout.flush()
    os._exit(code)
