"""The step curve, its band, and the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reporting_runs import MakeRun

from phalanx.errors import ParameterError, RunError
from phalanx.reporting.curves import certified_curve, plot_runs, thinned
from phalanx.runs.query import summarise
from phalanx.runs.schema import CertificateRecord
from phalanx.runs.statistics import clopper_pearson
from phalanx.verdicts import Verdict

PNG = b"\x89PNG"


def test_curve_equals_the_query_at_every_radius(make_run: MakeRun) -> None:
    store = make_run(60, errors=2)
    curve = certified_curve(store.certificates("mean"), labelled=True)
    summary = summarise(store, "mean")
    for radius, accuracy, low, high in zip(*curve, strict=True):
        rate = summary.at(radius)
        assert (accuracy, low, high) == pytest.approx((rate.value, rate.low, rate.high))


def test_curve_without_labels_is_the_certified_fraction(make_run: MakeRun) -> None:
    store = make_run(40, labelled=False)
    curve = certified_curve(store.certificates("mean"), labelled=False)
    assert curve.accuracy[0] == pytest.approx(summarise(store, "mean").certified_fraction["0"])


def test_only_errors_give_a_flat_curve_with_a_band() -> None:
    rows = [CertificateRecord("f", i, Verdict.ERROR, None, False, None) for i in range(5)]
    curve = certified_curve(rows, labelled=True)
    assert curve.radii.tolist() == [0.0]
    assert curve.accuracy.tolist() == [0.0]
    assert curve.high[0] == clopper_pearson(0, 5)[1]


def test_no_rows_are_refused() -> None:
    with pytest.raises(RunError):
        certified_curve([], labelled=True)


def test_thinning_never_raises_the_curve() -> None:
    rng = np.random.default_rng(1)
    rows = [
        CertificateRecord("f", i, Verdict.VERIFIED, 0, True, float(r))
        for i, r in enumerate(rng.gamma(2.0, 0.4, 3000))
    ]
    full = certified_curve(rows, labelled=True)
    thin = thinned(full, 100)
    assert len(thin.radii) <= 101
    assert thin.radii[-1] == full.radii[-1]
    for radius in np.linspace(0, full.radii[-1], 777):
        drawn = thin.accuracy[np.searchsorted(thin.radii, radius)]
        assert drawn <= full.accuracy[np.searchsorted(full.radii, radius)]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_plot_writes_the_same_bytes_twice(make_run: MakeRun, tmp_path: Path, suffix: str) -> None:
    store = make_run(20, names=("one $", "_two"))
    first = plot_runs([store], tmp_path / f"a{suffix}").read_bytes()
    second = plot_runs([store], tmp_path / f"b{suffix}").read_bytes()
    assert first == second
    assert len(first) > 1000


def test_several_runs_are_named_after_their_folders(make_run: MakeRun, tmp_path: Path) -> None:
    stores = [make_run(10, tmp_path / name) for name in ("left", "right")]
    text = plot_runs(stores, tmp_path / "x.svg").read_text()
    assert "left: mean" in text
    assert "right: mean" in text
    assert "member-0" not in text


def test_glyphs_the_font_lacks_are_no_warning(make_run: MakeRun, tmp_path: Path) -> None:
    assert plot_runs([make_run(5, names=("模型",))], tmp_path / "x.png").exists()


def test_published_points_are_marked_for_the_same_data(make_run: MakeRun, tmp_path: Path) -> None:
    text = plot_runs([make_run(10)], tmp_path / "x.svg").read_text()
    assert "published: Gaussian augmentation" in text
    other = plot_runs([make_run(10, data="scans")], tmp_path / "y.svg").read_text()
    assert "published" not in other


def test_what_cannot_be_plotted_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="picture"):
        plot_runs([make_run(3)], tmp_path / "x.gif")
    with pytest.raises(ParameterError):
        plot_runs([], tmp_path / "x.png")
    with pytest.raises(RunError):
        plot_runs([make_run(0)], tmp_path / "x.png")
