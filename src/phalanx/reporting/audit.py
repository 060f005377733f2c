"""The page and the tables of an audit, from the values its run keeps."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from phalanx.reporting.formatting import ABSENT, count, percent, percent_interval, signed
from phalanx.reporting.style import figure_svg, rc, series
from phalanx.reporting.table import Cell, Table

NOTE = "audit"
"""Under which a run keeps the values."""
DIFFERENCE = " - "
EXPLAINED = {
    "clean, expected": "one member at random, images as they are",
    "clean, averaged": "all members together, images as they are",
    "published style": "attacks on the module that draws, one fresh draw scored",
    "worst case, expected": "one member at random, the worst input found by any attack",
    "worst case, every member right": "the attacker may ask until he meets the weakest member",
    "worst case, some member right": "no member is left that is right",
    "worst case, averaged": "the same members together, no draw",
    "worst case, best member alone": "what the draw is worth against not drawing at all",
    "published - worst": "how much the published protocol flatters",
    "averaged - worst": "what drawing gains (below 0) or loses (above 0) against averaging",
}

Values = Mapping[str, Any]


def threat_of(values: Values) -> str:
    """The threat in words."""
    threat = values["threat"]
    return f"{threat['norm']} {threat['eps']:.6g}"


def audit_tables(values: Values) -> list[Table]:
    """Every table of an audit, the figures first."""
    tables = [_figures(values), _protocols(values), _transfer(values), _checks(values)]
    return [*tables, _certified(values)] if values.get("certified") else tables


def audit_sections(values: Values) -> list[tuple[str, str]]:
    """Headings and HTML, in the order of the page."""
    figures, protocols, transfer, checks = (table.html() for table in audit_tables(values)[:4])
    found = [
        ("What the defence is worth", figures),
        ("What each attack reached", protocols),
        ("Attacks that transfer", transfer),
        ("Do gradients mislead?", f"{checks}\n{_surface(values)}"),
    ]
    if values.get("certified"):
        found.append(("What is certified", _certified(values).html()))
    return [*found, ("What this says, and what not", _statement(values))]


def audit_header(values: Values, data: str) -> str:
    """Title and facts of the page."""
    facts = f"Audit · {escape(data)} · {escape(threat_of(values))}"
    return (
        f'<p class="eyebrow">{facts}</p>\n<h1>A random ensemble of {values["members"]} members</h1>'
        f'\n<p class="lead">{_lead(values)}</p>'
    )


def _lead(values: Values) -> str:
    style, worst, together = (
        percent(figure(values, name)["value"])
        for name in ("published style", "worst case, expected", "worst case, averaged")
    )
    return (
        f"Under {escape(threat_of(values))} the published protocol leaves {style}% accuracy,"
        f" attacks that know the members <b>{worst}%</b>; the same members averaged keep"
        f" {together}%."
    )


def figure(values: Values, name: str) -> Values:
    """One of the figures."""
    found: Values = next(one for one in values["figures"] if one["name"] == name)
    return found


def _figures(values: Values) -> Table:
    return Table(
        f"Accuracy under {threat_of(values)}, {count(values['images'])} images",
        ("", "accuracy", "95% over images", "means"),
        tuple(
            (Cell(one["name"]), *_cells(one["name"], one), Cell(EXPLAINED.get(one["name"], "")))
            for one in values["figures"]
        ),
        note="Percent, bootstrap intervals over images; differences are paired, in points.",
    )


def _cells(name: str, one: Values) -> tuple[Cell, Cell]:
    low, high = one["interval"]
    if DIFFERENCE in name:
        text = f"[{signed(low, 1, scale=100)}, {signed(high, 1, scale=100)}]"
        return Cell(signed(one["value"], 1, scale=100)), Cell(text)
    return Cell(percent(one["value"])), Cell(percent_interval(low, high))


def _protocols(values: Values) -> Table:
    members = range(values["members"])
    rows = [
        (
            Cell(row["name"]),
            Cell(percent(row["expected"]["value"]), percent_interval(*row["expected"]["interval"])),
            Cell(percent(row["averaged"]["value"])),
            *(Cell(percent(row["members"][member])) for member in members),
            Cell(count(round(row["queries"]))),
        )
        for row in values["protocols"]
    ]
    alone = [Cell(percent(one["value"])) for one in values["members_alone"]]
    rows.append(
        (
            Cell("the worst of all"),
            Cell(percent(figure(values, "worst case, expected")["value"])),
            Cell(percent(figure(values, "worst case, averaged")["value"])),
            *alone,
            Cell(""),
        )
    )
    return Table(
        "What each attack left",
        ("attack", "expected", "averaged", *(f"member {m}" for m in members), "queries"),
        tuple(rows),
        primary=len(rows) - 1,
        note="Every column is of the same inputs: what was found against one is shown to all.",
    )


def _transfer(values: Values) -> Table:
    members = range(values["members"])
    return Table(
        "Attacks on one member, shown to another",
        ("attack on", *(f"member {m}" for m in members)),
        tuple(
            (
                Cell(f"member {i}"),
                *(Cell(_share(values["transfer"][i][j]) if i != j else "") for j in members),
            )
            for i in members
        ),
        note="Share of the images lost by the first that the second lost too; both had them right.",
    )


def _share(value: float | None) -> str:
    return ABSENT if value is None else f"{100 * value:.1f}%"


def _checks(values: Values) -> Table:
    return Table(
        "Signs that gradients mislead",
        ("sign", "found", "limit", "", "if so"),
        tuple(
            (
                Cell(check["name"]),
                Cell(f"{100 * check['value']:.1f}%"),
                Cell(f"{100 * check['limit']:.0f}%"),
                Cell("ALARM" if check["alarm"] else "no"),
                Cell(check["means"]),
            )
            for check in values["checks"]
        ),
        note="Share of the images, or percentage points.",
    )


def _certified(values: Values) -> Table:
    found = values["certified"]
    return Table(
        f"Certified in l2, {count(found['images'])} images",
        ("radius", "expected, at least", "every member"),
        tuple(
            (
                Cell(key),
                Cell(percent(value)),
                Cell(percent(found["certified_by_every_member"][key])),
            )
            for key, value in found["certified_expected_accuracy"].items()
        ),
        note=(
            "Proven where the attacker commits before the draw; each statement about an image"
            f" holds with probability {1 - found['alpha']:g}. Of the smoothed members, not of"
            " the ones attacked above."
        ),
    )


def _surface(values: Values) -> str:
    surface = values["surface"]
    with mpl.rc_context(dict(rc("surface"))):
        drawing = Figure(figsize=(6.4, 2.6), layout="constrained")
        axes = drawing.subplots()
        for index, (key, name) in enumerate(
            (("gradient", "along the gradient"), ("random", "in a random direction"))
        ):
            colour, dash = series(index)
            axes.plot(surface["share"], surface[key], color=colour, linestyle=dash, label=name)
        axes.set_xlabel("way to the edge of the ball")
        axes.set_ylabel("expected loss")
        axes.legend()
        drawn = figure_svg(
            drawing,
            label="Mean loss along the gradient and along a random direction",
            salt="surface",
        )
    return f"<figure>{drawn}<figcaption>Mean over images.</figcaption></figure>"


def _statement(values: Values) -> str:
    alarms = [check["name"] for check in values["checks"] if check["alarm"]]
    said = (
        f"{len(alarms)} signs that gradients mislead were found: {'; '.join(map(escape, alarms))}."
        if alarms
        else "No sign that gradients mislead was found."
    )
    return (
        "<p>These are upper bounds: the best attacks tried, each success run again. Better ones may"
        f" exist, and nothing here is a certificate. {said}</p>\n<p>The expected accuracy of a"
        " random ensemble is the exact mean over its members, never sampled. It counts against an"
        " attacker who commits to an input before a member is drawn; one who may ask again"
        " meets every member.</p>"
    )


def text(values: Values) -> str:
    """All tables as plain text."""
    return "\n\n".join(table.text() for table in audit_tables(values))
