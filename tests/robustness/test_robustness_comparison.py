"""The comparison of certificates: every rule on the same votes, and published orders."""

from __future__ import annotations

import certificate_comparison as comparison
import numpy as np
import pytest
import torch
from torch import nn

import phalanx
from phalanx.smoothing.radii import NORMS, default_rule

SHAPE = (1, 4, 4)


def run_of(noise, **options):
    """Six images of a linear network, certified under a noise."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    x = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    model = phalanx.Model(network, phalanx.InputSpec(shape=SHAPE), 3)
    asked = {"sigma": 0.25, "n": 500, "n0": 50, "noise": noise, **options}
    return phalanx.certify(model, x, torch.arange(6) % 3, **asked).store


@pytest.mark.parametrize("noise", ["gaussian", "laplace", "uniform", "generalised-gaussian"])
def test_every_rule_of_a_noise_is_computed_from_the_votes(noise):
    run = run_of(noise, arithmetic="real")
    found = {(name, norm): values for name, norm, values in comparison.from_votes(run)}
    rules = comparison.rules_of(noise)
    assert len(found) == len(rules) * len(NORMS)
    stored = comparison.certified_radii(run.certificates(), labelled=True)
    assert np.array_equal(found["neyman-pearson", "l2"], stored)
    assert all(
        (values <= found["neyman-pearson", norm]).all() for (_, norm), values in found.items()
    )
    assert default_rule(noise) in rules


def test_a_certificate_of_its_own_is_beside_them_in_its_norm_alone():
    run = run_of("gaussian", slope=0.1)
    sampling = comparison.SAMPLINGS[0]
    found = [one for one in comparison.certificates(sampling, run) if one[0] == "higher-order"]
    assert [norm for _, norm, _ in found] == ["l2"]
    line = comparison.row("gaussian", *found[0])
    values = [rate["value"] for rate in line["certified"].values()]
    assert values == sorted(values, reverse=True)
    assert line["images"] == 6


def test_double_sampling_is_beside_them_in_every_norm():
    options = {"order": 3, "certificate": "double-sampling", "n": 2000}
    run = run_of("generalised-gaussian", **options)
    sampling = comparison.SAMPLINGS[-1]
    found = {norm: values for _, norm, values in comparison.certificates(sampling, run)}
    stored = comparison.certified_radii(run.certificates(), labelled=True)
    assert sampling.own == "double-sampling"
    assert np.array_equal(found["l2"], stored)
    assert (stored > 0).any()
    assert found["linf"] == pytest.approx(np.where(stored > 0, stored / 4, stored))


HEAD = "dataset,norm,network,verification,training,noise,eps,certified_accuracy_percent\n"


def lines(norm, noise, certified):
    """Rows of one certificate at radii .25 and .5, and one of another network."""
    rows = [("cifar10", "Wide ResNet 40-2"), ("cifar10", "ResNet-110"), ("imagenet", "ResNet-50")]
    return "".join(
        f"{data},{norm},{network},{name},Data Augmentation,{noise},{eps},{share}\n"
        for data, network in rows
        for name, shares in certified.items()
        for eps, share in zip((0.25, 0.5), shares if data == "cifar10" else (0, 0), strict=True)
    )


def ours(**certified):
    """Rows of our table: l2, Gaussian."""
    return [
        {
            "norm": "l2",
            "noise": "gaussian",
            "certificate": name.replace("_", "-"),
            "certified": {"0.25": {"value": shares[0]}, "0.5": {"value": shares[1]}},
        }
        for name, shares in certified.items()
    ]


def test_orders_agree_where_no_radius_is_the_other_way_round(tmp_path):
    file = tmp_path / "published.csv"
    published = {"Differential Privacy": (30, 0), "f-Divergence": (60, 0), "Neyman-Pearson": (9, 5)}
    file.write_text(HEAD + lines("l2", "Gaussian", published))
    rows = ours(
        **{"differential_privacy": (0.4, 0.1), "f_divergence": (0.5, 0.2)},
        **{"neyman_pearson": (0.7, 0.2), "renyi": (0.5, 0.1)},
    )
    found = {(line["first"], line["second"]): line for line in comparison.compared(rows, file)}
    assert len(found) == 6
    privacy = found["differential-privacy", "f-divergence"]
    assert privacy["agree"] is True
    assert privacy["published"] == {"below": 1, "equal": 1, "above": 0}
    assert privacy["ours"] == {"below": 2, "equal": 0, "above": 0}
    assert found["f-divergence", "neyman-pearson"]["agree"] is False
    unknown = found["renyi", "neyman-pearson"]
    assert unknown["agree"] is None
    assert unknown["published"] is None
