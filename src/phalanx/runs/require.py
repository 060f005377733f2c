"""``--require``: a condition on a run, judged on the lower end of its 95% interval."""

from __future__ import annotations

import re
from dataclasses import dataclass

from phalanx.errors import ParameterError, RequirementUnmet
from phalanx.runs.query import Rate, Summary

_FORM = re.compile(
    r"^\s*(?P<point>point:)?\s*"
    r"(?:(?P<rate>certified)@(?P<radius>[0-9.]+(?:e-?[0-9]+)?)|(?P<name>acr|clean))\s*"
    r"(?P<relation>>=|>)\s*(?P<bar>[0-9.]+(?:e-?[0-9]+)?)\s*$"
)


@dataclass(frozen=True)
class Requirement:
    """``certified@RADIUS``, ``clean`` (certified at 0) or ``acr``, at least (or above) ``bar``.

    Attributes:
        text: as it was written.
        radius: of the certified accuracy, None for ``acr``.
        bar: what must be reached.
        strict: reaching is not enough.
        point: judge the estimate instead of the lower 95% limit.
    """

    text: str
    radius: float | None
    bar: float
    strict: bool = False
    point: bool = False

    def holds(self, value: float) -> bool:
        """Whether ``value`` reaches the bar."""
        return value > self.bar if self.strict else value >= self.bar


def parse(text: str) -> Requirement:
    """Read a condition.

    Raises:
        ParameterError: it is not one; the message shows the forms.

    >>> parse("certified@0.5>=0.6").radius
    0.5
    >>> parse("point:acr>=0.5").point
    True
    """
    found = _FORM.match(text)
    try:
        if found is None:
            raise ValueError(text)
        radius = 0.0 if found["name"] == "clean" else None
        if found["rate"]:
            radius = float(found["radius"])
        return Requirement(
            text.strip(),
            radius,
            float(found["bar"]),
            found["relation"] == ">",
            bool(found["point"]),
        )
    except ValueError:
        raise ParameterError(
            f"{text!r} is not a requirement",
            repair="write certified@0.5>=0.6, clean>=0.9 or acr>=0.5; point: in front judges the "
            "estimate instead of the lower 95% limit",
        ) from None


def check(summary: Summary, text: str) -> None:
    """Judge a condition on one classifier; errored and abstained images are not certified.

    Raises:
        RequirementUnmet: it does not hold; the message names figure, limit and bar.
        ParameterError: it cannot be read, or the images have no labels.
    """
    requirement = parse(text)
    figure = _figure(summary, requirement)
    judged = figure.value if requirement.point else figure.low
    if not requirement.holds(judged):
        which = "the estimate" if requirement.point else "the lower 95% limit"
        raise RequirementUnmet(
            f"{requirement.text} does not hold for {summary.classifier!r}: {which} is {judged:.4f}",
            why=f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}] "
            f"over {summary.images} images, {summary.errors} of them errors",
        )


def _figure(summary: Summary, requirement: Requirement) -> Rate:
    if not summary.labelled:
        raise ParameterError(
            f"{requirement.text} cannot be judged",
            why="the images have no labels, so accuracy is absent",
        )
    if requirement.radius is not None:
        return summary.at(requirement.radius)
    value, interval = summary.average_certified_radius, summary.average_certified_radius_interval
    if value is None or interval is None:
        raise ParameterError(f"{requirement.text} cannot be judged", why="the radius is absent")
    return Rate(value, *interval)
