"""The defaults of runs on CUDA: what they are is tested anywhere, what they do where there is a device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cli.cuda_settings import cuda_settings


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_nothing_on_a_cpu() -> None:
    assert cuda_settings("fit", {"accelerator": "cpu"}) == {}
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("command", "given", "expected"),
    [
        ("fit", {}, {"benchmark": True}),
        ("fit", {"benchmark": None, "deterministic": None}, {"benchmark": True}),
        ("fit", {"benchmark": False}, {}),
        ("fit", {"deterministic": True}, {}),
        ("fit", {"deterministic": "warn"}, {}),
        ("validate", {}, {}),
        ("predict", {}, {}),
    ],
)
def test_convolutions_by_trial(
    monkeypatch: pytest.MonkeyPatch, command: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    monkeypatch.setattr("cli.cuda_settings.uses_cuda", lambda name: name == "auto")
    assert cuda_settings(command, given) == expected
    assert torch.get_float32_matmul_precision() == "high"


def test_a_choice_of_the_users_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.cuda_settings.uses_cuda", lambda name: True)
    torch.set_float32_matmul_precision("medium")
    cuda_settings("fit", {})
    assert torch.get_float32_matmul_precision() == "medium"
