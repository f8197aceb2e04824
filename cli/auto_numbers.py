"""Numbers of `training` that are given as `auto`: found by a search, taken from a checkpoint, or handed on."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from jsonargparse import Namespace

from cli.vocabulary import AUTO, Training
from errors import LoupeError

__all__ = ["settle_numbers"]

#: Where a process that Lightning starts is told what the one that started it has found.
_HANDED_ON = "LOUPE_FOUND"


def settle_numbers(
    config: Namespace,
    *,
    command: str,
    checkpoint: Mapping[str, Any],
    build: Callable[[Namespace], Any],
    write: Callable[[Mapping[str, Any]], None],
) -> None:
    """Put a number wherever `training` says auto.

    A fit that goes on, and every command that uses a trained model, takes the checkpoint's; `check` and
    trainer.fast_dev_run take the defaults; a new fit searches on one device, and says what it found. LoupeError where
    there is no number.

    Args:
        config: All settings of the command.
        command: As on the command line.
        checkpoint: What is known of the one at hand; empty where there is none.
        build: Makes objects from settings like these.
        write: Puts numbers into the settings, wherever they stand there.
    """
    asked = [key for key in AUTO if config.training[key] == "auto"]
    if not asked:
        return
    if {"batch_size", "accumulate"} <= set(asked):
        raise LoupeError(
            "training.batch_size: it is auto, and training.accumulate is too, so nothing says how large a step is; "
            "give a number for one of them"
        )
    if command == "fit" and (config.get("trainer") or {}).get("fast_dev_run"):
        write({key: getattr(Training, key) for key in asked})  # a dry run searches for nothing
        return
    if command == "fit" and not config.get("ckpt_path"):
        found = handed_on(os.environ)
        if found is None:
            from cli.search import search  # with a tuner that no other command needs

            write({key: getattr(Training, key) for key in asked})  # what holds until a number is found
            found, processes = search(config, asked, build=build)
            if processes > 1:
                os.environ[_HANDED_ON] = json.dumps({"by": os.getpid(), "found": found})
        write({key: found[key] for key in asked})
        return
    stored = _stored(checkpoint)
    missing = [key for key in asked if key not in stored]
    if command == "fit" and missing:
        raise LoupeError(
            f"training.{missing[0]}: it is auto, and the checkpoint does not say which number the run had; give one"
        )
    write({key: stored.get(key, getattr(Training, key)) for key in asked})


def _stored(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of the run that the checkpoint is of."""
    config = checkpoint.get("config")
    training = config.get("training") if isinstance(config, Mapping) else None
    given: dict[str, Any] = dict(training) if isinstance(training, Mapping) else {}
    kinds = {key: type(getattr(Training, key)) for key in AUTO}
    return {key: given[key] for key, kind in kinds.items() if type(given.get(key)) is kind and given[key] > 0}


def handed_on(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """What the process that started this one has found; None where it is none of ours."""
    told: dict[str, Any] = json.loads(environment.get(_HANDED_ON, "{}"))
    return told["found"] if told.get("by") == os.getppid() else None
