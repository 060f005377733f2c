"""Two classifiers on the images both have: paired, because they saw the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phalanx.errors import RunError
from phalanx.runs.choices import top_of
from phalanx.runs.manifest import require_certifying
from phalanx.runs.query import (
    certified_radii,
    check_radii,
    default_radii,
    is_labelled,
    radius_key,
    require_classifier,
)
from phalanx.runs.radii import norm_of
from phalanx.runs.schema import CertificateRecord
from phalanx.runs.statistics import Interval, paired_difference
from phalanx.runs.store import RunStore


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a classifier of a run, and what to call it."""

    run: RunStore
    classifier: str
    name: str

    @classmethod
    def of(cls, run: RunStore, classifier: str | None = None, name: str | None = None) -> Side:
        """The side of a run's classifier (None: the primary one).

        Raises:
            RunError: the run has no such classifier, or is one of attacks.
        """
        require_certifying(run.manifest, run.folder)
        chosen = require_classifier(run, classifier)
        folder = run.folder.name if run.folder else "run"
        return cls(run, chosen, name or f"{folder}:{chosen}")


@dataclass(frozen=True)
class RadiusRow:
    """Certified accuracy of both at one radius, and how the images divide.

    ``difference`` is a minus b; its interval is a 95% paired bootstrap over images.
    """

    radius: float
    a: float
    b: float
    difference: float
    interval: Interval
    only_a: int
    only_b: int
    both: int
    neither: int


@dataclass(frozen=True)
class Comparison:
    """``a`` minus ``b`` over ``images`` common images.

    Attributes:
        measure: ``"certified_accuracy"``, or ``"certified_fraction"`` without labels.
        average_certified_radius: of a, of b, their difference and its interval.
        left_out: images that only one of the two has.
    """

    a: str
    b: str
    images: int
    left_out: int
    measure: str
    rows: tuple[RadiusRow, ...]
    average_certified_radius: tuple[float, float, float, Interval]

    def as_json(self) -> dict[str, Any]:
        """JSON values, keyed by radius."""
        first, second, difference, interval = self.average_certified_radius
        return {
            "a": self.a,
            "b": self.b,
            "images": self.images,
            "left_out": self.left_out,
            self.measure: {radius_key(row.radius): _row_json(row) for row in self.rows},
            "average_certified_radius": {
                "a": first,
                "b": second,
                "difference": difference,
                "interval": list(interval),
            },
        }


def _row_json(row: RadiusRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in row.__dataclass_fields__ if name != "radius"}
    return values | {"interval": list(row.interval)}


def compare(a: Side, b: Side, radii: Sequence[float] | None = None) -> Comparison:
    """Compare two classifiers, of one run or of two, on the images both have.

    Args:
        a, b: the sides; the difference is a minus b.
        radii: default: the radii of whichever run reaches further.

    Raises:
        RunError: other data or another norm, no common image, or the runs disagree about a label
            or an image.
    """
    _require_same_data(a, b)
    require_one_norm([a.run, b.run])
    first, second = (_by_image(side) for side in (a, b))
    common = sorted(first.keys() & second.keys())
    if not common:
        raise RunError(
            f"{a.name} and {b.name} have no image in common",
            repair="certify both on the same images",
        )
    _require_same_images(a, b, common)
    rows_a, rows_b = [first[i] for i in common], [second[i] for i in common]
    labelled = is_labelled(rows_a, a.run.labels()) and is_labelled(rows_b, b.run.labels())
    radii_a, radii_b = (certified_radii(rows, labelled=labelled) for rows in (rows_a, rows_b))
    chosen = radii if radii is not None else max(map(default_radii, (a.run, b.run)), key=len)
    gained_a, gained_b = np.maximum(radii_a, 0.0), np.maximum(radii_b, 0.0)
    difference, interval = paired_difference(gained_a, gained_b)
    return Comparison(
        a=a.name,
        b=b.name,
        images=len(common),
        left_out=len(first.keys() ^ second.keys()),
        measure="certified_accuracy" if labelled else "certified_fraction",
        rows=tuple(_radius_row(radius, radii_a, radii_b) for radius in check_radii(chosen)),
        average_certified_radius=(
            float(gained_a.mean()),
            float(gained_b.mean()),
            difference,
            interval,
        ),
    )


def _by_image(side: Side) -> dict[int, CertificateRecord]:
    return {record.image: record for record in side.run.certificates(side.classifier)}


def _require_same_data(a: Side, b: Side) -> None:
    found = list(_data_differences(a.run.manifest.data, b.run.manifest.data))
    if found:
        raise RunError(
            f"{a.name} and {b.name} are about different data",
            why="; ".join(found),
            repair="compare runs on the same data",
        )


def require_one_norm(runs: Sequence[RunStore]) -> str:
    """The norm of the radii of all these runs.

    Raises:
        RunError: they have more than one, or speak of other numbers of most likely classes.
    """
    norms = sorted({norm_of(run.manifest.config) for run in runs})
    if len(norms) > 1:
        raise RunError(
            f"the runs have radii in {' and '.join(norms)}",
            why="a radius in one norm says nothing about one in another",
            repair="compare runs of one --norm",
        )
    tops = sorted({top_of(run.manifest.config) for run in runs})
    if len(tops) > 1:
        raise RunError(
            f"the runs speak of the {' and '.join(map(str, tops))} most likely classes",
            why="a class may be among three that never is the first",
            repair="compare runs of one --set top",
        )
    return norms[0]


def _data_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """What both say of their data and say differently; an imported log may say nothing."""
    for key in ("name", "split", "shape"):
        first, second = a.get(key), b.get(key)
        if first and second and first != second:
            yield f"{key} {first} and {second}"
    sums_a, sums_b = a.get("checksums"), b.get("checksums")
    if not (isinstance(sums_a, Mapping) and isinstance(sums_b, Mapping)):
        return
    for name in sorted(sums_a.keys() & sums_b.keys()):
        if sums_a[name] != sums_b[name]:
            yield f"{name!r} has other checksums"


def _require_same_images(a: Side, b: Side, common: Sequence[int]) -> None:
    for what, stored in (
        ("label", [side.run.labels() for side in (a, b)]),
        ("digest", [side.run.digests() for side in (a, b)]),
    ):
        for image in common:
            if len({known.get(image) for known in stored} - {None}) > 1:
                raise RunError(
                    f"image {image} has another {what} in {a.name} than in {b.name}",
                    why="a paired comparison needs the same images",
                    repair="compare runs on the same data",
                )


def _radius_row(radius: float, a: NDArray[np.float64], b: NDArray[np.float64]) -> RadiusRow:
    hit_a, hit_b = a >= radius, b >= radius
    difference, interval = paired_difference(hit_a, hit_b)
    return RadiusRow(
        radius=radius,
        a=float(hit_a.mean()),
        b=float(hit_b.mean()),
        difference=difference,
        interval=interval,
        only_a=int(np.count_nonzero(hit_a & ~hit_b)),
        only_b=int(np.count_nonzero(hit_b & ~hit_a)),
        both=int(np.count_nonzero(hit_a & hit_b)),
        neither=int(np.count_nonzero(~hit_a & ~hit_b)),
    )
