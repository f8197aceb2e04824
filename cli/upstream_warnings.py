"""Warnings of other libraries that a user can do nothing about, by name, each with its reason."""

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["filter_upstream_warnings"]

#: (message, reason); every entry names where it comes from and when it can go.
_FILTERED = (
    # jsonargparse 4.49 deprecates what Lightning 2.6's CLI calls (2026-11); goes when Lightning calls `instantiate`.
    r".*(instantiate_classes|add_instantiator).*was deprecated.*",
    r".*By default only one JsonargparseDeprecationWarning.*",
    # Lightning 2.6: the losses reduce over all processes themselves, so there is nothing to synchronise.
    r".*It is recommended to use `self.log\('.*', \.\.\., sync_dist=True\)`.*",
    # Lightning 2.6: workers are chosen from the cores that are really usable (data.loader.num_workers: auto).
    r".*does not have many workers which may be a bottleneck.*",
    # Lightning 2.6 looks at the loader's sampler; ours shuffles by itself.
    r".*Your `val_dataloader`'s sampler has shuffling enabled.*",
    # Lightning 2.6: small data sets have fewer batches than its logging interval.
    r".*The number of training batches \(\d+\) is smaller than the logging interval.*",
    # Lightning 2.6 looks for a checkpoint folder that is not empty; ours belongs to the run that goes on.
    r".*Checkpoint directory .* exists and is not empty.*",
    # Lightning 2.6: a test or a prediction has no use for the callbacks of the fit.
    r".*Be aware that when using `ckpt_path`, callbacks used to create the checkpoint.*",
    # Lightning 2.6 counts the modules of a frozen backbone, which are in evaluation mode on purpose.
    r".*Found \d+ module\(s\) in eval mode at the start of training.*",
    # Lightning 2.6 asks the loader whether it can go on within an epoch; here the datamodule can (its `state_dict`).
    r".*You're resuming from a checkpoint that ended before the epoch ended.*",
    # torch 2.13 deprecates what Lightning 2.6 uses to walk nested batches.
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
)


#: Beginnings of log lines that advertise or tell what our own summary tells (Lightning 2.6).
_UNSAID = (
    "💡 Tip",
    "GPU available",
    "TPU available",
    "HPU available",
    "Loading `train_dataloader` to estimate",
    "Seed set to",
    "`Trainer(limit_",
    "Restoring states from",
    "Restored all states from",
    "Loaded model weights from",
    "`Trainer.fit` stopped: `max_epochs",
)


def _is_wanted(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_UNSAID)


@contextmanager
def filter_upstream_warnings() -> Generator[None]:
    """Leave the listed warnings out; all others stay."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("lightning")]
    for name in names:
        logging.getLogger(name).addFilter(_is_wanted)
    try:
        with warnings.catch_warnings():
            for message in _FILTERED:
                # (?s): some begin with an empty line.
                warnings.filterwarnings("ignore", message=f"(?s){message}")
            yield
    finally:
        for name in names:
            logging.getLogger(name).removeFilter(_is_wanted)
