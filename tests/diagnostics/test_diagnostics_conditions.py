"""DRT's conditions against ensembles whose smoothed confidences are known in closed form.

The members here split the line into intervals and give each a class; under Gaussian smoothing
a confidence is a sum of normal probabilities, its derivative a sum of densities, and the true
radius of the ensemble is found by walking along the line.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from phalanx.diagnostics import conditions as law
from phalanx.diagnostics.geometry import Local
from phalanx.diagnostics.theory import MAX_MARGIN, WEIGHTED, look
from phalanx.errors import ParameterError

SIGMA = 0.5
STEP = 0.01 * SIGMA
REACH = 4 * SIGMA


class Intervals:
    """A member on the line: class ``classes[k]`` between ``edges[k - 1]`` and ``edges[k]``."""

    def __init__(self, edges, classes, number):
        self.edges = np.concatenate([[-np.inf], np.sort(edges), [np.inf]])
        self.classes, self.number = np.asarray(classes), number

    def confidences(self, x):
        """Smoothed confidences ``(points, classes)``."""
        below = norm.cdf((self.edges[None, :] - np.ravel(x)[:, None]) / SIGMA)
        return self._by_class(np.diff(below, axis=1))

    def slopes(self, x):
        density = norm.pdf((self.edges[None, :] - np.ravel(x)[:, None]) / SIGMA) / SIGMA
        return self._by_class(-np.diff(density, axis=1))

    def _by_class(self, pieces):
        members = self.classes[None, :] == np.arange(self.number)[:, None]
        return pieces @ members.T


def random_members(draw, members, classes):
    edges = [draw.integers(1, 5) for _ in range(members)]
    # Members that mostly agree near 0, as trained ones do: the piece around it has class 0.
    found = []
    for count in edges:
        cuts = np.sort(draw.normal(0, 1.6 * SIGMA, count))
        labels = draw.integers(0, classes, count + 1)
        here = np.searchsorted(cuts, 0.0)
        labels[here] = 0
        if draw.random() < 0.6:  # an edge close by: a small margin with a steep slope
            cuts = np.append(cuts, 0.15 * SIGMA * draw.random() + SIGMA * 0.02)
            labels = np.insert(labels, here + 1, draw.integers(1, classes))
            labels[here + 2 :] = labels[here + 1]
            cuts.sort()
        found.append(Intervals(cuts, labels, classes))
    return found


def local_of(members, weights):
    means = np.concatenate([m.confidences(0.0) for m in members])
    slopes = np.concatenate([m.slopes(0.0) for m in members])
    gram = np.einsum("ia,jb->iajb", slopes, slopes)
    label = int((np.asarray(weights) @ means).argmax())
    return Local(means, gram, tuple(range(means.shape[1])), SIGMA, label)


def weighted_answers(members, weights, x):
    return sum(w * m.confidences(x) for w, m in zip(weights, members, strict=True)).argmax(1)


def max_margin_answers(members, x):
    values = np.stack([m.confidences(x) for m in members])
    top = np.sort(values, axis=2)
    leader = (top[:, :, -1] - top[:, :, -2]).argmax(0)
    return values[leader, np.arange(values.shape[1])].argmax(1)


def true_radius(answers, label):
    """Distance of the first point with another answer (late by less than `STEP`), or infinity."""
    away = np.arange(0.0, REACH, STEP)
    wrong = (answers(away) != label) | (answers(-away) != label)
    return float(away[wrong.argmax()]) if wrong.any() else math.inf


def ensembles(count, members, classes, seed):
    draw = np.random.default_rng(seed)
    for _ in range(count):
        weights = draw.dirichlet(np.ones(members))
        yield random_members(draw, members, classes), weights.tolist()


@pytest.mark.parametrize(("members", "classes"), [(1, 2), (2, 2), (2, 4), (3, 3)])
def test_weighted_radii_enclose_the_true_one(members, classes):
    finite = 0
    for chosen, weights in ensembles(80, members, classes, seed=members * 10 + classes):
        local = local_of(chosen, weights)
        true = true_radius(lambda x, c=chosen, w=weights: weighted_answers(c, w, x), local.label)
        margins = local.margins(weights)
        for constant in law.SMOOTHNESS:
            beta = law.smoothness(SIGMA, constant)
            assert margins.sufficient(beta) <= true
            needed = margins.necessary(beta)
            assert true <= needed + STEP
            finite += needed < math.inf
    assert finite > 20  # the necessary condition was not silent


@pytest.mark.parametrize(("members", "classes"), [(2, 2), (2, 4), (3, 3), (4, 2)])
def test_max_margin_radii_enclose_the_true_one(members, classes):
    finite = moved = 0
    for chosen, weights in ensembles(80, members, classes, seed=members + classes):
        local = local_of(chosen, weights)
        found = look(local, weights).conditions[MAX_MARGIN]
        true = true_radius(lambda x, c=chosen: max_margin_answers(c, x), local.label)
        moved += true < math.inf
        for constant in law.SMOOTHNESS:
            assert found.sufficient[constant] <= true
            needed = found.necessary[constant]
            if needed is not None:
                assert true <= needed + STEP
                finite += needed < math.inf
    assert moved > 20
    assert finite > 20 if members == 2 else finite == 0


def test_the_theorem_never_promises_more_than_the_conditions():
    held = 0
    for chosen, weights in ensembles(50, 3, 3, seed=5):
        local = local_of(chosen, weights)
        for (who, protocol, constant), found in look(local, weights).comparisons.items():
            if found.radius is None:
                assert found.reason in {law.NOT_THE_CLASS, law.TOO_MUCH_SLACK}
                continue
            held += 1
            some = [chosen[i] for i in who]
            share = [weights[i] for i in who] if len(who) > 2 else [1.0, 1.0]
            beta = law.smoothness(SIGMA, constant)
            if protocol == WEIGHTED:
                rows = np.zeros(3)
                rows[list(who)] = share
                enough = local.margins(rows.tolist()).sufficient(beta)
                true = true_radius(
                    lambda x, c=some, w=share: weighted_answers(c, w, x), local.label
                )
            else:
                enough = local.pair(*who).sufficient(beta)
                true = true_radius(lambda x, c=some: max_margin_answers(c, x), local.label)
            assert found.radius <= enough * (1 + 1e-9) <= true * (1 + 1e-9)
    assert held > 100


# What must turn red. The member that gives class 0 within sigma of the input bends as much as
# any smoothed function can: g = 0, m = 2 P(|z| < 1) - 1, curvature 2 beta.
BENT = [Intervals([-SIGMA, SIGMA], [1, 0, 1], 2)]


def test_a_wrong_constant_or_weight_is_caught():
    local = local_of(BENT, [1.0])
    true = true_radius(lambda x: weighted_answers(BENT, [1.0], x), 0)
    m = local.margins([1.0])
    beta = law.smoothness(SIGMA)
    assert m.high[0] == pytest.approx(0.0, abs=1e-12)
    assert m.sufficient(beta) <= true <= 1.1 * m.sufficient(beta)
    for planted_beta, planted_weight in [(beta / 2, 1.0), (beta / 1.5, 1.0), (beta, 0.5)]:
        assert law.sufficient_radius(m.value, m.high, planted_beta, planted_weight).min() > true
    swapped = law.smoothness(SIGMA, "paper")
    assert law.sufficient_radius(m.value, m.high, swapped) < m.sufficient(beta)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [2.0, 6.0]])
def test_the_weights_sum_is_needed(weights):
    """Weights that do not add to 1: the same ensemble, and W = 1 would promise too much."""
    twice = [BENT[0], BENT[0]]
    local = local_of(twice, weights)
    m, beta = local.margins(weights), law.smoothness(SIGMA)
    true = true_radius(lambda x: weighted_answers(twice, weights, x), 0)
    assert m.sufficient(beta) == pytest.approx(local.margins([1.0, 0.0]).sufficient(beta))
    assert law.sufficient_radius(m.value, m.high, beta, 1.0).min() > true


def test_a_necessary_radius_with_too_little_smoothness_is_caught():
    """A margin may bend back: with too small a beta some r_nec lies below the true radius."""
    wrong = 0
    for chosen, weights in ensembles(80, 1, 2, seed=3):
        local = local_of(chosen, weights)
        true = true_radius(lambda x, c=chosen: weighted_answers(c, [1.0], x), local.label)
        m = local.margins(weights)
        wrong += true > float(law.necessary_radius(m.value, m.low, 0.05).min()) + STEP
    assert wrong > 0


# The smoothness constant.


def smoothed(h, t, sigma):
    """``E h(t / sigma + z)`` by quadrature on a fine grid that hits the edges of h."""
    z = np.linspace(-10, 10, 40_001)
    return np.trapezoid(h(t / sigma + z) * norm.pdf(z), z)


def test_the_tight_constant_is_attained_by_the_outside_of_one_sigma():
    def value(t):
        return norm.cdf((-SIGMA - t) / SIGMA) + norm.sf((SIGMA - t) / SIGMA)

    h = 1e-3
    bend = (value(h) - 2 * value(0.0) + value(-h)) / h**2
    assert bend == pytest.approx(1.93576, abs=1e-5)
    assert bend <= law.smoothness(SIGMA)
    assert law.smoothness(SIGMA) == pytest.approx(2 * norm.pdf(1) / SIGMA**2, rel=1e-14)
    assert law.smoothness(SIGMA, "paper") / law.smoothness(SIGMA) == pytest.approx(4.13, abs=0.01)


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=5), st.integers(0, 31))
@settings(max_examples=40, deadline=None)
def test_no_smoothed_output_bends_more(edges, pattern):
    member = Intervals(
        np.array(edges) * SIGMA, [(pattern >> k) & 1 for k in range(6)][: len(edges) + 1], 2
    )
    x = np.linspace(-2, 2, 401)
    slopes = member.slopes(x)
    assert np.abs(np.diff(slopes, axis=0) / (x[1] - x[0])).max() <= law.smoothness(SIGMA)
    margin = slopes[:, 0] - slopes[:, 1]
    assert np.abs(np.diff(margin) / (x[1] - x[0])).max() <= 2 * law.smoothness(SIGMA)
    values = member.confidences(x)
    assert (np.abs(slopes) <= norm.pdf(norm.ppf(values)) / SIGMA + 1e-12).all()


# The closed forms.

POSITIVE = st.floats(1e-3, 10)


@given(POSITIVE, st.floats(0, 10), POSITIVE, POSITIVE)
def test_radii_solve_their_conditions(m, g, beta, weight):
    enough = float(law.sufficient_radius(m, g, beta, weight))
    needed = float(law.necessary_radius(m, g, beta, weight))
    assert m / enough - beta * weight * enough == pytest.approx(g, rel=1e-6, abs=1e-6)
    if needed < math.inf:
        assert m / needed + beta * weight * needed == pytest.approx(g, rel=1e-6, abs=1e-6)
    assert 0 < enough < needed
    assert float(law.sufficient_radius(m, g, 4 * beta, weight)) < enough
    assert float(law.necessary_radius(m, g, 4 * beta, weight)) >= needed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1])
def test_numbers_from_which_no_radius_follows(bad):
    for radius in (law.sufficient_radius, law.necessary_radius):
        with pytest.raises(ParameterError):
            radius(0.5, bad, 1.0)
        with pytest.raises(ParameterError):
            radius(math.nan, 0.5, 1.0)
        for beta, weight in product([math.nan, 0.0, -1.0, math.inf], [1.0]):
            with pytest.raises(ParameterError):
                radius(0.5, 0.5, beta, weight)
            with pytest.raises(ParameterError):
                radius(0.5, 0.5, weight, beta)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_no_smoothness_without_noise(sigma):
    with pytest.raises(ParameterError):
        law.smoothness(sigma)
    with pytest.raises(ParameterError, match="no smoothness constant"):
        law.smoothness(0.5, "loose")


# The theorem.


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.6))
@settings(max_examples=80, deadline=None)
def test_the_promised_radius_meets_the_sufficient_condition(seed, base):
    """From nothing but the members' necessary conditions at ``base``, as the proof says."""
    draw = np.random.default_rng(seed)
    beta, weights = law.smoothness(SIGMA), draw.uniform(0.1, 1, 2)
    margins = draw.uniform(0.2, 1.0, 2)
    gradients = draw.normal(size=(2, 5))
    gradients /= np.linalg.norm(gradients, axis=1, keepdims=True)
    gradients *= (margins / base + beta * base)[:, None]  # as steep as robustness allows
    whole = weights @ gradients
    lengths = weights * np.linalg.norm(gradients, axis=1)
    share = float(np.linalg.norm(whole) / lengths.sum())
    cosine = float(gradients[0] @ gradients[1] / np.prod(np.linalg.norm(gradients, axis=1)))
    assert float(law.pair_alignment(*lengths, cosine)) == pytest.approx(share, abs=1e-9)
    m, weight = float(weights @ margins), float(weights.sum())
    found = law.ensemble_against_base(base, margins, m, share, beta, weight=weight)
    if found.radius is None:
        assert found.reason == law.TOO_MUCH_SLACK
        assert found.slack >= 1
        return
    r = found.radius
    assert np.linalg.norm(whole) <= (m / r - beta * weight * r) * (1 + 1e-9)
    # The premises, and the formula of the paper.
    assert beta * base**2 <= found.slack * margins.min() * (1 + 1e-9)
    assert beta * weight * r**2 <= found.slack * m * (1 + 1e-9)
    assert r == pytest.approx(base * (1 - found.slack) / (1 + found.slack) / share)


def test_a_gain_is_promised_up_to_the_reach():
    share, beta = 0.8, law.smoothness(SIGMA)
    reach = law.ensemble_against_base(0.01, [0.9, 0.7], 0.8, share, beta).reach
    below = law.ensemble_against_base(0.98 * reach, [0.9, 0.7], 0.8, share, beta)
    above = law.ensemble_against_base(1.02 * reach, [0.9, 0.7], 0.8, share, beta)
    assert above.factor < 1 < below.factor


@pytest.mark.parametrize(
    ("base", "margins", "reason"),
    [
        (0.2, [-0.1, 0.9], law.NOT_THE_CLASS),
        (0.0, [0.1, 0.9], law.NOT_THE_CLASS),
        (1.0, [0.9, 0.9], law.TOO_MUCH_SLACK),
    ],
)
def test_a_premise_that_fails_leaves_the_number_absent(base, margins, reason):
    found = law.ensemble_against_base(base, margins, 0.4, 0.5, law.smoothness(SIGMA))
    assert found.radius is None
    assert found.factor is None
    assert found.reason == reason


@pytest.mark.parametrize(
    "change", [{"base": math.nan}, {"base": -1.0}, {"alignment": 1.5}, {"alignment": math.nan}]
)
def test_a_theorem_needs_numbers(change):
    given = {"base": 0.1, "member_margins": [0.5, 0.5], "margin": 0.5, "alignment": 0.5, **change}
    with pytest.raises(ParameterError):
        law.ensemble_against_base(**given, beta=1.0)


# Inner products instead of gradients.


def test_local_geometry_is_that_of_the_gradients():
    draw = np.random.default_rng(0)
    members, classes, label = 3, 4, 2
    means = draw.dirichlet(np.ones(classes), members)
    gradients = draw.normal(size=(members, classes, 6))
    gram = np.einsum("iad,jbd->iajb", gradients, gradients)
    local = Local(means, gram, (0, 1, 2, 3), SIGMA, label)
    weights = [0.2, 0.5, 0.3]
    others = local.others
    slopes = gradients[:, [label]] - gradients[:, others]
    found = local.margins(weights)
    assert found.high == pytest.approx(np.linalg.norm(np.tensordot(weights, slopes, 1), axis=1))
    assert found.value == pytest.approx(weights @ (means[:, [label]] - means[:, others]))
    pair = local.pair(0, 2)
    assert pair.weight == 2.0
    for a, b in product(range(3), range(3)):
        wanted = slopes[0, a] + slopes[2, b]
        assert pair.high[a, b] == pytest.approx(np.linalg.norm(wanted))
        assert local.products(0, 2)[a, b] == pytest.approx(slopes[0, a] @ slopes[2, b])
    cosine = look(local, weights).cosines[0, 2]
    sizes = np.linalg.norm(slopes, axis=2)
    wanted = [slopes[0, a] @ slopes[2, a] / (sizes[0, a] * sizes[2, a]) for a in range(3)]
    assert min(abs(cosine - one) for one in wanted) < 1e-12


def test_the_rest_errs_on_the_safe_side():
    """Classes left out of the gradients: r_suf may only shrink, r_nec only grow."""
    tight = law.smoothness(SIGMA)
    for chosen, weights in ensembles(60, 2, 5, seed=11):
        whole = local_of(chosen, weights)
        order = [int(c) for c in (-whole.means.max(0)).argsort() if c != whole.label]
        kept = tuple(sorted([whole.label, *order[:2]]))
        gram = whole.gram[:, kept][:, :, :, kept]
        fewer = Local(whole.means, gram, kept, SIGMA, whole.label)
        assert fewer.margins(weights).value.shape == (3,)
        for some, every in (
            (fewer.margins(weights), whole.margins(weights)),
            (fewer.pair(0, 1), whole.pair(0, 1)),
        ):
            assert some.sufficient(tight) <= every.sufficient(tight) + 1e-12
            assert some.necessary(tight) >= every.necessary(tight) - 1e-12
        for (_, protocol, constant), found in look(fewer, weights).comparisons.items():
            margins = whole.pair(0, 1) if protocol == MAX_MARGIN else whole.margins([1.0, 1.0])
            enough = margins.sufficient(law.smoothness(SIGMA, constant))
            assert (found.radius or 0.0) <= enough * (1 + 1e-9)
        for member in range(2):
            limit = whole.top_two_radius(member, tight) * (1 + 1e-9)
            assert fewer.top_two_radius(member, tight) <= limit


def test_what_is_promised_may_not_exceed_what_the_rest_allows():
    """Opposite gradients to the watched class; the rest is likely, and may be steep."""
    slopes = np.array([[0.0, 0.5], [0.0, -0.5]])
    means = np.array([[0.70, 0.05, 0.25]] * 2)
    gram = np.einsum("ia,jb->iajb", slopes, slopes)
    local = Local(means, gram, (0, 1), SIGMA, 0)
    beta = law.smoothness(SIGMA)
    rest = float(law.sufficient_radius(0.45, norm.pdf(norm.ppf(0.25)) / SIGMA, beta))
    for protocol in (WEIGHTED, MAX_MARGIN):
        found = look(local, [0.5, 0.5]).comparisons[(0, 1), protocol, "tight"]
        alone = law.ensemble_against_base(found.base, [[0.65], [0.65]], 0.65, 0.0, beta)
        assert found.radius == pytest.approx(rest)
        assert found.radius < alone.radius
        assert found.reach <= rest * (1 + 1e-9)


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [1.0, -1.0], [math.nan, 1.0]])
def test_weights_without_meaning_are_refused(weights):
    local = local_of([BENT[0], BENT[0]], [1.0, 1.0])
    with pytest.raises(ParameterError, match="weights"):
        local.margins(weights)
