"""Pictures of any size in overlapping tiles, with memory for one row of tiles."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from errors import LoupeError
from inference.options import Tiles
from inference.receptive_field import receptive_field
from lightning_modules.links import Link

__all__ = ["Tiled", "create_tiled", "tile_starts", "tile_weights"]

_AT_ONCE = 4  # tiles in a batch on an accelerator
_SIGMA = 1 / 8  # of the tile's side, as in nnU-Net (Isensee et al. 2021)


class Tiled(nn.Module):
    """Asks about a picture tile by tile, and joins the probabilities: ``image`` (B, C, H, W) -> outputs (B, K, H, W).

    Tiles begin at multiples of the network's stride and end at the picture's end, which is padded as the network pads
    whole pictures; so a tile's answers are those for the whole picture, but for the ``margin`` at edges inside of the
    picture, which does not count. What several tiles answer is weighed by a Gaussian around their middles: the mean of
    their probabilities. (Of logits it would be a geometric mean, in which one tile that is sure of a wrong class
    outweighs those that doubt.)

    Args:
        response: ``image`` -> outputs; what ``link`` makes of them are the probabilities.
        link: Between outputs and probabilities.
        size_hw: Of a tile, pixels; multiples of ``stride``.
        overlap: Pixels that neighbours share, at least; a multiple of ``stride``, less than the tile's sides.
        margin: Pixels at a tile's edges that do not count where another tile has them too, at most half of ``overlap``.
        stride: That of the network.
        smallest: The smallest picture that the network takes unpadded.
    """

    def __init__(
        self,
        response: nn.Module,
        link: Link,
        *,
        size_hw: tuple[int, int],
        overlap: int,
        margin: int,
        stride: int,
        smallest: int,
    ) -> None:
        super().__init__()
        assert 2 * margin <= overlap < min(size_hw)
        assert not any(side % stride for side in (*size_hw, overlap))
        self.response = response
        self.link = link
        self.size_hw = size_hw
        self.overlap = overlap
        self.margin = margin
        self.stride = stride
        self.smallest = smallest

    def forward(self, image: Tensor) -> Tensor:
        """Outputs of the picture's size, on the device of the network; those of large pictures take memory."""
        whole: Tensor | None = None
        for number, one in enumerate(image.split(1)):
            for top, probs in self.strips(one):
                if whole is None:
                    whole = probs.new_empty((len(image), probs.shape[1], *image.shape[2:]))
                whole[number, :, top : top + probs.shape[2]] = self.link.outputs(probs)[0]
        assert whole is not None
        return whole

    def strips(self, image: Tensor) -> Iterator[tuple[int, Tensor]]:
        """(top, probabilities (1, K, h, W)) of one picture (1, C, H, W), from the first row to the last, each row once.

        ``K x tile x W`` floats are kept on the device of the network; a strip is a part of them, which is used again
        once the next one is asked for. The picture may be on another device.
        """
        height, width = image.shape[2], image.shape[3]
        down, across = (_padded(side, self.stride, self.smallest) for side in (height, width))
        tile_h, tile_w = min(self.size_hw[0], down), min(self.size_hw[1], across)
        tops = tile_starts(down, tile_h, tile_h - self.overlap, self.stride)
        lefts = tile_starts(across, tile_w, tile_w - self.overlap, self.stride)
        weigh_rows = tile_weights(tops, tile_h, down, self.margin)
        weigh_columns = tile_weights(lefts, tile_w, across, self.margin)
        rows, columns = _mirrored((height, down), (width, across))
        rows_of_tiles = zip(tops, [*tops[1:], down], weigh_rows, strict=True)
        sums: Tensor | None = None
        for top, after, weight in rows_of_tiles:
            lines = rows[top : top + tile_h, None]
            spots = [(lines, columns[left : left + tile_w]) for left in lefts]
            for number, probs in enumerate(self._asked(image, spots)):
                if sums is None:
                    sums = probs.new_zeros(1, probs.shape[1], tile_h, across)
                share = (weight[:, None] * weigh_columns[number]).to(sums)
                sums[..., lefts[number] : lefts[number] + tile_w] += probs * share
            assert sums is not None
            done = after - top
            yield top, sums[:, :, : min(done, height - top), :width]
            if done < tile_h:
                sums[:, :, : tile_h - done] = sums[:, :, done:].clone()
                sums[:, :, tile_h - done :] = 0

    def _asked(self, image: Tensor, spots: Sequence[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        """The probabilities of each tile, (1, K, h, w)."""
        device = next(self.response.parameters()).device
        count = 1 if device.type == "cpu" else _AT_ONCE
        waiting = iter(spots)
        while batch := list(islice(waiting, count)):
            tiles = torch.cat([image[:, :, lines, columns] for lines, columns in batch])
            tiles = tiles.to(device, memory_format=torch.channels_last)
            yield from self.link.probs(self.response(tiles)).split(1)


def tile_starts(length: int, tile: int, step: int, stride: int) -> list[int]:
    """Where tiles begin that cover ``length`` pixels: at multiples of ``step``, the last one where it ends with them.

    All are multiples of ``stride``, if the arguments are.

    >>> tile_starts(160, 64, 48, 16)
    [0, 48, 96]
    """
    if length <= tile:
        return [0]
    last = length - tile
    assert not (length % stride or tile % stride or step % stride) and step > 0
    return [*range(0, last, step), last]


def tile_weights(starts: Sequence[int], tile: int, length: int, margin: int) -> list[Tensor]:
    """Along one side, what each tile's answers weigh, (tile,) float64; at every pixel the weights add up to 1.

    A Gaussian around the tile's middle; 0 in the margin at an edge inside of the picture.

    >>> [weight.round(decimals=3).tolist() for weight in tile_weights([0, 4], 8, 12, 2)]
    [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
    """
    middle = (torch.arange(tile, dtype=torch.float64) + 0.5 - tile / 2) / (_SIGMA * tile)
    total = torch.zeros(length, dtype=torch.float64)
    weights: list[Tensor] = []
    for start in starts:
        weight = (-0.5 * middle**2).exp()
        if start > 0:
            weight[:margin] = 0
        if start + tile < length:
            weight[tile - margin :] = 0
        total[start : start + tile] += weight
        weights.append(weight)
    return [weight / total[start : start + tile] for start, weight in zip(starts, weights, strict=True)]


def create_tiled(
    response: nn.Module,
    networks: Sequence[nn.Module],
    link: Link,
    options: Tiles,
    *,
    size_hw: tuple[int, int],
    in_channels: int,
    smallest_scale: float = 1.0,
) -> Tiled:
    """Tiles as the settings want them, for segmenters.

    Args:
        response: What answers for a tile.
        networks: The segmenters that it asks.
        link: Theirs.
        options: `inference.tiles`.
        size_hw: Of the pictures that they were trained on, pixels.
        in_channels: Of these.
        smallest_scale: The least of the scales at which a tile is shown: so much more a network sees.

    Raises:
        LoupeError: A tile or an overlap that cannot be.
    """
    stride = math.lcm(*(int(getattr(network, "stride", 1)) for network in networks))
    smallest = _up(max(int(getattr(network, "smallest", 1)) for network in networks), stride)
    if options.scale <= 0 or not math.isfinite(options.scale):
        raise LoupeError(f"inference.tiles.scale is {options.scale:g}; it is a factor above 0")
    if options.size is not None and (options.size % stride or options.size < smallest):
        near = sorted(
            {max(smallest, options.size // stride * stride), max(smallest, _up(options.size, stride))}
        )
        raise LoupeError(
            f"inference.tiles.size is {options.size}, and this network takes multiples of {stride} from {smallest} on; "
            f"use {' or '.join(map(str, near))}"
        )
    given = size_hw if options.size is None else (options.size, options.size)
    height, width = (max(smallest, _up(side, stride)) for side in given)
    most = min(height, width) - stride
    fields = [receptive_field(network, in_channels) for network in networks]
    known = [math.ceil(field / min(1.0, smallest_scale)) for field in fields if field is not None]
    needed = _up(max(known) - 1, stride) if len(known) == len(fields) else None
    if options.overlap is None:
        exact = needed is not None and 2 * needed < min(height, width)
        overlap = min(most, needed if exact and needed is not None else _up(min(height, width) // 4, stride))
    else:
        overlap = _up(options.overlap, stride)
        if options.overlap < 0 or overlap > most:
            raise LoupeError(
                f"inference.tiles.overlap is {options.overlap}; tiles of {height}x{width} share 0 to {most} pixels"
            )
    margin = overlap // 4 if needed is None or overlap < needed else max(known) // 2
    return Tiled(
        response,
        link,
        size_hw=(height, width),
        overlap=overlap,
        margin=margin,
        stride=stride,
        smallest=smallest,
    )


def _up(value: int, stride: int) -> int:
    return -(-value // stride) * stride


def _padded(side: int, stride: int, smallest: int) -> int:
    return max(smallest, _up(side, stride))


def _mirrored(*sides: tuple[int, int]) -> list[Tensor]:
    """For sides (given, padded), which given pixel each padded one is a copy of, as ``models.pad_to_stride`` has it."""
    reflects = all(padded - given < given for given, padded in sides)
    found: list[Tensor] = []
    for given, padded in sides:
        place = torch.arange(padded)
        found.append(torch.where(place < given, place, 2 * (given - 1) - place if reflects else given - 1))
    return found
