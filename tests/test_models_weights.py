"""Pretrained weights: files of many origins, the hub that cannot be reached, and files that do not fit."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from errors import LoupeError
from models import BackboneModel, create_model
from models.weights import hub_errors, read_weights

SMALL = {"base_filters": 4, "depth": 2}
LITE0 = (
    Path(__file__).resolve().parent.parent.parent
    / "shared"
    / "weights"
    / "tf_efficientnet_lite0_timm.safetensors"
)


def unet(seed: int, weights: str | Path | None = None, num_classes: int = 2) -> BackboneModel:
    torch.manual_seed(seed)
    return create_model(
        "unet", num_classes=num_classes, weights=None if weights is None else str(weights), options=SMALL
    )


def with_encoder(seed: int, name: str = "unet", encoder: str = "resnet18", **kwargs: Any) -> BackboneModel:
    torch.manual_seed(seed)
    return create_model(name, num_classes=2, encoder=encoder, **kwargs)


def same(one: nn.Module, two: nn.Module, part: str = "") -> bool:
    other = two.state_dict()
    return all(
        torch.equal(value, other[key]) for key, value in one.state_dict().items() if key.startswith(part)
    )


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def test_whole_network_from_a_checkpoint_of_ours(tmp_path: Path) -> None:
    trained = unet(1)
    state = {**prefixed(trained.state_dict(), "model."), "criterion.weight": torch.ones(2)}
    torch.save(
        {"state_dict": state, "epoch": 3, "hyper_parameters": {"architecture": "unet"}}, tmp_path / "a.ckpt"
    )
    assert not same(unet(2), trained)
    assert same(unet(2, tmp_path / "a.ckpt"), trained)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model._orig_mod."])
def test_prefixes_of_other_tools(tmp_path: Path, prefix: str) -> None:
    trained = unet(1)
    torch.save(prefixed(trained.state_dict(), prefix), tmp_path / "a.pth")
    assert same(unet(2, tmp_path / "a.pth"), trained)


def test_network_saved_by_smp_itself(tmp_path: Path) -> None:
    trained = with_encoder(1)
    save_file(trained.network.state_dict(), tmp_path / "a.safetensors")
    assert same(with_encoder(2, weights=str(tmp_path / "a.safetensors")), trained)


def test_other_classes_leave_the_head_at_random_and_say_so(tmp_path: Path) -> None:
    trained = unet(1)
    torch.save(trained.state_dict(), tmp_path / "a.pt")
    with pytest.warns(UserWarning, match=r"fills 54 of 56 tensors; left at random: network\.head\.weight"):
        model = unet(2, tmp_path / "a.pt", num_classes=5)
    assert same(model, trained, "network.encoder.")
    assert same(model, trained, "network.decoder.")


def test_encoder_out_of_another_architecture(tmp_path: Path) -> None:
    trained = with_encoder(1, "fpn")
    torch.save({"state_dict": prefixed(trained.state_dict(), "model.")}, tmp_path / "a.ckpt")
    assert same(with_encoder(2, "linknet", weights=str(tmp_path / "a.ckpt")).backbone, trained.backbone)


def test_encoder_from_timm(tmp_path: Path) -> None:
    torch.manual_seed(1)
    timm_model = timm.create_model("resnet18")
    save_file(timm_model.state_dict(), tmp_path / "a.safetensors")
    encoder = with_encoder(2, weights=str(tmp_path / "a.safetensors")).backbone
    assert torch.equal(encoder.layer4[1].conv2.weight, timm_model.layer4[1].conv2.weight)
    # timm's extractors of features rename the stages.
    convnext = timm.create_model("convnext_atto")
    torch.save(convnext.state_dict(), tmp_path / "b.pth")
    encoder = with_encoder(2, encoder="convnext_atto", weights=str(tmp_path / "b.pth")).backbone
    assert torch.equal(
        encoder.model.stages_3.blocks[0].conv_dw.weight, convnext.stages[3].blocks[0].conv_dw.weight
    )


@pytest.mark.parametrize("in_channels", [1, 4])
def test_first_convolution_is_adapted(tmp_path: Path, in_channels: int) -> None:
    state = timm.create_model("resnet18").state_dict()
    save_file(state, tmp_path / "a.safetensors")
    encoder = with_encoder(2, in_channels=in_channels, weights=str(tmp_path / "a.safetensors")).backbone
    first = state["conv1.weight"]
    expected = first.sum(1, keepdim=True) if in_channels == 1 else torch.cat([first, first[:, :1]], 1) * 3 / 4
    torch.testing.assert_close(encoder.conv1.weight.detach(), expected)


@pytest.mark.real_data
@pytest.mark.skipif(not LITE0.is_file(), reason=f"no {LITE0}")
def test_local_imagenet_weights_compute_what_timm_computes() -> None:
    model = with_encoder(0, encoder="tu-tf_efficientnet_lite0", weights=str(LITE0)).eval()
    reference = timm.create_model(
        "tf_efficientnet_lite0", pretrained=True, pretrained_cfg_overlay={"file": str(LITE0)}
    ).eval()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        features = model.backbone(model.normalize(image))[1:]
        expected = reference.forward_intermediates((image / 255 - 0.5) / 0.5, intermediates_only=True)
    for own, other in zip(features, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


@pytest.mark.real_data
@pytest.mark.skipif(not LITE0.is_file(), reason=f"no {LITE0}")
def test_smp_version_of_lite0_takes_the_weights_and_says_that_it_differs() -> None:
    with pytest.warns(UserWarning, match="encoder: tf_efficientnet_lite0 is the same network"):
        model = with_encoder(0, encoder="timm-tf_efficientnet_lite0", weights=str(LITE0))
    state, own = read_weights(LITE0), model.backbone.state_dict()
    assert len(own) == 294
    assert all(torch.equal(own[key], state[key]) for key in own)


# -- what goes wrong --------------------------------------------------------------------------------------------


def refused(weights: str | Path, encoder: str | None = None) -> str:
    with pytest.raises(LoupeError) as caught:
        create_model("unet", num_classes=2, encoder=encoder, weights=str(weights))
    assert len(str(caught.value)) < 500
    return str(caught.value)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_unreachable_hub_is_one_quick_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoder: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with socket.socket() as closed:  # bound and not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(
            "huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}"
        )
        monkeypatch.setattr("urllib.request.getproxies", dict)
        start = time.monotonic()
        message = refused("imagenet", encoder)
        assert time.monotonic() - start < 10
    assert "'imagenet' of the encoder" in message
    assert "cannot be reached" in message
    assert "weights: null" in message


def test_offline_mode_is_the_same_error() -> None:
    assert "cannot be reached; use weights: null" in refused("pretrained", "resnet18")


def test_hub_answers_with_an_error_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("models.weights._hub_answers", lambda: True)
    with pytest.raises(LoupeError, match="answered PermissionError"), hub_errors("resnet18", "imagenet"):
        raise PermissionError("403")


def test_missing_file() -> None:
    message = refused("nowhere/resnet.safetensors", "resnet18")
    assert "no such file: nowhere/resnet.safetensors" in message
    assert "weights: null" in message


def test_unknown_tags() -> None:
    assert "did you mean 'imagenet'" in refused("imagnet", "resnet18")
    assert "valid: imagenet" in refused("advprop", "timm-efficientnet-b0")
    assert "did you mean 'imagenet'" in refused("imagnet", "convnext_tiny")
    assert "for encoders only" in refused("imagenet")


def test_timm_model_without_weights() -> None:
    bare = next(n for n in timm.list_models("res*") if not timm.is_model_pretrained(n))
    assert "timm has none" in refused("imagenet", bare)


def test_file_of_another_network(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet18").state_dict(), tmp_path / "a.safetensors")
    message = refused(tmp_path / "a.safetensors", "resnet34")
    assert "does not fit" in message
    assert "tensors match by name and shape" in message
    assert "weights: null" in message
    assert "0 of" in refused(tmp_path / "a.safetensors", "mit_b0")


def test_file_of_other_shapes(tmp_path: Path) -> None:
    torch.save(unet(0).state_dict(), tmp_path / "a.pth")
    with pytest.raises(LoupeError, match=r"does not fit.*for example network\.\S+ \(8, 3, 3, 3\)"):
        create_model(
            "unet", num_classes=2, weights=str(tmp_path / "a.pth"), options={**SMALL, "base_filters": 8}
        )


def test_damaged_and_unsafe_files(tmp_path: Path) -> None:
    for name in ("a.safetensors", "a.pth"):
        (tmp_path / name).write_bytes(b"not weights at all")
        assert str(tmp_path / name) in refused(tmp_path / name)
    torch.save(nn.Linear(1, 1), tmp_path / "b.pth")
    assert "more than tensors" in refused(tmp_path / "b.pth")
    torch.save([1, 2], tmp_path / "c.pth")
    assert "holds a list" in refused(tmp_path / "c.pth")


def test_truncated_file(tmp_path: Path) -> None:
    torch.save(unet(0).state_dict(), tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: len(whole) // 2])
    assert str(tmp_path / "a.pth") in refused(tmp_path / "a.pth")


def test_read_weights_opens_containers(tmp_path: Path) -> None:
    for container in ("state_dict", "model_state_dict", "model"):
        torch.save({container: {"a": torch.ones(1), "note": "x"}, "epoch": 1}, tmp_path / "a.pth")
        assert list(read_weights(tmp_path / "a.pth")) == ["a"]
