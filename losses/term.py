"""What a loss is made of: terms, each a function of a few sums over positions whose gradient is written out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from errors import LoupeError
from losses.batch import Batch
from losses.chunk import Chunk

__all__ = ["Quantity", "Sums", "Term", "check_length", "weigh"]


class Quantity(Enum):
    """What is added up over the positions of a class. With y the true class, p the softmax, t the target:"""

    OVERLAP = 0  # p where the class is true
    PREDICTED = 1  # p
    SQUARED = 2  # p^2
    MASS = 3  # 1 where the class is true; t
    NLL = 4  # -log p where the class is true; -t log p
    EVEN = 5  # -log p
    FOCAL = 6  # -(1 - p)^exponent log p where the class is true; t times that


@dataclass(frozen=True)
class Sums:
    """Sums over the positions of each sample: what a term made of the batch.

    of_term: (S, N, G, K), the S quantities that the term asks for. counted: (N, G), the number of positions that count.
    N samples, G groups of K exclusive classes: one group, or with multi-label one of two classes for each channel.
    """

    of_term: Tensor
    counted: Tensor


@dataclass(frozen=True, eq=False)
class Term(ABC):
    """One summand of a loss. ``sums`` and ``slopes`` see a chunk of the batch, the others only sums.

    The way of the data: ``sums`` of each chunk -> added up over positions -> ``local_sums`` over this process's
    samples -> added up over all processes -> ``value``. All but ``sums`` is left to autograd, since it is small;
    ``slopes`` is the derivative of ``sums``.
    """

    loss: str  # the name that errors carry
    class_weight: Tensor | None

    @property
    @abstractmethod
    def quantities(self) -> tuple[Quantity, ...]:
        """What ``sums`` holds."""

    @property
    def exponent(self) -> float | None:
        """That of ``Quantity.FOCAL``, if the term asks for it."""
        return None

    @property
    def per_image(self) -> bool:
        """Whether samples are told apart."""
        return False

    @property
    def is_mean(self) -> bool:
        """Whether ``local_sums`` are a sum and what divides it, (2,), the second of which depends on targets alone.

        Then the parts of several batches add up to the value of all of them together: each its sum over the common
        divisor. Such a term asks for ``Quantity.MASS``.
        """
        return True

    @property
    def label_smoothing(self) -> float | None:
        """What cross entropy gives to all classes of each label, 0..1; None: the term is another one."""
        return None

    @property
    def is_by_weight(self) -> bool:
        """Whether a mean divides by the weights of the classes, and not by the number of positions."""
        return False

    def check(self, batch: Batch) -> None:
        """Raise if the options do not fit the batch, which is known only once the number of channels is."""
        check_length(self.loss, "class_weight", self.class_weight, batch)

    @abstractmethod
    def sums(self, chunk: Chunk) -> Tensor:
        """The quantities, summed over the counted positions of each row of the chunk, (S, R, K)."""

    @abstractmethod
    def slopes(self, chunk: Chunk, grad: Tensor) -> Tensor:
        """Derivative by the log-probabilities, (R, K, P), in memory of its own, 0 where not counted.

        grad: derivative by what ``sums`` gave, (S, R, K).
        """

    @abstractmethod
    def local_sums(self, sums: Sums, batch: Batch) -> Tensor:
        """What has to be known of this process's batch, in the same shape on every process."""

    @abstractmethod
    def value(self, totals: Tensor) -> Tensor:
        """The term, a scalar, from ``local_sums`` added up over all processes."""


def check_length(loss: str, option: str, values: Tensor | None, batch: Batch) -> None:
    """Raise if a vector does not have one value for each class."""
    need = 2 if batch.kind == "binary" else batch.channels
    if values is not None and values.ndim and len(values) != need:
        what = {"binary": " (one channel: negative, positive)", "multilabel": " (one for each label)"}
        raise LoupeError(
            f"{loss}: {option} has {len(values)} values, {need} are needed{what.get(batch.kind, '')}"
        )


def weigh(
    cost: Tensor, sums: Sums, class_weight: Tensor | None, batch: Batch, *, by_weight: bool
) -> tuple[Tensor, Tensor]:
    """The cost (N, G, K) times the class weights, and what a mean divides it by, (N, G).

    That is the number of positions, or ``by_weight`` the weight of their classes; the second sum is the mass.
    """
    if class_weight is None:
        return cost, sums.counted
    shape = (1, -1, 1) if batch.kind == "multilabel" else (1, 1, -1)
    weight = class_weight.view(shape).to(cost.dtype)
    return weight * cost, (weight * sums.of_term[1]).sum(2) if by_weight else sums.counted
