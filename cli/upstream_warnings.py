"""Warnings of other libraries that a user can do nothing about, by name, each with its reason."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["filter_upstream_warnings"]

#: (message, reason); every entry names where it comes from and when it can go.
_FILTERED = (
    # jsonargparse 4.49 deprecates what Lightning 2.6's CLI calls (2026-11); goes when Lightning calls `instantiate`.
    r".*instantiate_classes.*was deprecated.*",
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
)


@contextmanager
def filter_upstream_warnings() -> Iterator[None]:
    """Leave the listed warnings out; all others stay."""
    with warnings.catch_warnings():
        for message in _FILTERED:
            warnings.filterwarnings("ignore", message=message)
        yield
