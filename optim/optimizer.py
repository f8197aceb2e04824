"""Optimizers by name, from timm's factory, with the groups that the schedule and the weight decay need."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from errors import LoupeError, nearest, unknown
from optim.regularizer import is_weight

__all__ = ["create_optimizer", "optimizer_options"]

_NOT_OPTIONS = {"self", "params", "lr", "differentiable", "capturable", "maximize"}


def optimizer_options(type: str) -> dict[str, Any]:
    """The options of an optimizer with their defaults, as timm builds it (``sgd`` has Nesterov momentum 0.9).

    An unknown name raises LoupeError, as do those of other packages (apex, bitsandbytes) and second-order ones.

    >>> optimizer_options("sgd")["momentum"]
    0.9
    """
    from timm.optim import get_optimizer_info, list_optimizers  # here: a second that --help does without

    names = [str(name) for name in list_optimizers()]
    if type not in names:
        near = nearest(type, names)
        raise LoupeError(
            f"unknown optimizer '{type}'{f' (did you mean {near!r}?)' if near else ''}; valid: adamw, adam, sgd "
            f"(Nesterov), momentum, rmsprop, lamb, lion, muon, nadamw, ... (all of timm.optim.list_optimizers())"
        )
    info = get_optimizer_info(type)
    if info.second_order:
        raise LoupeError(f"optimizer '{type}' needs second derivatives, which training does not compute")
    if isinstance(info.opt_class, str):  # apex and bitsandbytes are named, not imported
        raise LoupeError(f"optimizer '{type}' needs {info.opt_class.split('.')[0]}, which Loupe does not use")
    parameters = inspect.signature(info.opt_class).parameters
    options = {name: p.default for name, p in parameters.items() if name not in _NOT_OPTIONS}
    if info.has_momentum:
        options["momentum"] = 0.9
    return {**options, **(info.defaults or {})}


def create_optimizer(
    model: nn.Module,
    *,
    learning_rate: float,
    optimizer: Mapping[str, Any] | None = None,
    backbone: Iterable[nn.Parameter] = (),
    backbone_factor: float = 1.0,
    fused: bool | None = None,
) -> torch.optim.Optimizer:
    """The optimizer ``{type: NAME, ...options}`` (default AdamW) over all parameters of ``model``.

    - Weight decay falls on weights of two or more dimensions only, and not on what the network itself excludes
      (timm's ``no_weight_decay``). Where it is not given, it is the default of the optimizer's class: 0.01 for
      adamw, 0 for sgd (timm's factory alone would make it 0 everywhere).
    - ``backbone`` parameters form groups of their own, the first ones, with the peak ``learning_rate *
      backbone_factor``.
    - Frozen parameters are included, so that unfreezing them later is enough to train them.
    - ``fused=None`` takes the fused kernels where the class and the device have them: on CUDA, and on the CPU, where
      AdamW over 31 million weights took 74 ms instead of 344. Pass False with float16 loss scaling and gradient
      clipping together, which Lightning refuses for fused optimizers.
    - ``load_state_dict`` takes the state of a checkpoint and leaves this run's settings (rate, decay, betas); the
      state of another kind of optimizer raises LoupeError.
    """
    from timm.optim import create_optimizer_v2

    given: dict[str, Any] = dict(optimizer or {})
    name = str(given.pop("type", "adamw")).lower()
    valid = optimizer_options(name)
    for option in given:
        if option not in valid:
            raise unknown(f"option of the optimizer '{name}':", option, valid)
    decay = given.pop("weight_decay", valid.get("weight_decay", 0.0))
    if not isinstance(decay, (int, float)) or decay < 0:
        raise LoupeError(f"optimizer '{name}': weight_decay must be a number from 0, got {decay}")
    if fused is not False and "fused" in valid and _has_fused_kernels(model):
        given.setdefault("fused", True)
    groups = _groups(model, decay, {id(parameter) for parameter in backbone})
    for group in groups:
        group["lr"] = learning_rate * (backbone_factor if group.pop("of_backbone") else 1.0)
    try:
        built = create_optimizer_v2(groups, opt=name, lr=learning_rate, weight_decay=decay, **given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LoupeError(f"optimizer '{name}' refuses {given or 'these parameters'}: {error}") from error
    _keep_settings(built, name)
    return built


def _groups(model: nn.Module, decay: float, backbone: set[int]) -> list[dict[str, Any]]:
    """One group for each mix of backbone or not and decayed or not; the same ones whatever the settings are, since
    a checkpoint's state is matched by position.
    """
    excluded = _excluded_from_decay(model)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decays = is_weight(name, parameter) and name not in excluded
        groups.setdefault((id(parameter) in backbone, decays), []).append(parameter)
    if not groups:
        raise LoupeError("the model has no parameters to train")
    return [
        {"params": groups[key], "of_backbone": key[0], "weight_decay": decay if key[1] else 0.0}
        for key in sorted(groups, reverse=True)
    ]


def _excluded_from_decay(model: nn.Module) -> set[str]:
    """Full names of what networks exclude by timm's convention: position embeddings, class tokens."""
    names: set[str] = set()
    for prefix, module in model.named_modules():
        if hasattr(module, "no_weight_decay"):
            excluded: Any = module
            names.update(f"{prefix}.{name}" if prefix else name for name in excluded.no_weight_decay())
    return names


def _has_fused_kernels(model: nn.Module) -> bool:
    return all(p.device.type in ("cuda", "cpu") and p.is_floating_point() for p in model.parameters())


def _keep_settings(optimizer: torch.optim.Optimizer, name: str) -> None:
    """Let the settings of this run win over a checkpoint's, whose groups torch would copy over them."""
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]

    def merge(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        saved: list[dict[str, Any]] = state["param_groups"]
        same = len(saved) == len(settings)
        if not same or any(own.keys() - group.keys() for own, group in zip(settings, saved, strict=True)):
            raise LoupeError(
                f"optimizer: the checkpoint's state is not of '{name}' over these parameters; resume with the "
                f"optimizer that it was trained with, or start a new run from its weights (weights: FILE)"
            )
        groups = [{**group, **own} for own, group in zip(settings, saved, strict=True)]
        return {**state, "param_groups": groups, "state": _laid_out(optimizer, groups, state["state"])}

    optimizer.register_load_state_dict_pre_hook(merge)


def _laid_out(
    optimizer: torch.optim.Optimizer, groups: list[dict[str, Any]], state: Mapping[Any, Any]
) -> dict[Any, Any]:
    """The state, each tensor of which has the shape and the strides of its parameter where the kernels are fused.

    Those of torch (2.15, CPU) look at neither, and write behind the end of what is too small. LoupeError for another
    shape.
    """
    found = dict(state)
    for own, group in zip(optimizer.param_groups, groups, strict=True):
        if own.get("fused"):
            # where there are more of one than of the other, torch says so
            for parameter, number in zip(own["params"], group["params"], strict=False):
                memory: Mapping[str, Any] = found.get(number, {})
                if memory:
                    found[number] = {
                        key: _as_laid_out(key, value, parameter) for key, value in memory.items()
                    }
    return found


def _as_laid_out(key: str, value: Any, parameter: nn.Parameter) -> Any:
    if not isinstance(value, Tensor) or (key == "step" and value.dim() == 0):
        return value
    if value.shape != parameter.shape or value.layout != torch.strided:
        raise LoupeError(
            f"optimizer: the checkpoint's {key} has the shape {tuple(value.shape)}, its parameter "
            f"{tuple(parameter.shape)}; resume with the network and the optimizer that it was trained with"
        )
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
