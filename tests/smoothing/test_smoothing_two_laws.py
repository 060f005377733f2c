"""Sampling from two laws: the split, its chunks, and what its evidence proves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phalanx.errors import ParameterError
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.distributions.generalised_gaussian import GeneralisedGaussian as Radial
from phalanx.noise.stream import NormalStream
from phalanx.runs.schema import ESTIMATION, INVALID, SECOND_LAW, SELECTION
from phalanx.smoothing.certificate import certify_evidence
from phalanx.smoothing.confidence.clopper_pearson import ClopperPearson
from phalanx.smoothing.double_sampling.laws import SmallerVariance, Truncation
from phalanx.smoothing.double_sampling.radius import Certified
from phalanx.smoothing.double_sampling.split import (
    SplitSampling,
    check_split,
    pieces,
    planned_split,
)
from phalanx.smoothing.radii import Ball
from phalanx.smoothing.radii.double_sampling import DoubleSampling
from phalanx.smoothing.stopping import Evidence, SecondVotes, Setting
from phalanx.smoothing.two_laws import TwoLaws, certify_two_laws

N, N0, CHUNK, ALPHA = 1000, 4, 300, 0.01
SPLIT = (1000, 1000, 800, 500, 600)
LAWS = TwoLaws("generalised-gaussian", None, 0.5, 784)


def rule(split=SPLIT):
    setting = Setting(N, N0, CHUNK, ALPHA, ClopperPearson())
    return SplitSampling(setting, lambda: split)


def rows(chunks, phase):
    return [chunk.rows for chunk in chunks if chunk.phase == phase]


def votes(hits, of_p, of_q):
    """Selection votes for class 1, and then unanimous votes of these sizes."""
    return {
        SELECTION: [{1: hits, 0: N0 - hits}],
        ESTIMATION: [{1: k} for k in of_p],
        SECOND_LAW: [{1: k} for k in of_q],
    }


def test_before_the_selection_only_what_every_split_needs():
    first = rule().decide({})
    assert rows(first, SELECTION) == [4]
    assert rows(first, ESTIMATION) == [300, 200]
    assert rows(first, SECOND_LAW) == []
    first = rule((700, 700, 800, 500, 600)).decide({})
    assert (rows(first, ESTIMATION), rows(first, SECOND_LAW)) == ([300, 200], [200])


@pytest.mark.parametrize(
    ("hits", "of_p", "of_q"),
    [(3, [300, 200], [200, 200, 100]), (4, [300, 200, 100], [200, 200])],
)
def test_the_selection_decides_and_chunks_are_shared(hits, of_p, of_q):
    chunks = rule().decide({SELECTION: [{1: hits, 0: N0 - hits}]})
    assert (rows(chunks, ESTIMATION), rows(chunks, SECOND_LAW)) == (of_p, of_q)
    assert rule().decide(votes(hits, of_p[:-1], of_q)) == chunks
    found = rule().decide(votes(hits, of_p, of_q))
    n_q = sum(of_q)
    lower = ClopperPearson().lower(n_q, n_q, ALPHA / 2)
    assert found.second == SecondVotes(n_q, n_q, lower)
    assert (found.label, found.n_a, found.n, found.samples) == (1, N - n_q, N - n_q, N + N0)
    assert found.p_lower == ClopperPearson().lower(found.n, found.n, ALPHA / 2)
    # What another classifier needed of the same noise changes nothing.
    assert rule().decide(votes(hits, [*of_p, 200], [*of_q, 1])) == found


def test_all_to_the_first_law_is_neyman_pearson():
    chunks = rule((N,)).decide({})
    assert rows(chunks, ESTIMATION) == [300, 300, 300, 100]
    found = rule((N,)).decide(votes(3, [300, 300, 300, 100], []))
    assert found.second is None
    assert found.p_lower == ClopperPearson().lower(N, N, ALPHA)


def test_votes_that_are_not_finite_end_in_an_error():
    found = rule().decide({SELECTION: [{1: 3, INVALID: 1}]})
    assert (found.broken, found.samples) == (1, N0)
    broken = votes(3, [300, 200], [200, 200])
    broken[SECOND_LAW].append({1: 99, INVALID: 1})
    found = rule().decide(broken)
    assert found.broken == 1
    (certificate,) = certify_two_laws([found], LAWS, DoubleSampling(), alpha=ALPHA)
    assert certificate.verdict.value == "error"
    assert not certificate.details


def test_pieces_are_the_same_chunks_whatever_is_taken():
    ends = [1000, 800, 500]
    whole = list(pieces(ESTIMATION, 1000, ends, CHUNK))
    for total in (0, *ends):
        taken = list(pieces(ESTIMATION, total, ends, CHUNK))
        assert taken == whole[: len(taken)]
        assert sum(chunk.rows for chunk in taken) == total
    assert list(pieces(SECOND_LAW, 0, [0, 0], CHUNK)) == []


def test_a_planned_split_prefers_neyman_pearson_where_votes_are_few():
    law, second = LAWS.first, LAWS.second
    assert set(planned_split(law, second, 1000, 20, 0.001)) == {1000}
    split = planned_split(law, second, 100_000, 20, 0.001)
    assert len(split) == 21
    assert max(split[18:20]) < 100_000


@pytest.mark.parametrize("split", [(), (0,), (N + 1,), (500, 500), (500.0,) * 5, (True,) * 5])
def test_what_is_no_split_is_refused(split):
    with pytest.raises(ParameterError, match="a split of 1000 samples"):
        check_split(split, N, N0)


def test_laws_and_noise_are_those_of_the_run():
    assert (LAWS.first.k, LAWS.second) == (380, SmallerVariance(0.4))
    assert LAWS.second_noise == Radial(0.4, 380)
    cut = TwoLaws("generalised-gaussian", 100, 0.5, 784, "truncation")
    assert (cut.second, cut.second_noise) == (Truncation(0.5), Radial(0.5, 100, 0.5))
    # Gaussian noise is multiplied by float32(sigma), so that is the law's.
    gaussian = TwoLaws("gaussian", None, 0.12, 784, level=0.1)
    assert (gaussian.first.k, gaussian.first.sigma) == (0, float(np.float32(0.12)))
    assert (gaussian.second, gaussian.second_noise) == (
        SmallerVariance(float(np.float32(0.1))),
        Gaussian(0.1),
    )
    cut = TwoLaws("gaussian", None, 0.12, 784, "truncation", 0.7)
    assert cut.second_noise == Radial(float(np.float32(0.12)), 0, 0.7)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "larger-variance"}, "second law is 'larger-variance'"),
        ({"level": 0.6}, "second sigma of 0.6"),
        ({"level": 0.0}, "second sigma is 0.0"),
        ({"kind": "truncation", "level": 1.0}, "truncation to the mass 1.0"),
        ({"dimension": 2}, "order 0 in 2 dimensions"),
        ({"noise": "gaussian", "dimension": 3072}, "second sigma of 0.4"),
    ],
)
def test_laws_that_do_not_go_together_are_refused(change, says):
    options = {"noise": "generalised-gaussian", "order": None, "sigma": 0.5, "dimension": 784}
    with pytest.raises(ParameterError, match=says):
        TwoLaws(**options | change)


@pytest.mark.parametrize("kind", ["smaller-variance", "truncation"])
@pytest.mark.parametrize("noise", ["gaussian", "generalised-gaussian"])
def test_both_noises_have_the_lengths_of_their_laws(noise, kind):
    """The mean and the spread of ``|e|^2``, against the Gamma laws in closed form."""
    laws = TwoLaws(noise, None, 0.5, 64, kind)
    count, x = 20_000, torch.zeros(64)
    out = torch.empty(count, 64)
    laws.second_noise.fill(out, x, NormalStream(1, 64))
    t = (out.double() ** 2).sum(1) / laws.first.unit**2
    shape = laws.first.shape
    if kind == "truncation":
        assert float(t.max()) <= laws.second.threshold(laws.first) * (1 + 1e-6)
        draws = np.random.default_rng(0).gamma(shape, size=400_000)
        draws = draws[draws <= laws.second.threshold(laws.first)]
        mean, spread = draws.mean(), draws.std()
    else:
        squeeze = (laws.second.sigma / laws.first.sigma) ** 2
        mean, spread = shape * squeeze, shape**0.5 * squeeze
    assert abs(float(t.mean()) - mean) < 5 * spread / count**0.5 + 5 * spread / 200_000**0.5
    assert float(t.std()) == pytest.approx(spread, rel=0.03)


def evidence(n_a=49_000, hits=49_800, n=50_000):
    lower = ClopperPearson().lower
    second = SecondVotes(hits, n, lower(hits, n, ALPHA / 2))
    return Evidence(3, n_a, n, lower(n_a, n, ALPHA / 2), 0, 100_100, second=second)


def test_a_certificate_carries_its_proof():
    (found,) = certify_two_laws([evidence()], LAWS, DoubleSampling(), alpha=ALPHA)
    said = found.details
    assert (found.predicted, found.n_a, found.n) == (3, 49_000, 50_000)
    assert said["alpha"] == {"p": ALPHA / 2, "q": ALPHA / 2}
    assert said["p"] == [evidence().p_lower, 1.0]
    assert said["q"] == [evidence().second.lower, 1.0]
    assert (said["n_p"], said["n_q"], said["hits_q"]) == (50_000, 50_000, 49_800)
    assert (said["law"], said["level"]) == ("smaller-variance", 0.4)
    assert said["bound"] > 0.5
    assert 0 < said["error"] < 1e-3
    assert said["distance"] * (1 - 3e-6) < found.radius < said["distance"]
    (linf,) = certify_two_laws(
        [evidence()], LAWS, DoubleSampling(), alpha=ALPHA, ball=Ball("linf", 784)
    )
    (l1,) = certify_two_laws(
        [evidence()], LAWS, DoubleSampling(), alpha=ALPHA, ball=Ball("l1", 784)
    )
    assert linf.radius == pytest.approx(found.radius / 28)
    assert l1.radius == found.radius


def test_company_changes_no_certificate():
    many = [evidence(n_a=k) for k in (20_000, 30_000, 49_000, 49_990)]
    plain = Evidence(1, 900, 1000, 0.85, 0, 1100)
    together = certify_two_laws([*many, plain], LAWS, DoubleSampling(), alpha=ALPHA)
    alone = [
        certify_two_laws([one], LAWS, DoubleSampling(), alpha=ALPHA)[0] for one in [*many, plain]
    ]
    assert together == alone
    assert [c.verdict.value for c in together] == ["abstained", *4 * ["verified"]]
    assert together[0].radius == 0
    assert together[-1].details == {"n_p": 1000, "n_q": 0, "alpha": {"p": ALPHA}}


@pytest.mark.parametrize("noise", ["gaussian", "generalised-gaussian"])
def test_without_a_second_law_it_is_the_plain_certificate(noise):
    plain, ball = Evidence(1, 900, 1000, 0.85, 0, 1100), Ball("l2", 784)
    laws, used = TwoLaws(noise, None, 0.5, 784, level=0.45), DoubleSampling(noise)
    (found,) = certify_two_laws([plain], laws, used, alpha=ALPHA, ball=ball)
    name = "neyman-pearson" if noise == "gaussian" else noise
    expected = certify_evidence(plain, sigma=0.5, alpha=ALPHA, certificate=name, ball=ball)
    assert found.radius == expected.radius
    assert found.verdict == expected.verdict


class Chained(DoubleSampling):
    """Finds a multiplier of Q below 0, or nothing."""

    def __init__(self, l2, radius=1.0):
        super().__init__()
        self.found = l2, radius

    def l2_radii(self, first, second, boxes):
        """The same for every row."""
        rows = np.ones(len(boxes))
        l2, radius = self.found
        return Certified(radius * rows, 0.6 * rows, 0 * rows, rows, l2 * rows)


@pytest.mark.parametrize(("l2", "radius"), [(-0.1, 1.0), (0.1, 0.0)])
def test_a_proof_that_says_too_little_certifies_the_input_alone(l2, radius):
    (found,) = certify_two_laws([evidence()], LAWS, Chained(l2, radius), alpha=ALPHA)
    assert (found.verdict.value, found.radius) == ("verified", 0.0)
    assert "distance" not in found.details


def test_the_second_law_is_worth_radius_here():
    both = certify_two_laws([evidence()], LAWS, DoubleSampling(), alpha=ALPHA)[0].radius
    p_lower = ClopperPearson().lower(98_000, 100_000, ALPHA)
    alone = DoubleSampling("generalised-gaussian").radius(p_lower, 0.5, Ball("l2", 784))
    assert both > 1.05 * alone
