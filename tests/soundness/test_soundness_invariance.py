"""The invariance gate: at one batch shape nothing that is no part of the question moves a count.

Order, company, interruptions, threads and processes; for a convolutional network, in fp32 and
in bf16. Noise does not even depend on the batch shape.
"""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import count, pairwise, product

import pytest
import torch
from torch import nn

from phalanx.data.arrays import from_arrays
from phalanx.errors import ModelError
from phalanx.evaluation.certify import Sweep
from phalanx.evaluation.config import CertifyConfig
from phalanx.evaluation.request import Request, open_run
from phalanx.models.align import CURVES
from phalanx.models.build import build
from phalanx.models.checkpoint import save
from phalanx.models.model import InputSpec, Model, ModelCard
from phalanx.noise.distributions import distributions
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.lattice import Lattice
from phalanx.noise.stream import GENERATORS, NormalStream
from phalanx.runs.store import RunStore
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.smoothing.threads import ThreadTrials
from phalanx.smoothing.tuning import reproducible, tune

SHAPE, IMAGES, BATCH = (1, 8, 8), 5, 64
CPU = torch.device("cpu")
EDGES = (1, 2, 3, 5, 7, 8, 13, 31, 64, 100)


def member(key: int) -> Model:
    """A small convolutional network with keyed weights."""
    with torch.random.fork_rng():
        torch.manual_seed(key)
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
        )
    return Model(network.eval(), InputSpec(shape=SHAPE), 10)


def request_of(precision: str) -> Request:
    """Two members, four classifiers, chunks that end in the middle of batches."""
    x = torch.rand(IMAGES, *SHAPE, generator=torch.Generator().manual_seed(3))
    config = CertifyConfig(
        sigma=0.5,
        n=500,
        n0=50,
        chunk=120,
        batch=BATCH,
        precision=precision,
        channels_last=True,
        generator="philox4x64",
    )
    classifiers = classifiers_of(2, reducer_names=("mean", "vote"), each=True)
    models = [member(key) for key in range(2)]
    return Request(models, classifiers, from_arrays(x), range(IMAGES), config, CPU)


def counted(request: Request) -> dict[int, list]:
    """Every chunk of every image."""
    with open_run(request, None, command="test")[1] as store:
        Sweep(request, store).run()
        return {image: store.chunks(image) for image in request.indices}


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def reference(request):
    """A request and its counts, made in one go."""
    asked = request_of(request.param)
    return asked, counted(asked)


def test_order_changes_nothing(reference):
    request, expected = reference
    assert counted(replace(request, indices=[3, 0, 4, 2, 1])) == expected


@pytest.mark.parametrize("company", [[2], [0, 2], [4, 3, 2]])
def test_company_changes_nothing(reference, company):
    request, expected = reference
    assert counted(replace(request, indices=company))[2] == expected[2]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(reference, threads, monkeypatch):
    """One, two, or whichever number is tried after every pass."""
    request, expected = reference
    passes = count()

    def passed(self):
        torch.set_num_threads(threads if threads < 3 else 1 + next(passes) % 2)

    monkeypatch.setattr(ThreadTrials, "passed", passed)
    before = torch.get_num_threads()
    try:
        assert counted(request) == expected
    finally:
        torch.set_num_threads(before)


class Killed(Exception):
    """Stands for a process that dies after a pass."""


@pytest.mark.parametrize("passes", range(2, 40, 4))
def test_resuming_changes_nothing(reference, passes, tmp_path):
    request, expected = reference
    left = passes

    def die(rows, images):
        nonlocal left
        left -= rows > 0
        if left <= 0:
            raise Killed

    with (
        open_run(request, tmp_path / "run", command="test")[1] as store,
        pytest.raises(Killed),
    ):
        Sweep(request, store, die).run()
    with open_run(request, tmp_path / "run", command="test")[1] as store:
        Sweep(request, store).run()
        assert {image: store.chunks(image) for image in request.indices} == expected


@pytest.mark.parametrize(
    ("precision", "workers"),
    [
        ("fp32", 2),
        *(
            pytest.param(precision, workers, marks=pytest.mark.slow)
            for precision, workers in product(("fp32", "bf16"), (1, 2, 4))
            if (precision, workers) != ("fp32", 2)
        ),
    ],
)
def test_processes_change_nothing(precision, workers, tmp_path):
    """`phalanx certify --workers N` beside one process."""
    card = ModelCard("net", "resnet20", sigma=0.5)
    network = build("resnet20", 10, SHAPE, key=1).eval()
    weights = save(Model(network, InputSpec(shape=SHAPE), 10, card), tmp_path / "net")
    words = [str(weights), "--n", "400", "--n0", "50", "--set", "chunk=150", "--batch", "64"]
    words += ["--limit", "6", "--precision", precision]

    def digest(name: str, *more: str) -> str:
        command = [sys.executable, "-m", "phalanx.cli.main", "certify", *words, "--out", name]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, *more], cwd=tmp_path, env=environment, check=True, timeout=250)
        with RunStore.open(tmp_path / name) as store:
            return store.digest()

    assert digest("together", "--workers", str(workers)) == digest("alone")


class Placed(nn.Module):
    """Rounds by a row's place in its batch, as kernels that cut a batch into parts may do."""

    def forward(self, x):
        return torch.nextafter(x, x + torch.arange(len(x)).remainder(2).unsqueeze(1))


def test_a_shape_in_which_place_matters_is_not_used():
    placed = Model(Placed().eval(), InputSpec(shape=(2,)), 2)
    assert not reproducible(MemberBank([placed], Layout(), CPU), (2,), 32)
    with pytest.raises(ModelError, match="depend on its place"):
        tune([placed], (2,), Layout(), CPU, batch=32)


@pytest.mark.parametrize("name", ["mnist-cnn", "lenet5", "mlp"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_shape_that_is_used_is_reproducible(name, precision):
    """Rotations of a batch, for the layout that tuning settles on."""
    shape = (1, 28, 28)
    model = Model(build(name, 10, shape, key=1).eval(), InputSpec(shape=shape), 10)
    tuned = tune([model], shape, Layout(precision), CPU, batch=32)
    bank = MemberBank([model], tuned.layout, CPU)
    x = bank.buffer(32, shape).uniform_(generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = bank.logits(x)
        for shift in (1, 7, 16, 31):
            moved = bank.buffer(32, shape).copy_(x.roll(shift, 0))
            assert torch.equal(bank.logits(moved).roll(-shift, 1), expected)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_curves_are_reproducible_in_any_batch(curve, precision):
    """Passes whose last numbers fill no register: 33 rows of 37 neurons, then 11 channels."""
    shape = (1, 7, 7)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = nn.Sequential(
            *(nn.Conv2d(1, 11, 3), curve(), nn.Flatten(), nn.Linear(275, 37), curve()),
            nn.Linear(37, 10),
        )
    bank = MemberBank([Model(network.eval(), InputSpec(shape=shape), 10)], Layout(precision), CPU)
    x = bank.buffer(33, shape).uniform_(-3, 3, generator=torch.Generator().manual_seed(1))
    expected = bank.logits(x)
    for shift in range(1, 33):
        moved = bank.buffer(33, shape).copy_(x.roll(shift, 0))
        assert torch.equal(bank.logits(moved).roll(-shift, 1), expected)


NOISES = {name: distributions.get(name)(0.37) for name in distributions.names()}
NOISES["gaussian on a lattice"] = Gaussian(0.37).on(Lattice(0.0, 1.0, 4080))


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("shape", [(1,), (3,), (17,), (1, 8, 8), (3, 5, 5)])
def test_noise_is_the_same_bits_under_any_batch(generator, noise, shape):
    """However the rows of a chunk are cut into batches, in either memory format."""
    numel, rows, draw, noise = math.prod(shape), 230, random.Random(0), NOISES[noise]
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    for channels_last in {False, len(shape) == 3}:
        form = torch.channels_last if channels_last else torch.contiguous_format
        noisy = torch.zeros(rows, *shape).contiguous(memory_format=form)
        noise.fill(noisy, x, NormalStream(7, numel, generator=generator))
        for _ in range(4):
            cuts = sorted({0, rows, *draw.sample(range(rows), draw.choice(EDGES))})
            again, stream = torch.zeros_like(noisy), NormalStream(7, numel, generator=generator)
            for start, end in pairwise(cuts):
                noise.fill(again[start:end], x, stream)
            assert torch.equal(again, noisy)
