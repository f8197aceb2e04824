"""Segmentation networks: sizes, input, names, and freezing."""

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
from errors import LoupeError
from models import BackboneModel, Segmenter, UNet, backbone_parameters, create_model, set_backbone_frozen
from models.encoders import encoder_mean_std, resolve_encoder
from models.input import CENTRED, IMAGENET, InputNormalization, pad_to_stride

SMALL = {"base_filters": 4, "depth": 2}


def pictures(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# -- the standard U-Net -----------------------------------------------------------------------------------------


def count_by_hand(in_channels: int, num_classes: int, base: int, depth: int) -> int:
    def double(a: int, b: int) -> int:  # two 3x3 convolutions without bias, two norms of scale and shift
        return 9 * a * b + 9 * b * b + 2 * 2 * b

    filters = [base * 2**level for level in range(depth + 1)]
    down = sum(double(a, b) for a, b in zip([in_channels, *filters], filters, strict=False))
    up = sum(4 * 2 * f * f + f + double(2 * f, f) for f in filters[:-1])
    return down + up + base * num_classes + num_classes


def test_unet_has_the_parameters_of_the_paper() -> None:
    assert (
        count_by_hand(3, 2, 64, 4) == 31_037_698
    )  # 31.0 million, as other implementations with batch norm have
    model = create_model("seg_unet", num_classes=2)
    assert sum(p.numel() for p in model.parameters()) == 31_037_698
    small = UNet(num_classes=5, in_channels=1, base_filters=6, depth=3)
    assert sum(p.numel() for p in small.parameters()) == count_by_hand(1, 5, 6, 3)


def test_unet_levels_halve_and_double() -> None:
    features = UNet(num_classes=2, base_filters=4, depth=3).encoder(torch.zeros(2, 3, 16, 24))
    assert [tuple(f.shape[1:]) for f in features] == [(4, 16, 24), (8, 8, 12), (16, 4, 6), (32, 2, 3)]


def test_group_norm_makes_samples_independent() -> None:
    images = pictures(4, 3, 16, 16)
    model = create_model("unet", num_classes=2, options={**SMALL, "norm": "group"}).double()
    torch.testing.assert_close(model(images), torch.cat([model(images[:1]), model(images[1:])]))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_unet_learns_where_a_pixel_is_bright() -> None:
    torch.manual_seed(0)
    model = create_model("unet", num_classes=2, options={**SMALL, "base_filters": 8})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    images = pictures(4, 3, 16, 16)
    target = (images.float().mean(1) > 127).long()
    for _ in range(40):
        loss = nn.functional.cross_entropy(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(images).argmax(1) == target).float().mean() > 0.9


# -- input ------------------------------------------------------------------------------------------------------


def test_normalisation_by_hand() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [(0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert InputNormalization(IMAGENET)(image).flatten().tolist() == pytest.approx(expected)


def test_bytes_and_floats_give_the_same_logits() -> None:
    model = create_model("unet", num_classes=2, options=SMALL).eval()
    image = pictures(2, 3, 20, 24)
    assert torch.equal(model(image), model(image.float() / 255))


def test_normalisation_follows_the_module_and_is_not_saved() -> None:
    model = create_model("unet", num_classes=2, options=SMALL)
    assert not any("normalize" in key for key in model.state_dict())
    assert model.double()(pictures(2, 3, 8, 8)).dtype == torch.float64


@pytest.mark.parametrize(
    ("in_channels", "mean"), [(1, [0.449]), (3, [0.485, 0.456, 0.406]), (4, [0.485, 0.456, 0.406, 0.485])]
)
def test_other_numbers_of_channels(in_channels: int, mean: list[float]) -> None:
    assert InputNormalization(IMAGENET, in_channels=in_channels).mean.flatten().tolist() == pytest.approx(
        mean
    )
    for encoder in (None, "resnet18"):
        model = create_model("unet", num_classes=2, in_channels=in_channels, encoder=encoder).eval()
        assert model(pictures(1, in_channels, 32, 32)).shape == (1, 2, 32, 32)


def test_wrong_images_are_refused() -> None:
    model = create_model("unet", num_classes=2, options=SMALL)
    with pytest.raises(TypeError, match="uint8, or float"):
        model(torch.zeros(1, 3, 8, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        model(pictures(1, 4, 8, 8))


def test_padding_reflects_at_the_right_and_the_bottom() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    assert pad_to_stride(image, 4)[0, 0].tolist() == [[0, 1, 2, 1], [3, 4, 5, 4], [6, 7, 8, 7], [3, 4, 5, 4]]
    # Too small to reflect: the last row and column are repeated.
    assert pad_to_stride(torch.tensor([[[[1.0, 2.0]]]]), 3)[0, 0].tolist() == [[1, 2, 2]] * 3
    assert pad_to_stride(image, 3) is image
    assert pad_to_stride(image, 3, smallest=6).shape == (1, 1, 6, 6)


def test_padding_is_cut_off_again() -> None:
    model = create_model("unet", num_classes=2, options=SMALL).eval()
    image = pictures(1, 3, 7, 10).float() / 255
    by_hand = pad_to_stride((image - 0.5) / 0.5, 4)
    assert by_hand.shape == (1, 3, 8, 12)
    assert torch.equal(model(image), model.network(by_hand)[..., :7, :10])


@pytest.mark.parametrize("size", [(1, 1), (1, 33), (37, 53), (16, 16)])
def test_any_picture_size(size: tuple[int, int]) -> None:
    model = create_model("seg_unet", num_classes=3, options={"base_filters": 4}).eval()
    logits = model(pictures(2, 3, *size))
    assert logits.shape == (2, 3, *size)
    assert logits.isfinite().all()


# -- SMP --------------------------------------------------------------------------------------------------------

PAIRS = [
    ("unet", "resnet18"),
    ("unet", "timm-tf_efficientnet_lite0"),
    ("unet", "tf_efficientnet_lite0"),
    ("unet", "tu-swin_tiny_patch4_window7_224"),
    ("unetplusplus", "timm-mobilenetv3_small_100"),
    ("deeplabv3", "resnet18"),
    ("deeplabv3plus", "mobilenet_v2"),
    ("fpn", "efficientnet-b0"),
    ("segformer", "mit_b0"),
    ("upernet", "convnext_atto"),
    ("manet", "resnet18"),
    ("linknet", "resnet18"),
    ("pan", "resnet18"),
    ("pspnet", "resnet18"),
    ("dpt", "vit_tiny_patch16_224"),
]


@pytest.mark.parametrize(("name", "encoder"), PAIRS)
def test_architecture_takes_any_size_and_trains_all_it_offers(name: str, encoder: str) -> None:
    model = create_model(name, num_classes=3, encoder=encoder)
    model.eval()
    with torch.no_grad():
        for size in ((1, 1), (37, 53)):
            assert model(pictures(1, 3, *size)).shape == (1, 3, *size)
    # DistributedDataParallel waits for the gradient of every parameter that wants one.
    model.train()
    model(pictures(2, 3, 40, 40)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.requires_grad for n, p in model.named_parameters() if n not in model.unused)


def test_every_architecture_of_smp_is_covered() -> None:
    assert {name for name, _ in PAIRS} == set(models.segmentation.names()) - {"seg_unet", "seg_resnet50_unet"}


def test_seg_resnet50_unet_is_smp_unet_on_resnet50() -> None:
    import segmentation_models_pytorch as smp

    model = create_model("seg_resnet50_unet", num_classes=3)
    reference = smp.Unet("resnet50", encoder_weights=None, classes=3).eval()
    reference.load_state_dict(model.network.state_dict())
    image = pictures(1, 3, 64, 64)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(image), reference((image / 255 - mean) / std))


def test_options_reach_smp_and_timm() -> None:
    model = create_model("fpn", num_classes=2, encoder="resnet18", options={"decoder_pyramid_channels": 32})
    assert model.network.decoder.p5.out_channels == 32
    model = create_model("unet", num_classes=2, encoder="convnext_atto", options={"drop_path_rate": 0.3})
    assert any(getattr(module, "drop_prob", 0) == pytest.approx(0.3) for module in model.modules())


@pytest.mark.parametrize(
    ("encoder", "mean_std"),
    [
        ("resnet50", IMAGENET),
        ("mit_b0", IMAGENET),
        ("timm-tf_efficientnet_lite0", CENTRED),
        ("tu-tf_efficientnet_lite0", CENTRED),
        ("tu-resnet18", IMAGENET),
        ("xception", CENTRED),
    ],
)
def test_statistics_of_the_encoder(encoder: str, mean_std: Any) -> None:
    assert encoder_mean_std(encoder) == mean_std
    assert resolve_encoder(encoder) == encoder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "deeplabv3plu"}, "did you mean 'deeplabv3plus'"),
        ({"name": "fpn", "encoder": "resnet5o"}, "did you mean 'resnet50"),
        ({"name": "seg_resnet50_unet", "encoder": "resnet18"}, "has the encoder resnet50, got 'resnet18'"),
        ({"options": {"base_filter": 8}}, "did you mean 'base_filters'"),
        ({"options": {"norm": "layer"}}, "norm is 'batch' or 'group', got 'layer'"),
        (
            {"name": "fpn", "encoder": "resnet18", "options": {"decoder_channels": 8}},
            "option of fpn: 'decoder_ch",
        ),
        (
            {"name": "fpn", "encoder": "resnet18", "options": {"activation": "sigmoid"}},
            "option of fpn: 'activation",
        ),
        ({"name": "fpn", "encoder": "convnext_atto", "options": {"activation": "sigmoid"}}, "'activation'"),
        ({"name": "fpn", "encoder": "convnext_atto", "options": {"no_such": 1}}, "fpn with .*no_such"),
        ({"name": "dpt", "encoder": "resnet18"}, "dpt with the encoder resnet18.*Only Timm"),
        (
            {"encoder": "maxvit_tiny_tf_224"},
            "unet with the encoder tu-maxvit_tiny_tf_224.*divisible by window",
        ),
        ({"num_classes": 0}, "at least 1, got 0"),
    ],
)
def test_mistakes_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        create_model(**{"num_classes": 2, **arguments})


# -- freezing ---------------------------------------------------------------------------------------------------


def small(encoder: str | None) -> BackboneModel:
    torch.manual_seed(0)
    return create_model("unet", num_classes=2, encoder=encoder, options=SMALL if encoder is None else None)


@pytest.mark.parametrize("encoder", [None, "resnet18", "timm-tf_efficientnet_lite0"])
def test_frozen_backbone_does_not_move(encoder: str | None) -> None:
    model = small(encoder)
    set_backbone_frozen(model, True)
    set_backbone_frozen(model, True)
    model.train()  # what Lightning does before every epoch
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(pictures(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    inside = {f"network.encoder.{key}" for key in model.backbone.state_dict()}
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved
    assert not moved & inside
    assert any("running_mean" in key for key in moved)  # the decoder's norms still learn

    set_backbone_frozen(model, False)
    assert all(module.training for module in model.modules())
    wanting = {id(p) for p in model.parameters() if p.requires_grad}
    unused = {id(p) for n, p in model.named_parameters() if n in model.unused}
    assert {id(p) for p in backbone_parameters(model)} - unused <= wanting
    assert not unused & wanting
    model(pictures(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    assert {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])} & inside


def test_freezing_in_evaluation_stays_in_evaluation() -> None:
    model = small(None).eval()
    set_backbone_frozen(model, True)
    set_backbone_frozen(model, False)
    assert not any(module.training for module in model.modules())


def test_backbone_is_the_encoder_or_the_contracting_path() -> None:
    plain = small(None)
    assert isinstance(plain, Segmenter)
    names = {n for n, p in plain.named_parameters() if any(p is q for q in backbone_parameters(plain))}
    assert names == {n for n, _ in plain.named_parameters() if n.startswith("network.encoder.")}
    assert 0 < len(names) < len(list(plain.parameters()))
    compiled: Any = torch.compile(plain, backend="eager")
    set_backbone_frozen(compiled, True)
    assert plain.backbone_frozen


def test_same_seed_same_network() -> None:
    one, two = small("resnet18"), small("resnet18")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_public_functions_have_the_documented_arguments() -> None:
    assert list(inspect.signature(create_model).parameters) == [
        "name", "num_classes", "in_channels", "encoder", "weights", "options",
    ]  # fmt: skip


def test_channels_last_computes_the_same() -> None:
    model = create_model("unet", num_classes=2, options=SMALL).eval()
    image = pictures(2, 3, 13, 17)
    expected = model(image)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(image.contiguous(memory_format=torch.channels_last)), expected)


def test_model_exports() -> None:
    model = create_model("unet", num_classes=2, options=SMALL).eval()
    image = pictures(1, 3, 13, 17)
    exported = torch.export.export(model, (image,))
    torch.testing.assert_close(exported.module()(image), model(image))
