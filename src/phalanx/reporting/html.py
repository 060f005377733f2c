"""The report of a run: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from phalanx.errors import ParameterError
from phalanx.reporting import sections
from phalanx.reporting.audit import NOTE, audit_header, audit_sections
from phalanx.reporting.sections import Findings, title_of
from phalanx.runs.files import write_atomically
from phalanx.runs.folder import REPORT
from phalanx.runs.provenance import installed_version
from phalanx.runs.store import RunStore

Section = Callable[[Findings], str]

RESULTS: tuple[tuple[str, Section], ...] = (
    ("Certified accuracy", sections.results),
    ("Ensemble against its best member", sections.paired),
    ("How clear the votes were", sections.votes),
    ("Images and their radii", sections.examples),
    ("Beside the literature", sections.literature),
    ("Correlation of the members", sections.correlation),
    ("Radii that more samples would give", sections.radius_law),
    ("Sufficient and necessary conditions", sections.conditions),
    ("Attacks that transfer", sections.transfer),
)
ALWAYS: tuple[tuple[str, Section], ...] = (
    ("What is proven, and what is not", sections.statement),
    ("Where this comes from", sections.provenance),
)


def write_report(store: RunStore, path: Path | None = None) -> Path:
    """Write the report of a run; the same records give the same bytes.

    Args:
        store: an open run; without certificates the report says so.
        path: the file; None for ``report.html`` in the run's folder.

    Returns:
        The file written.

    Raises:
        ParameterError: a run in memory and no path.
        StorageError: the disk refused it; an older report is untouched.
    """
    if path is None:
        if store.folder is None:
            raise ParameterError(
                "a run in memory has no folder for its report", repair="give a path"
            )
        path = store.folder / REPORT
    write_atomically(Path(path), render(store).encode("utf-8"))
    return Path(path)


def render(store: RunStore) -> str:
    """The report as a string: inline CSS, inline SVG, images as data URIs."""
    if (audited := store.get_meta(NOTE)) is not None:
        data = str(store.manifest.data.get("name", ""))
        return _page(
            "audit of a random ensemble", audit_header(audited, data), audit_sections(audited)
        )
    findings = Findings.of(store)
    chosen = (*RESULTS, *ALWAYS) if findings.found else ALWAYS
    found = [(heading, section(findings)) for heading, section in chosen]
    title = f"{title_of(findings)}: certified robustness"
    return _page(title, sections.headline(findings), found)


def _page(title: str, header: str, found: Sequence[tuple[str, str]]) -> str:
    """Header and sections (headings and HTML; empty ones are left out) as one page."""
    parts = [f"<header>\n{header}\n</header>"]
    for heading, inner in found:
        if inner:
            parts.append(f"<section>\n<h2>{escape(heading)}</h2>\n{inner}\n</section>")
    author = f"Phalanx {installed_version('phalanx') or ''}".strip()
    parts.append(f"<footer>Written by {escape(author)} from the run's records.</footer>")
    return Template(_resource("report.html")).substitute(
        title=escape(title),
        css=_resource("report.css"),
        body="\n".join(parts),
    )


def _resource(name: str) -> str:
    return files("phalanx.reporting").joinpath("templates", name).read_text("utf-8")
