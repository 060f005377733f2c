"""Tables say exactly what the queries say, and never more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reporting_runs import MakeRun

from phalanx.errors import RunError
from phalanx.reporting.formatting import (
    cut,
    interval,
    percent,
    percent_interval,
    raised,
    signed,
    signed_interval,
)
from phalanx.reporting.published import figures
from phalanx.reporting.table import Cell, Table
from phalanx.reporting.tables import (
    best_member,
    comparisons,
    paired_table,
    published_table,
    summaries,
    summary_table,
)
from phalanx.runs.compare import Side, compare
from phalanx.runs.query import summarise

RADII = [0.0, 0.25, 0.5]


@given(st.floats(0, 1e6, allow_subnormal=False))
def test_a_cut_number_never_exceeds_the_value(value: float) -> None:
    assert float(cut(value)) <= value <= float(raised(value))


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_rate_is_cut_but_an_exact_one_is_kept(pair: tuple[int, int]) -> None:
    hits, images = pair
    assert percent(hits / images) == f"{hits * 1000 // images / 10:.1f}"


def test_summary_cells_are_the_query(make_run: MakeRun) -> None:
    store = make_run(50, errors=3)
    table = summary_table(store, RADII)
    assert table.columns[:3] == ("classifier", "clean, r = 0", "r = 0.25")
    assert table.primary == 0
    for row in table.rows:
        summary = summarise(store, row[0].text, RADII)
        for cell, radius in zip(row[1:4], RADII, strict=True):
            rate = summary.at(radius)
            assert cell == Cell(percent(rate.value), percent_interval(rate.low, rate.high))
        limits = summary.average_certified_radius_interval
        assert limits is not None
        assert row[4] == Cell(cut(summary.average_certified_radius), interval(*limits))
        assert [cell.text for cell in row[5:]] == [str(summary.abstained), "3"]


def test_without_labels_there_is_no_accuracy_and_no_acr(make_run: MakeRun) -> None:
    table = summary_table(make_run(30, labelled=False))
    assert "fraction" in table.title
    assert "ACR" not in table.columns
    assert "clean, r = 0" not in table.columns
    assert "ACR" not in table.note


def test_missing_images_are_in_the_title(make_run: MakeRun) -> None:
    store = make_run(5)
    assert summary_table(store).title == "Certified accuracy on 5 images"
    store.set_meta("asked", {"images": 40, "seconds": 4.0})
    title = "Certified accuracy on 5 of 40 images: time was up"
    assert summary_table(store).title == title


def test_nothing_certified_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(RunError, match="nothing is certified"):
        summary_table(make_run(0))


def test_paired_cells_are_the_comparison(make_run: MakeRun) -> None:
    store = make_run(60)
    found = summaries(store, RADII)
    member = best_member(store, found)
    assert (
        member
        == max(
            (s for s in found if s.classifier.startswith("member")),
            key=lambda s: s.average_certified_radius or 0.0,
        ).classifier
    )
    pairs = comparisons(store, found, RADII)
    assert [(pair.a, pair.b) for pair in pairs] == [("mean", member)]
    expected = compare(Side.of(store, "mean"), Side.of(store, member), RADII)
    cells = paired_table(pairs).rows[0]
    for cell, row in zip(cells[1:4], expected.rows, strict=True):
        assert cell.text == signed(row.difference, 1, scale=100)
        assert cell.detail == signed_interval(*row.interval, 1, scale=100)
    _, _, difference, limits = expected.average_certified_radius
    assert cells[4] == Cell(signed(difference), signed_interval(*limits))


def test_a_single_model_has_nothing_to_be_paired_with(make_run: MakeRun) -> None:
    store = make_run(10, names=("model",))
    assert comparisons(store, summaries(store, RADII), RADII) == []
    assert paired_table([]).rows == ()


def test_published_rows_stand_below_ours_and_name_their_source(make_run: MakeRun) -> None:
    store = make_run(40)
    curves = figures("mnist", 0.5)
    table, sources = published_table(summarise(store, "mean"), curves, RADII)
    assert len(table.rows) == 1 + len(curves)
    assert table.rows[1][0].text == "Gaussian augmentation [1]"
    assert [cell.text for cell in table.rows[1][2:]] == ["1.558", "99.2", "98.3", "96.9"]
    assert "Jeong" in sources[0]
    assert table.rows[0][2].text == cut(summarise(store, "mean").average_certified_radius)


def test_html_of_a_table_is_escaped() -> None:
    table = Table("<t>", ("<c>",), ((Cell("<b>", '"&'),),), note="<n>")
    for text in (table.html(), table._repr_html_()):
        for tag in ("<t>", "<c>", "<b>", "<n>"):
            assert tag not in text
    assert "<b>" in table.text()
