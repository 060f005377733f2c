"""Every certificate of a run once more, from its stored counts, by independent code.

Needs no torch, no weights and no data: votes, the rule of Cohen et al. 2019 and
`phalanx.runs.arithmetic`, which shares no line with the code that made the certificate.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from phalanx.errors import RunError
from phalanx.runs import double_sampling
from phalanx.runs.arithmetic import float32_level, largest_radius
from phalanx.runs.bounded import WHY_NOT, contradictions
from phalanx.runs.cases import Case, Limits, cases_of
from phalanx.runs.choices import floor_of, top_of
from phalanx.runs.drawn import RANDOMISED, drawn_number
from phalanx.runs.export import truncated
from phalanx.runs.gradient import agrees, gradient_radius, of_votes
from phalanx.runs.imports import KIND as IMPORT
from phalanx.runs.imports import beyond_cap
from phalanx.runs.lattice import LATTICE, REAL, unstated
from phalanx.runs.lattice import problems as lattice_problems
from phalanx.runs.manifest import BOUNDS, require_certifying
from phalanx.runs.provenance import digest_of
from phalanx.runs.radii import (
    GAUSSIAN,
    GENERALISED_GAUSSIAN,
    NORMS,
    RULES,
    certified_radius,
    least_stored,
    needs_dimension,
)
from phalanx.runs.schema import CertificateRecord, Manifest
from phalanx.runs.sequential import ANYTIME, FIXED, KNOWN
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict

RELATIVE = 1e-9
_ABSOLUTE = 1e-12
_OUTWARD = 1e-12
"""How far down a bound may have been moved before it became a radius: rounding, outward."""
_CHARGED_OUTWARD = 1e-5
"""How far up, relatively, the charge of a lattice may have been moved."""
_PUBLISHED_DIGITS = 3

Radius = Callable[[float, Sequence[float] | None], float]
"""From p_lower, and bounds on other classes, to the radius under a run's configuration."""


class Outcome(StrEnum):
    """What became of one certificate."""

    RECHECKED = "rechecked"
    NOT_RECHECKABLE = "not recheckable"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One certificate, what became of it, and why."""

    classifier: str
    image: int
    outcome: Outcome
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecheckReport:
    """The outcome for every certificate, and problems of the run as a whole.

    Attributes:
        findings: one a certificate, in the order of the run.
        problems: digests that do not match what they stand for, certificates that are missing.
    """

    findings: tuple[Finding, ...]
    problems: tuple[str, ...] = ()

    def count(self, outcome: Outcome) -> int:
        """Certificates with that outcome."""
        return sum(finding.outcome is outcome for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether nothing contradicts the run; what cannot be rechecked does not."""
        return not self.problems and not self.count(Outcome.FAILED)

    def reasons(self) -> dict[str, int]:
        """Why certificates could not be rechecked, with how many."""
        found = Counter(
            reason
            for finding in self.findings
            if finding.outcome is Outcome.NOT_RECHECKABLE
            for reason in finding.reasons
        )
        return dict(found.most_common())

    def failures(self) -> list[Finding]:
        """The certificates that failed."""
        return [finding for finding in self.findings if finding.outcome is Outcome.FAILED]

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "ok": self.ok,
            "rechecked": self.count(Outcome.RECHECKED),
            "not_recheckable": self.count(Outcome.NOT_RECHECKABLE),
            "failed": self.count(Outcome.FAILED),
            "problems": list(self.problems),
            "not_recheckable_because": self.reasons(),
            "failures": [
                {"classifier": f.classifier, "image": f.image, "reasons": list(f.reasons)}
                for f in self.failures()
            ],
        }


def recheck(run: RunStore) -> RecheckReport:
    """Recompute every certificate of a run (or of an opened bundle).

    Rechecked: the votes of each phase add up to n0 and n and are for classes that the run decides
    among, the class with most selection votes (lowest index on a tie; for the k > 1 most likely
    classes the label) is the predicted one, p_lower and radius agree within 1e-9 (an anytime
    p_lower: some look supports it, see `phalanx.runs.sequential`), the verdict abstains exactly
    where p_lower is at most `floor_of`, and ``correct`` fits the label. Noise may be added in
    float32, so the radius is that of `float32_level`; on a lattice the `charges` of
    `phalanx.runs.lattice` are taken off bound and radius. An imported radius must be what its count
    gives at the sigma that was stated, rounded as it was published. A gradient radius is that of
    the stored halves of the noise (`phalanx.runs.gradient`); that these are sums over the noise of
    the votes is not seen here, where no noise is drawn.
    """
    require_certifying(run.manifest, run.folder)
    config = run.manifest.config
    records = run.certificates()
    if run.manifest.kind == BOUNDS:
        return RecheckReport(
            tuple(_bounded(record, config) for record in records), tuple(_identity_problems(run))
        )
    problems = (
        *_identity_problems(run),
        *_missing_certificates(run, records),
        *lattice_problems(config, run.manifest.data),
    )
    unknown = _unknown_rule(run.manifest)
    if unknown:
        unchecked = (
            Finding(r.classifier, r.image, Outcome.NOT_RECHECKABLE, (unknown,)) for r in records
        )
        return RecheckReport(tuple(unchecked), problems)
    cases = cases_of(run, records)
    limits = Limits(cases, config)
    beyond = set(beyond_cap(records, largest_radius(*_rule(config))))
    sigma = config["sigma"] if run.manifest.kind == IMPORT else float32_level(config["sigma"])

    def radius(p_lower: float, others: Sequence[float] | None = None) -> float:
        return certified_radius(p_lower, config, sigma, others)

    findings = (_judge(case, limits, radius, beyond) for case in cases)
    return RecheckReport(tuple(findings), problems)


def _bounded(record: CertificateRecord, config: Mapping[str, Any]) -> Finding:
    """A deterministic certificate: whether it contradicts itself; no more can be seen here."""
    wrong = tuple(contradictions(record, config))
    outcome = Outcome.FAILED if wrong else Outcome.NOT_RECHECKABLE
    return Finding(record.classifier, record.image, outcome, wrong or (WHY_NOT,))


def _rule(config: Mapping[str, Any]) -> tuple[int, float, float]:
    return config["n"], config["alpha"], config["sigma"]


def _identity_problems(run: RunStore) -> list[str]:
    return [
        f"the digest of classifier {record.name!r} is not that of its identity"
        for record in run.manifest.classifiers
        if digest_of(record.identity) != record.digest
    ]


def _missing_certificates(run: RunStore, records: Sequence[CertificateRecord]) -> list[str]:
    """Counted images without a certificate: leaving out the bad ones would flatter the rest."""
    certified = {(record.image, record.classifier) for record in records}
    images = run.counted() | {image for image, _ in certified}
    wanted = ((image, c.name) for image in sorted(images) for c in run.manifest.classifiers)
    missing = [pair for pair in wanted if pair not in certified]
    if not missing:
        return []
    return [
        f"{len(missing)} certificates of counted images are missing (first: image {missing[0][0]} "
        f"of {missing[0][1]!r}): the run is not finished, or they were removed"
    ]


def _unknown_rule(manifest: Manifest) -> str:
    """Why this run's certificates are not those of Cohen et al., or nothing."""
    config = manifest.config
    noise, anytime = config.get("noise", GAUSSIAN), config.get("stop", FIXED) in ANYTIME
    known: dict[str, Collection[str]] = {
        "noise": RULES,
        "certificate": _certificates_of(noise),
        "norm": NORMS,
        "bound": ("clopper-pearson", *([RANDOMISED] if not anytime else [])),
        "arithmetic": (REAL, LATTICE),
        "stop": KNOWN,
    }
    for key, names in known.items():
        if key not in config and manifest.kind != IMPORT:  # a log says nothing of how it was made
            return f"the run does not say its {key}"
        if key in config and config[key] not in names:
            return f"there is no independent code for {key} {config[key]!r}"
    _check_slope(config)
    double = config.get("certificate") == double_sampling.NAME
    decided = ("classes",) if config.get("runner_up") or config.get("groups") else ()
    sized = ("dimension",) if double or needs_dimension(config) else ()
    for key in ("sigma", "alpha", "n", "n0", *sized, *decided):
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"the run does not say its {key}"
        if not value > 0:
            raise RunError(f"the run's {key} is {value}", why="it is above 0")
    _check_order(config)
    if top_of(config) > 1 and noise == GENERALISED_GAUSSIAN:
        return f"there is no independent code for the most likely classes under {noise} noise"
    return unstated(config) or double_sampling.unstated(config)


def _certificates_of(noise: str) -> tuple[str, ...]:
    """The certificates with independent code, for a noise."""
    double = (double_sampling.NAME,) if noise in double_sampling.NOISES else ()
    return (RULES.get(noise, ""), *double)


def _check_order(config: Mapping[str, Any]) -> None:
    order = config.get("order")
    if config.get("noise") != GENERALISED_GAUSSIAN:
        return
    if type(order) is not int or not (order == 0 or 0 < 2 * order + 1 < config["dimension"]):
        raise RunError(
            f"the run's order is {order!r}", why="it is a whole number k >= 0, 2k < dimension - 1"
        )


def _check_slope(config: Mapping[str, Any]) -> None:
    slope, rule = config.get("slope", 0), config.get("stop", FIXED)
    if isinstance(slope, bool) or not isinstance(slope, int | float) or not 0 <= slope < 1:
        raise RunError(f"the run's slope is {slope!r}", why="it is a share of alpha")
    if slope and (rule != FIXED or top_of(config) > 1):
        raise RunError(f"there is no gradient certificate for stop {rule!r} and this top")


def _judge(case: Case, limits: Limits, radius: Radius, beyond: set[int]) -> Finding:
    record, wrong = case.record, list(case.votes.wrong)
    if record.verdict is Verdict.ERROR:
        wrong += _error_problems(record)
    elif case.votes.invalid:
        wrong.append(
            f"{case.votes.invalid} votes had non-finite logits and the verdict is no error"
        )
    elif case.pair is not None:
        wrong += _certificate_problems(case, limits, radius)
        wrong += _drawn_problems(case, limits)
    if record.verdict is not Verdict.ERROR:
        wrong += _correctness_problems(case)
    if record.radius_text is not None and not case.imported:
        wrong.append(f"radius {record.radius_text} is a published text, and the run no import")
    if record.radius_text is not None and record.image in beyond:
        wrong.append(
            f"radius {record.radius_text} is more than the run's n, alpha and sigma can give"
        )
    if wrong:
        return Finding(record.classifier, record.image, Outcome.FAILED, tuple(wrong))
    if case.missing:
        missing = (case.missing,)
        return Finding(record.classifier, record.image, Outcome.NOT_RECHECKABLE, missing)
    return Finding(record.classifier, record.image, Outcome.RECHECKED)


def _error_problems(record: CertificateRecord) -> list[str]:
    claims = record.radius is not None or record.predicted is not None or bool(record.correct)
    return ["it ended in an error and still claims something"] if claims else []


def _drawn_problems(case: Case, limits: Limits) -> list[str]:
    stored = case.record.details.get("drawn")
    expected = drawn_number(limits.config["seed"], case.record.image) if limits.drawn else None
    return [] if stored == expected else [f"drew {stored}, seed and image give {expected}"]


def _correctness_problems(case: Case) -> list[str]:
    record = case.record
    expected = None if case.label is None else record.predicted == case.label
    if record.correct == expected:
        return []
    return [f"correct is {record.correct}, label {case.label}, predicted {record.predicted}"]


def _certificate_problems(case: Case, limits: Limits, radius_of: Radius) -> list[str]:
    record, wrong = case.record, []
    p_lower, slope = limits.lower(case), limits.config.get("slope")
    if slope and (case.noise is None or not of_votes(case.noise, record.n_a, record.n)):
        return ["the halves of its noise are not those of its votes"]
    if (both := limits.two_laws(case)) is not None:
        wrong += double_sampling.problems(record.details, both, limits.config)
    radius, fits = _radius(case, limits, radius_of, p_lower)
    certified = p_lower > floor_of(limits.config, limits.others(case, p_lower))
    verdict = Verdict.VERIFIED if certified else Verdict.ABSTAINED
    predicted = case.votes.selected if verdict is Verdict.VERIFIED else None
    if record.verdict is not verdict:
        wrong.append(f"the verdict is {record.verdict}, p_lower {p_lower:.9f} gives {verdict}")
    elif record.predicted != predicted:
        wrong.append(f"predicted is {record.predicted}, the votes select {predicted}")
    if record.p_lower is None and record.radius_text is None:
        wrong.append(f"there is no p_lower, the votes give {p_lower!r}")
    elif record.p_lower is not None and not _close(record.p_lower, p_lower):
        wrong.append(f"p_lower is {record.p_lower!r}, the votes give {p_lower!r}")
    if record.radius is None:
        wrong.append(f"there is no radius, the votes give {radius!r}")
    elif record.radius_text is not None:
        if not reproduces(record.radius_text, radius):
            wrong.append(f"radius {record.radius_text} was published, the count gives {radius!r}")
    elif not fits:
        wrong.append(f"radius is {record.radius!r}, the votes give {radius!r}")
    return wrong


def _radius(case: Case, limits: Limits, radius_of: Radius, p_lower: float) -> tuple[float, bool]:
    """The radius that a case has, and whether the stored one is that, moved down by rounding."""
    stored, slope = case.record.radius or 0.0, limits.config.get("slope")
    if slope and case.noise is not None:
        sigma = float32_level(limits.config["sigma"])
        radius = gradient_radius(case.noise, p_lower, limits.config["alpha"] * slope, sigma)
        return radius, agrees(stored, radius)
    if case.votes.second is not None:
        proven = p_lower > 0.5
        radius = double_sampling.radius(case.record.details, limits.config) if proven else 0.0
        return radius, double_sampling.agrees(stored, radius)
    others = limits.others(case, p_lower)
    taken = limits.charged.distance
    radius = max(0.0, radius_of(p_lower, others) - taken)
    # What it is after all outward rounding: at the far tail more than 1e-9 smaller.
    outward = radius_of(p_lower * (1 - _OUTWARD), others)
    safest = least_stored(outward, limits.config, limits.config["sigma"])
    safest -= taken * (1 + _CHARGED_OUTWARD)
    return radius, _close(stored, radius) or safest <= stored <= radius


def _close(stored: float, computed: float) -> bool:
    return math.isclose(stored, computed, rel_tol=RELATIVE, abs_tol=_ABSOLUTE)


def reproduces(published: str, radius: float) -> bool:
    """Whether ``radius`` is printed as ``published``: rounded to its digits (at least three, as
    Cohen et al. print), or cut after its decimals (at least three), as we do.

    >>> reproduces("0.953", 0.95286), reproduces("0.952", 0.95286), reproduces("0.951", 0.95286)
    (True, True, False)
    """
    value = float(published)
    mantissa = published.lower().partition("e")[0]
    digits = sum(character.isdigit() for character in mantissa.lstrip("+-0."))
    decimals = min(max(len(mantissa.partition(".")[2]), _PUBLISHED_DIGITS), 17)
    rounded = float(f"{radius:.{max(_PUBLISHED_DIGITS, digits)}}")
    return value in {rounded, float(truncated(radius, decimals))} or _close(value, radius)
