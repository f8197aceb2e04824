"""Going on from a checkpoint: which file, from where in the run, and with which settings changed."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cli.checkpoint_path import find_checkpoint
from cli.layers import flatten
from cli.messages import print_once
from errors import LoupeError
from inference import read_checkpoint

__all__ = ["check_epochs", "open_checkpoint", "tell_differences"]


def open_checkpoint(
    given: str, files: Iterable[Path], parent: Path
) -> tuple[Path, dict[str, Any], Path | None]:
    """The checkpoint that ``--ckpt_path`` means, its content, and a ``last.ckpt`` that is damaged and was passed over.

    In place of a damaged last.ckpt the newest whole checkpoint beside it is taken, and that is said.
    """
    path = find_checkpoint(given, files, parent)
    try:
        return path, read_checkpoint(path), None
    except LoupeError as error:
        if given != "last":
            raise LoupeError(f"--ckpt_path: {error}") from error
        older = [(found, content) for found, content in _whole(path.parent) if found != path]
        if not older:
            raise LoupeError(
                f"--ckpt_path: {error}; there is no other checkpoint in {path.parent}"
            ) from error
        # By the time of writing: a run may have gone on from an earlier place, beside what was saved later before.
        found, content = max(older, key=lambda one: one[0].stat().st_mtime_ns)
        print_once(
            f"warning: {error}; going on from {found.name}, {content['global_step']} steps into the run"
        )
        return found, content, path


def check_epochs(path: Path, content: Mapping[str, Any], epochs: int) -> None:
    """LoupeError where the run is as long already as it shall be."""
    epoch = content["epoch"]
    if epochs <= epoch:
        raise LoupeError(
            f"{path} was saved in epoch {epoch + 1}, and training.epochs is {epochs}; give a larger training.epochs"
        )


def tell_differences(path: Path, stored: Any, given: Mapping[str, Any]) -> None:
    """List the settings that differ from the checkpoint's; LoupeError for one with which it cannot go on."""
    old = dict(flatten(dict(stored))) if isinstance(stored, Mapping) else {}
    new = dict(flatten(dict(given)))
    changed = [
        key for key in {**old, **new} if old.get(key) != new.get(key) and key.split(".")[0] != "ckpt_path"
    ]
    if not old or not changed:
        return
    kind = "training.optimizer.type"
    if kind in changed:
        raise LoupeError(
            f"--ckpt_path: the checkpoint holds what {old.get(kind)} remembers, and training.optimizer is "
            f"{new.get(kind)}; go on with {old.get(kind)}, or begin a new run with these weights: "
            f"--model.weights={path} without --ckpt_path"
        )
    print_once("settings that differ from the checkpoint's (yours are used):")
    for key in changed:
        print_once(f"  {key}: {old.get(key)} -> {new.get(key)}")


def _whole(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    found: list[tuple[Path, dict[str, Any]]] = []
    for path in sorted(folder.glob("[!.]*.ckpt")):
        try:
            found.append((path, read_checkpoint(path)))
        except LoupeError:
            continue  # it is none to go on from; where all are so, the first error is told
    return found
