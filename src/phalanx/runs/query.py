"""What a run says: certified accuracy by radius, average certified radius, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phalanx.errors import ParameterError, RunError
from phalanx.runs.choices import measured
from phalanx.runs.folder import ASKED
from phalanx.runs.lattice import charges
from phalanx.runs.manifest import BOUNDS, require_certifying
from phalanx.runs.radii import GAUSSIAN, RULES, certified_radius
from phalanx.runs.schema import CertificateRecord, ClassifierRecord, Manifest
from phalanx.runs.sequential import fewest_others, largest_bound
from phalanx.runs.statistics import Interval, bootstrap_mean, clopper_pearson
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict

STEP = 0.25
_MOST_RADII = 17
NOT_CERTIFIED = -1.0


@dataclass(frozen=True)
class Rate:
    """A share of images with its 95% Clopper-Pearson interval over images."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """One classifier of a run over its certified images.

    Rates are shares of ALL ``images``: abstained and errored ones count as not certified.
    Without labels the accuracy fields are None and ``certified_fraction`` remains.

    Attributes:
        classifier: its name in the run.
        images: number of certificates.
        images_asked: images that were asked for, where a time limit left some out; else None.
        measured: what the accuracy is called, before the word: empty, or ``top-3``.
        samples: rows of noise counted, None where unknown (an imported log without counts).
        abstained, errors: images that ended so.
        certified_accuracy: by radius (``"0.25"``): correct, not abstained, radius >= that.
        certified_fraction: the same whatever the label.
        intervals: 95% Clopper-Pearson over images, of the accuracy, else of the fraction.
        average_certified_radius: mean of radius * correct, in input units.
        average_certified_radius_interval: 95% bootstrap over images.
        clean_accuracy: certified accuracy at radius 0.
        certified: per image in order, the certified radius where it counts, else -1.
        classifiers: every classifier of the run, where the whole run was summarised.
    """

    classifier: str
    images: int
    samples: int | None
    abstained: int
    errors: int
    certified_accuracy: dict[str, float] | None
    certified_fraction: dict[str, float]
    intervals: dict[str, Interval]
    average_certified_radius: float | None
    average_certified_radius_interval: Interval | None
    clean_accuracy: float | None
    certified: NDArray[np.float64] = field(repr=False, compare=False)
    images_asked: int | None = None
    measured: str = ""
    classifiers: Mapping[str, Summary] = field(default_factory=dict, repr=False)

    @property
    def labelled(self) -> bool:
        """Whether the images have labels, so that accuracy means something."""
        return self.certified_accuracy is not None

    def at(self, radius: float) -> Rate:
        """Certified accuracy (without labels: certified fraction) at any radius >= 0."""
        return rate(self.certified, radius)

    def as_json(self) -> dict[str, Any]:
        """JSON values; an absent number is null (``images_asked``: left out)."""
        value: dict[str, Any] = {
            "classifier": self.classifier,
            "certified_accuracy": self.certified_accuracy,
            "average_certified_radius": self.average_certified_radius,
            "clean_accuracy": self.clean_accuracy,
            "abstained": self.abstained,
            "errors": self.errors,
            "images": self.images,
            "samples": self.samples,
            "certified_fraction": self.certified_fraction,
            "intervals": {
                "certified_accuracy" if self.labelled else "certified_fraction": {
                    key: list(interval) for key, interval in self.intervals.items()
                },
                "average_certified_radius": self.average_certified_radius_interval,
            },
        }
        if self.measured:
            value["measured"] = self.measured
        if self.images_asked is not None:
            value["images_asked"] = self.images_asked
        if self.classifiers:
            value["classifiers"] = {name: s.as_json() for name, s in self.classifiers.items()}
        return value


def summarise(
    run: RunStore, classifier: str | None = None, radii: Sequence[float] | None = None
) -> Summary:
    """Summarise one classifier, or the primary one with all the others beside it.

    Args:
        run: a store.
        classifier: a name in the run; None for the primary one and ``classifiers``.
        radii: in input units; default 0, .25, .. up to the largest radius the run can give.

    Raises:
        RunError: the run has no such classifier, or no certificate yet.
        ParameterError: a radius that is negative or not finite.
    """
    chosen = check_radii(default_radii(run) if radii is None else radii)
    names = [record.name for record in run.manifest.classifiers]
    if classifier is not None:
        return _summarise(run, require_classifier(run, classifier), chosen)
    summaries = {name: _summarise(run, name, chosen) for name in names}
    return replace(summaries[primary(run.manifest).name], classifiers=summaries)


def run_json(run: RunStore, radii: Sequence[float] | None = None) -> dict[str, Any]:
    """The run as one JSON object: the primary classifier's keys, and ``classifiers``."""
    return summarise(run, radii=radii).as_json()


def primary(manifest: Manifest) -> ClassifierRecord:
    """The classifier a one-line summary speaks of: the one marked so, else the first.

    Raises:
        RunError: the run has no classifier at all.
    """
    marked = [record for record in manifest.classifiers if record.primary]
    found = [*marked, *manifest.classifiers]
    if not found:
        raise RunError(
            "the run has no classifiers",
            why=f"it is a {manifest.kind} run, which certifies nothing",
        )
    return found[0]


def require_classifier(run: RunStore, name: str | None) -> str:
    """``name`` if the run has it, the primary one's for None.

    Raises:
        RunError: with the names there are.
    """
    names = [record.name for record in run.manifest.classifiers]
    if name is None:
        return primary(run.manifest).name
    if name not in names:
        raise RunError(
            f"the run has no classifier called {name!r}", repair=f"one of {', '.join(names)}"
        )
    return name


def default_radii(run: RunStore) -> tuple[float, ...]:
    """0 and the radii a run was asked to decide; where none were, 0, .25, .. up to the largest
    radius that n and alpha allow (else: that was reached).
    """
    if asked := run.manifest.config.get("radii"):
        return (0.0, *asked)
    cap = cap_of(run.manifest.config)
    if cap is None:
        cap = max((effective_radius(record) for record in run.certificates()), default=0.0)
    step = STEP
    while run.manifest.kind == BOUNDS and 0 < cap < step:
        step /= 2
    while cap / step >= _MOST_RADII:
        step *= 2
    return tuple(step * i for i in range(math.floor(cap / step) + 1))


def cap_of(config: Mapping[str, Any]) -> float | None:
    """What n votes out of n give, None where the run's certificate is for comparison only.

    With Gaussian noise and a number of samples fixed in advance: sigma * Phi^-1(alpha^(1/n)).
    """
    keys = ("n", "alpha", "sigma", "certificate")
    if any(config.get(k) is None for k in keys):
        return None
    if config["certificate"] != RULES.get(config.get("noise", GAUSSIAN)):
        return None
    taken = charges(config)
    counted = largest_bound(config)
    most = counted - taken.probability
    others = [p + taken.probability for p in fewest_others(config, counted)] or None
    return max(0.0, certified_radius(most, config, config["sigma"], others) - taken.distance)


def radius_key(radius: float) -> str:
    """The text of a radius in every table and in JSON.

    >>> radius_key(0.0), radius_key(0.25), radius_key(1.0)
    ('0', '0.25', '1')
    """
    return f"{radius:g}"


def effective_radius(record: CertificateRecord) -> float:
    """The radius to compare with: the published string's where there is one, -1 on an error."""
    if record.radius_text is not None:
        return float(record.radius_text)
    return NOT_CERTIFIED if record.radius is None else record.radius


def certified_radii(records: Sequence[CertificateRecord], *, labelled: bool) -> NDArray[np.float64]:
    """Per image, the radius within which it is certified (and correct, if labelled), else -1."""
    counts = (_counts(record) and (bool(record.correct) or not labelled) for record in records)
    pairs = zip(records, counts, strict=True)
    return np.array([effective_radius(r) if ok else NOT_CERTIFIED for r, ok in pairs])


def _counts(record: CertificateRecord) -> bool:
    """Verified; or answered by a deterministic classifier, which is sure at the image itself."""
    undecided = record.verdict in (Verdict.UNKNOWN, Verdict.FALSIFIED)
    return record.verdict is Verdict.VERIFIED or (undecided and record.radius == 0.0)


def is_labelled(records: Sequence[CertificateRecord], labels: Mapping[int, int | None]) -> bool:
    """Whether every image has a label, so that accuracy is a number at all.

    Args:
        records: certificates of one run.
        labels: the run's (`RunStore.labels`). For an image that is not among them its
            certificate tells, unless it ended in an error: it may have failed before its label
            was read. Where all ended so, their certificates are all there is.
    """
    told = [r for r in records if r.image in labels or r.verdict is not Verdict.ERROR] or records
    return all(labels.get(r.image, r.correct) is not None for r in told)


def rate(certified: NDArray[np.float64], radius: float) -> Rate:
    """The share of images certified at ``radius``, with its interval."""
    (radius,) = check_radii([radius])
    hits = int(np.count_nonzero(certified >= radius))
    return Rate(hits / certified.size, *clopper_pearson(hits, certified.size))


def check_radii(radii: Sequence[float]) -> list[float]:
    """The radii as floats.

    Raises:
        ParameterError: one is negative or not finite.
    """
    for radius in radii:
        if not (math.isfinite(radius) and radius >= 0):
            raise ParameterError(f"{radius} is no radius", why="a radius is finite and >= 0")
    return [float(radius) for radius in radii]


def _summarise(run: RunStore, name: str, radii: Sequence[float]) -> Summary:
    require_certifying(run.manifest, run.folder)
    records = run.certificates(name)
    if not records:
        raise RunError(
            f"{name!r} has no certificate yet",
            why="the run has not finished an image",
            repair="run the command again: it continues",
        )
    labelled = is_labelled(records, run.labels())
    whatever = certified_radii(records, labelled=False)
    certified = certified_radii(records, labelled=True) if labelled else whatever
    rates = {radius_key(radius): rate(certified, radius) for radius in radii}
    fractions = {radius_key(radius): rate(whatever, radius).value for radius in radii}
    gained = np.maximum(certified, 0.0)
    return Summary(
        classifier=name,
        images=len(records),
        samples=_samples(run, name, records),
        abstained=sum(record.verdict is Verdict.ABSTAINED for record in records),
        errors=sum(record.verdict is Verdict.ERROR for record in records),
        certified_accuracy={key: r.value for key, r in rates.items()} if labelled else None,
        certified_fraction=fractions,
        intervals={key: (r.low, r.high) for key, r in rates.items()},
        average_certified_radius=float(gained.mean()) if labelled else None,
        average_certified_radius_interval=bootstrap_mean(gained) if labelled else None,
        clean_accuracy=rate(certified, 0.0).value if labelled else None,
        certified=certified,
        images_asked=_images_asked(run, len(records)),
        measured=measured(run.manifest.config),
    )


def _images_asked(run: RunStore, images: int) -> int | None:
    asked = run.get_meta(ASKED)
    wanted = asked.get("images") if isinstance(asked, Mapping) else None
    return wanted if isinstance(wanted, int) and wanted > images else None


def _samples(run: RunStore, name: str, records: Sequence[CertificateRecord]) -> int | None:
    """Rows counted; an imported log's where it has counts, else None: not known is not zero."""
    if counted := run.rows_counted(name):
        return counted
    known = [record.n for record in records if record.n is not None]
    return sum(known) if len(known) == len(records) else None
