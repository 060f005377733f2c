"""Two sections of a report: the radius law (Horvath et al.) and DRT's conditions (Yang et al.).

Both read the run's note ``"correlation"``, which `phalanx diagnose --out RUN` writes. Anything
absent from it is left out; a note of an older version shows neither section.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from phalanx.reporting.formatting import ABSENT, count
from phalanx.reporting.style import RULE, figure_svg, rc, series
from phalanx.reporting.table import Cell, Table

Row = Mapping[str, Any]


def law_section(law: Mapping[str, Any]) -> str:
    """Predicted radii against n and k, beside what was measured.

    Args:
        law: JSON values of `phalanx.diagnostics.law.LawReport`.
    """
    rows, measured = _rows(law, "predicted"), _rows(law, "measured")
    if not rows:
        return ""
    return "\n".join(
        [
            "<p>Of n noisy copies n_A vote for the class, a binomial number, and the radius "
            "follows from n_A. So the probability p_A of such a vote says how radii are "
            "distributed at any number of samples, for one member (k = 1) and for several.</p>",
            _law_picture(rows, measured),
            law_table(law).html(),
            '<p class="note">Estimates, not certificates. p_A of k averaged members as their '
            "margins' means and covariance and ζ predict it, if margins are Gaussian; the 10% and "
            "90% points are over images and votes together. Measured: from draws that gave no "
            "prediction. Source: Horvath, Müller, Fischer, Vechev, ICLR 2022 (arXiv 2106.06946)."
            "</p>",
        ]
    )


def law_table(law: Mapping[str, Any]) -> Table:
    """Radii of one member and of all at every n, and p_A."""
    rows, measured = _rows(law, "predicted"), _rows(law, "measured")
    most = max(int(row["k"]) for row in rows)
    ends = [row for row in rows if row["k"] in {1, most}]
    shown = [(row, "predicted") for row in ends]
    shown += [(row, "measured") for row in measured if row["k"] in {1, most}]
    shown.sort(key=lambda pair: (pair[0]["k"], pair[0]["n"], pair[1]))
    return Table(
        "Radii against the number of samples",
        ("members k, samples n", "", "no radius", "mean", "10%", "median", "90%"),
        tuple(
            (
                Cell(f"k = {row['k']}, n = {count(int(row['n']))}"),
                Cell(kind),
                Cell(f"{100 * row['none']:.1f}%"),
                *(Cell(_number(row[key])) for key in ("mean", "low", "median", "high")),
            )
            for row, kind in shown
        ),
    )


def _law_picture(rows: Sequence[Row], measured: Sequence[Row]) -> str:
    ks = sorted({int(row["k"]) for row in rows})
    with mpl.rc_context(dict(rc("law"))):
        figure = Figure(figsize=(8.2, 3.0), layout="constrained")
        axes = figure.add_subplot()
        for order, k in enumerate(ks):
            colour, dash = series(order)
            of_k = sorted((row for row in rows if row["k"] == k), key=lambda row: row["n"])
            n = [row["n"] for row in of_k]
            mean = [row["mean"] for row in of_k]
            axes.plot(n, mean, color=colour, linestyle=dash, label=f"k = {k}")
            seen = [row for row in measured if row["k"] == k]
            axes.plot([row["n"] for row in seen], [row["mean"] for row in seen], "o", color=colour)
        axes.set_xscale("log")
        ticks = sorted({int(row["n"]) for row in rows})
        ticks = [n for n in ticks if not np.log10(n) % 1] or ticks
        axes.set_xticks(ticks, [count(n) for n in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel="samples n (dots: measured)", ylabel="mean radius")
        axes.set_ylim(bottom=0)
        axes.spines["bottom"].set_color(RULE)
        figure.legend(loc="outside upper left", ncols=8, borderaxespad=0.2)
    svg = figure_svg(figure, label="Mean predicted radius against samples", salt="law")
    return f'<figure><div class="plot">{svg}</div></figure>'


def conditions_section(report: Mapping[str, Any]) -> str:
    """DRT's conditions and its comparison with single members.

    Args:
        report: JSON values of `phalanx.diagnostics.theory_report.ConditionsReport`.
    """
    if not _rows(report, "rows"):
        return ""
    betas = report.get("smoothness", {})
    return "\n".join(
        [
            "<p>How far may an input move before the smoothed confidences could change class? "
            "From the margin m, the length g of its gradient and the smoothness β two radii "
            "follow. Were m and g known exactly, the class would be kept within r_suf, and where "
            "r_nec exists it would change somewhere within r_nec.</p>",
            conditions_table(report).html(),
            _alignment(report),
            "<p>The theorem of the paper compares an ensemble with its weakest member. Its factor "
            "is (1 − D)/(1 + D) times the limit: the limit grows as the members' gradients point "
            "apart, D is what smoothness may take away. Where a premise fails there is no "
            "number.</p>",
            _comparisons(report),
            '<p class="note"><b>Estimates, not certificates</b>: margins and gradients are means '
            f"over {count(int(report['samples']))} noise draws an image, "
            f"{count(int(report['images']))} images. They speak of the classifier that takes the "
            "largest smoothed confidence, not of the vote that is certified. One output is β-smooth"
            f" with β = {betas.get('paper', 0):.4g} in the paper and "
            f"{betas.get('tight', 0):.4g} at best (0.4839/σ²). Source: Yang, Li, Xu, Kailkhura, "
            "Xie, Li, ICLR 2022 (arXiv 2107.10873).</p>",
        ]
    )


def _alignment(report: Mapping[str, Any]) -> str:
    """A sentence on the members' gradients; nothing in a note of an older version."""
    rows = _rows(report, "cosines")
    if not rows:
        return ""
    pairs = ", ".join(f"{_members(row)}: {_number(row['cosine'])}" for row in rows)
    return (
        "<p>The gradients of two members' margins have a mean cosine of "
        f"<b>{_number(report.get('cosine'))}</b> ({pairs}). At 1 the members lean the same "
        "way, and what moves one moves the other.</p>"
    )


def conditions_table(report: Mapping[str, Any]) -> Table:
    """m, g, r_suf and r_nec of every classifier."""
    images = int(report["images"])
    return Table(
        "DRT's conditions",
        (
            "classifier",
            f"gives the class, of {count(images)}",
            "margin m",
            "gradient g",
            "r_suf",
            "r_suf, paper's β",
            "r_nec",
            "r_nec, paper's β",
        ),
        tuple(
            (
                Cell(str(row["classifier"])),
                Cell(count(int(row["agrees"]))),
                Cell(_number(row["margin"])),
                Cell(_number(row["gradient"])),
                Cell(_number(row["sufficient"].get("tight"))),
                Cell(_number(row["sufficient"].get("paper"))),
                _needed(row, "tight"),
                _needed(row, "paper"),
            )
            for row in _rows(report, "rows")
        ),
        note="Means over images; r_suf counts 0 where the class is another. r_nec: median of the "
        "images where it is finite. A max-margin ensemble of more than two has none.",
    )


def _comparisons(report: Mapping[str, Any]) -> str:
    every, summary = _rows(report, "comparisons"), _rows(report, "comparison_summary")
    if len(every) <= len(summary) or not summary:
        return comparison_table(every).html()
    return (
        comparison_table(summary).html()
        + f"<details><summary>every pair of members ({len(every)} rows)</summary>"
        + comparison_table(every).html()
        + "</details>"
    )


def comparison_table(rows: Sequence[Row]) -> Table:
    """The theorem, one row a choice of members; rows without members speak of all pairs."""
    return Table(
        "Ensemble against its weakest member",
        (
            "members",
            "protocol",
            "β",
            "limit",
            "D",
            "factor",
            "gain within",
            "premises hold",
            "above 1",
        ),
        tuple(
            (
                Cell(_members(row), _failed(row)),
                Cell(str(row["protocol"])),
                Cell(str(row["constant"])),
                *(Cell(_number(row[key])) for key in ("limit", "slack", "factor", "reach")),
                Cell(f"{row['held']} of {row['images']}"),
                Cell(count(int(row["larger"]))),
            )
            for row in rows
        ),
        note="Medians over images; limit, D and factor over those on which every premise holds. "
        "The factor is at the members' own r_suf; a gain is promised only over radii below "
        "“gain within”.",
    )


def _needed(row: Row, constant: str) -> Cell:
    value = row["necessary"].get(constant)
    bounded = int(row["bounded"].get(constant, 0))
    images = "1 image" if bounded == 1 else f"{count(bounded)} images"
    return Cell(_number(value), images if value is not None else "")


def _members(row: Row) -> str:
    return " + ".join(map(str, row["members"])) or "pairs"


def _failed(row: Row) -> str:
    return "; ".join(f"{reason}: {number}" for reason, number in row["reasons"].items())


def _rows(report: Mapping[str, Any], key: str) -> Sequence[Row]:
    value = report.get(key)
    return value if isinstance(value, list) else []


def _number(value: Any) -> str:
    return ABSENT if value is None else f"{value:.3f}"
