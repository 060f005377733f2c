"""Top-k certificates: the class stays among the k most likely ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from phalanx.errors import ParameterError
from phalanx.runs.radii import certified_radius
from phalanx.smoothing.certificate import certify_rule
from phalanx.smoothing.charge import Charge
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.radii import Ball, among, radii
from phalanx.smoothing.radii._among import reach
from phalanx.smoothing.radii.neyman_pearson import NeymanPearson
from phalanx.smoothing.stopping import Evidence, fixed_evidence

PLAIN = bounds.get("clopper-pearson")
RULE = NeymanPearson()
SIGMA = 0.7


def ahead(p: np.ndarray, label: int) -> int:
    """How many classes are at least as likely."""
    return int((np.delete(p, label) >= p[label]).sum())


def sums(p: np.ndarray, label: int, k: int) -> list[float]:
    """What `Evidence.others` bounds, exactly: of the k likeliest others the t least likely."""
    return np.cumsum(np.sort(np.delete(p, label))[-k:]).tolist()


class Stripes:
    """A base classifier on the line: which class each interval between sorted cuts has."""

    def __init__(self, rng: np.random.Generator, classes: int, intervals: int) -> None:
        self.cuts = np.sort(rng.normal(0, 1.2, intervals - 1))
        self.owners = rng.integers(0, classes, intervals)
        self.classes = classes

    def at(self, x: float) -> np.ndarray:
        """Probability of every class under noise of `SIGMA` around x."""
        mass = np.diff(norm.cdf(np.concatenate([[-np.inf], self.cuts - x, [np.inf]]) / SIGMA))
        return np.bincount(self.owners, mass, self.classes)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_no_voter_on_the_line_breaks_a_radius(k):
    """Exact probabilities in, and every shift within the radius that they give is tried."""
    rng, gained, certified = np.random.default_rng(k), 0, 0
    for _ in range(120):
        voter = Stripes(rng, 6, int(rng.integers(4, 30)))
        here = voter.at(0.0)
        for label in range(6):
            p = float(here[label])
            plain = among(RULE, k).radius(p, SIGMA)
            others = sums(here, label, k)
            radius = RULE.radius_against(p, others, SIGMA) if min(others) > 0 else plain
            assert radius >= plain * (1 - 1e-9)
            certified, gained = certified + (radius > 0), gained + (radius > plain * 1.01)
            for shift in np.linspace(-radius, radius, 21) * (1 - 1e-9):
                if radius:
                    assert ahead(voter.at(shift), label) < k
    assert certified > 60
    assert gained > 15


@pytest.mark.parametrize("k", [2, 3, 7])
def test_a_class_is_lost_where_its_rivals_share_the_rest_evenly(k):
    """The plain radius is tight: rivals that alternate in fine stripes are equal everywhere."""
    p = 0.6
    radius = among(RULE, k).radius(p, 1.0)
    assert norm.cdf(norm.ppf(p) - radius) == pytest.approx(1 / (k + 1), abs=1e-12)
    assert RULE.radius_against(p, [1 - p] * k, 1.0) == pytest.approx(radius, rel=1e-9)


def test_one_most_likely_class_is_the_rule_itself():
    assert among(RULE, 1) is RULE
    for name in ("renyi", "f-divergence", "differential-privacy"):
        assert among(radii.get(name), 1).noise == "gaussian"
        with pytest.raises(ParameterError, match="3 most likely"):
            among(radii.get(name), 3)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_reach_is_the_root_of_the_equation(size):
    rng = np.random.default_rng(size)
    for _ in range(200):
        p, others = rng.uniform(0.001, 0.999), rng.uniform(1e-6, 1.0)
        found = reach(p, others, size)
        if p * size <= others:
            assert found == 0.0
            continue

        def gap(r, p=p, others=others):
            return norm.cdf(norm.ppf(p) - r) - norm.cdf(norm.ppf(others) + r) / size

        root = brentq(gap, 0, 60, xtol=1e-15)
        assert found <= root * (1 + 1e-12)
        assert found == pytest.approx(root, rel=1e-8, abs=1e-12)
        assert found >= reach(p, min(1.0, others * 1.1), size)


def test_others_that_may_hold_everything():
    assert reach(0.6, 1.0, 2) == pytest.approx(norm.ppf(0.6) - norm.ppf(0.5), rel=1e-9)
    assert reach(0.5, 1.0, 2) == 0.0
    for wrong in ([], [0.0], [1.2], [float("nan")], [0.3, 0.0]):
        with pytest.raises(ParameterError):
            RULE.radius_against(0.5, wrong, 1.0)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_more_most_likely_classes_certify_more(k):
    p, each = 0.4, [0.05, 0.15, 0.3]
    others = np.cumsum(sorted(each)[-k:]).tolist()
    wider = np.cumsum([0.01, *sorted(each)][-(k + 1) :]).tolist()
    assert RULE.radius_against(p, wider, 1.0) >= RULE.radius_against(p, others, 1.0)
    assert among(RULE, k + 1).radius(0.6, 1.0) > among(RULE, k).radius(0.6, 1.0)


def test_bounds_on_the_others_are_sums_of_the_largest_counts():
    counts = {0: 400, 1: 300, 2: 200, 3: 100}
    found = fixed_evidence({0: 1}, counts, PLAIN, 0.01, runner_up=0.5, classes=5, top=3)
    each = [PLAIN.upper(votes, 1000, 0.005 / 4) for votes in (100, 200, 300)]
    wanted = [min(value, 1 - found.p_lower) for value in np.cumsum(each)]
    assert found.others == pytest.approx(wanted)
    few = fixed_evidence({0: 1}, {0: 1000}, PLAIN, 0.01, runner_up=0.5, classes=5, top=3)
    assert len(few.others) == 3
    assert few.others[0] == pytest.approx(min(PLAIN.upper(0, 1000, 0.005 / 4), 1 - few.p_lower))


@pytest.mark.parametrize("truth", [(0.3, 0.25, 0.2, 0.15, 0.1), (0.2, 0.4, 0.35, 0.04, 0.01)])
@pytest.mark.parametrize("k", [2, 3])
def test_all_bounds_hold_together(truth, k):
    """Failures of (the class too high or any sum too low), over 20,000 runs at alpha 0.05."""
    rng, alpha, n, runs, p = np.random.default_rng(k), 0.05, 400, 20_000, np.array(truth)
    exact, known, wrong = sums(p, 0, k), {}, 0
    for row in rng.multinomial(n, truth, size=runs):
        key = (row[0], *np.sort(row[1:])[-k:])
        if key not in known:
            counts = dict(enumerate(map(int, row)))
            options = {"runner_up": 0.5, "classes": 5, "top": k}
            known[key] = fixed_evidence({0: 1}, counts, PLAIN, alpha, **options)
        found = known[key]
        wrong += found.p_lower > p[0] or any(np.array(found.others) < exact)
    assert wrong / runs <= alpha + 4 * np.sqrt(alpha / runs)


def test_the_arithmetic_is_charged_once_for_a_set_of_classes():
    evidence = Evidence(0, 400, 1000, 0.4, 0, 1000, (0.2, 0.45))
    charge = Charge(0.01)
    found = certify_rule(evidence, RULE, sigma=1.0, alpha=0.01, charge=charge)
    wanted = RULE.radius_against(0.39, [0.21, 0.46], 1.0)
    assert found.radius == pytest.approx(wanted, rel=1e-12)
    assert found.radius <= wanted
    assert found.verdict.value == "verified"


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform"])
@pytest.mark.parametrize("norm_name", ["l1", "l2", "linf"])
@pytest.mark.parametrize("k", [2, 4])
def test_the_second_code_gives_the_same_radii(noise, norm_name, k):
    rule = radii.get("neyman-pearson" if noise == "gaussian" else noise)
    config = {"noise": noise, "norm": norm_name, "dimension": 49, "top": k}
    for p in (1 / (k + 1) + 1e-6, 0.4, 0.5, 0.7, 0.9999):
        ours = among(rule, k).radius(p, 0.5, Ball(norm_name, 49))
        assert ours == pytest.approx(certified_radius(p, config, 0.5), rel=3e-6)
        assert among(rule, k).radius(1 / (k + 1) - 1e-9, 0.5, Ball(norm_name, 49)) == 0
    if noise == "gaussian":
        for others in ([0.3, 0.35], [0.1, 0.19, 0.3], [0.2, 1.0]):
            ours = rule.radius_against(0.35, others, 0.5, Ball(norm_name, 49))
            second = certified_radius(0.35, config, 0.5, others)
            assert ours == pytest.approx(second, rel=1e-9)
            assert ours > 0


def test_the_numbers_of_the_page():
    """Of docs/certificates.md: 0.6 against 0.3, 0.05 and 0.05."""
    p, rivals = 0.6, np.array([0.3, 0.05, 0.05])
    plain = [among(RULE, k).radius(p, 1.0) for k in (1, 2, 3)]
    sharp = [
        RULE.radius_against(p, np.minimum(np.cumsum(np.sort(rivals)[-k:]), 1 - p).tolist(), 1.0)
        for k in (1, 2, 3)
    ]
    assert [round(radius, 2) for radius in plain] == [0.25, 0.68, 0.93]
    assert [round(radius, 2) for radius in sharp] == [0.39, 0.95, 1.07]
