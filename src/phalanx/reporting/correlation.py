"""The correlation section: why an ensemble helps, or does not (Horvath et al., ICLR 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from phalanx.reporting.formatting import ABSENT
from phalanx.reporting.style import MUTED, RULE, SERIES, figure_svg, rc
from phalanx.reporting.table import Cell, Table

Rows = Sequence[Mapping[str, Any]]


def correlation_section(report: Mapping[str, Any]) -> str:
    """The section's inner HTML for the run's note ``"correlation"``.

    Args:
        report: JSON values with ``zeta_noise`` and ``zeta_members`` (or ``zeta``) and the lists
            ``variance_ratio`` (k, measured, theory), ``radius_gain`` (k, predicted, measured)
            and ``chebyshev`` (k, bound, measured_p); anything absent is left out.
    """
    ratio, gain = _rows(report, "variance_ratio"), _rows(report, "radius_gain")
    pictures = [
        _picture(ratio, "theory", "variance ratio", "Variance of the margin, k members to one"),
        _picture(gain, "predicted", "radius gain", "Mean radius, k members to one"),
    ]
    drawn = "\n".join(picture for picture in pictures if picture)
    return "\n".join(
        [
            f"<p>{_lead(report)}</p>",
            f'<div class="pair">\n{drawn}\n</div>' if drawn else "",
            chebyshev_table(report).html(),
            '<p class="note">Estimates from separate noise draws, not certificates. Theory line: '
            "(1 + ζ(k − 1)) / k. The Chebyshev bound on the share of right votes is "
            "1 − Σ variance / mean² over the other classes' margins, cut at 0. Source: "
            "Horvath, Müller, Fischer, Vechev, ICLR 2022 (arXiv 2106.06946).</p>",
        ]
    )


def chebyshev_table(report: Mapping[str, Any]) -> Table:
    """Every quantity of the correlation report for k = 1 .. N members."""
    by_k: dict[int, dict[str, Any]] = {}
    for key in ("variance_ratio", "radius_gain", "chebyshev"):
        for row in _rows(report, key):
            by_k.setdefault(int(row["k"]), {}).update({f"{key}.{n}": v for n, v in row.items()})
    columns = {
        "variance ratio": "variance_ratio.measured",
        "theory": "variance_ratio.theory",
        "p_A": "chebyshev.measured_p",
        "Chebyshev bound": "chebyshev.bound",
        "radius gain": "radius_gain.measured",
        "predicted": "radius_gain.predicted",
    }
    kept = {
        title: key for title, key in columns.items() if any(key in row for row in by_k.values())
    }
    return Table(
        "Correlation of the members",
        ("members k", *kept),
        tuple(
            (Cell(str(k)), *(Cell(_number(by_k[k].get(key))) for key in kept.values()))
            for k in sorted(by_k)
        ),
    )


def _lead(report: Mapping[str, Any]) -> str:
    noise = report.get("zeta_noise", report.get("zeta"))
    members = report.get("zeta_members")
    if noise is None:
        return "The margins do not vary under noise, so no correlation exists."
    text = (
        f"Under noise the members' margins have correlation <b>ζ = {noise:.3f}</b>"
        + (
            f" ({members:.3f} when the members' own differences count as variance)"
            if members
            else ""
        )
        + ". At ζ = 1 another member changes nothing; the smaller ζ is, the more averaging helps."
    )
    if report.get("images") and report.get("samples"):
        text += f" Measured on {int(report['images'])} images, {int(report['samples'])} draws each."
    return text


def _picture(rows: Rows, model: str, title: str, heading: str) -> str:
    known = [row for row in rows if row.get("measured") is not None]
    if len(known) < 2:
        return ""
    salt = title.replace(" ", "-")
    with mpl.rc_context(dict(rc(salt))):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = figure.add_subplot()
        theory = [row for row in rows if row.get(model) is not None]
        axes.plot(*_columns(theory, model), color=MUTED, linestyle=(0, (5, 1.6)), label=model)
        axes.plot(*_columns(known, "measured"), color=SERIES[0], marker="o", label="measured")
        _frame(axes, title)
        axes.legend()
    svg = figure_svg(figure, label=f"{heading}: measured and {model}", salt=salt)
    return f'<figure><h3>{escape(heading)}</h3><div class="plot">{svg}</div></figure>'


def _frame(axes: Axes, title: str) -> None:
    axes.set(xlabel="members k", ylabel=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines["bottom"].set_color(RULE)


def _columns(rows: Rows, key: str) -> tuple[list[int], list[float]]:
    return [int(row["k"]) for row in rows], [float(row[key]) for row in rows]


def _rows(report: Mapping[str, Any], key: str) -> Rows:
    value = report.get(key)
    return value if isinstance(value, list) else []


def _number(value: Any) -> str:
    return ABSENT if value is None else f"{value:.3f}"
