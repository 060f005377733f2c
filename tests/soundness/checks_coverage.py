"""How often certificates of a classifier whose true radius is known are wrong.

A linear two-class classifier under Gaussian noise has its smoothed probability and its radius
in closed form: at distance ``d`` from the plane the smoothed classifier has ``Phi(d / sigma)``
for its class and keeps it exactly up to ``d``. On a lattice its probability is a sum over lattice
points, and Cohen's radius is what holds. Nothing of the engine is replaced: its noise,
keys, sampler, batches and the selection samples are those of ``phalanx certify``, and every
run is an image of its own, so that runs are independent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import norm
from torch import nn

from phalanx.models.model import InputSpec, Model
from phalanx.noise.distributions import Noise
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.lattice import Lattice
from phalanx.runs.schema import ESTIMATION, SELECTION, Counts
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.certificate import certify_counts
from phalanx.smoothing.classifiers import classifiers_of
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.engine import Engine, Work
from phalanx.smoothing.stopping import Setting, rules
from phalanx.verdicts import Verdict

SIGMA, N, N0, CHUNK = 0.5, 1000, 100, 500
PROBABILITIES = (0.5 + 1e-6, 0.6, 0.9, 0.999)
TRUE_CLASS = 1
NORMAL = (0.6, 0.8)
"""Unit normal of the plane: both coordinates of the noise take part."""
LATTICE = Lattice(-1.0, 1.0, 64)
MOST_DISPERSION = 6.0
"""Standard deviations beyond which `dispersion` is no accident."""


class Outcome(NamedTuple):
    """What one run certified; ``radius`` is 0 where it abstained."""

    predicted: int | None
    radius: float


class Votes(NamedTuple):
    """One run's counts, chunk by chunk, for each phase."""

    selection: list[Counts]
    estimation: list[Counts]


def halfspace(p: float) -> Model:
    """Class 1 beyond a plane at distance ``SIGMA Phi^-1(p)`` before the origin."""
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 0.0], NORMAL]))
        network.bias.copy_(torch.tensor([0.0, true_radius(p)]))
    return Model(network.eval(), InputSpec((-1.0, 1.0), shape=(2,)), 2)


def true_radius(p: float) -> float:
    """The largest radius that holds, for a class of smoothed probability ``p``."""
    return SIGMA * NormalDist().inv_cdf(p)


def lattice_noise() -> Noise:
    """The engine's noise on the coarsest lattice it would choose."""
    return Gaussian(SIGMA).on(LATTICE)


@lru_cache
def lattice_radius(p: float) -> float:
    """The radius of the probability that a halfspace has under lattice noise, summed exactly."""
    reach = round(9.5 * SIGMA / LATTICE.step)
    places = np.arange(-reach, reach + 1)
    mass = np.diff(norm.cdf((np.arange(-reach, reach + 2) - 0.5) * LATTICE.step / SIGMA))
    points = torch.cartesian_prod(*2 * [torch.from_numpy(places + LATTICE.steps // 2)])
    floats = torch.empty(points.shape)
    LATTICE.floats(points, floats)
    with torch.inference_mode():
        hits = halfspace(p)(floats).argmax(1).numpy() == TRUE_CLASS
    return SIGMA * float(norm.ppf((np.outer(mass, mass).ravel() * hits).sum()))


def votes(
    model: Model | Sequence[Model],
    runs: int,
    *,
    first: int = 0,
    n: int = N,
    n0: int = N0,
    chunk: int = CHUNK,
    reducers: Sequence[str] = ("mean",),
    noise: Noise | None = None,
) -> Iterator[Votes]:
    """Votes of independent runs at the origin, images ``first`` and following, in any order."""
    models = [model] if isinstance(model, Model) else list(model)
    engine = Engine(
        MemberBank(models, Layout(), torch.device("cpu")),
        classifiers_of(len(models), reducer_names=reducers),
        noise or Gaussian(SIGMA),
        seed=0,
        batch=4096,
        generator="philox4x64",
    )
    bound = bounds.get("clopper-pearson")
    chunks = rules.get("fixed")(Setting(n, n0, chunk, alpha=0.001, bound=bound)).decide({})
    assert isinstance(chunks, list)
    x = torch.zeros(2)
    works = (Work(image, one, x) for image in range(first, first + runs) for one in chunks)
    open_runs: dict[int, dict[tuple[str, int], Counts]] = {}
    for counted in engine.run(lambda: next(works, None)):
        done = open_runs.setdefault(counted.image, {})
        done[counted.chunk.phase, counted.chunk.index] = counted.counts[0]
        if len(done) == len(chunks):
            yield _by_phase(open_runs.pop(counted.image))


def total(chunks: Sequence[Counts]) -> Counts:
    """Votes of several chunks together."""
    together: Counter[int] = Counter()
    for counts in chunks:
        together.update(counts)
    return together


def certified(run: Votes, alpha: float) -> Outcome:
    """The procedure of the package: class from the selection samples, bound from the others."""
    found = certify_counts(total(run.selection), total(run.estimation), sigma=SIGMA, alpha=alpha)
    assert found.verdict in {Verdict.VERIFIED, Verdict.ABSTAINED}
    assert found.radius is not None
    return Outcome(found.predicted, found.radius)


def is_wrong(outcome: Outcome, radius: float) -> bool:
    """A wrong class with any radius, or the right one beyond its true radius."""
    if outcome.predicted is None:
        return False
    return outcome.predicted != TRUE_CLASS or outcome.radius > radius


def most_failures(runs: int, alpha: float) -> float:
    """What a procedure of level alpha stays below but for one time in 30,000."""
    return alpha * runs + 4 * math.sqrt(alpha * runs)


def failures(outcomes: Iterable[Outcome], radius: float) -> int:
    """Wrong certificates among independent runs of one true radius."""
    return sum(is_wrong(outcome, radius) for outcome in outcomes)


def dispersion(runs: Sequence[Votes], p: float) -> float:
    """How far the spread of the estimation counts is from that of independent samples.

    In standard deviations of ``sum z^2``, with ``z = (k - n p) / sqrt(n p (1 - p))``; a
    binomial has ``Var z^2 = 2 + (1 - 6 p (1 - p)) / (n p (1 - p))``. Images that share their
    noise spread too little, chunks that repeat each other too much. Coverage alone cannot see
    the first: a run goes wrong as rarely as before, but then all of them go wrong at once.
    """
    excess, variance = 0.0, 0.0
    for run in runs:
        counts = total(run.estimation)
        n = sum(counts.values())
        spread = n * p * (1 - p)
        excess += (counts.get(TRUE_CLASS, 0) - n * p) ** 2 / spread - 1
        variance += 2 + (1 - 6 * p * (1 - p)) / spread
    return excess / math.sqrt(variance)


def _by_phase(found: dict[tuple[str, int], Counts]) -> Votes:
    phases = (SELECTION, ESTIMATION)
    return Votes(*([counts for (p, _), counts in sorted(found.items()) if p == q] for q in phases))
