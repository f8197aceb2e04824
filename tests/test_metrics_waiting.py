"""Nothing that is done in a step of evaluation waits for the device.

The steps run on pretended CUDA tensors (torch's fake tensors, which hold no values): whatever needs a value, such as
`.item()` or a mask as an index, raises, and copies between device and CPU are caught on their way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchmetrics import Metric

from lightning_modules import ClassificationModule, CropModule, LoupeModule, SegmentationModule
from lightning_modules.evaluation import Evaluation


class WaitError(Exception):
    """An operation that waits for the device."""


class NoCrossing(TorchDispatchMode):
    """Raises where an operation takes tensors of one device and gives them on another."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        devices = {
            leaf.device.type for leaf in tree_leaves((args, result)) if isinstance(leaf, Tensor) and leaf.ndim
        }
        if len(devices) > 1:
            raise WaitError(f"{func} between {devices}")
        return result


@pytest.fixture
def pretended_gpu() -> Iterator[None]:
    with FakeTensorMode(), NoCrossing():
        yield


def on_gpu(metric: Metric) -> None:
    """Give a metric states on the pretended device; `.to` would copy them, values and all."""
    for name, default in metric._defaults.items():
        if isinstance(default, Tensor):
            setattr(metric, name, torch.empty(default.shape, dtype=default.dtype, device="cuda"))
    metric._device = torch.device("cuda")


def batch() -> dict[str, Tensor]:
    def some(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="cuda")

    return {
        "image": some(4, 3, 32, 32, dtype=torch.uint8),
        "label": some(4, dtype=torch.int64),
        "labels": some(4, 7),
        "mask": some(4, 32, 32, dtype=torch.int64),
        "box": some(4, 4),
        "has_box": some(4, dtype=torch.bool),
        "size_hw_px": some(4, 2, dtype=torch.int64),
        "to_original": some(4, 2, 3),
        "index": some(4, dtype=torch.int64),
        "valid": some(4, dtype=torch.bool),
    }


def multi_label() -> LoupeModule:
    module = ClassificationModule()
    module.multi_label = True
    return module


TASKS: list[tuple[Callable[[], LoupeModule], tuple[int, ...]]] = [
    (ClassificationModule, (4, 7)),
    (multi_label, (4, 7)),
    (SegmentationModule, (4, 7, 32, 32)),
    (CropModule, (4, 5)),
]


@pytest.mark.parametrize(
    ("make", "shape"), TASKS, ids=["one label", "many labels", "segmentation", "cropping"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_score_waits(make: Callable[[], LoupeModule], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    module = make()
    evaluation = Evaluation(module.create_scores([*"abcdefg"]), module.terms)
    with FakeTensorMode():
        given = batch()
        if module.multi_label:
            given["label"] = given["labels"]
        outputs = torch.empty(shape, dtype=dtype, device="cuda")
        values = torch.empty(module.terms, device="cuda")
        for metric in (evaluation.scores, evaluation.loss, evaluation.samples):
            on_gpu(metric)
        with NoCrossing():
            for _ in range(2):
                evaluation.add(values, values, given)
                module.update_scores(evaluation.scores, outputs, given)
        for metric in (evaluation.scores, evaluation.loss, evaluation.samples):
            assert all(state.device.type == "cuda" for state in tree_leaves(metric.metric_state)), metric


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.bincount(x),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: x * torch.tensor([1, 2, 3, 4], device="cuda"),
    ],
)
@pytest.mark.usefixtures("pretended_gpu")
def test_the_test_above_would_catch_it(wait: Callable[[Tensor], Any]) -> None:
    x = torch.ones(4, dtype=torch.int64, device="cuda")
    with pytest.raises(Exception, match=r"between|_local_scalar_dense|nonzero|bincount|equal|unique"):
        wait(x)


def test_deterministic_algorithms_count_by_what_they_allow() -> None:
    """`torch.histc` has no deterministic form for CUDA; bincount waits, and has one."""
    metric = SegmentationModule().create_scores(["a", "b"])
    torch.use_deterministic_algorithms(True)
    with FakeTensorMode():
        on_gpu(metric)
        x = torch.zeros(2, 8, 8, dtype=torch.int64, device="cuda")
        with pytest.raises(Exception, match="bincount"):
            metric.update(x, x)
