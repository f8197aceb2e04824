"""What a metric keeps of each sample until the end, and the count of samples itself."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["SampleCount", "joined"]


def joined(state: list[Tensor] | Tensor) -> Tensor:
    """A state as one tensor on the CPU: a list before the processes are joined, a tensor after, empty at first."""
    if isinstance(state, Tensor):
        return state.cpu()
    return torch.cat(state).cpu() if state else torch.zeros(0)


class SampleCount(Metric):
    """Which samples of a part were scored, over all batches and processes; 8 bytes a sample on the device.

    >>> count = SampleCount()
    >>> count.update(torch.tensor([0, 2, 2]), torch.tensor([True, True, False]))
    >>> count.leave_out([1])
    >>> count.compute()["scored"].tolist(), count.complaint(4)
    ([0, 2], '1 of 4 samples never (first 3)')
    """

    full_state_update = False
    higher_is_better = None
    index: list[Tensor]
    unread: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("index", [], dist_reduce_fx="cat")
        self.add_state("unread", [], dist_reduce_fx="cat")

    def update(self, index: Tensor, valid: Tensor) -> None:
        """Count a batch: positions in the part (B,) int64, and false in ``valid`` (B,) for padding samples."""
        self.index.append(torch.where(valid, index, -1))

    def leave_out(self, indices: Iterable[int]) -> None:
        """Excuse samples that this process could not read; to be called once, on every process, before the end.

        Several processes may name the same sample.
        """
        # also where there are none: each process then has a state of the same kind to send
        self.unread.append(torch.tensor(list(indices), dtype=torch.int64, device=self.device))

    def compute(self) -> dict[str, Tensor]:
        """``scored``: positions, one for each time; ``unread``: excused ones; int64, in no order, on the CPU."""
        index = joined(self.index).long()
        return {"scored": index[index >= 0].view(-1), "unread": joined(self.unread).long().view(-1)}

    def complaint(self, size: int) -> str:
        """What is wrong if each sample 0..size-1 is to be scored once, less those excused; "" if nothing is."""
        found = self.compute()
        scored = found["scored"].view(-1)
        stray = scored >= size
        times = torch.bincount(scored[~stray], minlength=size)
        never = times == 0
        never[found["unread"].view(-1)] = False
        wrong = {"never": never, "more than once": times > 1}
        texts = [
            f"{int(marks.sum())} of {size} samples {how} (first {int(marks.nonzero()[0])})"
            for how, marks in wrong.items()
            if bool(marks.any())
        ]
        if bool(stray.any()):
            texts.append(f"{int(stray.sum())} that the part does not have (first {int(scored[stray][0])})")
        return ", ".join(texts)
