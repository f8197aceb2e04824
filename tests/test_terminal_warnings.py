"""Each message of another library that is left out still comes, in real runs of the installed versions."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

import cli.upstream_warnings
from cli.upstream_warnings import FILTERED, UNSAID

Loupe = Callable[..., Any]
QUICK = ["training.epochs=1", "training.batch_size=2", "--training.tensorboard=false"]
RUN = Path("runs/seg_unet/version_0")
ROOT = Path(__file__).resolve().parent.parent


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(scope="module")
def said() -> dict[str, list[str]]:
    """What the runs of this module said, filled by `heard`: one set of runs for all entries."""
    return {}


@pytest.fixture
def heard(
    said: dict[str, list[str]], loupe: Loupe, tiny_words: list[str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[str]]:
    if said:
        return said
    monkeypatch.setattr(cli.upstream_warnings, "filter_upstream_warnings", contextlib.nullcontext)
    # What Lightning would think of a machine with 16 cores.
    connector = "lightning.pytorch.trainer.connectors.data_connector"
    monkeypatch.setattr(f"{connector}.suggested_max_num_workers", lambda _: 16)
    kept = Kept()
    names = ("lightning.pytorch", "lightning.fabric")
    for name in names:
        logging.getLogger(name).addHandler(kept)
        logging.getLogger(name).setLevel(logging.INFO)  # `check`, of another test, hears warnings only
    # What an earlier test has said once.
    monkeypatch.setattr("jsonargparse._deprecated.shown_deprecation_warnings", set())
    config = f"--config={RUN / 'config.yaml'}"
    frozen = ["--model.encoder=resnet18", "--model.weights=null", "--model.freeze_backbone=true"]
    data = [word for word in tiny_words if word.startswith(("--data", "--trainer"))]
    runs = [
        [
            *("fit", *tiny_words, *QUICK[:2], "training.checkpoint.every_n_steps=3"),
            *("--training.tensorboard.update_freq=50", "training.pictures=0"),
            *("--trainer.callbacks+=ModelCheckpoint", "--trainer.limit_val_batches=1"),
        ],
        ["fit", config, f"--ckpt_path={RUN / 'checkpoints' / 'step_00000003.ckpt'}"],
        ["test", config, "--ckpt_path=best"],
        [
            *("fit", f"--config={ROOT / 'configs' / 'seg_resnet50_unet.yaml'}", *data, *QUICK, *frozen),
            *("--trainer.strategy=ddp", "--trainer.devices=1", "--trainer.max_steps=1"),
        ],
    ]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for words in runs:
                outcome = loupe(*words)
                assert outcome.code == 0, outcome.err
    finally:
        for name in names:
            logging.getLogger(name).removeHandler(kept)
        if dist.is_initialized():
            dist.destroy_process_group()
    said.update(warnings=[str(warning.message) for warning in caught], lines=kept.lines)
    return said


@pytest.mark.parametrize("entry", FILTERED, ids=lambda entry: entry.message[:50])
def test_a_filtered_warning_still_comes(heard: dict[str, list[str]], entry: Any) -> None:
    assert any(re.match(rf"(?s)\s*(?:{entry.message})", text) for text in heard["warnings"])


@pytest.mark.parametrize("entry", UNSAID, ids=lambda entry: entry.message)
def test_a_log_line_that_is_left_out_still_comes(heard: dict[str, list[str]], entry: Any) -> None:
    assert any(text.startswith(entry.message) for text in heard["lines"])


def test_nothing_else_is_left_out() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with cli.upstream_warnings.filter_upstream_warnings():
            warnings.warn("The number of training epochs (2) is smaller than ...", stacklevel=1)
            warnings.warn("Checkpoint directory is full", stacklevel=1)
            warnings.warn("Found 3 module(s) in eval mode at the start of training.", stacklevel=1)
    assert [str(warning.message)[:10] for warning in caught] == ["The number", "Checkpoint"]


@pytest.mark.parametrize("entry", [*FILTERED, *UNSAID], ids=lambda entry: entry.message[:50])
def test_every_entry_says_why_and_where(entry: Any) -> None:
    assert entry.reason and re.fullmatch(r"https://github\.com/\S+", entry.link)
