"""Learning-rate curves, worked out by hand; one optimizer step is one schedule step."""

import io
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from errors import LoupeError
from optim import SCHEDULES, Schedule, create_schedule, schedule_options

PEAK = 2.0


def make(type: str, total: int = 8, per_epoch: int = 2, **options: Any) -> Schedule:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
    return create_schedule(optimizer, type=type, total_steps=total, steps_per_epoch=per_epoch, **options)


def run(schedule: Schedule, steps: int) -> list[float]:
    """The rates that the next ``steps`` optimizer steps use, as fractions of the peak."""
    used: list[float] = []
    for _ in range(steps):
        used.append(schedule.optimizer.param_groups[0]["lr"] / PEAK)
        schedule.optimizer.step()
        schedule.step()
    return used


# Eight steps, two an epoch. Without warm-up; then with a warm-up of one epoch (two steps: 1/2, 1), after which
# the decay has six steps: shares 0, 1/6, ... for the steps 2, 3, ...
CURVES: dict[str, tuple[dict[str, Any], list[float], list[float]]] = {
    "constant": ({}, [1.0] * 8, [0.5] + [1.0] * 7),
    "cosine_annealing": (
        {"final": 0.2},
        [0.2 + 0.4 * (1 + math.cos(math.pi * k / 8)) for k in range(8)],
        [0.5, 1.0, 1.0, *(0.2 + 0.4 * (1 + math.cos(math.pi * k / 6)) for k in range(1, 6))],
    ),
    "exponential": (
        {"gamma": 0.5},
        [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125],
        [0.5, 1, 1, 1, 0.5, 0.5, 0.25, 0.25],
    ),
    "step": (
        {"every": 2, "factor": 0.1},
        [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1],
        [0.5, 1, 1, 1, 1, 1, 0.1, 0.1],
    ),
    "polynomial": (
        {"power": 2, "final": 0.5},
        [0.5 + 0.5 * (1 - k / 8) ** 2 for k in range(8)],
        [0.5, 1, 1, *(0.5 + 0.5 * (1 - k / 6) ** 2 for k in range(1, 6))],
    ),
    "reduce_on_plateau": ({}, [1.0] * 8, [0.5] + [1.0] * 7),
}


@pytest.mark.parametrize("type", CURVES)
@pytest.mark.parametrize("warmup", [0, 1])
def test_curve(type: str, warmup: int) -> None:
    options, *curves = CURVES[type]
    assert run(make(type, warmup_epochs=warmup, **options), 8) == pytest.approx(curves[warmup], abs=1e-12)


def test_one_cycle_rises_for_three_tenths_and_falls_to_its_end() -> None:
    schedule = make("one_cycle", total=10, start_div=4, final_div=100)
    # Steps 0..3 rise along half a cosine from 1/4 to 1 (share 0.3 is the peak), steps 3..10 fall to 1/100.
    rise = [1 - 0.75 * (1 + math.cos(math.pi * k / 3)) / 2 for k in range(3)]
    fall = [0.01 + 0.99 * (1 + math.cos(math.pi * k / 7)) / 2 for k in range(8)]
    assert run(schedule, 10) == pytest.approx(rise + fall[:-1], abs=1e-12)
    assert schedule.get_last_lr()[0] == pytest.approx(PEAK * fall[-1])
    # One cycle holds at its start, 1/4, while the warm-up climbs to it.
    assert run(make("one_cycle", total=12, start_div=4, warmup_epochs=1), 3) == pytest.approx(
        [0.125, 0.25, 0.25]
    )


def test_defaults_are_those_of_the_design() -> None:
    assert {name: schedule_options(name) for name in SCHEDULES} == {
        "constant": {},
        "cosine_annealing": {"final": 0.0},
        "exponential": {"gamma": 0.95},
        "step": {"every": 10, "factor": 0.1},
        "polynomial": {"power": 0.9, "final": 0.0},
        "reduce_on_plateau": {"factor": 0.5, "patience": 5, "min_delta": 0.0},
        "one_cycle": {"start_div": 25, "final_div": 1e4},
    }


def test_agrees_with_torch_where_both_have_the_schedule() -> None:
    def torch_curve(build: Any) -> list[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
        scheduler, used = build(optimizer), []
        for _ in range(8):
            used.append(optimizer.param_groups[0]["lr"] / PEAK)
            optimizer.step()
            scheduler.step()
        return used

    sched = torch.optim.lr_scheduler
    assert run(make("cosine_annealing"), 8) == pytest.approx(
        torch_curve(lambda o: sched.CosineAnnealingLR(o, T_max=8)), abs=1e-9
    )
    assert run(make("polynomial", power=0.9), 8) == pytest.approx(
        torch_curve(lambda o: sched.PolynomialLR(o, total_iters=8, power=0.9)), abs=1e-9
    )
    # Torch's own would be stepped once an epoch: one step an epoch makes the two comparable.
    assert run(make("exponential", per_epoch=1, gamma=0.7), 8) == pytest.approx(
        torch_curve(lambda o: sched.ExponentialLR(o, gamma=0.7)), abs=1e-9
    )
    assert run(make("step", per_epoch=1, every=3, factor=0.3), 8) == pytest.approx(
        torch_curve(lambda o: sched.StepLR(o, step_size=3, gamma=0.3)), abs=1e-9
    )


def test_warmup_may_be_fractional_and_never_starts_at_zero() -> None:
    schedule = make("constant", total=40, per_epoch=10, warmup_epochs=0.35)  # 3.5 steps, rounded up to 4
    assert run(schedule, 6) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


# Keras, ReduceLROnPlateau(factor=0.5, patience=2, min_delta=0.1, mode="min"), written out:
#   1.00 best            wait 0
#   0.95 not 0.1 better  wait 1
#   0.90 not more than   wait 2 -> cut (0.9 < 1.0 - 0.1 is false)
#   0.80 best            wait 0
#   0.85                 wait 1
#   nan                  wait 2 -> cut
#   0.80                 wait 1
#   0.10 best            wait 0
def test_plateau_has_keras_patience() -> None:
    schedule = make("reduce_on_plateau", patience=2, min_delta=0.1, factor=0.5)
    rates: list[float] = []
    for score in (1.0, 0.95, 0.90, 0.80, 0.85, math.nan, 0.80, 0.10):
        schedule.observe(score)
        rates.append(schedule.get_last_lr()[0] / PEAK)
    assert rates == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert schedule.optimizer.param_groups[0]["lr"] == PEAK / 4


def test_plateau_with_mode_max_and_patience_one() -> None:
    schedule = make("reduce_on_plateau", patience=1, factor=0.1, mode="max")
    for score in (0.5, 0.6, 0.6):  # the third is the first epoch without improvement
        schedule.observe(score)
    assert schedule.get_last_lr()[0] == pytest.approx(PEAK * 0.1)


def test_plateau_waits_for_the_warmup_and_a_step_keeps_the_cut() -> None:
    schedule = make("reduce_on_plateau", patience=1, warmup_epochs=2)
    for _ in range(3):  # three worsening epochs during the warm-up
        schedule.observe(1.0)
    assert schedule.warming_up
    assert run(schedule, 4) == [0.25, 0.5, 0.75, 1.0]
    assert not schedule.warming_up
    schedule.observe(1.0)
    schedule.observe(1.0)
    # LambdaLR warm-up beside torch's plateau would undo the cut one step later.
    assert run(schedule, 3) == [0.5, 0.5, 0.5]


def saved_and_loaded(schedule: Schedule) -> Any:
    file = io.BytesIO()
    torch.save(schedule.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("type", SCHEDULES)
def test_resume_goes_on_as_if_never_stopped(type: str) -> None:
    whole, first, second = (make(type, warmup_epochs=0.5) for _ in range(3))
    expected = run(whole, 8)
    assert run(first, 5) == expected[:5]
    second.load_state_dict(saved_and_loaded(first))
    assert run(second, 3) == expected[5:]


def test_resume_keeps_the_plateau_memory() -> None:
    first, second = (make("reduce_on_plateau", patience=2, factor=0.5) for _ in range(2))
    for score in (1.0, 2.0, 2.0, 2.0):  # one cut, and one epoch towards the next
        first.observe(score)
    second.load_state_dict(saved_and_loaded(first))
    assert second.get_last_lr() == [PEAK / 2]
    second.observe(2.0)
    assert second.get_last_lr() == [PEAK / 4]


def test_extended_run_follows_the_longer_curve_and_the_new_peak() -> None:
    short = make("cosine_annealing", total=8)
    run(short, 8)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=10.0)
    longer = create_schedule(optimizer, type="cosine_annealing", total_steps=16, steps_per_epoch=2)
    longer.load_state_dict(saved_and_loaded(short))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(5.0)  # halfway, of this run's own peak


def test_state_holds_plain_numbers_only() -> None:
    assert make("cosine_annealing").state_dict() == {"step": 0}
    assert make("reduce_on_plateau").state_dict() == {"step": 0, "best": None, "wait": 0, "cuts": 0}


def test_each_group_keeps_its_own_peak() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 1.0)]
    optimizer = torch.optim.SGD(groups)
    schedule = create_schedule(optimizer, type="polynomial", total_steps=4, steps_per_epoch=1, power=1)
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.075, 0.75])


def test_tensor_rates_are_changed_in_place() -> None:
    rate = torch.tensor(1.0)
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = create_schedule(optimizer, type="polynomial", total_steps=2, steps_per_epoch=1, power=1)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.5


@given(
    type=st.sampled_from(sorted(SCHEDULES)),
    total=st.integers(1, 50),
    per_epoch=st.integers(1, 20),
    warmup=st.floats(0, 6),
)
def test_every_rate_is_above_zero_and_at_most_the_peak(
    type: str, total: int, per_epoch: int, warmup: float
) -> None:
    schedule = make(type, total, per_epoch, warmup_epochs=warmup)
    assert all(0 < schedule.factor(step) <= 1 + 1e-12 for step in range(total))
    assert 0 <= schedule.factor(total + 5) <= 1 + 1e-12


@pytest.mark.parametrize(
    ("type", "options", "message"),
    [
        ("cosine_anealing", {}, "did you mean 'cosine_annealing'"),
        ("step", {"gamma": 0.5}, "'gamma'.*valid: every, factor"),
        ("polynomial", {"powr": 0.5}, "did you mean 'power'"),
        ("constant", {"final": 0.5}, "'constant' has no options, got 'final'"),
        ("step", {"every": 0}, "every must be above 0"),
        ("exponential", {"gamma": 1.5}, "gamma must be above 0 and at most 1, got 1.5"),
        ("reduce_on_plateau", {"patience": 0}, "patience must be at least 1"),
        ("cosine_annealing", {"final": 2}, "final must be between 0 and 1"),
        ("constant", {"warmup_epochs": -1}, "must not be negative"),
        ("constant", {"mode": "auto"}, "'min' or 'max'"),
    ],
)
def test_mistakes_are_told(type: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        make(type, **options)
