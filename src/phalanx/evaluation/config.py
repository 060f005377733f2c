"""What is asked of a certification run: frozen, typed, validated before anything is spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from phalanx.errors import ConfigurationError, ParameterError
from phalanx.evaluation.combinations import check_share, check_slope, check_two_laws
from phalanx.noise.distributions import HasLattice, HasOrder, Noise, check_sigma, noise_of
from phalanx.noise.stream import check_generator
from phalanx.smoothing.bank import PRECISIONS
from phalanx.smoothing.certificate import Certificate, certify_rule, require_against
from phalanx.smoothing.charge import FREE, Charge, Charged
from phalanx.smoothing.checks import check_count
from phalanx.smoothing.choices import Choices
from phalanx.smoothing.confidence import Randomised, bounds
from phalanx.smoothing.confidence.clopper_pearson import check_alpha
from phalanx.smoothing.double_sampling.split import Split, SplitSampling, planned_split
from phalanx.smoothing.radii import (
    Ball,
    RadiusRule,
    UsesSecondLaw,
    among,
    default_rule,
    probability_for,
    radii,
    rule_of,
)
from phalanx.smoothing.stopping import Evidence, Setting, StoppingRule, rules, unanimous
from phalanx.smoothing.two_laws import SMALLER_VARIANCE, TwoLaws, certify_two_laws

REAL, LATTICE = "real", "lattice"
"""Noise and sums taken as exact reals, which float32 is not; or both exact, on a lattice."""

GRID, ALL = "grid", "all"
"""What a certificate on a lattice covers: inputs on it, or any, which costs radius."""

CHUNK = 10_000
"""Rows of a chunk. Runs of fewer samples use the first rows of the same noise."""


@dataclass(frozen=True)
class CertifyConfig:
    """Everything that decides a count or a radius.

    Attributes:
        sigma: noise level in input units, > 0.
        n: estimation samples per image, >= n0.
        n0: selection samples per image, >= 1.
        alpha: failure probability of each certificate, in (0, 1).
        seed: run seed; every noise key is hashed from it.
        chunk: rows of a chunk of noise, the unit of work and of commit.
        stop: name of a stopping rule; None: ``anytime`` where radii are given, else ``fixed``.
        bound, noise: names of the engine's other parts.
        certificate: name of a radius rule; None: that of the noise.
        order: k of generalised Gaussian noise; None: the usual one for the dimension, which is
            published for MNIST, CIFAR-10 and ImageNet.
        norm: of the radius: ``l1``, ``l2`` or ``linf``.
        runner_up: share of alpha for upper bounds on the other classes, in [0, 1); 0: they have
            at most what the bound leaves them.
        top: the class stays among so many most likely ones; 1: it stays the most likely.
        labels, groups: see `phalanx.smoothing.choices.Choices`; empty: every class on its own.
        arithmetic: ``lattice`` or ``real``; None: on a lattice where the noise can.
        covers: ``grid`` or ``all``, for certificates on a lattice.
        steps: of the lattice over the range of the inputs; None: as `lattice_of` chooses.
        dimension, classes: values of one input, and classes of the models; taken from them.
        radii: radii in input units to be decided, increasing, for rules that decide given ones.
        beta, reserve, fraction, stages: see `phalanx.smoothing.stopping.Setting`.
        slope: share of alpha for the slope of a gradient certificate; 0: Cohen's.
        second, second_level: of double sampling, the second law and its level, see `TwoLaws`;
            None: the published ones.
        split: samples of its first law by the number of selection votes for the class (n0 + 1
            numbers, or one for all); empty: planned, and recorded by the run.
        precision: arithmetic of the members, ``fp32`` or ``bf16``.
        fold: fold BatchNorm into the layer before it.
        fuse: on a CPU, run layers and the ReLU behind them as one kernel.
        batch, channels_last, generator: None until the run has chosen and recorded them.
    """

    sigma: float
    n: int = 100_000
    n0: int = 100
    alpha: float = 0.001
    seed: int = 0
    chunk: int = CHUNK
    stop: str | None = None
    bound: str = "clopper-pearson"
    certificate: str | None = None
    noise: str = "gaussian"
    order: int | None = None
    norm: str = "l2"
    runner_up: float = 0.0
    top: int = 1
    labels: tuple[int, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    dimension: int | None = None
    classes: int | None = None
    arithmetic: str | None = None
    covers: str = GRID
    steps: int | None = None
    radii: tuple[float, ...] = ()
    beta: float = 1e-4
    reserve: float = 0.5
    fraction: float = 0.9
    stages: tuple[int, ...] = (1_000, 10_000)
    slope: float = 0.0
    second: str | None = None
    second_level: float | None = None
    split: tuple[int, ...] = ()
    precision: str = "fp32"
    fold: bool = True
    fuse: bool = True
    batch: int | None = None
    channels_last: bool | None = None
    generator: str | None = None

    def __post_init__(self) -> None:
        check_sigma(self.sigma)
        check_alpha(self.alpha)
        # 1 and 1.0 are one number, but a hash of their text is not.
        object.__setattr__(self, "sigma", float(self.sigma))
        object.__setattr__(self, "alpha", float(self.alpha))
        object.__setattr__(self, "radii", tuple(map(float, self.radii)))
        object.__setattr__(self, "split", tuple(self.split))
        # The same choices have one spelling.
        object.__setattr__(self, "labels", (choices := self.choices).labels)
        object.__setattr__(self, "groups", choices.groups)
        for name in ("n", "n0", "chunk", "top"):
            check_count(name, getattr(self, name))
        if type(self.seed) is not int:
            raise ParameterError(f"seed is {self.seed!r}", why="it is a whole number")
        if self.batch is not None:
            check_count("batch", self.batch)
        if self.n < self.n0:
            raise ParameterError(
                f"n is {self.n} and n0 is {self.n0}",
                why="fewer samples would bound the probability than choose the class",
                repair=f"--n {max(1000, 10 * self.n0)} or a smaller --n0",
            )
        if self.precision not in PRECISIONS:
            raise ParameterError(
                f"precision {self.precision!r}", repair=f"one of {', '.join(PRECISIONS)}"
            )
        self._check_parts()

    def _check_parts(self) -> None:
        """Refuse a part that nobody has before anything is counted for it."""
        bounds.get(self.bound)
        self._check_order()
        if self.classes is not None:
            self.choices.check(self.classes, self.top)
        elif self.runner_up or self.groups:
            raise ParameterError("the number of classes is not known", repair="classes=10")
        if (wanted := self.radius_rule.noise) != self.noise:
            raise ParameterError(
                f"the certificate {self.rule_of_radius!r} holds for {wanted} noise,"
                f" not {self.noise}",
                repair=f"--noise {wanted}",
            )
        if self.generator is not None:
            check_generator(self.generator)
        if self.runner_up:
            check_share("runner_up", self.runner_up)
            require_against(self.radius_rule)
        if self.slope:
            check_slope(self)
        check_two_laws(self)
        self._check_arithmetic()
        for name in ("beta", "reserve", "fraction"):
            check_share(name, getattr(self, name))
        for samples in self.stages:
            check_count("stages", samples)
        asked = ", ".join(map(str, self.radii))
        if not all(smaller < radius for smaller, radius in pairwise((0.0, *self.radii))):
            raise ParameterError(f"the radii are {asked}", why="they are above 0 and increasing")
        if self.radii and self.radii[-1] > (cap := self.largest_radius()):
            raise ParameterError(
                f"the radii are {asked}",
                why=f"unanimous votes give {cap:.4g}, with these n, alpha and sigma",
                repair="smaller ones, or a larger --n or --sigma",
            )
        self.stopping()

    def _check_order(self) -> None:
        """Refuse a noise that nobody has, and an order of it that there is not."""
        law = self.law
        if isinstance(law, HasOrder) and self.dimension is not None:
            law.order_in(self.dimension)

    def _check_arithmetic(self) -> None:
        if self.arithmetic not in (None, REAL, LATTICE) or self.covers not in (GRID, ALL):
            raise ParameterError(
                f"arithmetic {self.arithmetic!r} that covers {self.covers!r}",
                repair="--arithmetic lattice or real; --set covers=grid or all",
            )
        if self.arithmetic == LATTICE and not self.on_lattice:
            raise ParameterError(
                f"there is no lattice sampler of {self.noise} noise",
                why="its sums would be rounded, and the certificate would say that they are not",
                repair="--arithmetic real",
            )
        if not self.on_lattice and (self.covers != GRID or self.steps is not None):
            raise ParameterError(
                "covers and steps are about a lattice, and there is none in real arithmetic",
                repair="--arithmetic lattice, or leave them out",
            )
        if self.steps is not None:
            check_count("steps", self.steps)

    @property
    def law(self) -> Noise:
        """The noise, before it is put on a lattice."""
        return noise_of(self.noise, self.sigma, self.order)

    @property
    def on_lattice(self) -> bool:
        """Whether noise is added on a lattice."""
        real = self.arithmetic == REAL or self.slope or self.double
        return isinstance(self.law, HasLattice) and not real

    @property
    def shares(self) -> bool:
        """Whether a part of alpha is for other bounds than that on the class's probability."""
        return bool(self.slope or self.runner_up)

    @property
    def rule(self) -> str:
        """Name of the stopping rule."""
        return self.stop or ("anytime" if self.radii else "fixed")

    @property
    def rule_of_radius(self) -> str:
        """Name of the radius rule."""
        return self.certificate or default_rule(self.noise)

    @property
    def radius_rule(self) -> RadiusRule:
        """The radius rule."""
        rule = rule_of(self.rule_of_radius, self.order)
        if isinstance(rule, UsesSecondLaw):
            return rule.of_noise(self.noise, self.order)
        return among(rule, self.top)

    @property
    def choices(self) -> Choices:
        """Among which classes every classifier decides."""
        return Choices(self.labels, self.groups)

    @property
    def double(self) -> bool:
        """Whether samples are drawn from two laws of noise."""
        return isinstance(radii.get(self.rule_of_radius), UsesSecondLaw)

    @cached_property
    def laws(self) -> TwoLaws:
        """Both laws of double sampling."""
        kind, sized = self.second or SMALLER_VARIANCE, self.dimension or 0
        return TwoLaws(self.noise, self.order, self.sigma, sized, kind, self.second_level)

    def chosen_split(self) -> Split:
        """The split of double sampling: asked for, recorded, or planned now (a second or two)."""
        laws = self.laws
        return self.split or planned_split(laws.first, laws.second, self.n, self.n0, self.alpha)

    def certified_twice(self, found: Sequence[Evidence]) -> list[Certificate]:
        """What double sampling proves from the evidence of classifiers for one input."""
        rule, alpha, ball = self.radius_rule, self.alpha, self.ball
        return certify_two_laws(found, self.laws, rule, alpha=alpha, ball=ball)

    @property
    def ball(self) -> Ball:
        """What the radii are radii of."""
        return Ball(self.norm, self.dimension)

    def largest_radius(self, charge: Charge = FREE) -> float:
        """What unanimous votes certify, in input units, after what the arithmetic takes."""
        # A bound that draws a number reaches furthest with the smallest.
        rule = self.stopping(charge, 0.0)
        if isinstance(rule, SplitSampling):
            return self.certified_twice([rule.unanimous()])[0].radius or 0.0
        found = unanimous(rule, self.setting(charge, 0.0))
        said: dict[str, Any] = {"sigma": self.sigma, "alpha": self.alpha, "ball": self.ball}
        return certify_rule(found, self.radius_rule, charge=charge, **said).radius or 0.0

    @property
    def draws(self) -> bool:
        """Whether the bound needs a drawn number for every image."""
        return isinstance(bounds.get(self.bound), Randomised)

    def stopping(self, charge: Charge = FREE, drawn: float | None = None) -> StoppingRule:
        """The stopping rule, which is to decide the radii that are left after a charge.

        Args:
            drawn: the number of an image, where the bound needs one.
        """
        if self.double:
            return SplitSampling(self.setting(charge, drawn), self.chosen_split)
        return rules.get(self.rule)(self.setting(charge, drawn))

    def setting(self, charge: Charge = FREE, drawn: float | None = None) -> Setting:
        """What the stopping rule is told; the arguments are those of `stopping`."""
        rule, ball, bound = Charged(self.radius_rule, charge), self.ball, bounds.get(self.bound)
        if drawn is not None and isinstance(bound, Randomised):
            bound = bound.drawn(drawn)
        return Setting(
            n=self.n,
            n0=self.n0,
            chunk=self.chunk,
            alpha=self.alpha * (1 - self.slope),
            bound=bound,
            targets=tuple(probability_for(rule, r, self.sigma, ball) for r in self.radii),
            radius=lambda p: rule.radius(p, self.sigma, ball),
            probability=lambda r: probability_for(rule, r, self.sigma, ball),
            beta=self.beta,
            reserve=self.reserve,
            fraction=self.fraction,
            stages=self.stages,
            runner_up=self.runner_up,
            classes=self.choices.count(self.classes or 2),
            top=self.top,
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON values for the manifest, with what every certificate of the run shares."""
        chosen: dict[str, Any] = {"stop": self.rule, "certificate": self.rule_of_radius}
        asked = asdict(self)
        if not self.slope:
            del asked["slope"]  # runs from before there was one go on
        if self.double:
            laws = self.laws
            chosen |= {"second": laws.kind, "second_level": laws.level}
            chosen["split"] = list(self.chosen_split())
        else:
            del asked["second"], asked["second_level"], asked["split"]
        law = self.law
        if not isinstance(law, HasOrder):
            del asked["order"]
        elif self.dimension is not None:
            asked["order"] = law.order_in(self.dimension)
        for name in ("top", "labels", "groups"):
            if asked[name] in (1, ()):
                del asked[name]  # the same
        if not self.on_lattice:
            del asked["covers"], asked["steps"]
        return asked | chosen | {"arithmetic": LATTICE if self.on_lattice else REAL}

    def adopting(self, recorded: Mapping[str, Any], names: Iterable[str]) -> CertifyConfig:
        """This configuration with the named fields as an existing run recorded them."""
        chosen: dict[str, Any] = {name: recorded[name] for name in names if name in recorded}
        return replace(self, **chosen)

    def with_options(self, options: Mapping[str, Any]) -> CertifyConfig:
        """A copy with options of a configuration file or of ``--set``, checked by type."""
        kinds = {f.name: str(f.type) for f in fields(self) if f.name not in _KNOWN}
        for name, value in options.items():
            if name not in kinds:
                raise ConfigurationError(
                    f"there is no option {name!r}", repair=f"one of {', '.join(sorted(kinds))}"
                )
            if not _fits(kinds[name], value):
                raise ParameterError(f"{name} is {value!r}", why=f"expected {kinds[name]}")
        lists = {name: tuple(v) for name, v in options.items() if isinstance(v, list)}
        return replace(self, **{**options, **lists})


_KNOWN = ("dimension", "classes")
"""Fields that nobody chooses."""

_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "None": (type(None),),
}


def _fits(kind: str, value: Any) -> bool:
    if kind.startswith("tuple["):
        element = kind.removeprefix("tuple[").removesuffix(", ...]")
        return isinstance(value, list | tuple) and all(_fits(element, v) for v in value)
    allowed = [t for part in kind.split(" | ") for t in _TYPES[part]]
    return type(value) in allowed
