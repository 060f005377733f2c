"""Whom else an attack on one smoothed member deceives."""

import json

import pytest
import torch
from torch import nn

from phalanx.data.arrays import from_arrays
from phalanx.diagnostics.transfer import transfer
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import ParameterError
from phalanx.models.model import InputSpec, Model
from phalanx.reporting.transfer import transfer_section

SIGMA, SIDE = 0.1, 6


def line(direction, threshold):
    """Class 1 where ``direction . x`` exceeds the threshold: a ball around x meets one plane."""
    layer = nn.Linear(SIDE, 2)
    with torch.no_grad():
        layer.weight.copy_(20 * torch.stack([-torch.tensor(direction), torch.tensor(direction)]))
        layer.bias.copy_(20 * torch.tensor([threshold, -threshold]))
    return Model(layer.eval(), InputSpec((0.0, 1.0), shape=(SIDE,)), 2)


FIRST = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
SECOND = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.fixture
def points():
    """Ten points of class 1, at .6 along the two directions and in the middle elsewhere."""
    x = torch.full((10, SIDE), 0.5)
    x[:, :2] = 0.6
    return from_arrays(x, torch.ones(10, dtype=torch.long))


def test_members_that_look_elsewhere_are_not_deceived(points):
    found = transfer(
        Ensemble([line(FIRST, 0.5), line(SECOND, 0.5)]), points, range(10), SIGMA, 32, eps=0.3
    )
    assert found.right.tolist() == [10, 10]
    assert found.deceived.tolist() == [10, 10]
    assert found.asked.tolist() == [[10, 10], [10, 10]]
    assert (found.rate(0, 1), found.rate(1, 0), found.mean) == (0.0, 0.0, 0.0)


def test_twins_are_deceived_together_and_a_thicker_wall_is_not(points):
    twins = [line(FIRST, 0.5), line(FIRST, 0.5), line(FIRST, 0.2)]
    found = transfer(Ensemble(twins), points, range(10), SIGMA, 32, eps=0.3)
    assert found.rate(0, 1) == found.rate(1, 0) == 1.0
    assert found.rate(0, 2) == 0.0
    assert found.deceived.tolist() == [10, 10, 0]
    assert found.rate(2, 0) is None  # nothing deceived it, so nothing was asked


def test_an_attack_stays_in_its_ball(points):
    found = transfer(Ensemble([line(FIRST, 0.5)] * 2), points, range(10), SIGMA, 32, eps=0.08)
    assert found.deceived.tolist() == [0, 0]
    assert found.mean is None


def test_company_changes_nothing(points, monkeypatch):
    pair = Ensemble([line(FIRST, 0.55), line(SECOND, 0.55)])
    whole = transfer(pair, points, range(10), SIGMA, 4, eps=0.06, seed=3)
    monkeypatch.setattr("phalanx.diagnostics.transfer.IMAGES", 3)
    assert (
        transfer(pair, points, range(10), SIGMA, 4, eps=0.06, seed=3).as_dict() == whole.as_dict()
    )


def test_it_is_json_text_and_html(points):
    pair = Ensemble([line(FIRST, 0.5), line(SECOND, 0.5)])
    told = []
    found = transfer(pair, points, range(4), SIGMA, 16, eps=0.3, progress=lambda *n: told.append(n))
    assert told == [(4, 4)]
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert values["rates"] == [[1.0, 0.0], [0.0, 1.0]]
    assert "transfer of attacks within l2 0.3: 4 images, mean 0.000" in found.table()
    page = transfer_section(values)
    assert "not certificates" in page
    assert "0.0%" in page


@pytest.mark.parametrize("change", [{"eps": 0.0}, {"eps": float("nan")}, {"samples": 0}])
def test_what_means_nothing_is_refused(points, change):
    pair = Ensemble([line(FIRST, 0.5), line(SECOND, 0.5)])
    with pytest.raises(ParameterError):
        transfer(pair, points, range(2), SIGMA, **{"eps": 0.3, "samples": 8, **change})


def test_it_needs_labels_and_two_members(points):
    unlabelled = from_arrays(torch.full((2, SIDE), 0.5))
    with pytest.raises(ParameterError, match="labels"):
        transfer(Ensemble([line(FIRST, 0.5)] * 2), unlabelled, range(2), SIGMA, eps=0.3)
    with pytest.raises(ParameterError, match="two members"):
        transfer(Ensemble([line(FIRST, 0.5)]), points, range(2), SIGMA, eps=0.3)
