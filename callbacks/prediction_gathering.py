"""What processes must know of each other's predictions, also on machines that share no disk."""

import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from lightning.pytorch import Trainer

from errors import LoupeError

__all__ = ["Report", "done_anywhere", "first_does", "gather", "is_elsewhere"]

T = TypeVar("T")
_PIECE_BYTES = 4_000_000


@dataclass(frozen=True)
class Report:
    """What one process has to tell at the end.

    Attributes:
        unreadable: Positions of inputs, and why they could not be read.
        where: Of pictures that the first process cannot see, else "".
        journals: Names and sizes of the journals that it cannot see; those of a machine are told by one process.
    """

    unreadable: list[tuple[int, str]]
    where: str
    journals: list[tuple[str, int]]


def first_does(trainer: Trainer, work: Callable[[], T]) -> T:
    """What the first process finds, on all of them; its LoupeError is raised on all: they would wait for ever."""
    found: T | None = None
    problem = ""
    if trainer.is_global_zero:
        try:
            found = work()
        except LoupeError as error:
            problem = str(error)
        except OSError as error:
            problem = f"predict: {error}"
    found, problem = trainer.strategy.broadcast((found, problem))
    if problem:
        raise LoupeError(problem)
    return found  # pyright: ignore[reportReturnType]


def done_anywhere(trainer: Trainer, done: np.ndarray) -> np.ndarray:
    """(N,) bool: what the first process of any machine found to be done."""
    everywhere = done.copy()
    for rank in range(trainer.world_size):
        bits = trainer.strategy.broadcast(
            np.packbits(done).tobytes() if trainer.local_rank == 0 else b"", src=rank
        )
        if bits:
            theirs = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=len(done))
            everywhere |= theirs.astype(bool)
    return everywhere


def is_elsewhere(trainer: Trainer, folder: Path) -> bool:
    """Whether this process cannot see the first one's folder; it has one of its own then."""
    seen = f".of_{socket.gethostname()}"
    if trainer.is_global_zero:
        (folder / seen).touch()
    seen = trainer.strategy.broadcast(seen)
    elsewhere = not (folder / seen).exists()
    folder.mkdir(parents=True, exist_ok=True)
    trainer.strategy.barrier("all have looked")
    if trainer.is_global_zero:
        (folder / seen).unlink()
    return elsewhere


def gather(trainer: Trainer, report: Report, journals: Path) -> list[Report]:
    """All reports, on all processes; journals that the first process cannot see are copied to it, piece by piece."""
    reports: list[Report] = []
    for rank in range(trainer.world_size):
        told: Report = trainer.strategy.broadcast(report, src=rank)
        reports.append(told)
        for name, size in told.journals:
            _copy(trainer, journals / name, size, rank, journals / f"from_{rank}_{name}")
    return reports


def _copy(trainer: Trainer, source: Path, size: int, rank: int, target: Path) -> None:
    with ExitStack() as opened:
        given = opened.enter_context(source.open("rb")) if trainer.global_rank == rank else None
        kept = opened.enter_context(target.open("wb")) if trainer.is_global_zero else None
        for begin in range(0, size, _PIECE_BYTES):
            piece = b"" if given is None else given.read(min(_PIECE_BYTES, size - begin))
            piece = trainer.strategy.broadcast(piece, src=rank)
            if kept is not None:
                kept.write(piece)
