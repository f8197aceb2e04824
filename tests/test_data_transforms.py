"""Transforms of the user's own, by class_path: refused where they are none, and the same from a saved config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules import Augment
from datamodules.augment import create_augmentation
from errors import LoupeError
from tests.conftest import Outcome
from tests.tasks import CROPPING, write_task


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"class_path": "torchvision.transforms.v2.RandomGrayscal"}, "there is no class torchvision"),
        ({"class_path": "nowhere.Thing"}, "there is no class nowhere.Thing"),
        ({"class_path": "torch.nn.Linear"}, "torch.nn.Linear is no transform of torchvision.transforms.v2"),
        (
            {"class_path": "torchvision.transforms.v2.RandomInvert", "init_args": {"q": 1}},
            "unexpected keyword .*'q'",
        ),
        ({"name": "RandomInvert"}, "each is a class_path and its init_args"),
    ],
)
def test_transforms_that_are_none_are_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(LoupeError, match=f"data.augment.transforms: .*{message}"):
        create_augmentation(Augment(transforms=[entry]))


def test_a_transform_with_a_number_or_a_list_survives_its_config(
    loupe: Callable[..., Outcome], tmp_path: Path
) -> None:
    """The parser once wrote such numbers as 'Unable to serialize instance'."""
    root = write_task("cropping", tmp_path / "data")
    given = "[{class_path: torchvision.transforms.v2.RandomRotation, init_args: {degrees: 90}}]"
    first = loupe("fit", *CROPPING.words, f"--data.root={root}", f"--data.augment.transforms={given}")
    assert first.code == 0, first.err
    config = tmp_path / "runs" / CROPPING.config / "version_0" / "config.yaml"
    assert "degrees: 90" in config.read_text()
    again = loupe("fit", f"--config={config}")
    assert again.code == 0, again.err
