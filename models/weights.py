"""Pretrained weights: from the hub, or from a file, with one clear error when they cannot be had or do not fit."""

import logging
import socket
import urllib.request
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from errors import LoupeError
from models.backbone import BackboneModel

__all__ = ["from_hub", "hub_errors", "load_weights", "read_weights"]

_FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")
_ENOUGH = 0.9
"""Share of a network's tensors that a file must hold: a new head may be missing, an encoder may not."""

_logger = logging.getLogger(__name__)


def from_hub(weights: str | None) -> bool:
    """True for a tag such as ``imagenet``; False for null and for a file.

    >>> from_hub("imagenet"), from_hub("weights/resnet50.pth"), from_hub(None)
    (True, False, False)
    """
    return weights is not None and Path(weights).suffix not in _FILE_SUFFIXES and "/" not in weights


@contextmanager
def hub_errors(encoder: str, weights: str) -> Generator[None]:
    """Turn whatever goes wrong while weights come from the hub into one LoupeError, and fail fast without a network.

    The client would retry for half a minute; where the hub does not answer, only its local cache is used.
    """
    import huggingface_hub.constants

    hub: Any = huggingface_hub.constants
    before = hub.HF_HUB_OFFLINE
    offline = before or not _hub_answers()
    try:
        hub.HF_HUB_OFFLINE = offline
        yield
    except OSError as error:  # every error of the hub's client is one
        reason = "cannot be reached" if offline else f"answered {type(error).__name__}"
        raise LoupeError(
            f"weights: '{weights}' of the encoder {encoder} is not in the local cache, and "
            f"{hub.ENDPOINT} {reason}; use weights: null to train from scratch, or weights: FILE"
        ) from error
    finally:
        hub.HF_HUB_OFFLINE = before


def _hub_answers() -> bool:
    import huggingface_hub.constants

    if urllib.request.getproxies():  # a direct connection says nothing there
        return True
    address = urlsplit(huggingface_hub.constants.ENDPOINT)
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        with socket.create_connection((address.hostname or "", port), timeout=5):
            return True
    except OSError:
        return False


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a state dict or checkpoint saved by torch (``weights_only``).

    Of a Lightning checkpoint, the part under ``model.``; ``state_dict`` and ``model`` containers are opened.
    """
    path = Path(path)
    if not path.is_file():
        raise LoupeError(
            f"weights: no such file: {path}; use weights: null to train from scratch, or weights: FILE"
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise LoupeError(f"weights: {path} is not a file of weights, or is damaged ({error})") from error
    except Exception as error:  # pickle.UnpicklingError: more than tensors, which could run code when opened
        raise LoupeError(
            f"weights: {path} holds more than tensors and plain values, and is not opened; "
            f"save model.state_dict() instead"
        ) from error
    for container in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
    if not isinstance(content, Mapping):
        raise LoupeError(f"weights: {path} holds a {type(content).__name__}, expected a state dict")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def load_weights(model: BackboneModel, path: str | Path) -> None:
    """Fill the whole network from a file where that fits, else its backbone; LoupeError when neither does.

    Names may carry the prefixes that Lightning, SMP, torch.compile and DataParallel put in front. What a
    whole-network file lacks (a head for other classes) is warned of by name. A first convolution for three
    channels is adapted to ``in_channels`` as timm does.
    """
    state = read_weights(path)
    own = model.state_dict()
    backbone = next(name for name, module in model.named_modules() if module is model.backbone)
    best: dict[str, Tensor] = {}
    best_wanted: list[str] = []
    # From the whole network to the backbone; timm's backbones lie in SMP's wrapper as `model`.
    for prefix in ("", "network.", f"{backbone}.", f"{backbone}.model."):
        wanted = [
            name for name in own if name.startswith(prefix) and not name.endswith("num_batches_tracked")
        ]
        for found in _matches(state, own, prefix, backbone):
            if wanted and _share(found, wanted) > _share(best, best_wanted):
                best, best_wanted = found, wanted
        if _share(best, best_wanted) >= _ENOUGH:
            break
    best_wanted = best_wanted or [name for name in own if name.startswith(f"{backbone}.")]
    missing = [name for name in best_wanted if name not in best]
    matched = f"{len(best_wanted) - len(missing)} of {len(best_wanted)} tensors"
    if _share(best, best_wanted) < _ENOUGH:
        wrong = [n for n in missing if any(_same_name(key, n) for key in state)] or missing
        example = f"; for example {wrong[0]} {tuple(own[wrong[0]].shape)}" if wrong else ""
        raise LoupeError(
            f"weights: {path} does not fit this network: {matched} match by name and shape{example}; "
            f"use a file for the same encoder, or weights: null"
        )
    model.load_state_dict(best, strict=False)
    if missing:
        warnings.warn(
            f"weights: {path} fills {matched}; left at random: {', '.join(missing[:6])}", stacklevel=2
        )
    _logger.info("weights: %s fills %s", path, matched)


def _matches(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], prefix: str, backbone: str
) -> Iterator[dict[str, Tensor]]:
    """For each prefix that the file may use, the tensors that fit below ``prefix`` of the network, by full name."""
    targets = {_plain(name.removeprefix(prefix)): name for name in own if name.startswith(prefix)}
    for outer in ("", "model.", "module.", "_orig_mod.", "model._orig_mod."):
        for inner in ("", f"{backbone}.", "encoder.", "backbone."):
            found: dict[str, Tensor] = {}
            for key, tensor in state.items():
                name = (
                    targets.get(_plain(key.removeprefix(outer + inner)))
                    if key.startswith(outer + inner)
                    else None
                )
                if name is None:
                    continue
                tensor = _adapted(tensor, own[name])
                if tensor.shape == own[name].shape:
                    found[name] = tensor
            yield found


def _plain(name: str) -> str:
    """Names alike: timm's feature extractors write ``stages_0.`` where its checkpoints have ``stages.0.``."""
    return name.replace(".", "_")


def _same_name(key: str, name: str) -> bool:
    return _plain(name).endswith(_plain(key))


def _adapted(tensor: Tensor, own: Tensor) -> Tensor:
    """A first convolution for three channels, for another number of them (timm's rule); others unchanged."""
    first = tensor.ndim == 4 and tensor.shape[1] == 3 and own.ndim == 4 and tensor.shape[0] == own.shape[0]
    if first and tensor.shape[2:] == own.shape[2:] and own.shape[1] != 3:
        import timm.models

        return timm.models.adapt_input_conv(own.shape[1], tensor)
    return tensor


def _share(found: Mapping[str, Tensor], wanted: list[str]) -> float:
    return sum(name in found for name in wanted) / len(wanted) if wanted else 0.0
