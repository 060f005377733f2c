"""Certified accuracy against radius: the full step curve, its band, and its picture."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from phalanx.errors import ParameterError, RunError
from phalanx.reporting.formatting import measure
from phalanx.reporting.published import PublishedCurve, figures
from phalanx.reporting.style import MUTED, RULE, rc, save, series
from phalanx.runs.choices import decided_otherwise, measured
from phalanx.runs.compare import require_one_norm
from phalanx.runs.files import write_atomically
from phalanx.runs.query import certified_radii, is_labelled
from phalanx.runs.schema import CertificateRecord
from phalanx.runs.statistics import clopper_pearson
from phalanx.runs.store import RunStore

FORMATS = (".png", ".svg", ".pdf")
MARKERS = ("o", "s", "^")
FEATURED = 3


class Curve(NamedTuple):
    """A step curve; all arrays float64 of shape ``(steps,)``.

    ``accuracy[i]`` holds for every radius in ``(radii[i - 1], radii[i]]``; ``radii[0]`` is 0 and
    beyond ``radii[-1]`` nothing is certified. ``low`` and ``high`` bound the rate in the
    population the images were drawn from, at 95% for each radius on its own.
    """

    radii: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray


def certified_curve(certificates: Sequence[CertificateRecord], *, labelled: bool) -> Curve:
    """Certified accuracy of one classifier at every radius where it changes.

    Where images are not ``labelled`` it is the certified fraction. The denominator is every
    row, abstentions and errors included. The band is the two-sided 95% Clopper-Pearson interval
    at each radius.

    Raises:
        RunError: no rows.

    >>> from phalanx.verdicts import Verdict
    >>> rows = [CertificateRecord("f", i, Verdict.VERIFIED, 1, True, r) for i, r in
    ...         enumerate((0.2, 0.5))]
    >>> curve = certified_curve([*rows, CertificateRecord("f", 2, Verdict.ABSTAINED, None, False,
    ...                                                   0.0)], labelled=True)
    >>> curve.radii.tolist(), (3 * curve.accuracy).round(9).tolist()
    ([0.0, 0.2, 0.5], [2.0, 2.0, 1.0])
    """
    if not certificates:
        raise RunError("there is no certificate to draw a curve from")
    radius = certified_radii(certificates, labelled=labelled)
    held = np.sort(radius[radius >= 0])
    radii = np.unique(np.concatenate([[0.0], held]))
    above = len(held) - np.searchsorted(held, radii, side="left")
    bounds = {int(k): clopper_pearson(int(k), len(certificates)) for k in np.unique(above)}
    low, high = np.array([bounds[int(k)] for k in above]).T
    return Curve(radii, above / len(certificates), low, high)


def thinned(curve: Curve, steps: int = 400) -> Curve:
    """At most about ``steps`` of the curve's corners, chosen so that it is never drawn too high.

    A dropped corner gives its interval of radii to the next kept one, whose accuracy is lower.
    """
    if len(curve.radii) <= steps:
        return curve
    grid = np.linspace(0, curve.radii[-1], steps)
    keep = np.unique(np.searchsorted(curve.radii, grid, side="left"))
    return Curve(*(values[keep] for values in curve))


def featured(curves: Iterable[PublishedCurve]) -> list[PublishedCurve]:
    """Up to three published curves worth drawing: the first of the file (the plain baseline)
    and those with the largest published ACR; the table beside the figure holds all of them."""
    drawable = [curve for curve in curves if curve.certified]
    best = sorted(drawable[1:], key=lambda curve: -(curve.acr or 0.0))
    return drawable[:1] + best[: FEATURED - 1]


def draw_curve(axes: Axes, curve: Curve, label: str, index: int, *, band: float) -> None:
    """One classifier's steps with its band, in the ``index``-th colour; the first is widest."""
    colour, dash = series(index)
    steps = thinned(curve)
    radii = np.append(steps.radii, steps.radii[-1])
    drop = [np.append(values, 0.0) for values in (steps.accuracy, steps.low, steps.high)]
    drop[1][-1], drop[2][-1] = steps.low[-1], steps.high[-1]
    axes.fill_between(radii, drop[1], drop[2], step="pre", color=colour, alpha=band, linewidth=0)
    width = 1.4 if index else 2.1
    axes.step(radii, drop[0], where="pre", color=colour, linestyle=dash, linewidth=width)
    axes.plot([], [], color=colour, linestyle=dash, linewidth=width, label=_plain(label))


def draw_published(axes: Axes, published: Sequence[PublishedCurve]) -> list[Line2D]:
    """Published points as open markers, so that they are never mistaken for our own."""
    drawn = []
    for marker, curve in zip(MARKERS, featured(published), strict=False):
        drawn += axes.plot(
            list(curve.certified),
            list(curve.certified.values()),
            linestyle="none",
            marker=marker,
            markersize=5,
            markerfacecolor="none",
            markeredgecolor=MUTED,
            clip_on=False,
            label=_plain(f"published: {curve.training}"),
        )
    return drawn


def curve_figure(
    curves: Sequence[tuple[str, Curve]],
    published: Sequence[PublishedCurve] = (),
    *,
    labelled: bool = True,
    norm: str = "l2",
    measured: str = "",
    salt: str = "curve",
) -> Figure:
    """The figure of the report and of ``phalanx runs plot``.

    Args:
        curves: name and curve of each classifier, the most important first.
        published: curves of the literature to mark.
        labelled: False names the y axis for images without labels.
        norm: of the radii.
        measured: what the accuracy is called, see `Summary.measured`.
        salt: makes the SVG ids of this figure its own.
    """
    with mpl.rc_context(dict(rc(salt))):
        figure = Figure(figsize=(8.2, 4.5), layout="constrained")
        axes = figure.add_subplot()
        band = 0.16 if len(curves) <= 3 else 0.4 / len(curves)
        for index, (name, curve) in reversed(list(enumerate(curves))):
            draw_curve(axes, curve, name, index, band=band)
        ours = axes.get_legend_handles_labels()[0][::-1]
        literature = draw_published(axes, published)
        axes.set(ylim=(0, 1.02), ylabel=measure(labelled, measured))
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{norm} radius, in input units")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.axhline(0, color=RULE, linewidth=1.2)
        figure.legend(handles=ours, loc="outside upper left", ncols=min(4, len(ours)))
        if literature:
            figure.legend(handles=literature, loc="outside lower left", ncols=len(literature))
    return figure


def _plain(label: str) -> str:
    """A name of bearable length that matplotlib will not hide (it hides a leading ``_``)."""
    text = label if len(label) <= 44 else label[:43] + "…"
    return f" {text}" if text.startswith("_") else text


def plot_runs(stores: Sequence[RunStore], path: Path) -> Path:
    """Draw the curves of one run (every classifier) or of several (the primary one of each).

    Published points appear when all runs share one data set and one sigma.

    Args:
        stores: open runs, each with at least one certificate.
        path: file to write; ``.png``, ``.svg`` or ``.pdf``.

    Returns:
        ``path``.

    Raises:
        ParameterError: no run, or another file format.
        RunError: a run without certificates, or radii in several norms.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ParameterError(
            f"{path.name!r} is no picture format",
            repair=f"end the name in {', '.join(FORMATS)}",
        )
    if not stores:
        raise ParameterError("no run to plot", repair="name at least one run folder")
    curves = [pair for store in stores for pair in run_curves(store, alone=len(stores) == 1)]
    places = {
        (str(s.manifest.data.get("name", "")), s.manifest.config.get("sigma")) for s in stores
    }
    norm = require_one_norm(stores)
    plain = norm == "l2" and not any(decided_otherwise(s.manifest.config) for s in stores)
    published = figures(*places.pop()) if len(places) == 1 and plain else []
    labelled = all(is_labelled(store.certificates(), store.labels()) for store in stores)
    name = measured(stores[0].manifest.config)
    figure = curve_figure(curves, published, labelled=labelled, norm=norm, measured=name)
    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": None}
    metadata = dates[path.suffix.lower()]
    picture = io.BytesIO()
    save(figure, picture, salt="plot", format=path.suffix.lower()[1:], metadata=metadata)
    write_atomically(path, picture.getvalue())
    return path


def run_curves(store: RunStore, *, alone: bool = True) -> list[tuple[str, Curve]]:
    """Name and curve of the run's classifiers, the primary one first.

    Args:
        store: an open run.
        alone: False gives only the primary classifier, named after the run.
    """
    found, labels = [], store.labels()
    for classifier in sorted(store.manifest.classifiers, key=lambda one: not one.primary):
        rows = store.certificates(classifier.name)
        if rows:
            curve = certified_curve(rows, labelled=is_labelled(rows, labels))
            found.append((classifier.name, curve))
    if not found:
        raise RunError("the run has no certificates yet", repair="run phalanx certify to the end")
    if alone:
        return found
    folder = store.folder.name if store.folder else "in memory"
    return [(f"{folder}: {found[0][0]}", found[0][1])]
