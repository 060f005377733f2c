"""The sections of a report, each a function from what was found to HTML.

Names, commands and reasons are the user's: everything that is not a number of ours is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from phalanx.reporting.claims import kind_of_claim, not_proven, proven
from phalanx.reporting.correlation import correlation_section
from phalanx.reporting.curves import curve_figure, run_curves
from phalanx.reporting.distribution import vote_figure, vote_shares
from phalanx.reporting.formatting import (
    count,
    cut,
    images_text,
    interval,
    measure,
    percent,
    percent_interval,
    signed,
)
from phalanx.reporting.gallery import group_html, groups
from phalanx.reporting.published import PublishedCurve, figures
from phalanx.reporting.shares import shares_of
from phalanx.reporting.style import figure_svg
from phalanx.reporting.tables import (
    WIDE,
    chosen_radii,
    comparisons,
    ended_early,
    paired_table,
    published_table,
    summaries,
    summary_rows,
)
from phalanx.reporting.theory import conditions_section, law_section
from phalanx.reporting.transfer import transfer_section
from phalanx.runs.choices import decided_otherwise, floor_of, top_of
from phalanx.runs.compare import Comparison
from phalanx.runs.query import Summary, cap_of, radius_key
from phalanx.runs.radii import norm_of
from phalanx.runs.store import RunStore


@dataclass(frozen=True)
class Findings:
    """What a report speaks of, computed once.

    Attributes:
        store: the run.
        radii: radii of the tables, in input units.
        found: summary of every classifier with certificates, the primary one first.
        published: the literature's curves for the same data and sigma.
    """

    store: RunStore
    radii: Sequence[float]
    found: Sequence[Summary]
    published: Sequence[PublishedCurve]

    @property
    def norm(self) -> str:
        """Of the radii."""
        return norm_of(self.store.manifest.config)

    @classmethod
    def of(cls, store: RunStore) -> Findings:
        """Summarise a run; one without certificates has empty ``found``."""
        radii = chosen_radii(store, WIDE)
        found = summaries(store, radii)
        sigma = store.manifest.config.get("sigma")
        norm = norm_of(store.manifest.config)
        comparable = bool(found) and found[0].labelled and sigma is not None and norm == "l2"
        comparable = comparable and not decided_otherwise(store.manifest.config)
        published = figures(data_name(store), sigma) if comparable else []
        return cls(store, radii, found, published)


def data_name(store: RunStore) -> str:
    """The data set's name as the run states it; empty where it states none."""
    return str(store.manifest.data.get("name", ""))


def headline(findings: Findings) -> str:
    """Title, the result in plain words, and the figures everybody asks for."""
    store = findings.store
    sigma = store.manifest.config.get("sigma")
    split = store.manifest.data.get("split")
    place = " ".join(str(part) for part in (data_name(store), split) if part)
    noise = f"<span>σ = {sigma:g}</span>" if isinstance(sigma, int | float) else ""
    facts = " · ".join(filter(None, ("Certified robustness", escape(place), noise)))
    return "\n".join(
        [
            f'<p class="eyebrow">{facts}</p>',
            f"<h1>{escape(title_of(findings))}</h1>",
            f'<p class="lead">{lead(findings)}</p>',
            missing_images(findings),
            tiles(findings.found[0]) if findings.found else "",
        ]
    )


def missing_images(findings: Findings) -> str:
    """That time was up before the last image; empty where none is missing."""
    if not findings.found or findings.found[0].images_asked is None:
        return ""
    summary = findings.found[0]
    return f'<p class="lead">{images_text([summary.images], summary.images_asked)}.</p>'


def title_of(findings: Findings) -> str:
    """The primary classifier and the data, as plain text."""
    if not findings.found:
        return "Nothing certified yet"
    data = data_name(findings.store)
    return findings.found[0].classifier + (f" on {data}" if data else "")


def lead(findings: Findings) -> str:
    """The result in plain words."""
    if not findings.found:
        return "No image has been certified yet. The same command continues the run."
    summary = findings.found[0]
    if summary.errors == summary.images:
        return f"None of the {count(summary.images)} images was certified: all ended in an error."
    radius = _telling_radius(findings)
    held = int((summary.certified >= radius).sum())
    kept = "are classified correctly and provably keep" if summary.labelled else "provably keep"
    kept += " their class"
    if (top := top_of(findings.store.manifest.config)) > 1:
        whose = "label" if summary.labelled else "selected class"
        kept = f"provably keep their {whose} among the {top} most likely classes"
    text = (
        f"Of {count(summary.images)} images, <b>{count(held)} ({percent(summary.at(radius).value)}"
        f"%)</b> {kept} under every change of {findings.norm} size below {radius_key(radius)}."
    )
    if summary.average_certified_radius is not None:
        text += f" The average certified radius is <b>{cut(summary.average_certified_radius)}</b>."
    alpha = findings.store.manifest.config.get("alpha")
    if isinstance(alpha, float):
        text += f" Each certificate may be wrong with probability at most {alpha:g}."
    return text


def _telling_radius(findings: Findings) -> float:
    """The largest shown radius of at most sigma: neither trivial nor out of reach."""
    sigma = findings.store.manifest.config.get("sigma") or 0.0
    return max((radius for radius in findings.radii if radius <= sigma), default=0.0)


def tiles(summary: Summary) -> str:
    """The primary classifier's figures, large."""
    clean = summary.at(0.0)
    facts = [
        (
            "clean accuracy" if summary.labelled else "certified at radius 0",
            f"{percent(clean.value)}%",
            percent_interval(clean.low, clean.high),
        )
    ]
    if summary.average_certified_radius is not None:
        limits = summary.average_certified_radius_interval
        facts.append(
            (
                "average radius",
                cut(summary.average_certified_radius),
                interval(*limits) if limits else "",
            )
        )
    facts += [
        ("abstained", count(summary.abstained), f"of {count(summary.images)} images"),
        ("errors", count(summary.errors), "count as not certified"),
        (
            "noise samples",
            count(summary.samples),
            "votes counted" if summary.samples else "unknown",
        ),
    ]
    boxes = "\n".join(
        f"<div><dt>{name}</dt><dd>{figure}<small>{remark}</small></dd></div>"
        for name, figure, remark in facts
    )
    return f'<dl class="tiles">\n{boxes}\n</dl>'


def results(findings: Findings) -> str:
    """Table and curve of every classifier."""
    found = findings.found
    curves, labelled = run_curves(findings.store), found[0].labelled
    said: dict[str, Any] = {"norm": findings.norm, "measured": found[0].measured}
    figure = curve_figure(curves, findings.published, labelled=labelled, **said)
    what = measure(labelled, found[0].measured).capitalize()
    label = f"{what} against {findings.norm} radius, of {len(curves)} classifiers"
    svg = figure_svg(figure, label=label, salt="curve")
    cap = cap_of(findings.store.manifest.config)
    reach = f" With these n and alpha no radius can exceed {cut(cap)}." if cap else ""
    caption = (
        f"{what} at every {findings.norm} radius. Shaded: 95% Clopper-Pearson interval over images,"
        f" at each radius on its own.{reach} {ended_early(findings.store)}"
    )
    return (
        summary_rows(found, findings.radii).html()
        + f'<figure><div class="plot">{svg}</div><figcaption>{caption}</figcaption></figure>'
    )


def paired(findings: Findings) -> str:
    """Every ensemble against the best member; empty where there is nothing to compare."""
    pairs = comparisons(findings.store, findings.found, findings.radii)
    if not pairs:
        return ""
    return f"<p>{_verdict(pairs[0])}</p>" + paired_table(pairs).html()


def _verdict(pair: Comparison) -> str:
    _, _, difference, (low, high) = pair.average_certified_radius
    ensemble, member = _name(pair.a), _name(pair.b)
    outcome = f"the average certified radii of {ensemble} and {member} cannot be told apart"
    if low > 0 or high < 0:
        relation = "larger" if low > 0 else "smaller"
        outcome = f"{ensemble} has a {relation} average certified radius than {member}"
    text = (
        f"On the same {count(pair.images)} images {outcome} "
        f"({signed(difference)}, 95% interval {signed(low)} to {signed(high)})."
    )
    telling = max(pair.rows, key=lambda row: row.only_a + row.only_b)
    if not telling.only_a + telling.only_b:
        return text
    return (
        f"{text} At radius {radius_key(telling.radius)}, where they differ most often, certified "
        f"by {ensemble} alone: {count(telling.only_a)}; by {member} alone: {count(telling.only_b)}."
    )


def _name(name: str) -> str:
    return f'<span class="name">{escape(name)}</span>'


def votes(findings: Findings) -> str:
    """Distribution of p_A for the primary classifier; empty where counts are unknown."""
    name = findings.found[0].classifier
    rows = findings.store.certificates(name)
    shares = vote_shares(rows)
    if not shares:
        return ""
    n = max(row.n for row in rows if row.n)
    config = findings.store.manifest.config
    floor = floor_of(config)
    edge = "one half" if floor == 0.5 else f"{floor:.3g}"
    below = ", below which nothing is certified"
    if config.get("runner_up"):
        below = "; below it the bounds on the other classes decide"
    figure = vote_figure(shares, n, floor=floor)
    svg = figure_svg(figure, label="Histogram of the share of votes", salt="votes")
    return (
        f"<p>How often {_name(name)} chose its class among {count(n)} noisy copies of an image. "
        f"The line marks {edge}{below}. "
        "The axis is stretched so that equal steps are equal gains in radius: from 0.9 on, "
        "each labelled step leaves ten times fewer dissenting votes.</p>"
        f'<figure><div class="plot">{svg}</div></figure>'
        + (every.table().html() if (every := shares_of(findings.store)) else "")
    )


def examples(findings: Findings) -> str:
    """Images with their radii."""
    primary = findings.found[0]
    rows = findings.store.certificates(primary.classifier)
    samples = findings.store.samples()
    return "\n".join(
        group_html(group, samples) for group in groups(rows, labelled=primary.labelled)
    )


def literature(findings: Findings) -> str:
    """Published figures for the same data and sigma; empty where nothing is published."""
    if not findings.published:
        return ""
    anywhere = figures(data_name(findings.store), None, noise=None)
    shown = [c for c in anywhere if any(radius in c.certified for radius in findings.radii)]
    return (
        "<p>Figures for the same data set and noise level, as published or recomputed from the "
        "logs their authors publish. Other networks, other training, often other test images: "
        "they place a result, they do not rank it.</p>"
        + _published(findings, findings.published)
        + f"<details><summary>{len(shown)} more, with sigma chosen per radius</summary>"
        f"{_published(findings, shown)}</details>"
    )


def _published(findings: Findings, curves: Sequence[PublishedCurve]) -> str:
    table, sources = published_table(findings.found[0], curves, findings.radii)
    items = "".join(f"<li>{escape(source)}</li>" for source in sources)
    return f'{table.html()}<ol class="note sources">{items}</ol>'


def correlation(findings: Findings) -> str:
    """The correlation report, where the run has one."""
    report = findings.store.get_meta("correlation")
    return correlation_section(report) if isinstance(report, Mapping) else ""


def radius_law(findings: Findings) -> str:
    """The radius law, where it was predicted."""
    report = findings.store.get_meta("correlation")
    law = report.get("radius_law") if isinstance(report, Mapping) else None
    return law_section(law) if isinstance(law, Mapping) else ""


def conditions(findings: Findings) -> str:
    """DRT's conditions, where they were evaluated."""
    report = findings.store.get_meta("correlation")
    found = report.get("conditions") if isinstance(report, Mapping) else None
    return conditions_section(found) if isinstance(found, Mapping) else ""


def transfer(findings: Findings) -> str:
    """Whom attacks on single members deceive, where they were made."""
    report = findings.store.get_meta("correlation")
    found = report.get("transfer") if isinstance(report, Mapping) else None
    return transfer_section(found) if isinstance(found, Mapping) else ""


def statement(findings: Findings) -> str:
    """What is proven and what is not."""
    rows = [row for one in findings.found for row in findings.store.certificates(one.classifier)]
    claims = _list(proven(findings.store.manifest.config))
    limits = _list(not_proven(findings.store.manifest.config, rows, len(findings.found)))
    return (
        f'<div class="claims">\n<div><h3>Proven</h3>{claims}</div>\n'
        f"<div><h3>Not proven</h3>{limits}</div>\n</div>"
    )


def _list(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def provenance(findings: Findings) -> str:
    """Command, versions, machine, digests and configuration."""
    manifest = findings.store.manifest
    environment = dict(manifest.environment)
    packages = environment.pop("packages", {})
    facts: list[tuple[str, str]] = [
        ("command", f"<code>{escape(manifest.command)}</code>"),
        ("created", escape(manifest.created)),
        ("claims", escape(kind_of_claim(manifest.config))),
        *((escape(str(key)), escape(_plain(value))) for key, value in environment.items()),
    ]
    if isinstance(packages, Mapping):
        facts.append(("packages", escape(", ".join(f"{k} {v}" for k, v in packages.items()))))
    facts += [
        (f"digest of {escape(one.name)}", f"<code>{escape(one.digest)}</code>")
        for one in manifest.classifiers
    ]
    checksums = manifest.data.get("checksums", {})
    if isinstance(checksums, Mapping):
        facts += [
            (escape(f"SHA-256 of {name}"), f"<code>{escape(str(digest))}</code>")
            for name, digest in checksums.items()
        ]
    rows = "\n".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts if value)
    identities = {one.name: dict(one.identity) for one in manifest.classifiers}
    return (
        f'<dl class="facts">\n{rows}\n</dl>\n'
        f"<h3>Configuration</h3>\n{_json(manifest.config)}\n"
        "<details><summary>Identity of every classifier: members, hashes of their weights, "
        f"arithmetic</summary>{_json(identities)}</details>"
    )


def _json(value: Mapping[str, Any]) -> str:
    text = json.dumps(dict(value), indent=2, sort_keys=True, default=str, ensure_ascii=False)
    return f"<pre>{escape(text)}</pre>"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
