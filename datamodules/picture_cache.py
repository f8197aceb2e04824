"""Decoded and resized pictures, kept in memory or on disk, for the second epoch on."""

import contextlib
import logging
import mmap
import os
import shutil
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.members import file_of, is_remote

__all__ = ["PictureCache", "Stamp", "disk_cache", "memory_cache", "stamp_of"]

log = logging.getLogger(__name__)

_RECORD = np.dtype([("stamp", "<i8", (4,)), ("size_hw", "<i4", (2,)), ("sum", "<u4"), ("ready", "<u4")])
_READY = 0x4C4F5550

#: Size and time of change of one or two files, zeros for none; None where one is gone.
Stamp = list[int] | None


@dataclass(frozen=True)
class _Files:
    """Where a cache on disk lies."""

    pixels: Path
    records: Path


class PictureCache:
    """Slots of one size, each with a picture (and a mask) as the network gets them, or empty.

    A slot is believed only where its record is complete, its sum is that of the pixels (looked at once in each
    process), and its files have the size and the time of change that they had before they were read. So nothing
    half-written and nothing outdated is read, whoever else writes at the same time: several processes may, and write
    the same.

    Args:
        slots: how many pictures; those beyond are never kept.
        shape: of a slot, (C, H, W), the mask as the last channel where there is one.
        files: None keeps everything in memory that processes forked from this one share.
    """

    def __init__(self, slots: int, shape: tuple[int, int, int], files: _Files | None = None) -> None:
        self.slots = slots
        self.shape = shape
        self._bytes = int(np.prod(shape))
        self._files = files
        self._trusted = np.full(slots, -1, dtype=np.int64)  # the sums that were found right
        self._full = False
        self._open()

    def get(self, slot: int, stamp: Stamp) -> tuple[Tensor, tuple[int, int]] | None:
        """What `put` was given with this stamp, or None where that is not there."""
        if slot >= self.slots:
            return None
        record = self._records[slot].copy()  # another process may be writing it
        if record["ready"] != _READY or record["stamp"].tolist() != stamp:
            return None
        pixels = self._pixels[slot].copy()
        if self._trusted[slot] != record["sum"]:
            if _sum(pixels, record) != record["sum"]:
                return None
            self._trusted[slot] = record["sum"]
        height, width = record["size_hw"].tolist()
        channels, *size_hw = self.shape
        return torch.from_numpy(pixels.reshape(*size_hw, channels)).permute(2, 0, 1), (height, width)

    def put(self, slot: int, stamp: Stamp, picture: Tensor, size_hw_px: tuple[int, int]) -> None:
        """Keep a picture (C, H, W) uint8 of an original of this size; does nothing where there is no room.

        `stamp`: of its files, before they were read.
        """
        if (
            slot >= self.slots
            or self._full
            or stamp is None
            or tuple(picture.shape) != self.shape
            or picture.dtype != torch.uint8
        ):
            return
        record = np.zeros((), dtype=_RECORD)
        record["stamp"], record["size_hw"], record["ready"] = stamp, size_hw_px, _READY
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy()).reshape(-1)  # as decoders leave it
        record["sum"] = _sum(pixels, record)
        if self._files is None:
            self._records[slot] = np.zeros((), dtype=_RECORD)
            self._pixels[slot], self._records[slot] = pixels, record
            return
        try:
            # written, not stored through the map: a full disk is an error here, and would be a crash there
            _write(self._files.records, slot * _RECORD.itemsize, bytes(_RECORD.itemsize))
            _write(self._files.pixels, slot * self._bytes, pixels.tobytes())
            _write(self._files.records, slot * _RECORD.itemsize, record.tobytes())
        except OSError as error:
            self._full = True
            log.warning("data.loader.cache=disk keeps no more pictures: %s", error.strerror or error)

    def _open(self) -> None:
        self._pixels: Any
        self._records: Any
        if self._files is None:
            self._pixels = np.frombuffer(mmap.mmap(-1, self.slots * self._bytes), dtype=np.uint8)
            self._records = np.frombuffer(mmap.mmap(-1, self.slots * _RECORD.itemsize), dtype=_RECORD)
        else:
            for path, size in ((self._files.pixels, self._bytes), (self._files.records, _RECORD.itemsize)):
                with path.open("ab") as file:  # made or found; never cut short under another process's map
                    if file.seek(0, os.SEEK_END) < self.slots * size:
                        file.truncate(self.slots * size)
            self._pixels = np.memmap(
                self._files.pixels, dtype=np.uint8, mode="r", shape=(self.slots * self._bytes,)
            )
            self._records = np.memmap(self._files.records, dtype=_RECORD, mode="r", shape=(self.slots,))
        self._pixels = self._pixels.reshape(self.slots, self._bytes)

    def __getstate__(self) -> dict[str, Any]:
        assert self._files is not None, "a cache in memory goes to forked processes only"
        return {**self.__dict__, "_pixels": None, "_records": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


def stamp_of(files: tuple[str, ...]) -> Stamp:
    """Of a picture, and of its mask where that is a file of its own."""
    stamp: list[int] = []
    try:
        for file in files:
            if is_remote(file):
                stamp += [0, 0]  # what is behind an address is taken to stay
                continue
            status = os.stat(file_of(file))  # noqa: PTH116  twice for each picture: a Path costs as much as the question
            stamp += [status.st_size, status.st_mtime_ns]
    except OSError:
        return None
    return stamp + [0] * (4 - len(stamp))


def memory_cache(count: int, shape: tuple[int, int, int], limit_bytes: float) -> PictureCache | None:
    """A cache for `count` pictures, or as many as the limit allows; None where that is none."""
    slots = _fitting(count, shape, limit_bytes)
    return PictureCache(slots, shape) if slots else None


def disk_cache(
    folder: Path, key: str, count: int, shape: tuple[int, int, int], limit_bytes: float
) -> PictureCache | None:
    """The cache of this key below `folder`, found or begun; others give way, the longest unused first.

    All caches below `folder` together stay under the limit, and under what the disk has room for.
    """
    own = folder / key
    if _size(own) > 1.01 * limit_bytes + 2**20:  # files take whole blocks
        shutil.rmtree(own, ignore_errors=True)  # the limit was larger then
    own.mkdir(parents=True, exist_ok=True)
    (own / "used").write_text(f"{time.time():.0f}\n")
    others = sorted((f for f in folder.iterdir() if f.is_dir() and f != own), key=_last_used)
    room = shutil.disk_usage(own).free * 0.9 + sum(map(_size, [own, *others]))
    total = min(limit_bytes, room)
    slots = _fitting(count, shape, total)
    needed = slots * (int(np.prod(shape)) + _RECORD.itemsize)
    while others and needed + sum(map(_size, others)) > total:
        shutil.rmtree(others.pop(0), ignore_errors=True)  # a run that still has it mapped keeps its pages
    return PictureCache(slots, shape, _Files(own / "pixels.u8", own / "records")) if slots else None


def _fitting(count: int, shape: tuple[int, int, int], limit_bytes: float) -> int:
    slots = min(count, int(limit_bytes // (int(np.prod(shape)) + _RECORD.itemsize)))
    if slots < count:
        log.warning(
            "data.loader.cache_limit_gb: %d of %d pictures fit; the others are decoded each time",
            slots,
            count,
        )
    return slots


def _sum(pixels: np.ndarray, record: Any) -> int:
    """Of the pixels and everything else that the record says."""
    start = zlib.crc32(record["stamp"].tobytes() + record["size_hw"].tobytes())
    return zlib.crc32(pixels.data, start)


def _write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]


def _size(folder: Path) -> int:
    """Bytes that a folder's files take on the disk; holes take none, nor does what others remove meanwhile."""
    size = 0
    with contextlib.suppress(FileNotFoundError):
        for file in folder.iterdir():
            size += file.stat().st_blocks * 512
    return size


def _last_used(folder: Path) -> float:
    try:
        return (folder / "used").stat().st_mtime
    except OSError:
        return 0.0
