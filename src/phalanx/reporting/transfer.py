"""A section of a report: whom else an attack on one member deceives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from phalanx.reporting.formatting import ABSENT, count
from phalanx.reporting.table import Cell, Table


def transfer_section(report: Mapping[str, Any]) -> str:
    """The members' attacks and what became of them.

    Args:
        report: JSON values of `phalanx.diagnostics.transfer.TransferReport`.
    """
    return "\n".join(
        [
            "<p>Every member was attacked alone, and what deceived it was shown to the others. "
            f"Of such images that both members got right, <b>{_rate(report.get('mean'))}</b> "
            "deceive the other one too. Members that share their mistakes are near 1.</p>",
            transfer_table(report).html(),
            '<p class="note"><b>Estimates from attacks, not certificates</b>: an attack that finds '
            "nothing proves nothing. Projected gradient on the mean confidence under noise, within "
            f"an l2 ball of {report['eps']:g}; decisions by {count(int(report['samples']))} fresh "
            "noise draws. Rate as in Yang et al., NeurIPS 2021 (TRS).</p>",
        ]
    )


def transfer_table(report: Mapping[str, Any]) -> Table:
    """One row a member that is attacked, one column a member that is asked."""
    members = range(len(report["right"]))
    return Table(
        f"Transfer of attacks, {count(int(report['images']))} images",
        ("attack on", "right before", "deceived", *(f"member {j} too" for j in members)),
        tuple(
            (
                Cell(f"member {i}"),
                Cell(count(int(report["right"][i]))),
                Cell(count(int(report["deceived"][i]))),
                *(_cell(report, i, j) for j in members),
            )
            for i in members
        ),
        note="The last columns: share of the images that deceived the first member and that the "
        "other had right, with their number.",
    )


def _cell(report: Mapping[str, Any], i: int, j: int) -> Cell:
    if i == j:
        return Cell("")
    return Cell(_rate(report["rates"][i][j]), f"of {count(int(report['asked'][i][j]))}")


def _rate(value: Any) -> str:
    return ABSENT if value is None else f"{100 * value:.1f}%"
