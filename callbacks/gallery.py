"""The samples of an evaluation that rank highest by some figure, kept on the device."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor

__all__ = ["Gallery"]

Sample = dict[str, Tensor]


class Gallery:
    """Keeps the ``size`` samples of the highest rank among all that are offered; nothing waits for the device.

    Args:
        size: How many; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._rank: Tensor | None = None
        self._kept: dict[str, Tensor] = {}

    def offer(self, rank: Tensor, samples: Mapping[str, Tensor]) -> None:
        """Consider a batch.

        Args:
            rank: (B,) float; a sample of -inf is never kept, one of NaN before all others.
            samples: What is kept of each, (B, ...), the same keys and shapes each time.
        """
        if not self.size:
            return
        # NaN is as bad as it can be; float32, since not every device has more
        rank = rank.detach().float().nan_to_num(torch.inf, torch.inf, -torch.inf)
        if self._rank is None:
            self._rank, chosen = rank.topk(min(self.size, len(rank)))
            self._kept = {key: value.detach()[chosen] for key, value in samples.items()}
            return
        count = len(self._rank)
        ranks, chosen = torch.cat([self._rank, rank]).topk(min(self.size, count + len(rank)))
        if rank.device.type == "cpu" and len(ranks) == count:
            self._exchange(ranks, chosen, count, samples)
            return
        self._rank = ranks
        self._kept = {
            key: torch.cat([self._kept[key], value.detach()])[chosen] for key, value in samples.items()
        }

    def _exchange(self, ranks: Tensor, chosen: Tensor, count: int, samples: Mapping[str, Tensor]) -> None:
        """Put the few that are new in the places of those that they drive out: on the CPU nobody waits for this."""
        new = chosen[chosen >= count] - count
        if not len(new):
            return
        assert self._rank is not None
        out = torch.ones(count, dtype=torch.bool)
        out[chosen[chosen < count]] = False
        places = out.nonzero()[:, 0]
        self._rank[places] = ranks[chosen >= count]
        for key, value in samples.items():
            self._kept[key][places] = value.detach()[new]

    def take(self, trainer: Trainer) -> list[Sample]:
        """The samples of all processes, highest first, on the CPU, each with its ``rank``; the gallery is empty then.

        Every process has to call it, and each is given all.
        """
        if self._rank is None:
            found: list[Sample] = []
        else:
            order = self._rank.argsort(descending=True, stable=True)
            ranks, order = self._rank[order].cpu(), order.cpu()
            columns = {key: value.cpu() for key, value in self._kept.items()}
            found = [
                {"rank": rank, **{key: column[at] for key, column in columns.items()}}
                for at, rank in zip(order.tolist(), ranks, strict=True)
                if rank > -torch.inf
            ]
        self._rank, self._kept = None, {}
        return _best_of_all(found, self.size) if trainer.world_size > 1 else found


def _best_of_all(found: list[Sample], size: int) -> list[Sample]:
    """Of what each process found the best; pictures travel only where they are among them."""
    ranks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, [float(sample["rank"]) for sample in found])
    order = sorted((-rank, place, at) for place, own in enumerate(ranks) for at, rank in enumerate(own))
    chosen = [(place, at) for _, place, at in order[:size]]
    mine = {at: found[at] for place, at in chosen if place == dist.get_rank()}
    parts: list[Any] = [None] * len(ranks)
    dist.all_gather_object(parts, mine)
    return [parts[place][at] for place, at in chosen]
