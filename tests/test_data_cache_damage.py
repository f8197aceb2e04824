"""A cache of pictures that was damaged, killed, filled by two at once, or has no room: never a wrong picture."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import picture_cache
from datamodules.picture_cache import PictureCache, disk_cache, memory_cache, stamp_of
from errors import LoupeError
from tests.tasks import write_task
from tests.test_data_cache import Decoded, batches, decoded, home, module, same

__all__ = ["decoded", "home"]

ROOT = Path(__file__).resolve().parent.parent
RECORD = picture_cache._RECORD.itemsize
SHAPE = (3, 5, 4)
BYTES = 60


def picture(number: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(number).integers(0, 256, SHAPE, dtype=np.uint8))


def stamp(number: int) -> list[int]:
    return [number + 1, 10**18 + number, 0, 0]


def filled(folder: Path, count: int = 8, key: str = "key") -> PictureCache:
    cache = disk_cache(folder, key, count, SHAPE, 1e9)
    assert cache is not None
    for number in range(count):
        cache.put(number, stamp(number), picture(number), (9, number + 1))
    return cache


def opened(folder: Path, count: int = 8, limit: float = 1e9, key: str = "key") -> PictureCache:
    cache = disk_cache(folder, key, count, SHAPE, limit)
    assert cache is not None
    return cache


def right(cache: PictureCache, count: int = 8) -> list[int]:
    """The slots that are served; each of them must be what was put there."""
    served = []
    for number in range(count):
        found = cache.get(number, stamp(number))
        if found is not None:
            assert torch.equal(found[0], picture(number)) and found[1] == (9, number + 1)
            served.append(number)
    return served


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_what_is_damaged_is_not_served(tmp_path: Path) -> None:
    filled(tmp_path)
    assert right(opened(tmp_path)) == list(range(8))
    pixels, records = tmp_path / "key/pixels.u8", tmp_path / "key/records"
    overwrite(pixels, 1 * BYTES + 30, bytes(30))  # half-written
    overwrite(records, 2 * RECORD, bytes(RECORD))
    sum_at = picture_cache._RECORD.fields["sum"][1]  # type: ignore[index]
    overwrite(records, 3 * RECORD + sum_at, bytes(4))
    overwrite(records, 4 * RECORD + picture_cache._RECORD.fields["size_hw"][1], b"\7")  # type: ignore[index]
    assert right(opened(tmp_path)) == [0, 5, 6, 7]
    os.truncate(pixels, 6 * BYTES + 10)  # and filled up by zeros when it is opened
    cache = opened(tmp_path)
    assert right(cache) == [0, 5]
    cache.put(6, stamp(6), picture(6), (9, 7))
    assert right(cache) == [0, 5, 6]
    assert cache.get(0, [1, 1, 0, 0]) is None and cache.get(0, None) is None


@pytest.mark.parametrize("seed", range(40))
def test_garbage_is_not_served(seed: int, tmp_path: Path) -> None:
    filled(tmp_path)
    rng = np.random.default_rng(seed)
    for name, size in (("pixels.u8", BYTES), ("records", RECORD)):
        for _ in range(rng.integers(0, 4)):
            length = int(rng.integers(1, 2 * size))
            overwrite(tmp_path / "key" / name, int(rng.integers(0, 6 * size)), rng.bytes(length))
    right(opened(tmp_path))


def test_another_process_may_overwrite_what_this_one_trusts(tmp_path: Path) -> None:
    """The picture changed, another process kept the new one, and was cut short in its pixels."""
    filled(tmp_path)
    cache, other = opened(tmp_path), opened(tmp_path)
    assert right(cache) == list(range(8))
    other.put(3, [5, 5, 0, 0], picture(33), (1, 2))
    found = cache.get(3, [5, 5, 0, 0])
    assert found is not None and torch.equal(found[0], picture(33)) and found[1] == (1, 2)
    other.put(3, [6, 6, 0, 0], picture(34), (1, 2))
    overwrite(tmp_path / "key/pixels.u8", 3 * BYTES, bytes(BYTES))
    assert cache.get(3, [6, 6, 0, 0]) is None


KILLED = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from datamodules import picture_cache
from tests.test_data_cache import batches, module
write, count = picture_cache._write, 0
def slow(path, offset, data):
    global count
    count += 1
    if count == 14:  # the pixels of the fifth picture: each has its record cleared, its pixels and its record written
        write(path, offset, data[: len(data) // 2])
        print("half", flush=True)
        time.sleep(600)
    write(path, offset, data)
picture_cache._write = slow
batches(module("segmentation", Path({data!r}), "disk"))
"""

FILLING = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.test_data_cache import batches, module, same
plain = batches(module("segmentation", Path({data!r})), epochs=2)
data = module("segmentation", Path({data!r}), "disk")
print("ready", flush=True)
sys.stdin.readline()
print(same(batches(data, epochs=2), plain), flush=True)
"""


def python(code: str, data: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", code.format(root=str(ROOT), data=str(data))]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=ROOT, env={**os.environ}, stdin=pipe, stdout=pipe, text=True)


def test_a_process_that_is_killed_leaves_a_usable_cache(tmp_path: Path, decoded: Decoded) -> None:
    root = write_task("segmentation", tmp_path / "data")
    with python(KILLED, root) as process:
        assert process.stdout is not None and process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    plain = batches(module("segmentation", root))
    data = module("segmentation", root, "disk")
    decoded.take()
    assert same(batches(data), plain)
    assert len(decoded.take()) == 2 * 12, "four of sixteen pictures, and their masks, are there"
    assert same(batches(data), plain) and decoded.take() == []


@pytest.mark.slow
def test_two_processes_may_fill_it_at_once(tmp_path: Path, decoded: Decoded) -> None:
    root = write_task("segmentation", tmp_path / "data")
    both = [python(FILLING, root) for _ in range(2)]
    for process in both:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    assert [process.communicate("go\n", timeout=60)[0] for process in both] == ["True\n"] * 2
    plain = batches(module("segmentation", root))
    decoded.take()
    assert same(batches(module("segmentation", root, "disk")), plain) and decoded.take() == []


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_the_limit_holds_and_is_told(
    cache: str, tmp_path: Path, home: Path, decoded: Decoded, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_task("cropping", tmp_path / "data")
    one = 3 * 40 * 24 + RECORD
    with caplog.at_level(logging.WARNING):
        data = module("cropping", root, cache, limit_gb=5.5 * one / 1e9)
        first = batches(data)
    (record,) = caplog.records
    assert record.getMessage() == (
        "data.loader.cache_limit_gb: 5 of 16 pictures fit; the others are decoded each time"
    )
    decoded.take()
    assert same(batches(data), first) and len(decoded.take()) == 11
    if cache == "disk":
        assert sum(file.stat().st_size for file in home.glob("*/[pr]*")) == 5 * one
    for limit in (0.0, -1.0, float("nan")):
        with pytest.raises(LoupeError, match="it must be above 0"):
            module("cropping", root, cache, limit_gb=limit).train_dataloader()


def test_a_lower_limit_makes_it_smaller(tmp_path: Path) -> None:
    shape, picture = (3, 512, 512), torch.full((3, 512, 512), 7, dtype=torch.uint8)
    for limit, slots in ((1e8, 6), (2e6, 2)):
        cache = disk_cache(tmp_path, "key", 6, shape, limit)
        assert cache is not None and cache.slots == slots
        for slot in range(6):
            cache.put(slot, stamp(slot), picture, (1, 1))
    assert sum(file.stat().st_blocks * 512 for file in (tmp_path / "key").iterdir()) < 2e6


def test_old_caches_give_way_the_longest_unused_first(tmp_path: Path) -> None:
    side = 200  # pixels; 120 kB a picture
    shape = (3, side, side)

    def use(key: str, limit: float = 1e9) -> None:
        cache = disk_cache(tmp_path, key, 2, shape, limit)
        assert cache is not None and cache.slots == 2
        for slot in range(2):
            cache.put(slot, stamp(slot), torch.full(shape, 3, dtype=torch.uint8), (1, 1))

    for age, key in ((30, "b"), (50, "a"), (10, "c")):
        use(key)
        os.utime(tmp_path / key / "used", (1e9 - age, 1e9 - age))
    use("d", limit=800_000)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["b", "c", "d"]
    use("b", limit=800_000)  # now the newest
    os.utime(tmp_path / "d" / "used", (1e9 - 5, 1e9 - 5))
    use("e", limit=800_000)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["b", "d", "e"]


def test_old_caches_give_way_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = (3, 200, 200)
    old = disk_cache(tmp_path, "old", 2, large, 1e9)
    assert old is not None
    for slot in range(2):
        old.put(slot, stamp(slot), torch.full(large, 3, dtype=torch.uint8), (1, 1))
    usage = picture_cache.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(picture_cache.shutil, "disk_usage", lambda _: usage)
    cache = disk_cache(tmp_path, "key", 2, large, 1e9)
    assert cache is not None and cache.slots == 2
    assert [folder.name for folder in tmp_path.iterdir()] == ["key"]


def test_another_process_may_remove_an_old_cache_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, key="old")
    real: Any = Path.iterdir

    def iterdir(path: Path) -> Any:
        entries = list(real(path))
        if path.name == "old":
            for file in entries:
                file.unlink()
            path.rmdir()
        return iter(entries)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert opened(tmp_path).slots == 8


def test_a_full_disk_is_told_once_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_task("segmentation", tmp_path / "data")
    plain = batches(module("segmentation", root), epochs=2)
    real, written = picture_cache._write, []

    def write(path: Path, offset: int, data: bytes) -> None:
        written.append(path)
        if len(written) > 6:
            real(path, offset, data[: len(data) // 3])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, offset, data)

    monkeypatch.setattr(picture_cache, "_write", write)
    with caplog.at_level(logging.WARNING):
        assert same(batches(module("segmentation", root, "disk"), epochs=2), plain)
    (record,) = caplog.records
    assert record.getMessage() == "data.loader.cache=disk keeps no more pictures: No space left on device"
    monkeypatch.setattr(picture_cache, "_write", real)
    assert same(batches(module("segmentation", root, "disk"), epochs=2), plain)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_task("segmentation", tmp_path / "data")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LOUPE_CACHE", str(tmp_path / "file"))
    with pytest.raises(LoupeError, match="LOUPE_CACHE"):
        module("segmentation", root, "disk").train_dataloader()


def test_nothing_fits_is_no_cache(caplog: pytest.LogCaptureFixture) -> None:
    assert memory_cache(4, SHAPE, BYTES) is None
    assert "0 of 4 pictures fit" in caplog.text
    assert stamp_of(("/no/such/file",)) is None
