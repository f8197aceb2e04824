"""How many worker processes a loader gets."""

from pathlib import Path

import pytest

import datamodules.workers
from datamodules.workers import count_workers, usable_cores


@pytest.mark.parametrize(
    ("cores", "processes", "expected"), [(1, 1, 0), (2, 1, 1), (8, 1, 7), (64, 1, 8), (8, 4, 1), (4, 8, 0)]
)
def test_auto_leaves_each_training_process_a_core(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, expected: int
) -> None:
    monkeypatch.setattr(datamodules.workers, "usable_cores", lambda: cores)
    assert count_workers("auto", processes=processes) == expected
    assert count_workers(5, processes=processes) == 5


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 4), ("150000 100000", 1), ("50000 100000", 1), ("", 4)]
)
def test_usable_cores_respects_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(Path, "read_text", lambda _: quota)
    assert usable_cores() == expected
