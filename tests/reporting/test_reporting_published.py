"""Published figures: what is carried, how it is found, and that it agrees with its notes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phalanx.reporting.published import figures


@pytest.mark.parametrize(("sigma", "acr"), [(0.25, 0.911), (0.5, 1.558), (1.0, 1.618)])
def test_mnist_gaussian_baseline_comes_first(sigma: float, acr: float) -> None:
    curve = figures("MNIST", sigma)[0]
    assert (curve.training, curve.acr) == ("Gaussian augmentation", acr)
    assert curve.images == 10_000


def test_names_of_data_are_forgiving() -> None:
    assert figures("CIFAR-10", 0.25) == figures("cifar10", 0.25) != []
    assert figures("ImageNet", 0.5) != []


def test_nothing_published_is_an_empty_list() -> None:
    assert figures("my scans", 0.5) == []
    assert figures("mnist", 0.3) == []


def test_every_row_is_well_formed() -> None:
    rows = [
        curve
        for data in ("mnist", "cifar10", "imagenet")
        for sigma in (None, 0.25, 0.5, 1.0)
        for curve in figures(data, sigma, noise=None)
    ]
    assert len(rows) == 200
    for curve in rows:
        assert curve.source
        assert curve.training
        assert curve.certified or curve.acr is not None
        radii, rates = list(curve.certified), list(curve.certified.values())
        assert radii == sorted(radii)
        assert rates == sorted(rates, reverse=True)
        assert all(0 <= rate <= 1 for rate in rates)


def test_other_noise_is_left_out_unless_asked_for() -> None:
    every = figures("mnist", 0.5, noise=None)
    assert {curve.noise for curve in every} == {"gaussian", "generalised gaussian"}
    assert {curve.noise for curve in figures("mnist", 0.5)} == {"gaussian"}


def test_cohen_rows_carry_their_caution() -> None:
    rows = [c for s in (0.25, 0.5, 1.0) for c in figures("cifar10", s) if "Cohen" in c.source]
    assert len(rows) == 3
    assert all("alpha = 0.01" in curve.caution for curve in rows)


@pytest.mark.shared
def test_figures_equal_the_aggregated_logs(shared: Path) -> None:
    golden = json.loads((shared / "golden" / "np_tables.json").read_text())
    for key, data, sigma in (
        ("cohen_cifar10_r110_0.25", "cifar10", 0.25),
        ("cohen_cifar10_r110_1.00", "cifar10", 1.0),
        ("cohen_imagenet_r50_0.50", "imagenet", 0.5),
    ):
        curve = figures(data, sigma)[0]
        assert curve.acr == pytest.approx(golden[key]["ACR"], abs=5e-4)
        for radius, rate in golden[key]["certified_accuracy"].items():
            assert curve.certified.get(float(radius), 0.0) == pytest.approx(rate)
