"""What a run will cost and the most it can prove, said before anything is spent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from phalanx.errors import ParameterError
from phalanx.evaluation.config import CertifyConfig
from phalanx.evaluation.request import Request, bank_of, engine_of
from phalanx.smoothing.engine import Work
from phalanx.smoothing.stopping import Chunk
from phalanx.smoothing.tuning import fastest_threads

MEASURED_SECONDS = 0.5
RESERVE = 0.9
"""Share of a budget that is planned for; machines are noisy."""
FEWEST_SAMPLES = 1000
"""Below this the largest certifiable radius shrinks faster than images are gained."""


@dataclass(frozen=True)
class Plan:
    """Cost and reach of a certification run.

    Attributes:
        samples: the most that an image gets, selection included.
        forward_passes: inputs through one member, over all images and members.
        rate: samples a second; each is answered by all members.
        seconds: estimate on this machine at the run's batch shape, one process.
        largest_radius: what unanimous votes would certify, in input units.
        arithmetic: how noise is added, what certificates cover and what that costs.
        laws: of double sampling, how its samples are shared; else empty.
    """

    images: int
    members: int
    classifiers: int
    n: int
    n0: int
    samples: int
    alpha: float
    sigma: float
    stop: str
    batch: int
    rate: float
    forward_passes: int
    seconds: float
    largest_radius: float
    arithmetic: str
    laws: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The plan in words."""
        most = "" if self.stop == "fixed" else "at most "
        return [
            f"{self.images} images x {most}{self.samples:,} samples x {self.members} members"
            f" = {most}{self.forward_passes:,} forward passes",
            f"{most}{duration(self.seconds)} at {self.rate:,.0f} samples/s"
            f" (batch {self.batch}, all members)",
            f"largest radius these n and alpha allow: {int(self.largest_radius * 1e4) / 1e4}"
            f" (sigma {self.sigma:g}, alpha {self.alpha:g})",
            self.arithmetic,
            *([self.laws] if self.laws else []),
        ]


def measured_rate(request: Request, seconds: float = MEASURED_SECONDS) -> float:
    """Samples a second of a settled request's own engine: noise, members, votes and counts."""
    bank, batch = bank_of(request), request.config.batch or 1
    engine = engine_of(request, bank)
    x = request.dataset.images(list(request.indices[:1]))[0]
    rows = 0

    def next_work() -> Work | None:
        late = time.perf_counter() - start > seconds
        return None if late else Work(0, Chunk("timing", 0, batch), x)

    def count(answered: int) -> None:
        nonlocal rows
        rows += answered

    with fastest_threads(bank, x.shape, batch):
        start = time.perf_counter()
        for _ in engine.run(next_work, count):
            pass
        return rows / (time.perf_counter() - start)


def plan(request: Request, rate: float) -> Plan:
    """The plan of a settled request; ``rate`` is from `measured_rate`."""
    config, images, members = request.config, len(request.indices), len(request.models)
    arithmetic = request.arithmetic
    each = config.stopping().samples()
    samples = images * each
    return Plan(
        images=images,
        members=members,
        classifiers=len(request.classifiers),
        n=config.n,
        n0=config.n0,
        samples=each,
        alpha=config.alpha,
        sigma=config.sigma,
        stop=config.rule,
        batch=config.batch or 1,
        rate=rate,
        forward_passes=samples * members,
        seconds=samples / rate,
        largest_radius=config.largest_radius(arithmetic.charge),
        arithmetic=arithmetic.line(),
        laws=_laws(config),
    )


def _laws(config: CertifyConfig) -> str:
    if not config.double:
        return ""
    laws, split, n = config.laws, config.chosen_split(), config.n
    shared = sorted({n_p for n_p in split if n_p < n})
    some = f"{shared[0]:,} to {shared[-1]:,} samples" if shared else "no samples"
    whole = f"; all {n:,} where plain Neyman-Pearson promises more" if n in split else ""
    return (
        f"second law {laws.kind} at {laws.level:g}: the selection gives {some} to the first law and"
        f" the rest of {n:,} to the second{whole}"
    )


def fit_budget(request: Request, rate: float, seconds: float) -> Request:
    """The request with as many samples an image as let all images be answered in time.

    The number is fixed here, before the first sample is drawn, so the level of every
    certificate holds. It is at least 1,000; then the time ends before the images do, and
    `spread` makes those that were reached a fair picture of all.
    """
    config = request.config
    affordable = int(rate * seconds * RESERVE / len(request.indices)) - config.n0
    fewest = max(min(FEWEST_SAMPLES, config.n), config.n0)
    n = min(config.n, max(fewest, _two_digits(max(affordable, 1))))
    return replace(request, config=replace(config, n=n))


def spread(indices: Sequence[int]) -> list[int]:
    """The images in an order of which every beginning is spread evenly over them all.

    The order of van der Corput: positions by their reversed binary digits.

    >>> spread(range(8))
    [0, 4, 2, 6, 1, 5, 3, 7]
    """
    digits = max(len(indices) - 1, 1).bit_length()
    order = sorted(range(len(indices)), key=lambda place: f"{place:0{digits}b}"[::-1])
    return [indices[place] for place in order]


def seconds_of(text: str) -> float:
    """A duration such as ``90s``, ``10m`` or ``2h`` in seconds.

    >>> seconds_of("10m")
    600.0
    """
    scale = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    number = text[:-1] if scale else text
    try:
        value = float(number) * (scale or 1)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ParameterError(f"a budget of {text!r}", repair="--budget 90s, 10m or 2h")
    return value


def duration(seconds: float) -> str:
    """A duration for people.

    >>> duration(75), duration(7320)
    ('1 min 15 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 1:
        return "less than a second"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _two_digits(value: int) -> int:
    scale = 10 ** max(len(str(value)) - 2, 0)
    return value // scale * scale
