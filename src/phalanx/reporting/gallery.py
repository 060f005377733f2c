"""Images worth looking at: the strongest, the middling, the weakest, and every way to fail."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from phalanx.reporting.formatting import cut
from phalanx.runs.query import certified_radii, effective_radius
from phalanx.runs.schema import CertificateRecord, SampleRecord
from phalanx.verdicts import Verdict

PER_GROUP = 8
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Group:
    """A row of examples: why they were picked, how many there are, and at most `PER_GROUP`."""

    title: str
    total: int
    rows: tuple[CertificateRecord, ...]


def groups(rows: Sequence[CertificateRecord], *, labelled: bool) -> list[Group]:
    """The example groups of one classifier; groups without images are left out.

    Ties are broken by image index, so the same run always shows the same images.
    """
    radii = certified_radii(rows, labelled=labelled)
    largest = sorted(rows, key=lambda row: (-effective_radius(row), row.image))
    counted = {row.image for row, radius in zip(rows, radii, strict=True) if radius >= 0}
    held = [row for row in largest if row.image in counted]
    wrong = [row for row in largest if row.verdict is Verdict.VERIFIED and row.correct is False]
    middle = max(0, (len(held) - PER_GROUP) // 2)
    picked = [
        ("Largest radii", held, held[:PER_GROUP]),
        ("Around the median", held, held[middle : middle + PER_GROUP]),
        ("Smallest radii", held, held[-PER_GROUP:]),
        ("Certified, but for a wrong class", wrong, wrong[:PER_GROUP]),
    ]
    if len(held) <= PER_GROUP:
        picked[:3] = [("Certified", held, held)]
    for title, verdict in (("Abstained", Verdict.ABSTAINED), ("Errors", Verdict.ERROR)):
        some = [row for row in rows if row.verdict is verdict]
        picked.append((title, some, some[:PER_GROUP]))
    return [Group(title, len(pool), tuple(show)) for title, pool, show in picked if pool]


def group_html(group: Group, samples: Mapping[int, SampleRecord]) -> str:
    """One group as HTML."""
    cards = "\n".join(_card(row, samples.get(row.image)) for row in group.rows)
    many = f' <span class="note">{group.total} in all</span>' if group.total > PER_GROUP else ""
    return (
        f"<h3>{escape(group.title)}{many}</h3>\n{_reasons(group.rows)}"
        f'<div class="gallery">\n{cards}\n</div>'
    )


def _reasons(rows: Sequence[CertificateRecord]) -> str:
    """Why the shown images failed: each reason once."""
    reasons = dict.fromkeys(row.reason for row in rows if row.verdict is Verdict.ERROR)
    return "".join(f'<p class="note">{escape(reason)}</p>\n' for reason in reasons if reason)


def radius_text(row: CertificateRecord, digits: int = 3) -> str:
    """The radius as shown: the published string of an imported row, otherwise cut, never up."""
    return row.radius_text if row.radius_text is not None else cut(row.radius, digits)


def _card(row: CertificateRecord, sample: SampleRecord | None) -> str:
    label = sample.label if sample else None
    certified = row.verdict is Verdict.VERIFIED
    headline = f"r = {radius_text(row)}" if certified else row.verdict.value
    said = _said(row, label)
    caption = f"<b>{escape(headline)}</b>{escape(said)}<br>image {row.image}"
    return f"<figure>{_picture(row, sample)}<figcaption>{caption}</figcaption></figure>"


def _said(row: CertificateRecord, label: int | None) -> str:
    if row.predicted is None or row.verdict is Verdict.ABSTAINED:
        return "no label" if label is None else f"label {label}"
    if label is None:
        return f"class {row.predicted}"
    return f"class {label}" if label == row.predicted else f"said {row.predicted}, is {label}"


def _picture(row: CertificateRecord, sample: SampleRecord | None) -> str:
    png = sample.thumbnail if sample else None
    if png is None or not png.startswith(_PNG):
        return ""
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="image {row.image}" src="data:image/png;base64,{data}">'
