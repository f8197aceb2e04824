"""A run that was killed, stopped or starved of disk goes on as if nothing had happened, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes import assert_same_runs, only_run
from tests.processes import finish, printed
from tests.recoveries import Reference, broken_worker, random_crashes, recover, reference


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reference]:
    """Those that were asked for so far."""
    return {}


def left_alone(references: dict[str, Reference], name: str, factory: pytest.TempPathFactory) -> Reference:
    if name not in references:
        references[name] = reference(name, factory.mktemp(name))
    return references[name]


@pytest.mark.parametrize(
    ("name", "crashes"),
    [
        pytest.param("segmentation", [(0.31, "SIGKILL"), (0.2, "SIGTERM"), (0.4, "full")], id="segmentation"),
        pytest.param(
            "classification",
            [(0.3, "group SIGTERM"), (0.2, "SIGKILL"), (0.35, "group SIGINT")],
            id="classification-workers",
        ),
        pytest.param(
            "cropping", [(0.28, "SIGTERM"), (0.5, "SIGKILL")], id="cropping", marks=pytest.mark.slow
        ),
    ],
)
def test_three_ends_and_yet_the_same_run(
    name: str,
    crashes: list[tuple[float, str]],
    references: dict[str, Reference],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    known = left_alone(references, name, tmp_path_factory)
    recover(known, tmp_path, [(round(share * known.moments), what) for share, what in crashes])


def test_an_exception_in_a_worker(
    references: dict[str, Reference], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    known = left_alone(references, "classification", tmp_path_factory)
    assert finish(known.words, tmp_path, broken_worker) == 1
    assert "the disk went away" in printed(tmp_path)
    run = only_run(tmp_path)
    assert finish(["fit", f"--config={run / 'config.yaml'}", "--ckpt_path=last"], tmp_path) == 0
    assert_same_runs(run, known.run)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["segmentation", "classification", "cropping"])
def test_random_moments(
    name: str,
    seed: int,
    references: dict[str, Reference],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    known = left_alone(references, name, tmp_path_factory)
    recover(known, tmp_path, random_crashes(seed, known.moments, 1 + seed % 3))
