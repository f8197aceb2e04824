"""What answers in a network's place: members of an ensemble and looks at the picture, one mean of probabilities."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from errors import LoupeError
from inference.members import load_module
from inference.options import Inference
from inference.tiles import create_tiled
from inference.views import Look, create_looks, refuse_sizes
from lightning_modules import LoupeModule
from lightning_modules.links import Link

__all__ = ["Response", "create_response"]


class Response(nn.Module):
    """Takes and gives what one network does: ``image`` (B, C, H, W) -> outputs.

    With members m of temperature T_m and looks v, ``link.probs(outputs)`` is the mean over all pairs of
    ``undo_v(link.probs(network_m(do_v(image)) / T_m))``. One member with one plain look gives its logits divided by its
    temperature, without the way through probabilities.

    Args:
        members: Networks and the temperatures of their logits.
        looks: At least one.
        link: Between outputs and probabilities.

    >>> logits = [nn.Linear(1, 2), nn.Linear(1, 2)]
    >>> for layer, odds in zip(logits, ([0.0, 1.0986123], [0.0, 0.0])):  # 1 : 3 and 1 : 1
    ...     _ = layer.requires_grad_(False), layer.weight.zero_(), layer.bias.copy_(torch.tensor(odds))
    >>> response = Response([(layer, 1.0) for layer in logits], [Look()], Link("softmax"))
    >>> [round(p, 4) for p in Link("softmax").probs(response(torch.zeros(1, 1)))[0].tolist()]
    [0.375, 0.625]
    """

    def __init__(self, members: Sequence[tuple[nn.Module, float]], looks: Sequence[Look], link: Link) -> None:
        super().__init__()
        assert members and looks
        self.networks = nn.ModuleList(network for network, _ in members)
        self.temperatures = tuple(temperature for _, temperature in members)
        self.looks = tuple(looks)
        self.link = link

    @property
    def is_plain(self) -> bool:
        """Whether this is what its only network gives."""
        return self._is_one and self.temperatures == (1.0,)

    @property
    def _is_one(self) -> bool:
        return len(self.networks) == 1 and len(self.looks) == 1 and self.looks[0].is_plain

    def forward(self, image: Tensor) -> Tensor:
        """Outputs that stand for the mean."""
        if self._is_one:
            return self.link.cooled(self.networks[0](image), self.temperatures[0])
        return self.link.outputs(self.probs(image))

    def probs(self, image: Tensor) -> Tensor:
        """The mean, float32 (float64 from networks of that): of a box its centre, size and confidence."""
        total: Tensor | None = None
        for look in self.looks:
            shown = look.do(image)
            if shown is not image and shown.ndim == 4:
                shown = shown.contiguous(memory_format=torch.channels_last)
            for network, temperature in zip(self.networks, self.temperatures, strict=True):
                probs = self.link.probs(self.link.cooled(network(shown), temperature))
                if not look.is_plain:
                    probs = look.undo(probs, self.link.kind, (image.shape[2], image.shape[3]))
                total = probs if total is None else total + probs
        assert total is not None
        return total / (len(self.looks) * len(self.networks))


def create_response(
    module: LoupeModule, options: Inference, *, device: torch.device | None = None
) -> nn.Module | None:
    """What shall answer for a built module that has its weights; None where that is its network as it is.

    Args:
        module: Its network, class names, input contract and calibration are used; nothing of it is changed.
        options: The section `inference`.
        device: Where to compute; None: where the module is.

    Raises:
        LoupeError: Members that do not fit; tiles, and no segmenter; sizes that a network cannot take.
    """
    looks = create_looks(options)
    parameter = next(module.network.parameters())
    device = device or parameter.device
    members = [(module.network, module.calibration.temperature)]
    for path in options.ensemble:
        other = load_module(path, like=module)
        network = other.network.to(device=device, dtype=parameter.dtype).requires_grad_(False)
        members.append((network, other.calibration.temperature))
    response = Response(members, looks, module.link).eval()
    height, width = module.input_contract["image_size"]
    size = options.tiles.size if options.tiles.enabled else None
    size_hw = (int(height), int(width)) if size is None else (size, size)
    for network in response.networks:
        refuse_sizes(network, looks, size_hw, int(module.input_contract["in_channels"]))
    if not options.tiles.enabled:
        return None if response.is_plain else response
    if "mask" not in module.learns:
        raise LoupeError(
            f"inference.tiles is for segmenters, and the model is a {type(module).__name__}, which gives one answer "
            f"for the whole picture; leave it out"
        )
    return create_tiled(
        response,
        list(response.networks),
        module.link,
        options.tiles,
        size_hw=(int(height), int(width)),
        in_channels=int(module.input_contract["in_channels"]),
        smallest_scale=min(look.scale for look in looks),
    )
