"""Sampled confidences and gradients against smoothed probit members, known in closed form."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from phalanx.data.dataset import DataCard, Dataset
from phalanx.diagnostics import confidences as sampling
from phalanx.diagnostics.conditions import SMOOTHNESS
from phalanx.diagnostics.confidences import confidences
from phalanx.diagnostics.geometry import Local
from phalanx.diagnostics.theory import conditions
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import ModelError, NonFiniteError, ParameterError
from phalanx.models.model import InputSpec, Model
from phalanx.reporting.theory import conditions_section

SIGMA, DIMENSIONS = 0.5, 6


class Probit(nn.Module):
    """Softmax confidences ``Phi(w . x + b)`` and its complement: smoothing keeps the form."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor(weight)), bias

    def forward(self, x):
        u = x.flatten(1) @ self.weight + self.bias
        return torch.stack([torch.special.log_ndtr(u), torch.special.log_ndtr(-u)], dim=1)


class Layer(nn.Module):
    """Any function of the input as logits."""

    def __init__(self, function):
        super().__init__()
        self.function, self.scale = function, nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.function(x.flatten(1)) * self.scale


def model(network, classes=2):
    return Model(network, InputSpec(shape=(DIMENSIONS,)), classes).eval()


WEIGHTS = np.array([[1.0, 0.5, 0.0, 0.0, 0.3, 0.0], [0.8, -0.5, 0.6, 0.0, 0.0, 0.1]])
BIASES = np.array([0.6, 0.9])
POINT = torch.linspace(-0.2, 0.3, DIMENSIONS)


@pytest.fixture(scope="module")
def probits():
    return Ensemble(
        [
            model(Probit(w.tolist(), b))
            for w, b in zip(WEIGHTS.astype(np.float32), BIASES, strict=True)
        ]
    )


def exact(x):
    """Margins f^{0/1} and their gradients, of every member."""
    scale = np.sqrt(1 + SIGMA**2 * (WEIGHTS**2).sum(1))
    u = (WEIGHTS @ x.numpy() + BIASES) / scale
    return 2 * norm.cdf(u) - 1, 2 * norm.pdf(u)[:, None] * WEIGHTS / scale[:, None]


def test_margins_and_gradients_are_those_of_the_closed_form(probits):
    local = confidences(probits, POINT, SIGMA, 40_000)
    margins, gradients = exact(POINT)
    assert local.label == 0
    assert local.means.sum(1) == pytest.approx([1.0, 1.0])
    for member in range(2):
        unit = np.eye(2)[member].tolist()
        found = local.margins(unit)
        assert found.value[0] == pytest.approx(margins[member], abs=0.01)
        assert found.high[0] == pytest.approx(np.linalg.norm(gradients[member]), rel=0.02)
    assert local.products(0, 1)[0, 0] == pytest.approx(gradients[0] @ gradients[1], rel=0.03)
    both = local.margins([0.5, 0.5])
    assert both.high[0] == pytest.approx(np.linalg.norm(gradients.mean(0)), rel=0.02)


def test_gradients_are_differences_of_the_same_draws(probits):
    """The sampled gradient is the slope of the sampled mean: finite differences, float64."""
    draws = POINT + SIGMA * torch.randn(200, DIMENSIONS, generator=torch.Generator().manual_seed(0))
    member = probits.models[0].double()
    try:
        draws = draws.double()
        _, slopes = sampling._differentiate(member, draws, (0, 1), 0)
        for axis in range(DIMENSIONS):
            h = torch.zeros(DIMENSIONS, dtype=torch.float64)
            h[axis] = 1e-5
            with torch.no_grad():
                up, down = (sampling._softmax(member, draws + s * h, 0).sum(0) for s in (1, -1))
            change = ((up - down) / 2e-5).numpy()
            assert change == pytest.approx(slopes[:, axis].numpy(), abs=1e-5)
    finally:
        member.float()


def test_squared_norms_are_unbiased():
    """The mean over many small samples hits the square; the plain square of a mean is above."""
    weight, bias = 40 * WEIGHTS[0], 1.0
    length = float(np.linalg.norm(weight))
    spread = math.sqrt(1 + (SIGMA * length) ** 2)
    centre = weight @ POINT.numpy() + bias
    wanted = (2 * norm.pdf(centre / spread) / spread * length) ** 2
    steep = Ensemble([model(Probit(weight.astype(np.float32).tolist(), bias))])
    found = [float(confidences(steep, POINT, SIGMA, 32, s).squares(0)[0]) for s in range(150)]
    error = np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(wanted, abs=4 * error)
    draws = np.random.default_rng(0).standard_normal((20_000, 32))
    slopes = 2 * norm.pdf(centre + SIGMA * length * draws).mean(1) * length
    assert (slopes**2).mean() > wanted + 3 * error


def test_noise_is_keyed_and_batches_play_no_part(probits, monkeypatch):
    first = confidences(probits, POINT, SIGMA, 64, 1, image=3)
    again = confidences(probits, POINT, SIGMA, 64, 1, image=3)
    assert np.array_equal(first.gram, again.gram)
    other = confidences(probits, POINT, SIGMA, 64, 1, image=4)
    assert not np.allclose(first.gram, other.gram, rtol=1e-3)
    monkeypatch.setattr(sampling, "BATCH", 3)
    pieces = confidences(probits, POINT, SIGMA, 64, 1, image=3)
    assert pieces.gram == pytest.approx(first.gram, rel=1e-5)
    assert pieces.means == pytest.approx(first.means, rel=1e-6)


def test_a_member_alone_is_sampled_as_in_company(probits):
    alone = confidences(Ensemble([probits.models[1]]), POINT, SIGMA, 64)
    company = confidences(probits, POINT, SIGMA, 64)
    assert alone.means[0] == pytest.approx(company.means[1], rel=1e-6)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: torch.stack([x[:, 0].round(), x[:, 1]], 1) * torch.tensor([1.0, 0.0]),
        lambda x: torch.stack([x[:, 0].detach(), -x[:, 0].detach()], 1),
        lambda x: nn.functional.one_hot(x[:, :2].argmax(1), 2).float(),
    ],
)
def test_a_network_without_gradients_is_refused(step):
    with pytest.raises(ModelError, match="no gradient flows through member 0"):
        confidences(Ensemble([model(Layer(step))]), POINT, SIGMA, 64)


def test_a_constant_network_has_gradient_zero():
    constant = model(Layer(lambda x: torch.tensor([1.0, 0.0]).expand(len(x), 2)))
    local = confidences(Ensemble([constant]), POINT, SIGMA, 64)
    assert local.margins([1.0]).high.tolist() == [0.0]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.stack([x[:, 0] * torch.inf, x[:, 1]], 1), "logits"),
        # Finite at every point, with a slope 0 / 0: what the square root gives at 0.
        (lambda x: torch.stack([(x[:, 0] * 0).sqrt(), x[:, 1]], 1), "gradients"),
    ],
)
def test_what_is_not_finite_is_refused(function, message):
    with pytest.raises(NonFiniteError, match=message):
        confidences(Ensemble([model(Layer(function))]), POINT, SIGMA, 64)


def test_code_that_fails_under_gradients_is_named():
    broken = model(Layer(lambda x: torch.from_numpy(x.numpy())[:, :2]))
    with pytest.raises(ModelError, match="with gradients failed"):
        confidences(Ensemble([broken]), POINT, SIGMA, 64)


@pytest.mark.parametrize(
    "change",
    [{"samples": 31}, {"sigma": 0.0}, {"sigma": math.nan}, {"weights": [1.0]}],
)
def test_parameters_without_meaning_are_refused(probits, change):
    given = {"sigma": SIGMA, "samples": 64, "weights": None, **change}
    sigma, samples = given.pop("sigma"), given.pop("samples")
    with pytest.raises(ParameterError):
        confidences(probits, POINT, sigma, samples, **given)


def test_of_many_classes_the_closest_are_watched():
    classes = sampling.WATCHED + 6
    generator = torch.Generator().manual_seed(2)
    matrix = torch.randn(DIMENSIONS, classes, generator=generator)
    bias = torch.linspace(2, -2, classes)
    many = Ensemble([model(Layer(lambda x: x @ matrix + bias), classes)])
    local = confidences(many, POINT, SIGMA, 64)
    assert len(local.watched) == sampling.WATCHED
    assert local.label in local.watched
    unseen = set(range(classes)) - set(local.watched)
    assert max(local.means[0, list(unseen)]) <= min(local.means[0, list(local.watched)])
    found = local.margins([1.0])
    assert found.value.shape == (sampling.WATCHED,)  # the watched beside y0, and the rest
    assert (found.low < found.high).tolist() == [False] * (sampling.WATCHED - 1) + [True]


def test_an_unlikely_class_is_left_to_the_rest_and_changes_little():
    quiet = model(Layer(lambda x: torch.stack([x[:, 0] + 1, -x[:, 0], x[:, 1] - 9], 1)), 3)
    local = confidences(Ensemble([quiet]), POINT, SIGMA, 64)
    assert local.watched == (0, 1)
    found = local.margins([1.0])
    assert found.value[1] > found.value[0]
    assert found.sufficient(2.0) == pytest.approx(
        Local(local.means[:, :2], local.gram, (0, 1), SIGMA, 0).margins([1.0]).sufficient(2.0)
    )


# The report over images.


@pytest.fixture
def points():
    x = torch.stack([POINT + 0.1 * k for k in range(4)])
    return Dataset(DataCard("points", "test", (DIMENSIONS,), 2, 4), lambda i: x[list(i)])


def test_the_report_says_what_the_closed_form_says(probits, points):
    found = conditions(probits, points, [0], SIGMA, 20_000)
    margins, gradients = exact(POINT)
    rows = {row.classifier: row for row in found.rows}
    assert list(rows) == ["member 0", "member 1", "weighted", "max-margin"]
    g = float(np.linalg.norm(gradients.mean(0)))
    assert rows["weighted"].margin == pytest.approx(margins.mean(), abs=0.01)
    assert rows["weighted"].gradient == pytest.approx(g, rel=0.02)
    for constant, value in SMOOTHNESS.items():
        beta, m = value / SIGMA**2, margins.mean()
        wanted = (-g + math.sqrt(g * g + 4 * beta * m)) / (2 * beta)
        assert rows["weighted"].sufficient[constant] == pytest.approx(wanted, rel=0.02)
        # Two classes, two members: the max-margin condition is the weighted one.
        assert rows["max-margin"].sufficient[constant] == pytest.approx(wanted, rel=0.02)
    cosine = gradients[0] @ gradients[1] / np.prod(np.linalg.norm(gradients, axis=1))
    a, b = np.linalg.norm(gradients, axis=1)
    limit = (1 - 2 * a * b / (a + b) ** 2 * (1 - cosine)) ** -0.5
    for row in found.comparisons:
        assert row.members == (0, 1)
        assert row.held == 1
        assert row.limit == pytest.approx(limit, rel=0.03)


def test_weights_of_the_weighted_reducer_are_used(probits, points):
    whole = Ensemble(probits.models, "weighted:1,0")
    found = conditions(whole, points, [1], SIGMA, 64)
    rows = {row.classifier: row for row in found.rows}
    assert found.weights == [1.0, 0.0]
    assert rows["weighted"].margin == pytest.approx(rows["member 0"].margin)
    assert rows["weighted"].sufficient == pytest.approx(rows["member 0"].sufficient)


def test_more_than_two_members_have_no_necessary_max_margin_radius(probits, points):
    three = Ensemble([*probits.models, probits.models[0]])
    found = conditions(three, points, [0, 1], SIGMA, 64)
    row = {row.classifier: row for row in found.rows}["max-margin"]
    assert set(row.necessary.values()) == {None}
    assert "two members only" in row.silent
    who = [row.members for row in found.comparisons if row.constant == "tight"]
    assert sorted(set(who)) == [(0, 1), (0, 1, 2), (0, 2), (1, 2)]
    # Members 0 and 2 are one network: their gradients agree, and nothing is promised.
    twins = next(row for row in found.comparisons if row.members == (0, 2))
    assert twins.limit == pytest.approx(1.0)
    assert twins.larger == 0
    cosines = {row.members: row.cosine for row in found.cosines}
    assert cosines[0, 2] == pytest.approx(1.0)
    assert cosines[0, 1] == pytest.approx(cosines[1, 2])
    assert cosines[0, 1] < 0.999
    assert found.cosine == pytest.approx(sum(cosines.values()) / 3)


def test_members_that_disagree_leave_the_theorem_silent(points):
    opposed = Ensemble([model(Probit([1.0] + [0.0] * 5, bias)) for bias in (1.5, -0.6)])
    found = conditions(opposed, points, [0, 1, 2], SIGMA, 64)
    assert [row.agrees for row in found.rows[:2]] == [3, 0]
    for row in found.comparisons:
        assert row.held == 0
        assert row.factor is None
        assert row.reasons == {"a member does not give the class": 3}
    assert "a member does not give the class" in found.table()


def test_the_report_is_json_text_and_html(probits, points):
    found = conditions(probits, points, [0, 2], SIGMA, 64, progress=lambda *_: None)
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert values["smoothness"]["tight"] == pytest.approx(0.48394 / SIGMA**2, abs=1e-4)
    assert values["comparisons"][0]["members"] == [0, 1]
    assert values["cosines"][0]["members"] == [0, 1]
    assert values["cosine"] == found.cosine
    text = found.table()
    assert "not certificates" in text
    assert max(map(len, text.splitlines())) <= 130
    page = conditions_section(values)
    assert "Estimates, not certificates" in page
    assert "mean cosine" in page
    assert "max-margin" in page


def test_one_member_is_refused(probits, points):
    with pytest.raises(ParameterError, match="compare members"):
        conditions(Ensemble([probits.models[0]]), points, [0], SIGMA, 64)
