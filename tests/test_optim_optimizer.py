"""Optimizers: names and options, groups, resuming; the penalty of the regularizer."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from errors import LoupeError
from optim import create_optimizer, optimizer_options, penalty


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.arange(18.0).view(2, 1, 3, 3)).square().sum().backward()
    optimizer.step()


def names_of(model: nn.Module, group: dict[str, Any]) -> set[str]:
    ids = {id(p) for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in ids}


def test_decay_spares_biases_and_norms() -> None:
    model = network()
    optimizer = create_optimizer(model, learning_rate=0.1, optimizer={"type": "adamw", "weight_decay": 0.5})
    groups = {group["weight_decay"]: names_of(model, group) for group in optimizer.param_groups}
    assert groups == {0.5: {"0.weight", "3.weight"}, 0.0: {"0.bias", "1.weight", "1.bias", "3.bias"}}
    # By its effect: with zero gradients, a step of AdamW is w (1 - lr * decay) on weights and nothing elsewhere.
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 0.95 if name in groups[0.5] else 1.0
        torch.testing.assert_close(parameter, before[name] * factor)


def test_decay_spares_what_the_network_excludes() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pos_embed = nn.Parameter(torch.ones(2, 2))
            self.weight = nn.Parameter(torch.ones(2, 2))

        def no_weight_decay(self) -> set[str]:
            return {"pos_embed"}

    model = nn.Sequential(Tokens())
    optimizer = create_optimizer(model, learning_rate=0.1)
    assert {g["weight_decay"]: names_of(model, g) for g in optimizer.param_groups} == {
        0.01: {"0.weight"},
        0.0: {"0.pos_embed"},
    }


@pytest.mark.parametrize(("name", "decay"), [("adamw", 0.01), ("adam", 0.0), ("sgd", 0.0), ("lamb", 0.01)])
def test_decay_not_given_is_the_class_default(name: str, decay: float) -> None:
    optimizer = create_optimizer(network(), learning_rate=0.1, optimizer={"type": name})
    assert max(group["weight_decay"] for group in optimizer.param_groups) == decay


def test_backbone_has_its_own_rate_and_comes_first() -> None:
    model = network()
    optimizer = create_optimizer(
        model,
        learning_rate=0.2,
        backbone=model[0].parameters(),
        backbone_factor=0.1,
        optimizer={"type": "sgd"},
    )
    rates = [(round(group["lr"], 12), names_of(model, group)) for group in optimizer.param_groups]
    assert rates == [
        (0.02, {"0.weight"}),
        (0.02, {"0.bias"}),
        (0.2, {"3.weight"}),
        (0.2, {"1.weight", "1.bias", "3.bias"}),
    ]


def test_frozen_parameters_train_as_soon_as_they_are_unfrozen() -> None:
    model = network()
    model[0].requires_grad_(False)
    optimizer = create_optimizer(model, learning_rate=0.1)
    before = model[0].weight.detach().clone()
    train_step(model, optimizer)
    assert torch.equal(model[0].weight, before)
    model[0].requires_grad_(True)
    train_step(model, optimizer)
    assert not torch.equal(model[0].weight, before)


def test_sgd_is_nesterov_and_momentum_is_classical() -> None:
    sgd = create_optimizer(network(), learning_rate=0.1, optimizer={"type": "sgd"}).param_groups[0]
    assert (sgd["momentum"], sgd["nesterov"]) == (0.9, True)
    classical = create_optimizer(
        network(), learning_rate=0.1, optimizer={"type": "momentum", "momentum": 0.5}
    ).param_groups[0]
    assert (classical["momentum"], classical["nesterov"]) == (0.5, False)


def test_options_reach_the_optimizer_and_match_torch() -> None:
    ours, theirs = network(), network()
    options = {"type": "adam", "betas": [0.8, 0.9], "eps": 1e-3}
    optimizer = create_optimizer(ours, learning_rate=0.01, optimizer=options)
    reference = torch.optim.Adam(theirs.parameters(), lr=0.01, betas=(0.8, 0.9), eps=1e-3)
    for _ in range(3):
        train_step(ours, optimizer)
        train_step(theirs, reference)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, other)


def test_fused_where_there_is_one() -> None:
    def fused(name: str, **kwargs: Any) -> Any:
        optimizer = create_optimizer(network(), learning_rate=0.1, optimizer={"type": name}, **kwargs)
        return optimizer.param_groups[0].get("fused")

    assert fused("adamw") is True
    assert fused("adamw", fused=False) is None
    assert fused("lion") is None  # has no such kernel
    own = create_optimizer(network(), learning_rate=0.1, optimizer={"type": "adamw", "fused": False})
    assert own.param_groups[0]["fused"] is False


def saved_and_loaded(optimizer: torch.optim.Optimizer) -> Any:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_resuming_takes_the_state_and_keeps_the_settings() -> None:
    model = network()
    old = create_optimizer(model, learning_rate=0.1, optimizer={"type": "adamw", "weight_decay": 0.0})
    train_step(model, old)
    new = create_optimizer(model, learning_rate=0.3, optimizer={"type": "adamw", "weight_decay": 0.5})
    new.load_state_dict(saved_and_loaded(old))
    assert [(group["lr"], group["weight_decay"]) for group in new.param_groups] == [(0.3, 0.5), (0.3, 0.0)]
    first = model[0].weight
    torch.testing.assert_close(new.state[first]["exp_avg"], old.state[first]["exp_avg"])
    assert new.state[first]["step"].item() == 1


def test_resumed_training_equals_uninterrupted_training() -> None:
    model = network()
    optimizer = create_optimizer(model, learning_rate=0.1)
    train_step(model, optimizer)
    state, again = saved_and_loaded(optimizer), copy.deepcopy(model)
    train_step(model, optimizer)
    resumed = create_optimizer(again, learning_rate=0.1)
    resumed.load_state_dict(state)
    train_step(again, resumed)
    for own, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(own, other)


def test_resuming_with_another_optimizer_is_refused() -> None:
    model = network()
    state = create_optimizer(model, learning_rate=0.1, optimizer={"type": "sgd"}).state_dict()
    with pytest.raises(LoupeError, match="not of 'adamw'"):
        create_optimizer(model, learning_rate=0.1).load_state_dict(state)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"type": "adamm"}, "did you mean 'adam'"),
        ({"type": "adamw", "momentum": 0.9}, "'momentum'.*valid: betas"),
        ({"type": "sgd", "momentun": 0.9}, "did you mean 'momentum'"),
        ({"type": "adamw", "betas": [2.0, 0.9]}, "refuses"),
        ({"type": "adamw", "weight_decay": -1}, "weight_decay must be a number from 0, got -1"),
        ({"type": "adahessian"}, "second derivatives"),
        ({"type": "bnbadamw"}, "bitsandbytes"),
    ],
)
def test_mistakes_are_told(optimizer: dict[str, Any], message: str) -> None:
    with pytest.raises(LoupeError, match=message) as caught:
        create_optimizer(network(), learning_rate=0.1, optimizer=optimizer)
    assert len(str(caught.value)) < 400


def test_options_list_what_timm_takes() -> None:
    assert optimizer_options("adamw")["betas"] == (0.9, 0.999)
    assert "lr" not in optimizer_options("adamw")


# Weights 1, -2 (conv) and 3, 0 (linear); bias 5 and norm 7 do not count.
def weighted() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))
        model[1].weight.fill_(7)
        model[2].weight.copy_(torch.tensor([[3.0, 0.0]]))
        model[2].bias.fill_(5)
    return model


def test_penalty_and_its_gradient_by_hand() -> None:
    model = weighted()
    value = penalty(model, l1=0.1, l2=0.01)
    assert value.item() == pytest.approx(0.1 * 6 + 0.01 * 14)
    value.backward()
    assert model[0].weight.grad.flatten().tolist() == pytest.approx([0.1 + 0.02, -0.1 - 0.04])
    assert model[2].weight.grad.flatten().tolist() == pytest.approx([0.1 + 0.06, 0.0])
    assert model[2].bias.grad is None
    assert model[1].weight.grad is None


def test_penalty_leaves_frozen_weights_out() -> None:
    model = weighted()
    model[0].requires_grad_(False)
    assert penalty(model, l1=1.0).item() == 3.0
    assert penalty(model.requires_grad_(False), l1=1.0, l2=1.0).item() == 0.0
    assert penalty(weighted()).item() == 0.0


def test_penalty_is_float32_for_half_weights_and_under_autocast() -> None:
    model = nn.Linear(300, 300, bias=False)
    nn.init.constant_(model.weight, 2.0)

    def value() -> Tensor:
        return penalty(model, l2=1.0)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert value().dtype == torch.float32
    assert value().item() == 360_000.0  # beyond the largest float16
    model.half()
    assert value().item() == 360_000.0
    model.double()
    assert value().dtype == torch.float64


def test_penalty_does_not_lose_small_weights_in_large_sums() -> None:
    model = nn.Linear(2048, 2048, bias=False)
    exact = model.weight.double().abs().sum().item()
    assert penalty(model, l1=1.0).item() == pytest.approx(exact, rel=1e-6)
