import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from phalanx.training.optimizers import make_optimizer, set_learning_rate
from phalanx.training.recipe import OptimizerPart, SchedulePart
from phalanx.training.schedules import learning_rate_factor


def curve(schedule: SchedulePart, epochs: int, steps: int = 10) -> list[float]:
    middle = ((step + 0.5) / steps for step in range(epochs * steps))
    return [learning_rate_factor(schedule, epochs, progress) for progress in middle]


@pytest.mark.parametrize("name", ["constant", "cosine", "step"])
@pytest.mark.parametrize("warmup", [0, 0.5, 2])
def test_rates_stay_above_zero_and_at_most_one(name, warmup):
    factors = curve(SchedulePart(name=name, warmup_epochs=warmup, step_epochs=2), 6)
    assert all(0 < factor <= 1 for factor in factors)


def test_cosine_falls_to_the_value_of_the_formula():
    factors = curve(SchedulePart(name="cosine"), 4)
    assert factors == sorted(factors, reverse=True)
    assert factors[20] == pytest.approx((1 + math.cos(math.pi * 20.5 / 40)) / 2)


def test_step_agrees_with_pytorch():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.1)
    schedule = SchedulePart(name="step", step_epochs=3, gamma=0.1)
    for epoch in range(9):
        rate = learning_rate_factor(schedule, 9, epoch + 0.5)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def test_milestones_agree_with_pytorch():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[8, 11], gamma=0.1)
    schedule = SchedulePart(name="milestones", milestones=(2 / 3, 11 / 12))
    for epoch in range(12):
        for middle in (0.001, 0.999):
            rate = learning_rate_factor(schedule, 12, epoch + middle)
            assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "milestones"},
        {"name": "step", "milestones": (0.5,)},
        {"name": "milestones", "milestones": (0.5, 0.5)},
        {"name": "milestones", "milestones": (0.5, 1.0)},
    ],
)
def test_milestones_that_say_nothing_are_refused(fields):
    with pytest.raises(ValidationError, match="milestones"):
        SchedulePart(**fields)


def test_a_schedule_without_milestones_is_stored_as_before():
    assert "milestones" not in SchedulePart(name="step").model_dump(mode="json")
    kept = SchedulePart(name="milestones", milestones=(0.5,)).model_dump(mode="json")
    assert kept["milestones"] == [0.5]


def test_warmup_longer_than_the_training_never_divides_by_zero():
    assert learning_rate_factor(SchedulePart(name="cosine", warmup_epochs=9), 3, 2.5) < 1


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_every_optimizer_lowers_a_quadratic(name):
    parameter = nn.Parameter(torch.full((4,), 3.0))
    optimizer = make_optimizer(OptimizerPart(name=name, lr=0.1, momentum=0.5), [parameter])
    set_learning_rate(optimizer, 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        parameter.square().sum().backward()
        optimizer.step()
    assert parameter.detach().abs().max() < 0.1


def test_sgd_follows_its_formula():
    parameter = nn.Parameter(torch.tensor([2.0]))
    part = OptimizerPart(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    optimizer = make_optimizer(part, [parameter])
    value, velocity = 2.0, 0.0
    for _ in range(5):
        optimizer.zero_grad()
        (3 * parameter).sum().backward()
        optimizer.step()
        gradient = 3 + 0.01 * value
        velocity = 0.9 * velocity + gradient
        value -= 0.1 * (gradient + 0.9 * velocity)
    assert parameter.item() == pytest.approx(value, rel=1e-5)
