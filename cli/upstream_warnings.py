"""Warnings of other libraries that a user can do nothing about: each by name, with its reason and a link."""

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

__all__ = ["FILTERED", "UNSAID", "Upstream", "filter_upstream_warnings"]

_LIGHTNING = "https://github.com/Lightning-AI/pytorch-lightning"
_SOURCE = f"{_LIGHTNING}/blob/2.6.6/src/lightning"


class Upstream(NamedTuple):
    """A message that is left out.

    Attributes:
        message: What it begins with: a regular expression of a warning, the plain text of a log line.
        reason: Why there is nothing to do about it, and what makes the entry go.
        link: Where it is talked about, or where it is written.
    """

    message: str
    reason: str
    link: str


#: tests/test_terminal_warnings.py sees each of them in a real run; one that is not seen any more goes.
FILTERED = (
    Upstream(
        r"(``(ArgumentParser\.add_instantiator|instantiate_classes)``|skip_none parameter) was deprecated in v4\.49",
        "Lightning's command line calls it; mended in a release after 2.6.6",
        f"{_LIGHTNING}/issues/21900",
    ),
    Upstream(
        r"By default only one JsonargparseDeprecationWarning per type is shown",
        "comes with the ones above, and goes with them",
        f"{_LIGHTNING}/issues/21900",
    ),
    Upstream(
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        "Lightning 2.6.6 walks nested batches by what torch has deprecated since; goes when Lightning does not",
        f"{_LIGHTNING}/issues/21326",
    ),
    Upstream(
        r"It is recommended to use `self\.log\('.*', \.\.\., sync_dist=True\)`",
        "losses and scores are summed over all processes before they are logged, which Lightning cannot see",
        f"{_LIGHTNING}/issues/20153",
    ),
    Upstream(
        r"The '\w+' does not have many workers which may be a bottleneck",
        "workers are chosen from the cores that are usable; `train/data_time` tells whether training waits for them",
        f"{_LIGHTNING}/issues/15572",
    ),
    Upstream(
        r"The number of training batches \(\d+\) is smaller than the logging interval",
        "the steps are counted over the epochs, so that points come all the same",
        f"{_SOURCE}/pytorch/loops/fit_loop.py",
    ),
    Upstream(
        r"Checkpoint directory .* exists and is not empty",
        "a ModelCheckpoint of the user's in a run that goes on: the folder is that of the run",
        f"{_LIGHTNING}/pull/9615",
    ),
    Upstream(
        r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
        "a test or a prediction has no use for the callbacks of the fit",
        f"{_LIGHTNING}/pull/7254",
    ),
    Upstream(
        r"Found \d+ module\(s\) in eval mode at the start of training",
        "those of a frozen backbone, which are so on purpose",
        f"{_LIGHTNING}/issues/19820",
    ),
    Upstream(
        r"You're resuming from a checkpoint that ended before the epoch ended",
        "Lightning asks the loader whether it can go on within an epoch; here the datamodule can",
        f"{_LIGHTNING}/pull/19475",
    ),
)

#: Log lines of Lightning that advertise, or tell what our own lines tell.
UNSAID = (
    Upstream("💡 Tip", "an advertisement", f"{_SOURCE}/pytorch/trainer/connectors/callback_connector.py"),
    Upstream("GPU available", "the summary names the device", f"{_SOURCE}/pytorch/trainer/setup.py"),
    Upstream("TPU available", "the summary names the device", f"{_SOURCE}/pytorch/trainer/setup.py"),
    Upstream(
        "Loading `train_dataloader` to estimate", "nothing to act on", f"{_SOURCE}/pytorch/trainer/trainer.py"
    ),
    Upstream("Seed set to", "it is in config.yaml", f"{_SOURCE}/fabric/utilities/seed.py"),
    Upstream("`Trainer(limit_", "the user said so", f"{_SOURCE}/pytorch/trainer/setup.py"),
    Upstream(
        "Restoring states from",
        "the checkpoint is named before",
        f"{_SOURCE}/pytorch/trainer/connectors/checkpoint_connector.py",
    ),
    Upstream(
        "Restored all states from",
        "the summary tells where the run goes on",
        f"{_SOURCE}/pytorch/trainer/connectors/checkpoint_connector.py",
    ),
    Upstream(
        "Loaded model weights from",
        "the checkpoint is named before",
        f"{_SOURCE}/pytorch/trainer/connectors/checkpoint_connector.py",
    ),
    Upstream(
        "`Trainer.fit` stopped: `max_epochs",
        "the closing table tells it",
        f"{_SOURCE}/pytorch/loops/fit_loop.py",
    ),
)


def _is_wanted(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(tuple(line.message for line in UNSAID))


@contextmanager
def filter_upstream_warnings() -> Generator[None]:
    """Leave the listed warnings and log lines out; all others stay."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("lightning")]
    for name in names:
        logging.getLogger(name).addFilter(_is_wanted)
    try:
        with warnings.catch_warnings():
            for entry in FILTERED:
                warnings.filterwarnings(
                    "ignore", message=rf"(?s)\s*(?:{entry.message})"
                )  # some begin with a line break
            yield
    finally:
        for name in names:
            logging.getLogger(name).removeFilter(_is_wanted)
