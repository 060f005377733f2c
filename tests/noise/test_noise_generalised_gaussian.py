"""Generalised Gaussian noise: its law, its cut, and rows that do not know their company."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import gammaincc

from phalanx.errors import ParameterError
from phalanx.noise.distributions import noise_of
from phalanx.noise.distributions.generalised_gaussian import (
    GeneralisedGaussian,
    lengths,
    quantiles,
    unit_length,
)
from phalanx.noise.stream import GENERATORS, NormalStream
from phalanx.runtime.keys import noise_key

KEY, SIGMA = noise_key(0, 1, "estimation", 2), 0.5
CASES = [(784, 380), (784, 0), (64, 20), (25, 11), (3, 0)]


def drawn(noise, dimension, rows=4000, generator="philox4x64"):
    """Noise vectors, float64 ``(rows, dimension)``."""
    out, x = torch.empty(rows, dimension), torch.zeros(dimension)
    stream = NormalStream(KEY, dimension, generator=generator)
    for part in out.split(1000):
        noise.fill(part, x, stream)
    return out.double().numpy()


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize(("dimension", "order"), CASES)
def test_length_and_direction_have_their_laws(dimension, order, generator):
    noise = drawn(GeneralisedGaussian(SIGMA, order), dimension, generator=generator)
    square = (noise**2).sum(1)
    law = stats.gamma(dimension / 2 - order, scale=unit_length(dimension, order, SIGMA) ** 2)
    assert stats.kstest(square, law.cdf).pvalue > 1e-3
    # sigma is the root mean square of a value: the mean of |e|^2 / d, with its standard error.
    spread = square.std() / dimension / math.sqrt(len(square))
    assert abs(square.mean() / dimension - SIGMA**2) < 4.5 * spread
    # The cosine with a fixed direction, and its independence of the length.
    cosine = noise[:, 0] / np.sqrt(square)
    half = (dimension - 1) / 2
    assert stats.kstest((1 + cosine) / 2, stats.beta(half, half).cdf).pvalue > 1e-3
    for value in (noise[:, 0], np.abs(cosine)):
        other = noise[:, 1] if value is noise[:, 0] else square
        assert abs(np.corrcoef(value, other)[0, 1]) < 5 / math.sqrt(len(square))


def test_order_zero_is_the_gaussian():
    values = drawn(GeneralisedGaussian(SIGMA, 0), 784, rows=400).ravel()
    assert stats.kstest(values, stats.norm(scale=SIGMA).cdf).pvalue > 1e-3


def test_the_usual_order_is_that_of_the_dimension():
    for dimension, order in ((784, 380), (3072, 1530), (24, 0)):
        plain, given = GeneralisedGaussian(SIGMA), GeneralisedGaussian(SIGMA).of_order(order)
        assert plain.order_in(dimension) == order
        assert np.array_equal(drawn(plain, dimension, 20), drawn(given, dimension, 20))


@pytest.mark.parametrize("mass", [0.01, 0.5, 0.99])
@pytest.mark.parametrize(("dimension", "order"), [(784, 380), (64, 20)])
def test_a_cut_law_is_the_law_below_its_cut(dimension, order, mass):
    whole, cut = GeneralisedGaussian(SIGMA, order), GeneralisedGaussian(SIGMA, order, mass)
    square = (drawn(cut, dimension) ** 2).sum(1)
    law = stats.gamma(dimension / 2 - order, scale=unit_length(dimension, order, SIGMA) ** 2)
    assert square.max() <= cut.longest(dimension) ** 2 * (1 + 1e-6)
    assert law.cdf(cut.longest(dimension) ** 2) == pytest.approx(mass, rel=1e-12)
    assert stats.kstest(square, lambda s: np.minimum(law.cdf(s) / mass, 1.0)).pvalue > 1e-3
    assert whole.longest(dimension) == math.inf
    # The same keys give the same directions; only lengths differ.
    one, other = drawn(whole, dimension, 50), drawn(cut, dimension, 50)
    assert np.allclose(
        one / np.linalg.norm(one, axis=1)[:, None], other / np.linalg.norm(other, axis=1)[:, None]
    )


def test_quantiles_keep_the_digits_of_both_tails():
    words = np.array([0, 2**63 - 1, -1], dtype=np.int64)  # probability near 0, just below 1/2, 1
    low, middle, high = quantiles(12.0, words, 1.0)
    law = stats.gamma(12.0)
    assert law.cdf(low) == pytest.approx(2.0**-65, rel=1e-9)
    assert law.cdf(middle) == pytest.approx(0.5, rel=1e-12)
    assert gammaincc(12.0, high) == pytest.approx(2.0**-65, rel=1e-9)


def test_lengths_do_not_depend_on_other_rows():
    rows = torch.randn(40, 785, generator=torch.Generator().manual_seed(0))
    found = lengths(rows)
    assert torch.allclose(found, rows.double().norm(dim=1), rtol=1e-14)
    assert all(torch.equal(lengths(rows[i : i + 1])[0], found[i]) for i in range(len(rows)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: GeneralisedGaussian(0.5, -1), "order is -1"),
        (lambda: GeneralisedGaussian(0.5, True), "order is True"),
        (lambda: GeneralisedGaussian(0.5, 2.0), r"order is 2\.0"),
        (lambda: GeneralisedGaussian(0.5, 392).order_in(784), "order 392 in 784"),
        (lambda: GeneralisedGaussian(0.5, 1).order_in(3), "order 1 in 3"),
        (lambda: GeneralisedGaussian(0.5, 3, 0.0), "mass"),
        (lambda: GeneralisedGaussian(0.5, 3, 1.1), "mass"),
        (lambda: GeneralisedGaussian(0.5, 3, float("nan")), "mass"),
        (lambda: noise_of("laplace", 0.5, 3), "order of 3 and laplace noise"),
    ],
)
def test_what_is_no_such_noise_is_refused(make, said):
    with pytest.raises(ParameterError, match=said):
        make()
