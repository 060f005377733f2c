"""`ConditionsReport`: DRT's conditions over a data set, as JSON values and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

NOTE = "estimates from sampled margins and gradients, not certificates"


@dataclass(frozen=True)
class ConditionRow:
    """One classifier, over the images; radii in input units.

    Attributes:
        classifier: ``member 0``, ..., ``weighted``, ``max-margin``.
        agrees: images on which its smoothed confidences give the class.
        margin, gradient: means of m and g for each unit of weight, at the class that limits the
            sufficient radius.
        sufficient: by smoothness constant, the mean r_suf; 0 where it says another class.
        necessary: by constant, the median of r_nec over the images where it is finite; None
            where there is none.
        bounded: by constant, the number of images where r_nec is finite.
        silent: why there is no necessary radius; empty where there is.
    """

    classifier: str
    agrees: int
    margin: float
    gradient: float
    sufficient: Mapping[str, float]
    necessary: Mapping[str, float | None]
    bounded: Mapping[str, int]
    silent: str = ""


@dataclass(frozen=True)
class ComparisonRow:
    """The ensemble-against-base theorem for some members; medians over images, None if absent.

    Attributes:
        members: indices of the members.
        protocol: ``weighted`` or ``max-margin``.
        constant: smoothness constant, ``tight`` or ``paper``.
        images: number of images.
        held: images on which every premise holds; the medians are over these.
        larger: images on which the theorem promises the ensemble more than the weakest member.
        limit: ``(1 - C (1 - cos theta))^(-1/2)``, the factor if smoothness cost nothing.
        slack: D.
        factor: promised radius over the smallest r_suf of the members.
        reach: the theorem promises a gain only over members' radii below this, input units.
        reasons: the premise that failed, and on how many images.
    """

    members: tuple[int, ...]
    protocol: str
    constant: str
    images: int
    held: int
    larger: int
    limit: float | None
    slack: float | None
    factor: float | None
    reach: float | None
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class CosineRow:
    """How parallel the margin gradients of two members are; None where one always vanishes.

    Attributes:
        members: indices of the members.
        images: on which both have a gradient.
        cosine: mean over these, 1 for members that lean the same way.
    """

    members: tuple[int, int]
    images: int
    cosine: float | None


@dataclass(frozen=True)
class ConditionsReport:
    """DRT's conditions over a data set.

    Attributes:
        images, samples: how much was looked at; ``samples`` noise draws per image.
        sigma: noise level in input units.
        weights: of the weighted ensemble; their sum is 1.
        smoothness: by constant, beta of one smoothed output.
        rows: the conditions of every classifier.
        cosines: for every pair of members.
        comparisons: the theorem for every pair of members, and for all of them.
    """

    images: int
    samples: int
    sigma: float
    weights: Sequence[float]
    smoothness: Mapping[str, float]
    rows: Sequence[ConditionRow]
    cosines: Sequence[CosineRow]
    comparisons: Sequence[ComparisonRow]

    @property
    def cosine(self) -> float | None:
        """Mean over pairs."""
        return _mean([row.cosine for row in self.cosines])

    def as_dict(self) -> dict[str, Any]:
        """JSON values: the form in which a run keeps it (absent numbers are None)."""
        summary = [asdict(row) for row in summed(self.comparisons)]
        values = {**asdict(self), "comparison_summary": summary}
        for row in (*values["cosines"], *values["comparisons"], *summary):
            row["members"] = list(row["members"])
        return {**values, "cosine": self.cosine, "note": NOTE}

    def table(self) -> str:
        """A few lines of plain text."""
        parts = [*self._head(), *self._rows(), "", self._alignment(), "", *self._comparisons()]
        return "\n".join(parts)

    def _head(self) -> list[str]:
        betas = " and ".join(
            f"{name} beta = {value:.4g}" for name, value in self.smoothness.items()
        )
        return [
            f"DRT's conditions on smoothed confidences: {self.images} images, {self.samples} draws"
            f" each; {NOTE}",
            f"  smoothness of one output: {betas}",
            f"{'':15}{'':>7}{'':>8}{'':>9}{'mean r_suf':^16}{'r_nec (images)':^26}".rstrip(),
            f"{'':15}{'agrees':>7}{'margin':>8}{'gradient':>9}"
            + "".join(f"{name:>8}" for name in self.smoothness)
            + "".join(f"{name:>13}" for name in self.smoothness),
        ]

    def _rows(self) -> list[str]:
        lines = []
        for row in self.rows:
            needed = [
                "-" if row.necessary[name] is None
                else f"{row.necessary[name]:.3f} ({row.bounded[name]})"
                for name in self.smoothness
            ]  # fmt: skip
            remark = f"   r_nec {row.silent}" if row.silent else ""
            lines.append(
                f"{row.classifier:15}{row.agrees:>7}{row.margin:>8.3f}{row.gradient:>9.3f}"
                + "".join(f"{row.sufficient[name]:>8.3f}" for name in self.smoothness)
                + ("" if remark else "".join(f"{text:>13}" for text in needed))
                + remark
            )
        return lines

    def _alignment(self) -> str:
        pairs = ", ".join(
            f"{'+'.join(map(str, row.members))} {_cosine(row.cosine)}" for row in self.cosines
        )
        return f"cosine of the members' margin gradients: {_cosine(self.cosine)} ({pairs})"

    def _comparisons(self) -> list[str]:
        lines = [
            "ensemble against its weakest member (DRT's theorem; medians where premises hold)",
            f"{'members':>9}  {'protocol':12}{'beta':>6}{'limit':>8}{'D':>7}{'factor':>8}"
            f"{'reach':>8}{'premises':>10}{'larger':>8}",
        ]
        lines += [_comparison_line(row) for row in summed(self.comparisons)]
        return lines


def summed(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """One row for all pairs with the same protocol and constant: counts added, medians' means.

    A pair's row stands alone where there is only one; rows of all members stay as they are.
    """
    groups: dict[tuple[bool, str, str], list[ComparisonRow]] = {}
    for row in rows:
        groups.setdefault((len(row.members) > 2, row.protocol, row.constant), []).append(row)
    return [group[0] if len(group) == 1 else _sum(group) for group in groups.values()]


def _sum(rows: Sequence[ComparisonRow]) -> ComparisonRow:
    reasons: dict[str, int] = {}
    for row in rows:
        for reason, count in row.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return ComparisonRow(
        members=(),
        protocol=rows[0].protocol,
        constant=rows[0].constant,
        images=sum(row.images for row in rows),
        held=sum(row.held for row in rows),
        larger=sum(row.larger for row in rows),
        limit=_mean([row.limit for row in rows]),
        slack=_mean([row.slack for row in rows]),
        factor=_mean([row.factor for row in rows]),
        reach=_mean([row.reach for row in rows]),
        reasons=reasons,
    )


def _cosine(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _comparison_line(row: ComparisonRow) -> str:
    name = {0: "pairs", 2: "+".join(map(str, row.members))}.get(len(row.members), "all")
    numbers = "".join(
        f"{'-' if value is None else f'{value:.{digits}f}':>{width}}"
        for value, digits, width in (
            (row.limit, 3, 8),
            (row.slack, 3, 7),
            (row.factor, 3, 8),
            (row.reach, 3, 8),
        )
    )
    failed = "; ".join(f"{reason} ({count})" for reason, count in row.reasons.items())
    return (
        f"{name:>9}  {row.protocol:12}{row.constant:>6}{numbers}"
        f"{f'{row.held}/{row.images}':>10}{row.larger:>8}" + (f"   {failed}" if failed else "")
    )
