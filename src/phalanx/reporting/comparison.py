"""A comparison as text: a table to read, or CSV, Markdown and LaTeX to paste."""

from __future__ import annotations

from phalanx.reporting.formatting import count, cut, percent, signed
from phalanx.runs.compare import Comparison
from phalanx.runs.markup import render
from phalanx.runs.query import radius_key

Row = tuple[str, ...]


def comparison_markup(found: Comparison, form: str) -> str:
    """The comparison in one of `phalanx.runs.markup.FORMS`; both sides have their own names.

    Raises:
        ParameterError: an unknown form.
    """
    rows = comparison_rows(found, exact=form == "csv")
    return render(comparison_columns(found.a, found.b), rows, form, comparison_caption(found))


def comparison_columns(a: str = "A", b: str = "B") -> Row:
    """The headings of `comparison_rows`, for two sides so called."""
    sides = ("radius", a, b, "difference", "low", "high")
    return (*sides, f"only {a}", f"only {b}", "both", "neither")


def comparison_caption(found: Comparison) -> str:
    """What is subtracted from what, on how many images, in which unit, at which level."""
    left_out = (
        f" ({count(found.left_out)} that only one has are left out)" if found.left_out else ""
    )
    return (
        f"{found.a} minus {found.b}, paired on {count(found.images)} common images{left_out}. "
        f"{found.measure.replace('_', ' ').capitalize()} in percent at radii in input units; "
        "ACR is the average certified radius, in input units. Low and high are the ends of 95% "
        "paired bootstrap intervals over images; the last four columns count images."
    )


def comparison_rows(found: Comparison, *, exact: bool = False) -> list[Row]:
    """One row a radius, then the average certified radius.

    Args:
        found: the comparison.
        exact: rates as fractions with every digit, for programs; else in percent, cut.
    """
    rows = [
        (
            radius_key(row.radius),
            *(repr(v) if exact else percent(v) for v in (row.a, row.b)),
            *_gaps(100, row.difference, *row.interval, exact=exact),
            *map(str, (row.only_a, row.only_b, row.both, row.neither)),
        )
        for row in found.rows
    ]
    first, second, difference, interval = found.average_certified_radius
    radii = [repr(v) if exact else cut(v) for v in (first, second)]
    last = ("ACR", *radii, *_gaps(1, difference, *interval, exact=exact), "", "", "", "")
    return [*rows, last]


def _gaps(scale: float, *values: float, exact: bool) -> list[str]:
    digits = 1 if scale > 1 else 3
    return [repr(v) if exact else signed(v, digits, scale=scale) for v in values]
