"""Grad-CAM: right by hand, on the object after a training, and without a trace in the network."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from callbacks.grad_cam import class_activation
from models import create_model

SIDE, SQUARE = 96, 30


class Pooled(nn.Module):
    """A convolution, ReLU, the mean over all places, and a linear layer: its map has a closed form."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(3, 5, 3, stride=2), nn.ReLU(), nn.Linear(5, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.act(self.conv(image)).mean(dim=(2, 3)))


@pytest.mark.parametrize("classes", [1, 3])
def test_a_network_of_mean_and_linear_layer_has_the_closed_form(classes: int) -> None:
    torch.manual_seed(0)
    network, image = Pooled(classes), torch.rand(4, 3, 9, 15)
    asked = torch.tensor([0, 1, 2, 1])
    heat = class_activation(network, image, asked)
    # The gradient of a mean is the same everywhere, so the weights of the channels are those of the linear layer.
    weight = network.head.weight[asked.clamp_max(classes - 1)][:, :, None, None]
    expected = functional.relu((weight * network.act(network.conv(image))).sum(dim=1))
    expected /= expected.amax(dim=(1, 2), keepdim=True)
    assert heat is not None and heat.dtype == np.float32 and heat.shape == (4, 4, 7)
    np.testing.assert_allclose(heat, expected.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_where_nothing_speaks_for_the_class_all_is_cold() -> None:
    network = Pooled(2)
    nn.init.constant_(network.head.weight, -1.0)
    heat = class_activation(network, torch.rand(2, 3, 8, 8), torch.tensor([0, 1]))
    assert heat is not None and not heat.any()


def spots(number: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise with a red or a green square somewhere; (image, class, where the square is)."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 80, (number, 3, SIDE, SIDE), dtype=np.uint8)
    where = np.zeros((number, SIDE, SIDE), bool)
    label = rng.integers(0, 2, number)
    for sample in range(number):
        y, x = rng.integers(0, SIDE - SQUARE, 2)
        where[sample, y : y + SQUARE, x : x + SQUARE] = True
        image[sample, label[sample]][where[sample]] += 150
    return torch.from_numpy(image), torch.from_numpy(label), torch.from_numpy(where)


def test_after_a_training_the_heat_lies_on_the_object() -> None:
    torch.manual_seed(0)
    network = create_model("classifier", num_classes=2, encoder="resnet10t")
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for step in range(12):
        image, label, _ = spots(16, step)
        loss = functional.cross_entropy(network(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image, label, where = spots(16, 1000)
    heat = class_activation(network, image, label)
    assert heat is not None and heat.shape == (16, 3, 3)
    grown = functional.interpolate(torch.from_numpy(heat)[:, None], size=(SIDE, SIDE), mode="bilinear")[:, 0]
    inside = torch.stack([h[w].mean() for h, w in zip(grown, where, strict=True)])
    outside = torch.stack([h[~w].mean() for h, w in zip(grown, where, strict=True)])
    assert (inside > 2 * outside).float().mean() > 0.8
    assert inside.mean() > 3 * outside.mean()


@pytest.mark.parametrize("encoder", ["lcnet_035", "mobilenetv3_small_100", "resnetv2_18", "convnext_atto"])
@pytest.mark.parametrize("shape", [(64, 64), (96, 32)])
def test_every_convolutional_backbone_has_a_map(encoder: str, shape: tuple[int, int]) -> None:
    network = create_model("classifier", num_classes=3, encoder=encoder)
    image = torch.randint(0, 255, (2, 3, *shape), dtype=torch.uint8)
    heat = class_activation(network, image, torch.tensor([2, 0]))
    assert heat is not None
    assert heat.shape[1] * shape[1] == heat.shape[2] * shape[0] and heat[0].size > 1
    assert np.isfinite(heat).all() and heat.min() >= 0 and heat.max() == 1


@pytest.mark.parametrize("encoder", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_network_without_maps_has_none(encoder: str) -> None:
    network = create_model(
        "classifier",
        num_classes=3,
        encoder=encoder,
        options={"depths": (1, 1, 1, 1)} if encoder.startswith("swin") else {"depth": 3},
    )
    assert class_activation(network, torch.zeros(1, 3, 224, 224), torch.tensor([0])) is None


CALLERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "plain": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("caller", CALLERS)
def test_the_network_is_left_as_it_was(caller: str, frozen: bool) -> None:
    torch.manual_seed(0)
    network = create_model("classifier", num_classes=2, encoder="lcnet_035", options={"drop_rate": 0.5})
    network.freeze_backbone(frozen)
    network.train()
    network.network.blocks[0].eval()  # pyright: ignore  # one part in another mode than the rest
    image = torch.randint(0, 255, (3, 3, 64, 64), dtype=torch.uint8)
    network(image).sum().backward()  # gradients of a step that is under way

    def compiled(*_: object) -> Tensor:
        raise AssertionError("the compiled network was called")

    network._compiled_call_impl = compiled
    before, hooks = everything(network), count_hooks(network)
    with CALLERS[caller]():
        if caller != "plain":  # what a validation did before: casts and tensors of that mode are about
            network.forward(image)
            before = everything(network)
        heat = class_activation(network, image * 1, torch.tensor([0, 1, 1]))
    after = everything(network)
    assert heat is not None and heat.shape == (3, 2, 2)
    assert network._compiled_call_impl is compiled
    assert count_hooks(network) == hooks == 0
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    network._compiled_call_impl = None
    network(image).sum().backward()  # a training goes on


def everything(network: nn.Module) -> dict[str, Tensor]:
    """Weights, statistics, gradients, flags, modes and the random numbers' state."""
    found = {f"state {name}": value.detach().clone() for name, value in network.state_dict().items()}
    for name, weight in network.named_parameters():
        found[f"flag {name}"] = torch.tensor(weight.requires_grad)
        if weight.grad is not None:
            found[f"grad {name}"] = weight.grad.clone()
    found |= {f"mode {name}": torch.tensor(module.training) for name, module in network.named_modules()}
    return {**found, "random": torch.get_rng_state()}


def count_hooks(network: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules()
    )


def test_autocast_of_the_caller_changes_nothing_and_warns_of_nothing() -> None:
    torch.manual_seed(0)
    network = create_model("classifier", num_classes=2, encoder="lcnet_035").eval()
    image, classes = torch.rand(2, 3, 64, 64), torch.tensor([0, 1])
    alone = class_activation(network, image, classes)
    with warnings.catch_warnings(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        warnings.simplefilter("error")
        network(image)  # autocast now keeps casts that no graph may have
        beside = class_activation(network, image, classes)
    assert alone is not None and beside is not None
    np.testing.assert_array_equal(alone, beside)


def test_a_tensor_of_inference_mode_is_taken() -> None:
    network = Pooled(2)
    with torch.inference_mode():  # as Lightning validates
        image, classes = torch.rand(2, 3, 8, 8) * 1, torch.tensor([0, 1]) * 1
        assert image.is_inference()
        heat = class_activation(network, image, classes)
    assert heat is not None and heat.shape == (2, 3, 3)
    np.testing.assert_array_equal(heat, class_activation(network, image.clone(), classes.clone()))
