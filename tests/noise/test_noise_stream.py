"""Noise is a function of its key and the row number, and is standard normal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from phalanx.errors import ParameterError
from phalanx.noise.distributions import distributions
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.philox import philox4x32, philox_rounds
from phalanx.noise.stream import GENERATORS, NormalStream
from phalanx.runtime.keys import noise_key

KEY = noise_key(0, 1, "estimation", 2)

# Random123's known answers for philox4x32-10: counter, key, words.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_published_words(counter, key, words):
    found = philox_rounds([torch.tensor([word]) for word in counter], key)
    assert tuple(int(word) for word in found) == words


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("numel", [1, 2, 7, 784])
def test_any_split_of_rows_gives_the_same_bits(generator, numel):
    whole = NormalStream(KEY, numel, generator=generator).rows(97)
    stream = NormalStream(KEY, numel, generator=generator)
    parts = [stream.rows(count) for count in (1, 3, 64, 29)]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_a_bit(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        single = NormalStream(KEY, 3072).rows(200)
        torch.set_num_threads(threads)
        assert torch.equal(NormalStream(KEY, 3072).rows(200), single)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("generator", GENERATORS)
def test_values_are_standard_normal(generator):
    values = NormalStream(KEY, 1000, generator=generator).rows(400).double().numpy().ravel()
    assert stats.kstest(values, "norm").pvalue > 1e-3
    assert abs(values.mean()) < 4 / np.sqrt(values.size)
    assert abs(values.var() - 1) < 4 * np.sqrt(2 / values.size)
    tail = (np.abs(values) > 4).sum()
    expected = values.size * 2 * stats.norm.sf(4)
    assert abs(tail - expected) < 5 * np.sqrt(expected) + 1


@pytest.mark.parametrize("generator", GENERATORS)
def test_pairs_within_and_across_rows_are_uncorrelated(generator):
    values = NormalStream(KEY, 100, generator=generator).rows(4000).double()
    correlation = torch.corrcoef(values.T) - torch.eye(100)
    assert float(correlation.abs().max()) < 6 / np.sqrt(4000)
    neighbours = torch.corrcoef(torch.stack([values[:-1].ravel(), values[1:].ravel()]))[0, 1]
    assert abs(float(neighbours)) < 5 / np.sqrt(values.numel())


def test_all_128_bits_of_a_key_matter():
    for generator in GENERATORS:
        base = NormalStream(KEY, 8, generator=generator).rows(1)
        for bit in (0, 31, 32, 63, 64, 95, 96, 127):
            other = NormalStream(KEY ^ (1 << bit), 8, generator=generator).rows(1)
            assert not torch.equal(base, other), (generator, bit)


def test_keys_name_what_the_noise_is_for():
    keys = {
        noise_key(seed, image, phase, chunk)
        for seed in (0, 1, 2**32)
        for image in range(5)
        for phase in ("selection", "estimation")
        for chunk in range(5)
    }
    assert len(keys) == 3 * 5 * 2 * 5
    assert all(0 <= key < 2**128 for key in keys)


def test_philox_blocks_are_one_stream():
    whole = philox4x32(KEY, 0, 10, torch.device("cpu"))
    parts = [philox4x32(KEY, first, 5, torch.device("cpu")) for first in (0, 5)]
    assert torch.equal(torch.cat(parts), whole)


def test_noise_is_added_in_float32_whatever_the_shape():
    x = torch.rand(3, 4, 4)
    out = torch.empty(5, 3, 4, 4).to(memory_format=torch.channels_last)
    Gaussian(0.25).fill(out, x, NormalStream(KEY, x.numel()))
    normal = NormalStream(KEY, x.numel()).rows(5).view(5, 3, 4, 4)
    assert torch.equal(out, torch.add(x, normal, alpha=0.25))


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("gaussian", stats.norm(scale=0.5)),
        ("uniform", stats.uniform(loc=-0.5 * np.sqrt(3), scale=np.sqrt(3))),
        ("laplace", stats.laplace(scale=0.5 / np.sqrt(2))),
    ],
)
def test_each_noise_has_its_law_with_sigma_as_standard_deviation(name, law, generator):
    out = torch.empty(400, 31, 32)
    x = torch.zeros(31, 32)
    distributions.get(name)(0.5).fill(out, x, NormalStream(KEY, x.numel(), generator=generator))
    values = out.double().numpy().ravel()
    assert stats.kstest(values, law.cdf).pvalue > 1e-3
    assert values.std() == pytest.approx(0.5, rel=0.01)
    assert np.abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 5 / np.sqrt(values.size)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_sigma_that_is_no_noise_level_is_refused(sigma):
    for name in distributions.names():
        with pytest.raises(ParameterError, match="sigma"):
            distributions.get(name)(sigma)


def test_an_unknown_generator_is_refused():
    with pytest.raises(ParameterError, match="philox4x32"):
        NormalStream(KEY, 4, generator="mersenne")
