"""What a GPU must do as a CPU does: the same words, the same lattice points, the same answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import phalanx
from phalanx.ensembles.ensemble import Ensemble
from phalanx.models.model import InputSpec, Model
from phalanx.noise import philox
from phalanx.noise.distributions import distributions
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.lattice import Lattice
from phalanx.noise.stream import NormalStream
from phalanx.runs.recheck import recheck
from phalanx.runtime.device import resolve_device
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.tuning import tune
from phalanx.training.shelf import load_recipe
from phalanx.training.trainer import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
KEYS = (0, 7, (1 << 128) - 1, 0x0123456789ABCDEF0FEDCBA987654321)
SHAPE = (3, 8, 8)


def network(seed: int) -> Model:
    """A small convolutional model with BatchNorm that has seen data."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 4),
        )
        for _ in range(5):
            layers(torch.rand(64, *SHAPE))
    return Model(layers.eval(), InputSpec((0.0, 1.0), (0.5,) * 3, (0.25,) * 3, SHAPE), 4)


@pytest.fixture(scope="module")
def images():
    return torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(3))


def certified(models, x, **options):
    asked = {"sigma": 0.5, "n": 3000, "device": "cuda", **options}
    return phalanx.certify(models, x, **asked)


def counts(result):
    return {
        (chunk.classifier, chunk.image, chunk.phase, chunk.chunk): dict(chunk.counts)
        for chunk in result.store.chunks()
    }


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("first", "blocks"), [(0, 1), (5, 513), ((1 << 33) + 3, 2000)])
def test_the_words_are_those_of_a_cpu(key, first, blocks):
    expected = philox.in_torch(key, first, blocks, CPU)
    assert torch.equal(philox.philox4x32(key, first, blocks, CUDA).cpu(), expected)
    assert torch.equal(philox.in_torch(key, first, blocks, CUDA).cpu(), expected)


@pytest.mark.parametrize("rows", [1, 7, 300])
def test_lattice_points_are_those_of_a_cpu(rows):
    noise = Gaussian(0.25).on(Lattice(0.0, 1.0, 255))
    x = torch.randint(0, 256, SHAPE).float() / 255
    found = []
    for device in (CPU, CUDA):
        out = torch.empty((rows, *SHAPE), device=device)
        stream = NormalStream(KEYS[-1], x.numel(), device, "philox4x32")
        noise.fill(out, x.to(device), stream)
        found.append(out.cpu())
    assert torch.equal(*found)


@pytest.mark.parametrize("name", distributions.names())
def test_noise_is_that_of_a_cpu_but_for_the_last_bits(name):
    found = []
    for device in (CPU, CUDA):
        out = torch.empty((500, *SHAPE), device=device)
        stream = NormalStream(KEYS[-1], out[0].numel(), device, "philox4x32")
        distributions.get(name)(0.5).fill(out, torch.zeros(SHAPE, device=device), stream)
        found.append(out.cpu())
    assert torch.allclose(*found, rtol=1e-4, atol=1e-5)


def test_a_gpu_is_used_without_being_told(images):
    assert resolve_device("auto").type == "cuda"
    result = certified(network(0), images[:2], device="auto")
    environment = result.store.manifest.environment
    assert environment["device"] == torch.cuda.get_device_name()
    assert result.store.manifest.config["generator"] == "philox4x32"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("reducer", ["mean", "vote", "random-member"])
def test_counts_do_not_depend_on_company_or_resume(images, tmp_path, precision, reducer):
    models = [network(seed) for seed in range(3)]
    options = {"reducers": [reducer], "precision": precision, "batch": 256}
    whole = certified(models, images, **options)
    alone = certified(models, images[:1], **options)
    first = {key: votes for key, votes in counts(whole).items() if key[1] == 0}
    assert counts(alone) == first
    out = tmp_path / "run"
    certified(models, images, out=out, **options)
    again = certified(models, images, out=out, **options)
    assert counts(again) == counts(whole)
    assert recheck(again.store).ok


@pytest.mark.parametrize("consensus", [None, 2])
def test_votes_are_those_of_a_cpu_but_for_ties(images, consensus):
    models = [network(seed) for seed in range(4)]
    options = {"reducers": ["mean"], "consensus": consensus, "generator": "philox4x32"}
    found = [
        counts(certified(models, images, device=device, **options)) for device in ("cpu", "cuda")
    ]
    assert found[0].keys() == found[1].keys()
    moved = sum(
        abs(votes.get(c, 0) - found[1][key].get(c, 0))
        for key, votes in found[0].items()
        for c in range(4)
    )
    assert moved <= 0.001 * 2 * 3100 * len(images)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_row_has_the_same_logits_at_another_place(images, precision):
    bank = MemberBank([network(0), network(1)], Layout(precision), CUDA)
    x = torch.rand(512, *SHAPE, device=CUDA).contiguous(memory_format=torch.channels_last)
    for shift in (1, 257):
        moved = x.roll(shift, 0).contiguous(memory_format=torch.channels_last)
        assert torch.equal(bank.logits(moved).roll(-shift, 1), bank.logits(x))


def test_a_batch_that_does_not_fit_is_halved():
    model = network(0)
    free = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((600 << 20) / free)
    try:
        tuned = tune([model], SHAPE, Layout(), CUDA, batch=1 << 20)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert tuned.batch < 1 << 20
    assert tuned.batch.bit_count() == 1


def test_training_on_a_gpu_learns_resumes_and_certifies(tmp_path):
    recipe = load_recipe("digits-gaussian", ["epochs=4", "members=2", "loss.sigma=0.25"])
    models = train(recipe, out=tmp_path / "run")
    assert len(models) == 2
    again = train(recipe, out=tmp_path / "run")
    for before, after in zip(models, again, strict=True):
        for old, new in zip(before.parameters(), after.parameters(), strict=True):
            assert torch.equal(old, new)
    from phalanx.data.locate import load

    digits = load("digits", None, "test")
    result = phalanx.certify(Ensemble(models), digits, sigma=0.25, n=1000)
    assert result.summary().clean_accuracy > 0.5
    assert np.isfinite([record.radius for record in result]).all()
