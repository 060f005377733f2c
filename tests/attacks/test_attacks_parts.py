"""Random numbers, objectives, windows and steps against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attacks_helpers import network, points
from torch import nn

import phalanx
from phalanx.attacks import attacks, build_attack
from phalanx.attacks.apgd import Ascent, _checked
from phalanx.attacks.bpda import DeclaredBackward
from phalanx.attacks.draws import Draws
from phalanx.attacks.methods.autoattack import parts_of
from phalanx.attacks.objective import (
    OBJECTIVES,
    ce,
    dlr,
    dlr_targeted,
    gap,
    log_mean,
    objective_of,
)
from phalanx.attacks.steps import uphill
from phalanx.attacks.windows import as_images, mask_of, pattern, places_of, share_at
from phalanx.errors import ModelError, ParameterError
from phalanx.noise.philox import in_torch
from phalanx.runtime.keys import noise_key
from phalanx.specs.threat import Threat


def test_draws_are_philox_of_every_rows_own_key() -> None:
    keys = [noise_key("a", i) for i in range(3)]
    found = Draws(keys).uniforms(torch.tensor([2, 0]), 5, 9)
    for row, key in zip(found, (keys[2], keys[0]), strict=True):
        words = in_torch(key, 0, 4, torch.device("cpu")).numpy().view(np.uint32)[5:14]
        assert np.allclose(row.numpy(), ((words >> 8) + 0.5) / 2**24)


def test_draws_have_their_distributions() -> None:
    draws, rows = Draws([noise_key("b", i) for i in range(20)]), torch.arange(20)
    uniforms, normals = draws.uniforms(rows, 0, 5000), draws.normals(rows, 0, 5000)
    assert abs(float(uniforms.mean()) - 0.5) < 5 * (1 / 12 / 1e5) ** 0.5
    assert uniforms.min() > 0
    assert uniforms.max() < 1
    assert abs(float(normals.mean())) < 5 / 1e5**0.5
    assert abs(float(normals.var()) - 1) < 5 * (2 / 1e5) ** 0.5
    assert torch.equal(draws.normals(rows, 7, 3), normals[:, 7:10])


@pytest.fixture
def scores() -> torch.Tensor:
    return torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


Y = torch.tensor([0, 1, 2, 3, 4])
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def test_objectives_are_the_formulas(scores: torch.Tensor) -> None:
    goal = torch.tensor([5, 0, 1, 2, 3])
    z = scores.numpy()
    for row, (label, aim) in enumerate(zip(Y.tolist(), goal.tolist(), strict=True)):
        losses = dict.fromkeys(("ce", "margin", "dlr", "aimed", "gap"), 0.0)
        mean = np.zeros(6)
        for s, weight in enumerate(WEIGHTS.tolist()):
            logits = z[s, row]
            ranked = np.sort(logits)[::-1]
            soft = np.exp(logits) / np.exp(logits).sum()
            mean += weight * soft
            best = np.delete(logits, label).max()
            losses["ce"] -= weight * np.log(soft[label])
            losses["margin"] += weight * (best - logits[label])
            losses["dlr"] += weight * (best - logits[label]) / (ranked[0] - ranked[2])
            scale = ranked[0] - (ranked[2] + ranked[3]) / 2
            losses["aimed"] += weight * (logits[aim] - logits[label]) / scale
            losses["gap"] += weight * (logits[aim] - logits[label])
        for name in ("ce", "margin", "dlr"):
            found = OBJECTIVES[name](scores, WEIGHTS, Y)[row]
            assert float(found) == pytest.approx(losses[name], rel=1e-9)
        mean_ce = OBJECTIVES["mean-ce"](scores, WEIGHTS, Y)[row]
        assert float(mean_ce) == pytest.approx(-np.log(mean[label]))
        aimed = dlr_targeted(scores, WEIGHTS, Y, goal)[row]
        assert float(aimed) == pytest.approx(losses["aimed"])
        assert float(gap(scores, WEIGHTS, Y, goal)[row]) == pytest.approx(losses["gap"])
        assert np.allclose(log_mean(scores, WEIGHTS)[row].exp().numpy(), mean)


def test_ratios_do_not_change_with_scale_and_offset(scores: torch.Tensor) -> None:
    goal = torch.zeros_like(Y) + 5
    moved = 7 * scores + 3
    assert torch.allclose(dlr(scores, WEIGHTS, Y), dlr(moved, WEIGHTS, Y))
    for objective in (dlr_targeted,):
        first = objective(scores, WEIGHTS, Y, goal)
        assert torch.allclose(first, objective(moved, WEIGHTS, Y, goal))


@pytest.mark.parametrize("classes", [2, 3])
def test_ratios_mean_something_for_few_classes(classes: int) -> None:
    scores = torch.randn(1, 40, classes, generator=torch.Generator().manual_seed(1))
    y, one = scores[0].argmax(-1), torch.ones(1)
    scores.requires_grad_()
    aims = [(y + step) % classes for step in range(1, classes)]
    for value in (dlr(scores, one, y), *(dlr_targeted(scores, one, y, aim) for aim in aims)):
        (gradient,) = torch.autograd.grad(value.sum(), scores, retain_graph=True)
        assert (gradient.abs().sum(-1) > 0).all()
        assert (value < 0).all()


def test_pooled_classifiers_climb_the_mean() -> None:
    assert objective_of(None, pooled=True) is OBJECTIVES["mean-ce"]
    assert objective_of(None) is ce
    with pytest.raises(ParameterError, match="margin"):
        objective_of("nonsense")
    with pytest.raises(ModelError, match="no file"):
        objective_of("absent.py:f")


def test_windows_and_patterns() -> None:
    top, left = torch.tensor([1, 0]), torch.tensor([2, 3])
    mask = mask_of(top, left, (3, 3), (6, 7))
    flat = places_of(top, left, 3, 7)
    for row in range(2):
        wanted = torch.zeros(6, 7, dtype=torch.bool)
        wanted[top[row] : top[row] + 3, left[row] : left[row] + 3] = True
        assert torch.equal(mask[row, 0], wanted)
        assert torch.equal(torch.nonzero(wanted.flatten()).flatten(), flat[row])
    for power, norm in ((2, 2), (4, 1)):
        for side in (1, 3, 5, 8):
            assert float(pattern(side, power).norm(p=norm)) == pytest.approx(1)
    upper = pattern(7, 2)[:3]
    assert (upper > 0).all()
    assert (pattern(7, 2)[3:] < 0).all()
    assert upper.argmax() == 1 * 7 + 3
    assert [share_at(q, 0.8) for q in (0, 10, 11, 9000)] == [0.8, 0.8, 0.4, 0.8 / 512]
    assert as_images(torch.zeros(2, 3)).shape == (2, 1, 1, 3)


def test_sparse_steps_have_length_one_and_leave_the_box_alone() -> None:
    threat = Threat("l1", 1.0)
    x, gradient = torch.rand(3, 50), torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    moved = x.clone()
    moved[:, :25] = 1.0
    for left, count in ((1.0, 10), (0.0, 1)):
        step = uphill(threat, x, moved, gradient, left)
        assert torch.allclose(step.abs().sum(1), torch.ones(3))
        assert ((step != 0).sum(1) == count).all()
        assert (step[:, :25] <= 0).all()


def test_a_step_is_halved_where_it_does_not_pay() -> None:
    ones, zeros = torch.ones(3), torch.zeros(3)
    now = Ascent(
        at=torch.arange(3),
        x=ones[:, None],
        previous=ones[:, None],
        gradient=ones[:, None],
        loss=zeros,
        best=2 * ones[:, None],
        best_gradient=3 * ones[:, None],
        best_loss=torch.tensor([1.0, 1.0, 1.0]),
        step=ones,
        rises=torch.tensor([7.0, 8.0, 8.0]),
        checked_loss=torch.tensor([0.0, 0.0, 1.0]),
        halved=torch.tensor([False, True, False]),
        share=ones,
        support=ones,
        goal=torch.zeros(3, dtype=torch.int64),
    )
    # Of 10 steps at least 7.5 must rise; or the best loss must, where the step was kept before.
    after = _checked(now, 10, 0.75)
    assert after.step.tolist() == [0.5, 1.0, 0.5]
    assert after.x[:, 0].tolist() == [2.0, 1.0, 2.0]
    assert after.rises.tolist() == [0.0, 0.0, 0.0]


def test_autoattack_is_what_was_published() -> None:
    parts = dict(parts_of("linf"))
    assert list(parts) == ["apgd-ce", "apgd-t", "fab", "square"]
    said = {name: part.model_dump() for name, part in parts.items()}
    assert (said["apgd-ce"]["steps"], said["apgd-ce"]["restarts"]) == (100, 1)
    assert (said["apgd-t"]["targets"], said["fab"]["targets"]) == (9, 9)
    assert (said["square"]["queries"], said["square"]["first"]) == (5000, 0.8)
    sparse = dict(parts_of("l1"))
    assert sparse["apgd-ce"].model_dump()["restarts"] == 5
    assert sparse["apgd-t"].model_dump()["targets"] == 5


def test_the_first_part_that_breaks_a_point_is_named() -> None:
    model = network()
    x, y = points(model, 8)
    found = phalanx.attack(model, x, y, eps=0.4)
    assert found.success.all()
    assert found.outcome.by == ["apgd-ce"] * 8


def test_deepfool_and_cw_come_near_the_boundary() -> None:
    """Of a linear classifier the distance is known; a loose ball shows what was found."""
    model = network()
    x, y = points(model, 8)
    for name, slack in (("deepfool", 1.3), ("cw", 2.0)):
        found = phalanx.attack(model, x, y, attack=name, norm="l2", eps=5.0)
        assert found.success.all()
        tight = phalanx.attack(model, x, y, attack="fab", norm="l2", eps=5.0)
        assert float(found.distance.median()) <= slack * max(float(tight.distance.median()), 0.1)


def test_options_are_listed_where_one_is_wrong() -> None:
    with pytest.raises(ParameterError, match="restarts"):
        build_attack("pgd", {"stepsize": 1})
    assert attacks.get("aa") is attacks.get("autoattack")


def test_a_declared_backward_keeps_shapes() -> None:
    with pytest.raises(ModelError, match="one shape"):
        DeclaredBackward(lambda x: x[:, :1])(torch.zeros(2, 3))
    layer = DeclaredBackward(torch.sign, nn.Tanh())
    x = torch.tensor([0.5], requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).sum(), x)
    assert float(gradient) == pytest.approx(1 - np.tanh(0.5) ** 2)
