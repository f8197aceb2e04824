"""A trained module from its checkpoint, and the members of an ensemble, which must be of one kind."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from errors import LoupeError
from inference.checkpoint import file_fingerprint, read_checkpoint, taking_over
from lightning_modules import LoupeModule

__all__ = ["check_members", "load_module", "restored"]

#: Parts of the input contract that members share, and what is meant where a checkpoint does not say.
_CONTRACT: Mapping[str, Any] = {
    "image_size": None,
    "resize": None,
    "interpolation": "bilinear",
    "in_channels": None,
    "value_range": None,
}


def load_module(checkpoint: str | Path, *, like: LoupeModule | None = None) -> LoupeModule:
    """The module that a checkpoint holds, built, with its weights, on the CPU, in evaluation mode.

    Args:
        checkpoint: A file that Loupe wrote.
        like: A module beside which it shall answer: LoupeError, naming the file and what differs, for a checkpoint of
            another task, other classes or another input.
    """
    content = read_checkpoint(checkpoint)
    if like is not None:
        _refuse_unlike(content["loupe"], like, checkpoint)
    return restored(content, checkpoint)


def check_members(
    checkpoints: Sequence[str], like: LoupeModule, region: Any = None, own: str | Path = ""
) -> None:
    """Raise LoupeError for members that cannot answer together, before anything else is done.

    Args:
        checkpoints: As `inference.ensemble` names them.
        like: The module at hand, as in `load_module`.
        region: The `Region` that it looks through; None: whole pictures.
        own: Its checkpoint.
    """
    seen = {file_fingerprint(own): str(own)} if own else {}
    for checkpoint in checkpoints:
        content = read_checkpoint(checkpoint)
        _refuse_unlike(content["loupe"], like, checkpoint)
        kept = content.get("roi")
        if (None if kept is None else kept["fingerprint"]) != (
            None if region is None else region.fingerprint
        ):
            raise LoupeError(
                f"inference.ensemble: {checkpoint} was trained {_behind(kept)}, and the model at hand looks at "
                f"{'whole pictures' if region is None else 'regions of interest'} of another cropper or of none; "
                f"members of an ensemble see the same part of a picture"
            )
        same = seen.setdefault(file_fingerprint(checkpoint), checkpoint)
        if same is not checkpoint:
            raise LoupeError(
                f"inference.ensemble: {checkpoint} holds what {same} holds, which would only take time; leave it out"
            )


def _behind(kept: Any) -> str:
    return "on whole pictures" if kept is None else f"behind the cropper of {kept['source']}"


def restored(content: Mapping[str, Any], checkpoint: str | Path) -> LoupeModule:
    """The module of what `read_checkpoint` gave, as `load_module`; the name of the file is for errors."""
    card = content["loupe"]
    # also while Lightning predicts: a network is looked at with gradients as it is built
    with taking_over(checkpoint), torch.inference_mode(False):
        module = _module_class(card["module"])(**_arguments(content["hyper_parameters"]))
        module.adopt(card)
        module.build()
        module.on_load_checkpoint(dict(content))
        module.load_state_dict(content["state_dict"])
    return module.eval()


def _refuse_unlike(card: Mapping[str, Any], like: LoupeModule, checkpoint: str | Path) -> None:
    for what, theirs, ours in _compared(card, like):
        if theirs != ours:
            raise LoupeError(
                f"inference.ensemble: {checkpoint} has {what} {theirs}, and the model at hand {ours}; a mean of "
                f"answers needs members of one task, with the same classes and input"
            )


def _compared(card: Mapping[str, Any], like: LoupeModule) -> Iterator[tuple[str, Any, Any]]:
    """What must be the same: its name, that of the card, that of the module."""
    yield "the task", str(card["module"]).rpartition(".")[2], type(like).__name__
    yield "the classes", list(card["class_names"]), list(like.class_names or [])
    yield "several labels a picture (multi_label):", bool(card.get("multi_label")), like.multi_label
    for key, default in _CONTRACT.items():
        theirs, ours = (
            _plain(contract.get(key, default)) for contract in (card["input"], like.input_contract)
        )
        yield f"the input's {key}", theirs, ours


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _module_class(name: str) -> type[LoupeModule]:
    """The module class that wrote the checkpoint; only LoupeModules are ever made from a file."""
    package, _, cls = name.rpartition(".")
    if package.split(".")[0] != "lightning_modules":
        raise LoupeError(f"the checkpoint was written by {name}, which is not one of Loupe's modules")
    found = getattr(importlib.import_module(package), cls, None)
    if not (isinstance(found, type) and issubclass(found, LoupeModule)):
        raise LoupeError(f"the checkpoint was written by {name}, which this version does not have")
    return found


def _arguments(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments, without the training recipe, which prediction does not need."""
    return {k: v for k, v in hyper_parameters.items() if not k.startswith("_") and k != "training"}
