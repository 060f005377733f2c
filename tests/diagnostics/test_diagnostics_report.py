"""Collecting member logits and the report as a whole, on linear members of known margins."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from phalanx.data.dataset import DataCard, Dataset
from phalanx.diagnostics.collect import collect
from phalanx.diagnostics.measure import report
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import DataError, ModelError, NonFiniteError, ParameterError
from phalanx.models.model import InputSpec, Model
from phalanx.reporting.theory import law_section

DIMENSIONS = 8


class Linear(nn.Module):
    """Two logits, ``w . x + b`` and 0: the margin is Gaussian with variance sigma^2 |w|^2."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor(weight)), bias

    def forward(self, x):
        margin = x.flatten(1) @ self.weight + self.bias
        return torch.stack([margin, torch.zeros_like(margin)], dim=1)


def member(weight, bias=0.0):
    return Model(Linear(weight, bias), InputSpec(shape=(DIMENSIONS,)), 2).eval()


@pytest.fixture
def linear():
    """Three members with unit weights that share one of two axes: correlation 1/2 pairwise."""
    weights = np.zeros((3, DIMENSIONS), dtype=np.float32)
    weights[:, 0] = np.sqrt(0.5)
    for index in range(3):
        weights[index, 1 + index] = np.sqrt(0.5)
    return Ensemble([member(list(map(float, w)), bias=0.6) for w in weights])


@pytest.fixture
def points():
    x = torch.zeros(6, DIMENSIONS)
    return Dataset(DataCard("zeros", "test", (DIMENSIONS,), 2, 6), lambda i: x[list(i)])


def test_logits_have_members_draws_and_classes(linear):
    logits = collect(linear, torch.zeros(DIMENSIONS), 0.5, 300)
    assert logits.shape == (3, 300, 2)
    assert logits.dtype == torch.float64


def test_noise_depends_on_seed_and_image_and_is_prefix_stable(linear):
    x = torch.zeros(DIMENSIONS)
    base = collect(linear, x, 0.5, 300, seed=1, image=4)
    assert torch.equal(base, collect(linear, x, 0.5, 300, seed=1, image=4))
    assert torch.allclose(base[:, :100], collect(linear, x, 0.5, 100, seed=1, image=4))
    assert not torch.allclose(base, collect(linear, x, 0.5, 300, seed=2, image=4))
    assert not torch.allclose(base, collect(linear, x, 0.5, 300, seed=1, image=5))


def test_report_of_linear_members_meets_theory(linear, points):
    found = report(linear, points, range(6), sigma=0.5, samples=2000)
    assert found.zeta_noise == pytest.approx(0.5, abs=0.03)
    assert found.zeta_members == pytest.approx(0.5, abs=0.03)
    for row in found.rows:
        assert row.variance == pytest.approx((1 + 0.5 * (row.k - 1)) / row.k, abs=0.03)
        assert row.variance_theory == pytest.approx(row.variance, abs=0.03)
        # Linear margins *are* Gaussian, so the prediction must come true.
        assert row.success_gaussian == pytest.approx(row.success, abs=0.015)
        assert row.success_chebyshev <= row.success + 0.01
        assert row.radius_predicted == pytest.approx(row.radius, abs=0.03)
        assert 0 < row.radius <= found.largest_radius
    predicted, measured = found.gain(3)
    assert measured == pytest.approx(predicted, rel=0.05)
    # Two Gaussian classes: R(k)/R(1) = sqrt(k/(1+zeta(k-1))), less what counting costs.
    assert measured == pytest.approx((3 / 2) ** 0.5, rel=0.05)


def test_the_radius_law_of_linear_members_comes_true(linear, points):
    found = report(linear, points, range(6), sigma=0.5, samples=4000).law
    predicted = {(row.k, row.n): row.radii for row in found.rows}
    assert {n for _, n in predicted} == {100, 1_000, 2_000, 10_000, 100_000}
    for row in found.measured:
        radii = predicted[row.k, row.n]
        assert row.n == 2000
        assert radii.mean == pytest.approx(row.radii.mean, abs=0.02)
        assert radii.median == pytest.approx(row.radii.median, abs=0.03)
    # sigma Phi^-1(p_A), the radius of infinitely many samples: .6 / |w|, sqrt(3/2) of it for all.
    assert predicted[1, 100_000].mean == pytest.approx(0.6, abs=0.02)
    assert predicted[3, 100_000].mean == pytest.approx(0.6 * 1.5**0.5, abs=0.03)
    for before, after in zip(found.p_predicted, found.p_measured, strict=True):
        assert before == pytest.approx(after, abs=0.02)


def test_identical_members_gain_nothing(linear, points):
    twins = Ensemble([linear.members[0], linear.members[0]])
    found = report(twins, points, [0], sigma=0.5, samples=200)
    assert found.zeta_noise == pytest.approx(1.0)
    assert found.gain(2)[1] == pytest.approx(1.0)
    assert found.pairs == pytest.approx((1.0, 1.0))


def test_report_is_reproducible_and_json(linear, points):
    first = report(linear, points, [0, 3], sigma=0.5, samples=200).as_dict()
    assert first == report(linear, points, [0, 3], sigma=0.5, samples=200).as_dict()
    text = json.dumps(first, allow_nan=False)
    assert {"zeta_noise", "zeta_members", "images", "samples"} <= set(json.loads(text))
    assert [row["k"] for row in first["variance_ratio"]] == [1, 2, 3]
    assert set(first["variance_ratio"][0]) == {"k", "measured", "theory"}
    assert {"k", "bound", "measured_p"} <= set(first["chebyshev"][0])
    assert {"k", "predicted", "measured"} <= set(first["radius_gain"][0])
    assert [entry["image"] for entry in first["zeta_of_image"]] == [0, 3]
    law = first["radius_law"]
    assert set(law["predicted"][0]) == {"k", "n", "none", "mean", "low", "median", "high"}
    assert [row["k"] for row in law["p_A"]] == [row["k"] for row in law["measured"]] == [1, 2, 3]
    assert "not certificates" in law_section(law)


def test_margins_that_noise_does_not_move_leave_numbers_absent(points):
    constant = Ensemble([member([0.0] * DIMENSIONS, bias=1.0) for _ in range(2)])
    found = report(constant, points, [0, 1], sigma=0.5, samples=200)
    values = found.as_dict()
    assert values["zeta_noise"] is None
    assert values["zeta_members"] is None
    assert values["pairs"] is None
    assert values["without_variance"] == 2
    assert values["variance_ratio"][1] == {"k": 2, "measured": None, "theory": None}
    assert values["chebyshev"][1]["measured_p"] == 1.0
    assert "no correlation exists" in found.table()
    assert "nan" not in found.table().lower()


def test_table_is_compact_plain_text(linear, points):
    lines = report(linear, points, [0], sigma=0.5, samples=200).table().splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[-1].split()[0] == "3"
    assert any(line.startswith("radius law") and "not certificates" in line for line in lines)


def test_progress_is_told_after_every_image(linear, points):
    seen = []
    report(linear, points, [2, 4], 0.5, 100, progress=lambda *done: seen.append(done))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 99}, "99 noise samples"),
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"alpha": 1.5}, "alpha"),
    ],
)
def test_parameters_without_meaning_are_refused(linear, points, change, message):
    given = {"indices": [0], "sigma": 0.5, "samples": 200, **change}
    with pytest.raises(ParameterError, match=message):
        report(linear, points, **given)


def test_no_images_are_refused(linear, points):
    with pytest.raises(DataError, match="no images"):
        report(linear, points, [], sigma=0.5, samples=200)


def test_inputs_of_another_shape_are_refused(linear):
    x = torch.zeros(2, 3)
    other = Dataset(DataCard("short", "test", (3,), 2, 2), lambda i: x[list(i)])
    with pytest.raises(DataError, match="shape"):
        report(linear, other, [0], sigma=0.5, samples=200)


def test_one_member_is_refused(linear, points):
    with pytest.raises(ParameterError, match="at least two"):
        report(Ensemble([linear.members[0]]), points, [0], sigma=0.5, samples=200)


def test_a_member_in_training_mode_is_refused(linear):
    linear.members[1].train()
    with pytest.raises(ModelError, match="training mode"):
        collect(linear, torch.zeros(DIMENSIONS), 0.5, 10)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_broken_logit_is_named(linear, value):
    linear.members[1].network.bias = value
    with pytest.raises(NonFiniteError, match="member 1 returned 10 NaN or infinite"):
        collect(linear, torch.zeros(DIMENSIONS), 0.5, 10)


def test_no_samples_are_refused(linear):
    with pytest.raises(ParameterError):
        collect(linear, torch.zeros(DIMENSIONS), 0.5, 0)
