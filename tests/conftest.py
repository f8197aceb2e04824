"""What every test may count on: no network, one thread, fixed seeds, one demo data set, real pictures if there."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

# Before torch and the hub's client are imported: both read these once. Processes that a test starts inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pytest
import torch
from PIL import Image

if TYPE_CHECKING:
    from tests.fitting import Fitter

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = Path(os.environ.get("LOUPE_REAL_DATA", ROOT.parent / "shared" / "datasets"))
NO_REAL_DATA = "no folder of real pictures; name one by LOUPE_REAL_DATA"
# Lightning hands its seed, and the place of a process among others, on through the environment.
LEAKED = (
    "PL_GLOBAL_SEED",
    "PL_SEED_WORKERS",
    "LOCAL_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("real_data") and not REAL_DATA.is_dir():
        pytest.skip(NO_REAL_DATA)
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: dsb2018, edge_cases, ... (mark the test ``real_data``)."""
    if not REAL_DATA.is_dir():
        pytest.skip(NO_REAL_DATA)
    return REAL_DATA


@pytest.fixture(scope="session", autouse=True)
def loupe_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache folder of this session's own, so that the demo data is made once, and never the user's."""
    folder = tmp_path_factory.mktemp("loupe-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOUPE_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """Each test starts from the same random state and leaves none of its global settings to the next one."""
    forget_leaked()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    yield
    forget_leaked()
    torch.use_deterministic_algorithms(False)
    torch.set_default_dtype(torch.float32)


def forget_leaked() -> None:
    for name in LEAKED:
        os.environ.pop(name, None)


class CurrentStderr:
    """Where Lightning's log goes: it keeps the stderr of its import, which pytest has closed by the next test."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class Outcome(NamedTuple):
    """What one command did: its exit code, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 training, 4 validation and 4 test pictures of 32x32, each with a bright square that its mask marks by 1."""
    root = tmp_path_factory.mktemp("tiny-data")
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 4), ("test", 4)):
        for folder in ("images", "masks"):
            (root / part / folder).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((32, 32), np.uint8)
            y, x = rng.integers(2, 16, 2)
            mask[y : y + 14, x : x + 14] = 1
            image = rng.integers(0, 90, (32, 32, 3)).astype(np.uint8)
            image[mask == 1] += 120
            Image.fromarray(image).save(root / part / "images" / f"p{number}.png")
            Image.fromarray(mask).save(root / part / "masks" / f"p{number}.png")
    return root


@pytest.fixture(scope="session")
def tiny_words(tiny_data: Path) -> list[str]:
    """The settings that make `configs/seg_unet.yaml` a run of seconds: tiny pictures, a tiny network, two epochs."""
    return [
        f"--config={ROOT / 'configs' / 'seg_unet.yaml'}",
        f"--data.root={tiny_data}",
        "--data.image_size=32",
        "--data.loader.num_workers=0",
        "--model.options={base_filters: 4, depth: 2}",
        "--trainer.accelerator=cpu",
    ]


@pytest.fixture
def loupe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """`loupe("fit", "--config", ...)`: one command in this process, in the test's own folder."""
    from cli import main

    monkeypatch.chdir(tmp_path)
    names = ("lightning", "lightning.pytorch", "lightning.fabric")
    for handler in (handler for name in names for handler in logging.getLogger(name).handlers):
        if isinstance(handler, logging.StreamHandler):
            monkeypatch.setattr(handler, "stream", CurrentStderr())

    def call(*words: str) -> Outcome:
        forget_leaked()
        capsys.readouterr()
        code = main(list(words))
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Fitter:
    """Runs `train.py fit` in this process, in an empty folder; see tests/fitting.py."""
    from tests.fitting import Fitter  # imports Lightning, which most tests do without

    return Fitter(monkeypatch, capsys, tmp_path)
