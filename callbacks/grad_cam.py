"""Where in the picture a class's evidence lies (Grad-CAM), computed beside a training and without a trace in it."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["class_activation"]

_EARLIEST = 0.25
"""Of the modules, in the order they end: a map that is over before is the stem of a transformer, not its features."""


def class_activation(network: nn.Module, image: Tensor, classes: Tensor) -> np.ndarray | None:
    """How much each place of the last feature map spoke for a class: (B, h, w) float32 in 0..1, 1 at the strongest.

    ReLU(sum_c w_c A_c), w_c the mean of d logit / d A_c over the map (Selvaraju et al. 2017, eq. 1-2), by captum, then
    divided by each picture's maximum; all 0 where nothing spoke for the class.

    The network is left as it was: modes, statistics, gradients, hooks, compiled calls, random numbers. It runs as in
    evaluation, in its own precision without autocast, whatever the caller's gradient mode.

    Args:
        network: From image batch to logits (B, K).
        image: (B, C, H, W) as the network takes it, on its device.
        classes: (B,) int64, the class of each picture to ask for. A network of one logit has one class, 0.

    Returns:
        None where the network has no feature map in (B, C, h, w) of more than one pixel after its first quarter: plain
        transformers (ViT), and those that keep channels last (Swin).
    """
    with _beside(network), torch.inference_mode(False), _without_autocast(image):
        # A tensor of inference mode cannot be part of a graph; its copy can.
        image, classes = (t.clone() if t.is_inference() else t.detach() for t in (image, classes))
        with torch.no_grad():
            layer, count = _last_map(network, image[:1])
        if layer is None:
            return None
        # captum brings matplotlib, and seconds of import: only for who asks for heat.
        from captum.attr import LayerGradCam

        target = classes.to(image.device).clamp(0, count - 1)
        # captum switches gradients on for its own pass, and asks for none of a weight.
        heat = LayerGradCam(network, layer).attribute(image, target=target, relu_attributions=True)
        assert isinstance(heat, Tensor)
        heat = heat.detach().float()[:, 0]
        heat = torch.nan_to_num(heat, nan=0.0, posinf=0.0)
        most = heat.amax(dim=(1, 2), keepdim=True)
        return torch.where(most > 0, heat / most.clamp_min(torch.finfo(heat.dtype).tiny), 0.0).cpu().numpy()


@contextmanager
def _beside(network: nn.Module) -> Generator[None, None, None]:
    """Evaluation mode and plain calls; afterwards each module is as it was."""
    modules = list(network.modules())
    modes = [module.training for module in modules]
    # Hooks and gradients want the plain call; the compiled one is the same network.
    compiled = [
        (module, call)
        for module in modules
        if (call := getattr(module, "_compiled_call_impl", None)) is not None
    ]
    try:
        for module in modules:
            module.training = False
        for module, _ in compiled:
            module._compiled_call_impl = None  # pyright: ignore[reportPrivateUsage]
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for module, call in compiled:
            module._compiled_call_impl = call  # pyright: ignore[reportPrivateUsage]


def _without_autocast(image: Tensor) -> torch.autocast:
    """Autocast keeps weights that it cast under inference mode, and those cannot be part of a graph."""
    return torch.autocast(image.device.type, enabled=False)


def _last_map(network: nn.Module, image: Tensor) -> tuple[nn.Module | None, int]:
    """The module that gives the last map of a convolution, or the norm or activation after it; how many logits."""
    ended: list[tuple[nn.Module, torch.Size]] = []

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            ended.append((module, output.shape))

    with ExitStack() as hooks:
        for module in network.modules():
            hooks.callback(module.register_forward_hook(note).remove)
        count = int(network(image).shape[-1])
    shape = next((shape for module, shape in reversed(ended) if _is_map(module, shape, image)), None)
    # Attention has outputs of four dimensions as well, but none of a convolution's shape.
    last = max((i for i, (_, other) in enumerate(ended) if other == shape), default=-1)
    return (ended[last][0] if last >= _EARLIEST * len(ended) else None), count


def _is_map(module: nn.Module, shape: torch.Size, image: Tensor) -> bool:
    """Whether this is what a convolution makes of the picture: more than one pixel, in (B, C, h, w)."""
    if len(shape) != 4 or shape[2] * shape[3] <= 1:
        return False
    fits = shape[2] <= image.shape[2] and shape[3] <= image.shape[3]
    return fits and any(isinstance(part, nn.Conv2d) for part in module.modules())
