"""What a run of members says of the random ensemble that asks one of them.

Where the adversary commits to an input before the member is drawn, the chance of a right answer
anywhere within r of an image is at least the share of members that are right there and certified
at r. So

    certified expected accuracy at r  >=  mean_x (1/N) sum_i 1[R_i(x) >= r, member i right].

That all N radii of an image hold at once, with probability 1 - alpha, takes each of them at alpha
/ N: they are computed again from the stored votes. An adversary who may ask again meets every
member in the end; against him only images count that all members are certified at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phalanx.errors import RunError
from phalanx.runs.arithmetic import float32_level, lower_limits
from phalanx.runs.choices import floor_of, top_of
from phalanx.runs.lattice import charges
from phalanx.runs.query import NOT_CERTIFIED, check_radii, default_radii, is_labelled, radius_key
from phalanx.runs.radii import GAUSSIAN, RULES, certified_radius, least_stored
from phalanx.runs.schema import CertificateRecord
from phalanx.runs.sequential import FIXED
from phalanx.runs.statistics import Interval, bootstrap_mean
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict

OUTWARD = 1e-12
"""How far a bound is moved down before it becomes a radius, and"""
CHARGED_OUTWARD = 1e-5
"""how far up, relatively, the charge of a lattice: rounding, outward."""
AGAIN = "phalanx certify MODEL... --each, with the default --stop, bound and certificate"


@dataclass(frozen=True)
class Expected:
    """Certified accuracy of the random member, by radius (``"0.25"``).

    Attributes:
        members: names of the members in the run.
        images: images that every member has a certificate for.
        alpha: failure probability of the statement about an image, all members together.
        expected: certified expected accuracy, a lower bound.
        intervals: of it, 95% bootstrap over images.
        always: share of images certified at that radius by every member.
    """

    members: tuple[str, ...]
    images: int
    alpha: float
    expected: dict[str, float]
    intervals: dict[str, Interval]
    always: dict[str, float]

    def lines(self) -> list[str]:
        """A table and the statement below it, for people."""
        rows = [("radius", "expected, at least", "95% over images", "every member")]
        for key, value in self.expected.items():
            low, high = self.intervals[key]
            always = f"{self.always[key]:.4f}"
            rows.append((key, f"{value:.4f}", f"{low:.4f} .. {high:.4f}", always))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return [
            f"certified expected accuracy of one of {len(self.members)} members at random,"
            f" {self.images} images",
            *table,
            f"each member at alpha / {len(self.members)}, so that an image's statement holds with"
            f" probability {1 - self.alpha:g};",
            "expected: the adversary commits to an input before the member is drawn; every member:"
            " he may ask again",
        ]

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "members": list(self.members),
            "images": self.images,
            "alpha": self.alpha,
            "alpha_each": self.alpha / len(self.members),
            "certified_expected_accuracy": self.expected,
            "intervals": {key: list(interval) for key, interval in self.intervals.items()},
            "certified_by_every_member": self.always,
        }


def expected_accuracy(run: RunStore, radii: Sequence[float] | None = None) -> Expected:
    """Certified expected accuracy of drawing one of a run's members.

    Args:
        run: with the certificates of at least two members, each alone.
        radii: in input units; default: the run's.

    Raises:
        RunError: fewer members, images without labels, or certificates whose bound cannot be
            taken at another alpha.
        ParameterError: a radius that is negative or not finite.
    """
    chosen = check_radii(default_radii(run) if radii is None else radii)
    members, config = _members(run), run.manifest.config
    if len(members) < 2:
        raise RunError(
            f"the run has {len(members)} members with certificates of their own",
            why="a random ensemble has at least two",
            repair=AGAIN,
        )
    _refuse_other_bounds(config)
    certified = _certified(run, members, config)
    shares = {radius_key(r): (certified >= r).mean(0) for r in chosen}
    return Expected(
        members=tuple(members),
        images=certified.shape[1],
        alpha=float(config["alpha"]),
        expected={key: float(share.mean()) for key, share in shares.items()},
        intervals={key: bootstrap_mean(share) for key, share in shares.items()},
        always={key: float((share == 1).mean()) for key, share in shares.items()},
    )


def _members(run: RunStore) -> list[str]:
    """The classifiers that are one member alone, each as often as it was named."""
    return [
        record.name
        for record in run.manifest.classifiers
        if not record.identity.get("reducer") and len(record.identity.get("members") or ()) == 1
    ]


def _refuse_other_bounds(config: Mapping[str, Any]) -> None:
    noise = config.get("noise", GAUSSIAN)
    usual = {
        "stop": FIXED,
        "bound": "clopper-pearson",
        "certificate": RULES.get(noise),
        "runner_up": None,
        "slope": None,
        "groups": None,
    }
    for key, value in usual.items():
        given = config.get(key) or None
        if given is not None and given != value:
            raise RunError(
                f"the run's {key} is {given!r}",
                why="the certificates cannot be taken at alpha / N again",
                repair=AGAIN,
            )
    if top_of(config) > 1:
        raise RunError("the run certifies the most likely classes, of which a random answer is one")


def _certified(
    run: RunStore, members: Sequence[str], config: Mapping[str, Any]
) -> NDArray[np.float64]:
    """Radii ``(members, images)`` at alpha / N where the member is right, else -1."""
    by_member = [{r.image: r for r in run.certificates(name)} for name in members]
    images = sorted(set.intersection(*(set(records) for records in by_member)))
    if not images:
        raise RunError(
            "no image has a certificate of every member",
            repair="run the command again: it continues",
        )
    records = [[of[image] for image in images] for of in by_member]
    if not is_labelled([r for row in records for r in row], run.labels()):
        raise RunError("the images have no labels", why="no answer is right or wrong")
    alpha = config["alpha"] / len(members)
    pairs = {(r.n_a, r.n) for row in records for r in row if r.n_a is not None and r.n is not None}
    limits = lower_limits(pairs, alpha)
    return np.array([[_radius(record, limits, config) for record in row] for row in records])


def _radius(
    record: CertificateRecord,
    limits: Mapping[tuple[int, int], float],
    config: Mapping[str, Any],
) -> float:
    """A member's radius at an image; -1 where it is wrong, abstains or ended in an error."""
    if record.verdict is not Verdict.VERIFIED or not record.correct:
        return NOT_CERTIFIED
    if record.n_a is None or record.n is None:
        raise RunError(f"the votes of {record.classifier!r} are not stored", repair=AGAIN)
    taken, sigma = charges(config), float(config["sigma"])
    p_lower = limits[record.n_a, record.n] - taken.probability
    if not p_lower > floor_of(config, None):
        return NOT_CERTIFIED
    radius = certified_radius(p_lower * (1 - OUTWARD), config, float32_level(sigma))
    outward = least_stored(radius, config, sigma) - taken.distance * (1 + CHARGED_OUTWARD)
    return max(outward, 0.0)
