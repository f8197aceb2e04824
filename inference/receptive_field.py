"""How far around a pixel a segmenter looks before it answers."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["receptive_field"]

_LENGTHS = (1024, 4096)  # pixels of the strips: the short one is enough for most networks, and quick


def receptive_field(network: nn.Module, in_channels: int = 3) -> int | None:
    """Side, pixels, of the square around a pixel that its answer depends on; None for the whole picture.

    It is odd, ``2 reach + 1``. A tile's answers are those of the whole picture from ``reach`` pixels on from an edge
    that lies at a multiple of the network's stride, so tiles that share ``2 reach`` pixels can be joined to the whole
    picture's answer. Global pooling, attention, and norms over the picture look at all of it.

    It is seen, not computed from the layers: the network is shown a thin strip both ends of which are no numbers (NaN),
    and what depends on them is no number either, whatever the weights are. A network that looks further than 1,000
    pixels, or does not take strips, counts as one that looks at the whole picture.

    Args:
        network: From ``models.create_model``: image batch -> logits (B, K, H, W).
        in_channels: Of its pictures.
    """
    was_training = network.training
    network.eval()
    try:
        reaches = [_reach(network, in_channels, along) for along in (3, 2)]
    finally:
        network.train(was_training)
    known = [reach for reach in reaches if reach is not None]
    return 2 * max(known) + 1 if len(known) == len(reaches) else None


def _reach(network: nn.Module, in_channels: int, along: int) -> int | None:
    """The largest distance along this dimension at which a pixel counts."""
    for length in _LENGTHS:
        clean = _clean(network, in_channels, along, length)
        numbers = clean.nonzero().flatten().tolist()
        if numbers:
            begin, end = length // 4, length - length // 4
            return max(numbers[0] - begin, end - 1 - numbers[-1])
    return None


def _clean(network: nn.Module, in_channels: int, along: int, length: int) -> Tensor:
    """Which positions of a strip do not depend on its first and last quarter, (length,) bool."""
    smallest = int(getattr(network, "smallest", 32))  # a segmenter's, a multiple of its stride
    shape = [1, in_channels, smallest, smallest]
    shape[along] = length
    strip = torch.full(shape, 0.5)
    strip.narrow(along, 0, length // 4).fill_(torch.nan)
    strip.narrow(along, length - length // 4, length // 4).fill_(torch.nan)
    # on the CPU in float32, where convolutions are sums and nothing else; on a GPU they may be transforms
    state = {name: _plain(value) for name, value in network.state_dict(keep_vars=True).items()}
    buffers = {name: _plain(value) for name, value in network.named_buffers()}
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), torch.autocast("cpu", enabled=False):
            outputs = functional_call(network, {**state, **buffers}, (strip,))
    except (RuntimeError, ValueError, AssertionError, TypeError):
        return torch.zeros(length, dtype=torch.bool)  # one size of pictures only
    return outputs[0].isfinite().all(dim=0).all(dim=0 if along == 3 else 1)


def _plain(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    return value.float() if value.is_floating_point() else value
