"""Classifiers and croppers over timm: shapes, normalisation, weights, freezing, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from errors import LoupeError
from models import create_model, set_backbone_frozen
from models.cropping import BoxHead
from models.timm_backbone import backbone_interpolation, backbone_mean_std

CLASSIFIERS = ["cls_mobilenetv3", "cls_efficientnetb0", "cls_resnet50v2"]
CROPPERS = ["crop_mobilenetv3", "crop_efficientnetb0", "crop_resnet50v2"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_give_logits_for_any_size(name: str) -> None:
    model = create_model(name, num_classes=5).eval()
    for size in ((32, 32), (70, 45)):
        assert model(torch.zeros(2, 3, *size, dtype=torch.uint8)).shape == (2, 5)


@pytest.mark.parametrize("name", CROPPERS)
def test_croppers_give_boxes_inside_and_a_confidence(name: str) -> None:
    model = create_model(name, num_classes=1).eval()
    out = model(torch.randint(0, 255, (3, 3, 64, 96), dtype=torch.uint8))
    assert out.shape == (3, 5) and out.dtype == torch.float32
    assert bool((out[:, :4] > 0).all()) and bool((out[:, :4] < 1).all())


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("cls_mobilenetv3", "mobilenetv3_small_100"),
        ("cls_efficientnetb0", "efficientnet_b0"),
        ("cls_resnet50v2", "resnetv2_50"),
    ],
)
def test_config_names_are_those_backbones(name: str, backbone: str) -> None:
    model = create_model(name, num_classes=7)
    theirs = timm.create_model(backbone, num_classes=7)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_each_backbone_has_its_own_statistics_and_interpolation() -> None:
    for name in ("mobilenetv3_small_100", "resnetv2_50", "tf_efficientnet_lite0"):
        config = timm.get_pretrained_cfg(name)
        assert config is not None
        assert backbone_mean_std(name) == (config.mean, config.std)
        assert backbone_interpolation(name) == config.interpolation
    assert backbone_interpolation("lcnet_035") == "bilinear"
    model = create_model("classifier", encoder="resnetv2_50", num_classes=2)
    assert model.normalize.mean.flatten().tolist() == [0.5] * 3  # pyright: ignore
    with pytest.raises(LoupeError, match=r"did you mean 'resnetv2_50'"):
        backbone_interpolation("resnetv2_5")


@pytest.mark.real_data
def test_weights_from_a_file_give_timms_own_features(real_data: Path) -> None:
    file = real_data.parent / "weights" / "tf_efficientnet_lite0_timm.safetensors"
    name = "tf_efficientnet_lite0"
    theirs = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, num_classes=0
    ).eval()
    image = torch.randint(0, 255, (2, 3, 96, 96), dtype=torch.uint8)
    scaled = (image / 255 - 0.5) / 0.5
    model: Any = create_model("classifier", encoder=name, num_classes=3, weights=str(file)).eval()
    torch.testing.assert_close(model.network(model.normalize(image)), theirs(scaled), rtol=1e-4, atol=1e-4)
    cropper: Any = create_model("cropper", encoder=name, num_classes=1, weights=str(file)).eval()
    maps = cropper.network.forward_features(cropper.normalize(image))
    torch.testing.assert_close(maps, theirs.forward_features(scaled), rtol=1e-4, atol=1e-4)


def test_a_classifiers_file_starts_another_with_other_classes(tmp_path: Path) -> None:
    first = create_model("classifier", encoder="lcnet_035", num_classes=3)
    torch.save(first.state_dict(), tmp_path / "first.pt")
    with pytest.warns(UserWarning, match="left at random: head.weight, head.bias"):
        second = create_model(
            "classifier", encoder="lcnet_035", num_classes=4, weights=str(tmp_path / "first.pt")
        )
    for name, value in first.state_dict().items():
        if name.startswith("network."):
            torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["classifier", "cropper"])
def test_frozen_backbones_keep_weights_and_norms(family: str) -> None:
    model = create_model(family, encoder="lcnet_035", num_classes=3 if family == "classifier" else 1)
    set_backbone_frozen(model, True)
    model.train()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model(torch.randint(0, 255, (4, 3, 64, 64), dtype=torch.uint8)).sum().backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    for name, value in model.backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert all(p.grad is not None for p in model.head.parameters())  # pyright: ignore


@pytest.mark.parametrize("name", [*CLASSIFIERS, *CROPPERS])
def test_every_parameter_is_used(name: str) -> None:
    """DistributedDataParallel waits for a gradient of each, and a summary must not call unused ones frozen."""
    model = create_model(name, num_classes=3 if name.startswith("cls") else 1)
    model(torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)).sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("classifier", {}, r"classifier needs a backbone"),
        (
            "cls_resnet50v2",
            {"encoder": "resnet18"},
            r"cls_resnet50v2 has the backbone resnetv2_50, got 'resnet18'",
        ),
        ("classifier", {"encoder": "resnet18", "options": {"drop": 1}}, r"backbone resnet18 with .*'drop'"),
        (
            "classifier",
            {"encoder": "resnet18", "options": {"num_classes": 1}},
            r"'num_classes' is set by Loupe",
        ),
        ("classifier", {"encoder": "resnet18", "weights": "in21k"}, r"neither imagenet, a FILE nor null"),
        (
            "classifier",
            {"encoder": "lcnet_035", "weights": "imagenet"},
            r"timm has none for the backbone lcnet_035",
        ),
        (
            "classifier",
            {"encoder": "resnet18", "weights": "imagenet"},
            r"'imagenet' .* resnet18 .*weights: null",
        ),
        ("cropper", {"encoder": "vit_tiny_patch16_224", "num_classes": 1}, r"no map of features"),
        (
            "cropper",
            {"encoder": "resnet18", "num_classes": 2},
            r"finds one kind of object, got num_classes 2",
        ),
        ("cropper", {"encoder": "resnet18", "num_classes": 1, "options": {"min_size": 2}}, r"min_size is 2"),
        ("cropper", {"encoder": "resnet18", "num_classes": 1, "options": {"hidden": 0}}, r"hidden is 0"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        create_model(name, **{"num_classes": 3, **arguments})


def test_transformers_take_any_size() -> None:
    for encoder in ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"):
        model = create_model("classifier", encoder=encoder, num_classes=3).eval()
        assert model(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)).shape == (1, 3)
    assert create_model("cropper", encoder="swin_tiny_patch4_window7_224", num_classes=1).eval()(
        torch.zeros(1, 3, 64, 96, dtype=torch.uint8)
    ).shape == (1, 5)


def test_the_head_answers_where_the_vote_is() -> None:
    """All votes for one position of 4 x 8: its middle is the centre, whatever the others propose."""
    head = BoxHead(3, hidden=2, min_size=0.1).eval()
    with torch.no_grad():
        head.proposal.weight.zero_()
        head.vote.weight.fill_(0)
        features = torch.zeros(1, 3, 4, 8)
        head.vote.bias.zero_()
        out = head(features)
        assert out[0, :4].tolist() == pytest.approx(
            [0.5, 0.5, 0.55, 0.55]
        )  # even votes: the middle; size 0.1 + 0.9 / 2
        vote = torch.full((1, 1, 4, 8), -100.0)
        vote[0, 0, 1, 6] = 100.0
        head.vote.forward = lambda _: vote  # type: ignore[method-assign]
        out = head(features)
    assert out[0, :2].tolist() == pytest.approx([6.5 / 8, 1.5 / 4])


def test_boxes_have_a_smallest_size() -> None:
    head = BoxHead(3, hidden=2, min_size=0.1).eval()
    with torch.no_grad():
        assert head.proposal.bias is not None
        head.proposal.bias.copy_(torch.tensor([0.0, 0.0, -1000.0, 1000.0]))
        out = head(torch.zeros(1, 3, 2, 2))
    assert out[0, 2:4].tolist() == pytest.approx([0.1, 1.0])
