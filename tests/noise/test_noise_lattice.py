"""Lattice noise: an exact sampler, exact sums, and inputs that are moved no farther than said."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from phalanx.errors import DataError, ParameterError
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.lattice import FINEST, Lattice, steps_for
from phalanx.noise.rounded import (
    UNDECIDED,
    probabilities,
    rounded_gaussian,
    total_variation,
    upper_tails,
)
from phalanx.noise.stream import GENERATORS, NormalStream
from phalanx.runtime.keys import noise_key

KEY = noise_key(0, 1, "estimation", 2)
BYTES = Lattice(0.0, 1.0, 255)
LEVELS = [(0.25, 255), (0.5, 255), (1.0, 255), (0.12, 510), (1 / 3, 1024), (1.0, 1)]


def exact_tail(k: int, sigma: float, step: Fraction) -> mpmath.mpf:
    """``P(sigma Z > (k + 1/2) step)`` to 50 digits, by another formula in other arithmetic."""
    with mpmath.workdps(50):
        place = mpmath.mpf(2 * k + 1) * step.numerator / (2 * step.denominator * mpmath.mpf(sigma))
        return mpmath.erfc(place / mpmath.sqrt(2)) / 2


@pytest.mark.parametrize(("sigma", "steps"), LEVELS)
def test_the_table_is_the_rounded_gaussian_to_half_a_unit(sigma, steps):
    step = Fraction(1, steps)
    tails = upper_tails(Fraction(sigma), step)
    for k in {*range(0, len(tails), -(-len(tails) // 80)), len(tails) - 1}:
        with mpmath.workdps(50):
            error = abs(exact_tail(k, sigma, step) * 2**64 - tails[k])
        assert error <= mpmath.mpf("0.5") + mpmath.mpf(2) ** -30
    assert exact_tail(len(tails), sigma, step) * 2**64 < 0.5


@pytest.mark.parametrize(("sigma", "steps"), LEVELS)
def test_what_is_charged_exceeds_the_distance_of_the_sampler(sigma, steps):
    """The law that the integers give, summed exactly, beside the true one."""
    step = Fraction(1, steps)
    table = rounded_gaussian(sigma, step)
    drawn = dict(probabilities(table))
    assert sum(drawn.values()) == 1
    assert all(drawn[k] == drawn[-k] for k in drawn)
    with mpmath.workdps(50):
        tails = [exact_tail(k, sigma, step) for k in range(table.largest + 1)]
        true = [1 - 2 * tails[0]] + [a - b for a, b in pairwise(tails)]
        gaps = [
            abs(true[k] - mpmath.mpf(drawn[k].numerator) / drawn[k].denominator)
            for k in range(table.largest + 1)
        ]
        distance = (gaps[0] + 2 * sum(gaps[1:]) + 2 * tails[-1]) / 2
    assert distance <= total_variation(sigma * steps)


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize(("sigma", "steps"), [(0.25, 255), (0.01, 255), (0.25, 4096)])
def test_draws_follow_the_table(generator, sigma, steps):
    table = rounded_gaussian(sigma, Fraction(1, steps))
    drawn = table.draw(NormalStream(KEY, 999, generator=generator), 400).numpy().ravel()
    law = {k: float(p) * drawn.size for k, p in probabilities(table)}
    values = np.array(sorted(law))
    seen = np.bincount(drawn + table.largest, minlength=len(values))
    expected = np.array([law[int(k)] for k in values])
    bins = np.minimum((np.cumsum(expected) / 50).astype(int), int(drawn.size / 50) - 1)
    seen, expected = (np.bincount(bins, weights=w) for w in (seen, expected))
    kept = expected > 0
    statistic = float(((seen - expected)[kept] ** 2 / expected[kept]).sum())
    assert stats.chi2.sf(statistic, kept.sum() - 1) > 1e-4


def test_refined_words_follow_the_table_as_well():
    """The draws of undecided cells alone: their law is that of the table within those cells."""
    table = rounded_gaussian(0.25, Fraction(1, 255))
    assert 0 < (table.first == UNDECIDED).double().mean() < 0.02
    ends = [int(end) + (1 << 63) for end in table.ends.tolist()]
    cells = {place: [] for place in (table.first == UNDECIDED).nonzero().view(-1).tolist()}
    for place, end in enumerate(ends):
        cells[end >> 48].append((place - table.largest, (end & ((1 << 48) - 1)) / 2**48))
    place = next(p for p in cells if len(cells[p]) == 1 and 0.3 < cells[p][0][1] < 0.7)
    below, share = cells[place][0]

    class Same(NormalStream):
        def words(self, count):
            word = place | place << 16
            return torch.full((count,), word - (1 << 32 if word >> 31 else 0), dtype=torch.int32)

    drawn = table.draw(Same(KEY, 1000), 20)
    assert set(drawn.unique().tolist()) == {below, below + 1}
    found = (drawn == below).double().mean().item()
    assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / drawn.numel())


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("numel", [1, 2, 5, 7, 784])
@pytest.mark.parametrize("steps", [255, 4080])
def test_any_split_of_rows_gives_the_same_noise(generator, numel, steps):
    noise, x = Gaussian(0.5).on(Lattice(0.0, 1.0, steps)), torch.zeros(numel)
    whole, again = torch.empty(97, numel), torch.empty(97, numel)
    noise.fill(whole, x, NormalStream(KEY, numel, generator=generator))
    stream = NormalStream(KEY, numel, generator=generator)
    for part in again.split([1, 3, 64, 29]):
        noise.fill(part, x, stream)
    assert torch.equal(again, whole)


def test_blocks_do_not_change_the_noise(monkeypatch):
    noise, x = Gaussian(0.5).on(BYTES), torch.zeros(64)
    whole, again = torch.empty(50, 64), torch.empty(50, 64)
    noise.fill(whole, x, NormalStream(KEY, 64))
    monkeypatch.setattr("phalanx.noise.lattice.BLOCK", {"cpu": 1})
    noise.fill(again, x, NormalStream(KEY, 64))
    assert torch.equal(again, whole)


def test_both_sequences_of_words_are_their_own():
    stream = NormalStream(KEY, 4)
    assert not torch.equal(stream.words(8), stream.further_words(8))


def test_sums_are_exact_and_the_noise_does_not_know_the_image():
    """The same key around two images: the same integers, shifted."""
    images = torch.randint(0, 256, (2, 3, 5, 5), generator=torch.Generator().manual_seed(0))
    noise, found = Gaussian(1.0).on(BYTES), []
    for image in images:
        out = torch.empty(40, 3, 5, 5).to(memory_format=torch.channels_last)
        noise.fill(out, image / 255, NormalStream(KEY, 75))
        whole = (out.double() * 255).round()
        assert torch.equal(whole.float() / 255, out)
        found.append(whole - image)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "lattice",
    [BYTES, Lattice(0.0, 255.0, 4080), Lattice(-1.0, 1.0, 256), Lattice(-3.7, 12.1, 1024)],
)
def test_a_point_is_moved_to_itself(lattice):
    points = torch.arange(0, lattice.steps + 1, dtype=torch.int32)
    values = torch.empty(len(points))
    lattice.floats(points, values)
    assert torch.equal(lattice.integers(values), points)
    lattice.require(values)


def test_bytes_are_what_data_sets_give():
    values = torch.empty(256)
    BYTES.floats(torch.arange(256, dtype=torch.int32), values)
    assert torch.equal(values, torch.arange(256).float().div_(255))


def test_no_input_is_moved_farther_than_half_a_diagonal():
    lattice, dimensions = Lattice(-0.3, 2.1, 300), 50
    x = torch.rand(2000, dimensions, generator=torch.Generator().manual_seed(0)) * 2.4 - 0.3
    moved = lattice.low + lattice.integers(x).double() * lattice.step
    farthest = float((moved - x.double()).norm(dim=1).max())
    assert farthest <= lattice.step * math.sqrt(dimensions) / 2 * (1 + 2.0**-20)


def test_an_input_off_the_lattice_is_told():
    BYTES.require(torch.tensor([17 / 255]))
    with pytest.raises(DataError, match="off the lattice of 255 steps"):
        BYTES.require(torch.tensor([17.01 / 255]))
    assert BYTES.holds(255)
    assert Lattice(0.0, 1.0, 510).holds(255)
    assert not Lattice(0.0, 1.0, 256).holds(255)
    assert not BYTES.holds(None)
    assert not Lattice(0.0, 1.0, 255 * 2**12).holds(255)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e9])
def test_a_value_that_is_no_point_is_refused(value):
    with pytest.raises(DataError, match="NaN, infinite or far outside"):
        BYTES.integers(torch.tensor([0.5, value]))


@pytest.mark.parametrize("steps", [0, -1, 2.0, True, FINEST + 1])
def test_a_number_of_steps_that_is_none_is_refused(steps):
    with pytest.raises(ParameterError, match="a lattice of"):
        Lattice(0.0, 1.0, steps)


@pytest.mark.parametrize(("sigma", "steps"), [(0.001, 255), (1000.0, 255), (1e30, 255), (1e-30, 8)])
def test_a_sigma_that_has_no_sampler_is_refused(sigma, steps):
    with pytest.raises(ParameterError, match="steps of the lattice"):
        Gaussian(sigma).on(Lattice(0.0, 1.0, steps))


def test_steps_are_a_dyadic_fraction_that_is_fine_enough():
    def steps(sigma, levels, snapped=False):
        return steps_for(0.0, 1.0, sigma, levels=levels, dimensions=3072, snapped=snapped)

    assert [steps(sigma, 255) for sigma in (1.0, 0.25, 0.0628, 0.0627, 0.01)] == [
        255,
        255,
        255,
        510,
        2040,
    ]
    assert steps(0.25, 16) == 64
    for sigma, levels in ((0.25, 255), (1.0, None), (0.12, 16)):
        found = steps(sigma, levels, snapped=True)
        assert math.sqrt(3072) / found / 2 <= sigma / 64 < math.sqrt(3072) / found
    with pytest.raises(ParameterError, match="too small for a lattice"):
        steps(1e-7, 255)
