"""The report: self-contained, escaped, repeatable, and in agreement with the queries."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from reporting_runs import MakeRun, classifier, manifest

from phalanx.errors import ParameterError
from phalanx.reporting.formatting import cut, percent
from phalanx.reporting.gallery import groups
from phalanx.reporting.html import render, write_report
from phalanx.reporting.shares import shares_of
from phalanx.runs.query import summarise
from phalanx.runs.schema import CertificateRecord, ClassifierRecord, SampleRecord
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict

EVIL = '<script>alert(1)</script>"&--><img src=http://evil.test/x>'
CORRELATION = {
    "zeta_noise": 0.833,
    "zeta_members": None,
    "images": 50,
    "samples": 1000,
    "variance_ratio": [
        {"k": 1, "measured": 1.0, "theory": 1.0},
        {"k": 2, "measured": 0.921, "theory": 0.9165},
    ],
    "chebyshev": [{"k": 1, "bound": 0.41, "measured_p": 0.91}],
    "radius_gain": [{"k": 1, "predicted": 1.0, "measured": None}],
    "radius_law": {
        "predicted": [
            {"k": k, "n": n, "none": 0.01, "mean": 0.4, "low": 0.1, "median": 0.4, "high": 0.7}
            for k in (1, 2)
            for n in (100, 500, 100_000)
        ],
        "measured": [
            {"k": 1, "n": 500, "none": 0.02, "mean": 0.39, "low": 0.1, "median": 0.4, "high": 0.7}
        ],
    },
    "conditions": {
        "images": 50,
        "samples": 200,
        "smoothness": {"tight": 1.936, "paper": 8.0},
        "rows": [
            {
                "classifier": EVIL,
                "agrees": 49,
                "margin": 0.9,
                "gradient": 0.2,
                "sufficient": {"tight": 0.65, "paper": 0.32},
                "necessary": {"tight": 0.12, "paper": None},
                "bounded": {"tight": 1, "paper": 0},
            }
        ],
        "comparisons": [
            {
                "members": [0, 1],
                "protocol": "weighted",
                "constant": "tight",
                "images": 50,
                "held": 48,
                "larger": 0,
                "limit": 1.01,
                "slack": 0.9,
                "factor": None,
                "reach": 0.02,
                "reasons": {"a member does not give the class": 2},
            }
        ],
    },
}


class Page(HTMLParser):
    """Tags, what they would load, and whether they nest."""

    VOID = frozenset({"meta", "img", "br", "path", "use", "rect", "line", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [
            value or ""
            for name, value in attrs
            if name in {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def check_self_contained(text: str) -> Page:
    page = Page(text)
    assert page.open == []
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    assert all(load.startswith(("#", "data:image/png;base64,")) for load in page.loads)
    assert not re.search(r"@import|url\((?!#)", text)
    assert not re.search(r"<[^>]+\son\w+=", text)
    return page


def test_report_is_self_contained_and_complete(make_run: MakeRun, tmp_path: Path) -> None:
    store = make_run(60, tmp_path / "run", errors=2)
    store.set_meta("correlation", CORRELATION)
    path = write_report(store)
    assert path == tmp_path / "run" / "report.html"
    text = path.read_text("utf-8")
    page = check_self_contained(text)
    assert {"svg", "table", "img"} <= page.tags
    for heading in (
        "Certified accuracy",
        "Ensemble against its best member",
        "How clear the votes were",
        "Images and their radii",
        "Beside the literature",
        "Correlation of the members",
        "Radii that more samples would give",
        "Sufficient and necessary conditions",
        "What is proven, and what is not",
        "Where this comes from",
    ):
        assert f"<h2>{heading}</h2>" in text
    assert "1 image<" in text
    assert "a member does not give the class: 2" in text


def test_a_note_without_theory_shows_neither_section(make_run: MakeRun) -> None:
    store = make_run(20)
    store.set_meta("correlation", {"zeta_noise": 0.5, "radius_law": {}, "conditions": {}})
    text = render(store)
    assert "Correlation of the members" in text
    assert "Radii that more samples would give" not in text
    assert "Sufficient and necessary" not in text


def test_the_shares_of_every_classifier_are_listed(make_run: MakeRun) -> None:
    store = make_run(30)
    shares = shares_of(store)
    assert shares is not None
    for row, record in zip(shares.rows, store.manifest.classifiers, strict=True):
        counts = [c.n_a / c.n for c in store.certificates(record.name) if c.n_a is not None and c.n]
        assert row.quantiles == sorted(row.quantiles)
        assert row.quantiles[2] == pytest.approx(sorted(counts)[len(counts) // 2 - 1])
        assert row.images == 30
    assert shares.table().html() in render(store)


def test_numbers_equal_the_queries(make_run: MakeRun) -> None:
    store = make_run(80, errors=1)
    text, summary = render(store), summarise(store)
    held = int((summary.certified >= 0.5).sum())
    assert f"<b>{held} ({percent(summary.at(0.5).value)}%)</b>" in text
    assert f"average certified radius is <b>{cut(summary.average_certified_radius)}</b>" in text
    for one in summary.classifiers.values():
        assert f"<td>{cut(one.average_certified_radius)}<small>" in text
        assert f"<td>{percent(one.at(0.25).value)}<small>" in text


def test_the_same_run_gives_the_same_bytes(make_run: MakeRun) -> None:
    assert render(make_run(30)) == render(make_run(30))


def test_everything_a_user_can_name_is_escaped(tmp_path: Path) -> None:
    record = ClassifierRecord(EVIL, {"members": ["a", "b"], "reducer": EVIL}, "0" * 64, True)
    alone = ClassifierRecord(f"{EVIL}-0", {"members": ["a"]}, "1" * 64)
    asked = manifest([record, alone], EVIL)
    asked = type(asked)(
        **vars(asked) | {"command": EVIL, "environment": {EVIL: EVIL, "packages": {EVIL: EVIL}}}
    )
    with RunStore.create(None, asked) as store:
        store.add_samples([SampleRecord(i, 1, b"<script>not a png") for i in range(3)])
        for name in (record.name, alone.name):
            store.commit_certificates(
                [
                    CertificateRecord(name, 0, Verdict.VERIFIED, 1, True, 0.5, 90, 100, 0.8),
                    CertificateRecord(name, 1, Verdict.ERROR, None, False, None, reason=EVIL),
                    CertificateRecord(name, 2, Verdict.VERIFIED, 1, True, 0.25, radius_text="0.25"),
                ]
            )
        text = render(store)
    page = check_self_contained(text)
    assert "img" not in page.tags
    assert "<script" not in text
    assert "not a png" not in text


def test_a_run_without_certificates_says_so(make_run: MakeRun) -> None:
    text = render(make_run(0))
    check_self_contained(text)
    assert "No image has been certified yet" in text
    assert "What is proven" in text
    assert "0.0%" not in text


def test_a_run_of_errors_says_so(make_run: MakeRun) -> None:
    text = render(make_run(6, errors=6))
    check_self_contained(text)
    assert "None of the 6 images was certified: all ended in an error." in text
    assert "pixels outside 0 .. 1" in text


def test_without_labels_accuracy_is_absent(make_run: MakeRun) -> None:
    text = render(make_run(40, labelled=False))
    check_self_contained(text)
    assert "clean accuracy" not in text
    assert "certified at radius 0" in text
    assert "Beside the literature" not in text
    assert "classified correctly" not in text


def test_errors_do_not_make_unlabelled_images_labelled(make_run: MakeRun) -> None:
    text = render(make_run(40, labelled=False, errors=2))
    assert "clean accuracy" not in text
    assert "Certified fraction at every l2 radius" in text


def test_a_run_that_ran_out_of_time_says_so(make_run: MakeRun) -> None:
    store = make_run(6)
    store.set_meta("asked", {"images": 40, "seconds": 4.0})
    text = render(store)
    check_self_contained(text)
    assert "6 of 40 images: time was up." in text
    store.set_meta("asked", {"images": 6, "seconds": 4.0})
    assert "time was up" not in render(store)


def test_norm_and_arithmetic_of_the_claims_are_stated(make_run: MakeRun) -> None:
    assert "<dt>claims</dt>" not in render(make_run(3))
    text = render(make_run(3, norm="l2", arithmetic="real"))
    assert "<dt>claims</dt><dd>l2 norm, real arithmetic</dd>" in text


def test_where_two_differ_is_said_only_if_they_do() -> None:
    records = [classifier("mean", 2, primary=True), classifier("member-0", 1)]
    with RunStore.create(None, manifest(records)) as store:
        for name in ("mean", "member-0"):
            fill_alike(store, name, radius=0.5)
        text = render(store)
        assert "cannot be told apart" in text
        assert "they differ most often" not in text
    with RunStore.create(None, manifest(records)) as store:
        fill_alike(store, "mean", radius=0.75)
        fill_alike(store, "member-0", radius=0.5)
        text = re.sub("<[^>]*>", "", render(store))
    assert "mean has a larger average certified radius than member-0" in text
    assert "certified by mean alone: 4; by member-0 alone: 0." in text


def fill_alike(store: RunStore, name: str, radius: float) -> None:
    store.add_samples(SampleRecord(image, 1) for image in range(4))
    store.commit_certificates(
        [CertificateRecord(name, i, Verdict.VERIFIED, 1, True, radius) for i in range(4)]
    )


def test_imported_rows_keep_their_text_and_are_called_not_recheckable() -> None:
    record = ClassifierRecord("log", {"source": "a.tsv"}, "0" * 64, True)
    with RunStore.create(None, manifest([record], "cifar10")) as store:
        store.commit_certificates(
            [
                CertificateRecord("log", i, Verdict.VERIFIED, 1, True, 0.978, radius_text="0.978")
                for i in range(4)
            ]
        )
        text = render(store)
    check_self_contained(text)
    assert "r = 0.978" in text
    assert "4 rows were imported without vote counts" in text
    assert "How clear the votes were" not in text
    assert "<dd>–<small>unknown</small>" in text


def test_example_groups_cover_every_outcome(make_run: MakeRun) -> None:
    rows = make_run(400, errors=2).certificates("mean")
    found = {group.title: group for group in groups(rows, labelled=True)}
    largest, smallest = found["Largest radii"], found["Smallest radii"]
    assert largest.rows[0].radius == max(r.radius or 0 for r in rows if r.correct)
    assert smallest.rows[-1].radius == min(
        r.radius or 0 for r in rows if r.correct and r.verdict is Verdict.VERIFIED
    )
    assert found["Errors"].total == 2
    for row in found["Certified, but for a wrong class"].rows:
        assert row.correct is False
    assert {row.verdict for row in found["Abstained"].rows} == {Verdict.ABSTAINED}


def test_a_run_in_memory_needs_a_path(make_run: MakeRun, tmp_path: Path) -> None:
    store = make_run(5)
    with pytest.raises(ParameterError, match="memory"):
        write_report(store)
    assert write_report(store, tmp_path / "r.html").exists()


def test_several_classifiers_make_no_simultaneous_claim(make_run: MakeRun) -> None:
    assert "no simultaneous claim" in render(make_run(10))
    assert "no simultaneous claim" not in render(make_run(10, names=("model",)))


def test_reporting_needs_no_torch() -> None:
    code = (
        "import sys, phalanx.reporting.html, phalanx.reporting.curves;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
